"""What a user asks for, in one grammar: conditions (soft), chemistry (hard) and the state point.

Grammar of a continuous condition: a number, ``"<0.05"``, ``">=1"``, ``[lo, hi]`` (``null`` leaves an end open),
``"0.02..0.05"``; each with an optional unit (``"50 meV/atom"``). See docs/conditions.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sse_diffusion.core.config import plain
from sse_diffusion.core.errors import ChemistryError, ConfigError, did_you_mean
from sse_diffusion.core.units import AMBIENT_PRESSURE_GPa
from sse_diffusion.thermo.chemistry import Chemistry, elements_of, parse_formula
from sse_diffusion.thermo.conditions import MOBILE_IONS, ConditionSpec
from sse_diffusion.thermo.units_text import convert

CHEMISTRY_KEYS = ("elements", "formula", "z", "n_atoms", "space_group", "charge_neutral")
STATE_KEYS = ("temperature_K", "pressure_GPa", "mobile_ion")
ROOM_TEMPERATURE_K = 300.0

_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*((?![\s\d.+-]).*?)\s*", re.DOTALL)
_COMPARISON = re.compile(r"\s*(<=|>=|<|>|≤|≥)(.*)", re.DOTALL)
_GRAMMAR = 'write a number, "<0.05", ">=1", [lo, hi] or "0.02..0.05", with a unit if you like'


@dataclass(frozen=True)
class Interval:
    """A closed range of a property, in its spec's unit; a point has ``lo == hi``, an open end is +-inf."""

    lo: float
    hi: float

    def __post_init__(self) -> None:
        if math.isnan(self.lo) or math.isnan(self.hi) or self.lo > self.hi:
            raise ConfigError(f"the range {self.lo} to {self.hi} is empty", "give the lower end first")

    def contains(self, value: float, tolerance: float = 0.0) -> bool:
        """True when ``value`` lies within the range, widened by ``tolerance`` on both sides."""
        return self.lo - tolerance <= value <= self.hi + tolerance

    @property
    def target(self) -> float:
        """One value that stands for the range: its middle, or its finite end when the other is open.

        Asking 0.05 for ``"<0.05"`` is deliberate: crystals asked for 0 eV above the hull are not more stable than those
        asked for the upper end, only less diverse.
        """
        if math.isinf(self.lo):
            return self.hi
        return self.lo if math.isinf(self.hi) else 0.5 * (self.lo + self.hi)

    def __str__(self) -> str:
        if self.lo == self.hi:
            return repr(self.lo)
        if math.isinf(self.lo):
            return f"<={self.hi!r}"
        return f">={self.lo!r}" if math.isinf(self.hi) else f"{self.lo!r}..{self.hi!r}"


@dataclass(frozen=True)
class Request:
    """A parsed ``ask:``.

    Attributes:
        conditions: what the model is conditioned on, by spec name: a range, a category or an exact element set.
        chemistry: hard constraints.
        temperature_K: temperature of the state point.
        pressure_GPa: its pressure.
        mobile_ion: the ion that should move, or ``"none"``.
    """

    conditions: dict[str, Interval | str | frozenset[str]]
    chemistry: Chemistry
    temperature_K: float = ROOM_TEMPERATURE_K
    pressure_GPa: float = AMBIENT_PRESSURE_GPa
    mobile_ion: str = "none"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that :func:`parse_request` reads back to an equal request."""
        chemistry = self.chemistry
        ask: dict[str, Any] = {k: str(v) for k, v in self.conditions.items() if k not in ("elements", *STATE_KEYS)}
        ask |= {"mobile_ion": self.mobile_ion, "temperature_K": self.temperature_K, "pressure_GPa": self.pressure_GPa}
        ask["elements"] = {
            "require": sorted(chemistry.require),
            "allow": None if chemistry.allow is None else sorted(chemistry.allow),
            "forbid": sorted(chemistry.forbid),
        }
        ask["formula"] = chemistry.formula
        ask["z"] = None if chemistry.z is None else list(chemistry.z)
        ask["n_atoms"] = None if chemistry.n_atoms is None else list(chemistry.n_atoms)
        ask["space_group"] = None if chemistry.space_group is None else sorted(chemistry.space_group)
        ask["charge_neutral"] = chemistry.charge_neutral
        return ask


def parse_request(ask: Mapping[str, Any], specs: Mapping[str, ConditionSpec]) -> Request:
    """Read an ``ask:`` mapping (plain or OmegaConf) against the conditions a model knows.

    The mobile ion becomes a required element. The element-set condition is set when the constraints leave exactly one
    set (a formula, or ``elements`` as a list); any wider choice stays a hard constraint only.

    Raises:
        ConfigError: an unknown name (with the closest one), a value outside the grammar, the unit or the physical range.
        ChemistryError: unknown elements, or constraints that contradict each other.
    """
    given = plain(ask)
    known = {*specs, *CHEMISTRY_KEYS, *STATE_KEYS}
    asked = {name: value for name, value in given.items() if value is not None}
    for name in asked:
        if name not in known:
            raise ConfigError(f"ask: the model has no condition named {name!r}", did_you_mean(str(name), known))
    mobile_ion = _mobile_ion(asked.get("mobile_ion", "none"), specs)
    chemistry = parse_chemistry(asked, mobile_ion)
    conditions: dict[str, Interval | str | frozenset[str]] = {}
    for name, spec in specs.items():
        if spec.kind == "element_set":
            if (exact := chemistry.exact_elements) is not None:
                conditions[name] = exact
        elif name in asked and not spec.of_state_point:
            conditions[name] = _condition(asked[name], spec)
    temperature = _state(asked.get("temperature_K", ROOM_TEMPERATURE_K), "temperature_K", "K", above=0.0)
    pressure = _state(asked.get("pressure_GPa", AMBIENT_PRESSURE_GPa), "pressure_GPa", "GPa")
    for name, value in (("temperature_K", temperature), ("pressure_GPa", pressure)):
        if name in specs:  # a model that knows state points is always told which one
            conditions[name] = _condition(value, specs[name])
    return Request(conditions, chemistry, temperature, pressure, mobile_ion)


def parse_chemistry(ask: Mapping[str, Any], mobile_ion: str = "none") -> Chemistry:
    """The chemistry keys of ``ask`` as hard constraints; ``mobile_ion`` is added to the required elements.

    Raises:
        ConfigError, ChemistryError: see :func:`parse_request`.
    """
    elements = ask.get("elements") or {}
    if not isinstance(elements, Mapping):  # a plain list closes the set: all of these and nothing else
        elements = {"require": elements, "allow": elements}
    for key in elements:
        if key not in ("require", "allow", "forbid"):
            raise ConfigError(f"ask.elements: unknown key {key!r}", did_you_mean(str(key), ("require", "allow", "forbid")))
    require = elements_of(elements.get("require") or (), "elements.require")
    allow = None if elements.get("allow") is None else elements_of(elements["allow"], "elements.allow")
    forbid = elements_of(elements.get("forbid") or (), "elements.forbid")
    formula = None if ask.get("formula") is None else parse_formula(ask["formula"])
    if mobile_ion != "none":
        _check_ion(mobile_ion, allow, forbid, formula)
        require |= {mobile_ion}
    n_atoms = None if ask.get("n_atoms") is None else _whole_range(ask["n_atoms"], "n_atoms")
    z = None if ask.get("z") is None else _whole_set(ask["z"], "z")
    groups = None if ask.get("space_group") is None else frozenset(_space_groups(ask["space_group"]))
    return Chemistry(require, allow, forbid, formula, z, n_atoms, groups, _flag(ask.get("charge_neutral"), "charge_neutral"))


def _flag(value: Any, name: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise ConfigError(f"ask.{name}: {value!r} is neither true nor false", f"write {name}: true")


def _check_ion(ion: str, allow: frozenset[str] | None, forbid: frozenset[str], formula: Mapping[str, int] | None) -> None:
    """Name mobile_ion, not the require list it joins, when it contradicts the rest."""
    if allow is not None and ion not in allow:
        raise ChemistryError(f"mobile_ion contradicts elements.allow: {ion} is not allowed", f"add {ion} to elements.allow")
    if ion in forbid:
        raise ChemistryError(f"mobile_ion contradicts elements.forbid: {ion} is forbidden", f"remove {ion} from elements.forbid")
    if formula is not None and ion not in formula:
        raise ChemistryError(f"mobile_ion contradicts formula: {ion} is not in it", "change mobile_ion or formula")


def parse_interval(value: Any, name: str, unit: str = "") -> Interval:
    """A range in ``unit`` from the grammar above (no check of the physical range).

    Raises:
        ConfigError: outside the grammar, a unit that does not fit, or an empty range.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 2:
            raise ConfigError(f"{name}: {list(value)!r} is not [lo, hi]", _GRAMMAR)
        return _range(_end(value[0], name, unit, -math.inf), _end(value[1], name, unit, math.inf), name)
    if isinstance(value, str):
        if match := _COMPARISON.fullmatch(value):
            bound = _number(match[2], name, unit)
            return Interval(-math.inf, bound) if match[1] in ("<", "<=", "≤") else Interval(bound, math.inf)
        if ".." in value:
            return _dotted(value, name, unit)
    point = _number(value, name, unit)
    return Interval(point, point)


def _dotted(text: str, name: str, unit: str) -> Interval:
    """``"20..50 meV/atom"``: a unit after the upper end holds for both, unless the lower has its own."""
    left, right = text.split("..", 1)
    upper = _NUMBER.fullmatch(right)
    lower = _NUMBER.fullmatch(left)
    if upper and lower and not lower[2]:
        left = f"{left} {upper[2]}"
    return _range(_number(left, name, unit), _number(right, name, unit), name)


def _range(lo: float, hi: float, name: str) -> Interval:
    if lo > hi:
        raise ConfigError(f"{name}: the range {lo:g} to {hi:g} is empty", "give the lower end first")
    return Interval(lo, hi)


def _end(value: Any, name: str, unit: str, open_end: float) -> float:
    if value is None or (isinstance(value, float) and value == open_end):
        return open_end
    return _number(value, name, unit)


def _number(value: Any, name: str, unit: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None or not math.isfinite(float(match[1])):
        raise ConfigError(f"{name}: {value!r} is not understood", _GRAMMAR)
    return convert(float(match[1]), match[2], unit, name)


def _condition(value: Any, spec: ConditionSpec) -> Interval | str:
    if spec.kind == "categorical":
        spec.index(str(value))
        return str(value)
    interval = parse_interval(value, spec.name, spec.unit)
    for end in (interval.lo, interval.hi):
        if math.isfinite(end) and not spec.low <= end <= spec.high:
            raise ConfigError(f"{spec.name}: {end:g} {spec.unit} is outside the physical range",
                              f"ask between {spec.low:g} and {spec.high:g} {spec.unit}")  # fmt: skip
    return interval


def _mobile_ion(value: Any, specs: Mapping[str, ConditionSpec]) -> str:
    spec = specs.get("mobile_ion")
    choices = spec.choices if spec is not None else (*MOBILE_IONS, "none")
    if value not in choices:
        raise ConfigError(f"mobile_ion: {value!r} is not one the model knows", did_you_mean(str(value), choices))
    return str(value)


def _state(value: Any, name: str, unit: str, above: float = -math.inf) -> float:
    number = _number(value, f"ask.{name}", unit)
    if number <= above:
        raise ConfigError(f"ask.{name}: {number:g} {unit} is not above {above:g}", f"give a value in {unit}")
    return number


def _whole(value: Any, name: str) -> int:
    try:
        number = int(value)
        if isinstance(value, bool) or number != float(value):
            raise ValueError
    except (TypeError, ValueError):
        raise ChemistryError(f"{name}: {value!r} is not a whole number", f"write {name}: 4, or a list") from None
    return number


def _whole_range(value: Any, name: str) -> tuple[int, int]:
    ends = value.split("..") if isinstance(value, str) else value
    if not isinstance(ends, Sequence):
        return _whole(ends, name), _whole(ends, name)
    if len(ends) not in (1, 2):
        raise ChemistryError(f"{name}: {value!r} is not a range", f"write {name}: [4, 24]")
    return _whole(ends[0], name), _whole(ends[-1], name)


def _whole_set(value: Any, name: str) -> tuple[int, ...]:
    if isinstance(value, str) and ".." in value:
        low, high = _whole_range(value, name)
        return tuple(range(low, high + 1))
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return tuple(sorted({_whole(item, name) for item in items}))


def _space_groups(value: Any) -> set[int]:
    """Numbers, ``"195..230"``, international symbols (``"Fm-3m"``), or a list of these."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return set().union(*(_space_groups(item) for item in value))
    if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?\d+\s*(\.\.\s*\d+\s*)?", value):
        from pymatgen.symmetry.groups import SpaceGroup

        try:
            return {int(SpaceGroup(value.strip()).int_number)}
        except ValueError:
            raise ChemistryError(f"space_group: {value!r} is no space-group symbol", "write 225, Fm-3m or 195..230") from None
    return set(_whole_set(value, "space_group"))
