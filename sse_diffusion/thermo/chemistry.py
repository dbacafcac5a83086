"""Hard chemistry constraints: what a crystal must, may and must not contain, and in which counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sse_diffusion.core.errors import ChemistryError
from sse_diffusion.core.symmetry import find_symmetry
from sse_diffusion.thermo.charge_balance import imbalance

if TYPE_CHECKING:
    from pymatgen.core import Structure

SYMMETRY_TOLERANCE_A = 0.01
"""Distance tolerance (``symprec``) when the primitive cell and the space group of a crystal are looked up."""

MAX_FORMULA_UNITS = 1000
"""Formula units per cell that are tried when ``z`` is free and ``n_atoms`` is bounded."""


@dataclass(frozen=True)
class Chemistry:
    """Constraints that a crystal meets or not; checked for contradictions when made.

    Attributes:
        require: elements that must all be present.
        allow: elements that may be present; ``None`` allows every element.
        forbid: elements that must be absent (wins over ``allow``).
        formula: element counts of one formula unit, or formula text such as ``"Li3PS4"``.
        z: accepted numbers of formula units in the primitive cell (of the reduced formula when ``formula`` is None).
        n_atoms: inclusive range of the number of atoms in the primitive cell.
        space_group: accepted space-group numbers.
        charge_neutral: the composition must pass the SMACT check (:func:`sse_diffusion.thermo.charge_balance.imbalance`).

    Raises:
        ChemistryError: an unknown symbol or number, or two constraints that contradict each other (both named).
    """

    require: frozenset[str] = frozenset()
    allow: frozenset[str] | None = None
    forbid: frozenset[str] = frozenset()
    formula: dict[str, int] | None = None
    z: tuple[int, ...] | None = None
    n_atoms: tuple[int, int] | None = None
    space_group: frozenset[int] | None = None
    charge_neutral: bool = False

    def __post_init__(self) -> None:
        put = object.__setattr__  # the dataclass is frozen; fields are normalised once, here
        put(self, "require", elements_of(self.require, "require"))
        put(self, "forbid", elements_of(self.forbid, "forbid"))
        put(self, "allow", None if self.allow is None else elements_of(self.allow, "allow"))
        put(self, "formula", None if self.formula is None else parse_formula(self.formula))
        self._check_elements()
        self._check_counts()

    def _check_elements(self) -> None:
        if both := self.require & self.forbid:
            raise _contradiction("require", "forbid", f"{_names(both)} in both")
        if self.allow is not None:
            if outside := self.require - self.allow:
                raise _contradiction("require", "allow", f"{_names(outside)} required but not in the list of allowed elements")
            if not self.allow - self.forbid:
                raise _contradiction("allow", "forbid", "no element is left")
        if self.formula is None:
            return
        present = frozenset(self.formula)
        if self.charge_neutral and (reason := imbalance(self.formula)):
            raise _contradiction("formula", "charge_neutral", reason)
        if self.allow is not None and present - self.allow:
            raise _contradiction("formula", "allow", f"{_names(present - self.allow)} in the formula but not allowed")
        if present & self.forbid:
            raise _contradiction("formula", "forbid", f"{_names(present & self.forbid)} in both")
        if missing := self.require - present:
            raise _contradiction("require", "formula", f"{_names(missing)} required but not in the formula")

    def _check_counts(self) -> None:
        if self.space_group is not None:
            bad = [g for g in self.space_group if not 1 <= g <= 230]
            if bad or not self.space_group:
                raise ChemistryError(f"space_group {sorted(self.space_group)} is not usable", "they are numbered 1 to 230")
        if self.z is not None and (not self.z or min(self.z) < 1):
            raise ChemistryError(f"z {list(self.z)} is not usable", "give whole numbers of formula units, 1 or more")
        if self.n_atoms is None:
            return
        low, high = self.n_atoms
        if low < 1 or low > high:
            raise ChemistryError(f"n_atoms [{low}, {high}] contradicts itself", "give [lo, hi] with 1 <= lo <= hi")
        if len(self.require) > high:
            raise _contradiction("require", "n_atoms", f"{len(self.require)} elements do not fit in {high} atoms")
        if self.formula is not None and not self.cells():
            size = sum(self.formula.values())
            with_z = f" with z in {list(self.z)}" if self.z else ""
            why = f"{size} atoms per formula unit{with_z} give no cell of {low} to {high} atoms"
            raise _contradiction("formula", "n_atoms", why)

    def cells(self) -> list[dict[str, int]]:
        """Atom counts of every primitive cell that the formula, ``z`` and ``n_atoms`` admit, smallest first.

        Empty when no formula is set. A free ``z`` is bounded by ``n_atoms``; with neither, one formula unit is returned.
        """
        if self.formula is None:
            return []
        size = sum(self.formula.values())
        if self.n_atoms is None:
            low, high, units = 1, size * max(self.z or (1,)), self.z or (1,)
        else:
            low, high = self.n_atoms
            units = self.z or tuple(range(1, min(high // size, MAX_FORMULA_UNITS) + 1))
        return [{s: n * z for s, n in self.formula.items()} for z in sorted(set(units)) if low <= size * z <= high]

    def allowed(self, symbols: Iterable[str]) -> frozenset[str]:
        """Those of ``symbols`` that may appear in a crystal under these constraints."""
        kept = frozenset(symbols) - self.forbid
        if self.allow is not None:
            kept &= self.allow
        return kept if self.formula is None else kept & frozenset(self.formula)

    @property
    def exact_elements(self) -> frozenset[str] | None:
        """The set of elements when the constraints leave only one possible set, else ``None``."""
        if self.formula is not None:
            return frozenset(self.formula)
        if self.allow is not None and self.allow - self.forbid == self.require:
            return self.require
        return None

    def violations(self, structure: Structure, space_group: int | None = None) -> list[str]:
        """Every constraint the crystal breaks, one sentence each; empty when all are met.

        Args:
            structure: any cell of the crystal; counts are taken in its primitive cell (moyo, 0.01 Angstrom).
            space_group: its space-group number when known; looked up (moyo, 0.01 Angstrom) otherwise.
        """
        present = frozenset(element.symbol for element in structure.composition.element_composition)
        found = [f"required element {s} is absent" for s in sorted(self.require - present)]
        found += [f"element {s} is not allowed" for s in sorted(present - self.allowed(present))]
        if self.formula is not None or self.z is not None or self.n_atoms is not None:
            found += self._count_violations(_primitive_counts(structure))
        if self.space_group is not None:
            number = find_symmetry(structure, SYMMETRY_TOLERANCE_A).number if space_group is None else space_group
            if number not in self.space_group:
                found.append(f"space group {number} is not one of {sorted(self.space_group)}")
        if self.charge_neutral and (reason := imbalance(structure)):
            found.append(reason)
        return found

    def _count_violations(self, counts: dict[str, int]) -> list[str]:
        found: list[str] = []
        n_atoms = sum(counts.values())
        if self.n_atoms is not None and not self.n_atoms[0] <= n_atoms <= self.n_atoms[1]:
            found.append(f"{n_atoms} atoms in the primitive cell, asked for {self.n_atoms[0]} to {self.n_atoms[1]}")
        unit = self.formula or _reduced(counts)
        z = n_atoms // sum(unit.values())
        if {s: n * z for s, n in unit.items()} != counts:
            found.append(f"composition {_text(counts)} is not a multiple of {_text(unit)}")
        elif self.z is not None and z not in self.z:
            found.append(f"z is {z}, asked for {list(self.z)}")
        return found


def elements_of(symbols: Iterable[object], where: str) -> frozenset[str]:
    """Element symbols, checked.

    Raises:
        ChemistryError: not an element symbol (with the closest one), or YAML turned ``No`` into ``false``.
    """
    from pymatgen.core.periodic_table import Element

    if isinstance(symbols, str):
        symbols = [s for s in symbols.replace(",", " ").replace("-", " ").split() if s]
    known = {element.symbol for element in Element}
    checked = set()
    for symbol in symbols:
        if isinstance(symbol, bool):
            raise ChemistryError(f"{where}: YAML read an element as {symbol}", "quote the symbol: 'No'")
        if not isinstance(symbol, str) or symbol not in known:
            close = str(symbol).strip().capitalize()
            hint = f"did you mean {close!r}?" if close in known else "write element symbols such as Li, P, S"
            raise ChemistryError(f"{where}: unknown element {symbol!r}", hint)
        checked.add(symbol)
    return frozenset(checked)


def parse_formula(formula: str | Mapping[str, int]) -> dict[str, int]:
    """Counts of one formula unit from text (``"Li3PS4"``, brackets allowed) or a mapping; kept as written, not reduced.

    Raises:
        ChemistryError: unreadable, an unknown element, or a count that is not a whole number above 0.
    """
    from pymatgen.core import Composition

    if isinstance(formula, Mapping):
        elements_of(formula, "formula")
        counts: dict[str, float] = {s: n for s, n in formula.items()}
    else:
        try:
            counts = Composition(formula, strict=True).get_el_amt_dict()
        except (ValueError, TypeError) as error:
            raise ChemistryError(f"formula {formula!r} cannot be read: {error}", "write it like Li3PS4 or Li6(PS5)Cl") from error
        elements_of(counts, f"formula {formula!r}")
    bad = [s for s, n in counts.items() if isinstance(n, bool) or not isinstance(n, int | float) or n <= 0 or n != int(n)]
    if bad or not counts:
        found = f"not so for {_names(bad)}" if bad else "it is empty"
        raise ChemistryError(f"formula {formula!r} needs whole counts above 0; {found}", "multiply it until all counts are whole")
    return {s: int(n) for s, n in counts.items()}


def _primitive_counts(structure: Structure) -> dict[str, int]:
    from collections import Counter

    from pymatgen.core import Element

    found = find_symmetry(structure, SYMMETRY_TOLERANCE_A)
    return {Element.from_Z(z).symbol: n for z, n in Counter(found.primitive_numbers).items()}


def _reduced(counts: dict[str, int]) -> dict[str, int]:
    from math import gcd

    divisor = gcd(*counts.values())
    return {s: n // divisor for s, n in counts.items()}


def _text(counts: Mapping[str, int]) -> str:
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in counts.items())


def _names(symbols: Iterable[str]) -> str:
    return ", ".join(sorted(symbols))


def _contradiction(first: str, second: str, why: str) -> ChemistryError:
    return ChemistryError(f"{first} contradicts {second}: {why}", f"change {first} or {second}")
