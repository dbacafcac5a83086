"""What a crystal can be asked for: one :class:`ConditionSpec` per property, one YAML file each, no source edit.

A spec says where the training label comes from, how it is standardised for the network, which values a user may ask for,
and how often the condition is dropped in training (so that any subset can be asked when sampling).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from sse_diffusion.core.config import build, config_dir
from sse_diffusion.core.errors import ConfigError, did_you_mean

Kind = Literal["continuous", "categorical", "element_set"]
Transform = Literal["identity", "log10", "sqrt"]

MOBILE_IONS = ("Li", "Na", "Ag", "K", "Mg")
"""Ions that count as mobile, most mobile first: a crystal with several is labelled by the first of them."""

STATE_POINT = ("state:temperature_K", "state:pressure_GPa")
COMPUTED_LABELS = (
    "structure:elements",
    "structure:mobile_ion",
    "structure:density_g_cm3",
    *STATE_POINT,
    "state:gibbs_above_hull_eV_per_atom",
    "phases:oxidation_limit_V",
    "phases:reduction_limit_V",
)
"""Labels that are not read from the data set. ``structure:`` comes from the crystal, ``phases:`` from the phases it competes
with, ``state:`` holds at the state point that training draws, anew in every epoch (:mod:`~sse_diffusion.thermo.labels`)."""


PREDICTOR = "predictor:"


@dataclass(frozen=True, kw_only=True)
class ConditionSpec:
    """One property the generative model can be conditioned on.

    A continuous value x enters the network as (f(x) - mean) / std with f the ``transform``.

    Attributes:
        name: key in ``ask:`` and file name of the YAML.
        unit: unit of the value, of ``low`` and of ``high``; empty for none.
        kind: ``continuous``, ``categorical`` (one of ``choices``) or ``element_set`` (the exact set of elements).
        mean: mean of the transformed training labels.
        std: their standard deviation.
        transform: ``identity``, ``sqrt`` (skewed, zero included) or ``log10`` (many decades, positive).
        dropout: probability of replacing the label by the null token in training.
        label: label of the data set (``labels:`` in configs/data maps it to a column and converts its unit), or one of
            :data:`COMPUTED_LABELS`.
        low: smallest physical value accepted from a user.
        high: largest.
        choices: the categories, in index order.
        description: one sentence for ``sse explain`` and the report.

    Raises:
        ConfigError: a field is out of range or missing for the kind.
    """

    name: str
    unit: str = ""
    kind: Kind
    mean: float = 0.0
    std: float = 1.0
    transform: Transform = "identity"
    dropout: float = 0.2
    label: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        where = f"condition {self.name!r}"
        if self.kind not in get_args(Kind):
            raise ConfigError(f"{where}: unknown kind {self.kind!r}", did_you_mean(str(self.kind), get_args(Kind)))
        if self.transform not in get_args(Transform):
            hint = did_you_mean(str(self.transform), get_args(Transform))
            raise ConfigError(f"{where}: unknown transform {self.transform!r}", hint)
        if not 0.0 <= self.dropout <= 1.0:
            raise ConfigError(f"{where}: dropout is {self.dropout}", "give a probability between 0 and 1")
        if self.kind == "categorical" and not self.choices:
            raise ConfigError(f"{where}: a categorical condition needs choices", "list them: choices: [a, b]")
        if self.kind == "continuous":
            self._check_scale(where)
        if self.is_computed and self.label not in COMPUTED_LABELS:
            raise ConfigError(f"{where}: unknown label {self.label!r}", did_you_mean(self.label, COMPUTED_LABELS))

    def _check_scale(self, where: str) -> None:
        if not (self.std > 0.0 and math.isfinite(self.std) and math.isfinite(self.mean)):
            raise ConfigError(f"{where}: mean {self.mean}, std {self.std}", "measure both on the training rows; std is positive")
        if not self.low < self.high:
            raise ConfigError(f"{where}: low {self.low} is not below high {self.high}", "give the physical range of the property")
        if self.transform != "identity" and self.low < 0.0:
            raise ConfigError(f"{where}: {self.transform} needs low >= 0, not {self.low}", "set low, or transform: identity")

    @property
    def predictor(self) -> str | None:
        """The property predictor that judges it, for what no model is conditioned on (``label: predictor:NAME``)."""
        return self.label.removeprefix(PREDICTOR) if self.label.startswith(PREDICTOR) else None

    @property
    def is_computed(self) -> bool:
        """Whether the label is one of :data:`COMPUTED_LABELS`."""
        return self.label.startswith(("structure:", "phases:", "state:"))

    @property
    def needs_phases(self) -> bool:
        """Whether the label comes from the phases that the crystal competes with."""
        return self.label.startswith(("phases:", "state:"))

    @property
    def of_state_point(self) -> bool:
        """Whether this is the temperature or the pressure of the request."""
        return self.label in STATE_POINT

    def standardise(self, value: float) -> float:
        """The number the network sees for a value in ``unit``; an open end (+-inf) stays +-inf.

        Labels a hair outside a square root's or logarithm's domain (-1e-9 eV above the hull) are moved to its edge.
        """
        return float(self.standardised(np.array(value)))

    def standardised(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """:meth:`standardise` of many values; NaN stays NaN."""
        return (self.transformed(values) - self.mean) / self.std

    def unstandardise(self, value: float) -> float:
        """Inverse of :meth:`standardise`, in ``unit``."""
        if math.isinf(value):
            return value
        raw = value * self.std + self.mean
        if self.transform == "log10":
            return 10.0**raw
        return max(raw, 0.0) ** 2 if self.transform == "sqrt" else raw

    def transformed(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Values in ``unit`` on the scale of the transform (log10 of a conductivity); open ends stay +-inf, NaN stays NaN."""
        found = values
        if self.transform == "log10":
            found = np.log10(np.maximum(values, 1e-30))
        elif self.transform == "sqrt":
            found = np.sqrt(np.maximum(values, 0.0))
        return np.where(np.isinf(values), values, found)

    def index(self, choice: str) -> int:
        """Index of a category.

        Raises:
            ConfigError: not one of ``choices``.
        """
        if choice not in self.choices:
            raise ConfigError(f"{self.name}: unknown choice {choice!r}", did_you_mean(choice, self.choices))
        return self.choices.index(choice)


def mobile_ion_of(symbols: Iterable[str]) -> str:
    """The mobile ion of a crystal with these elements (see :data:`MOBILE_IONS`), or ``"none"``."""
    present = set(symbols)
    return next((ion for ion in MOBILE_IONS if ion in present), "none")


def label_of(
    spec: ConditionSpec, symbols: Collection[str], labels: Mapping[str, float | str]
) -> float | str | frozenset[str] | None:
    """The training label of one crystal under ``spec``.

    Args:
        spec: the condition.
        symbols: element symbols of the crystal (repeats allowed).
        labels: the crystal's labels as the data room read them, in ``spec.unit``.

    Returns:
        A float in ``spec.unit`` (not standardised), a category, a set of elements, or ``None`` when the table has no value
        (NaN counts as no value; the training step then uses the null token).
    """
    if spec.label == "structure:elements":
        return frozenset(symbols)
    if spec.label == "structure:mobile_ion":
        return mobile_ion_of(symbols)
    value = labels.get(spec.label)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return float(value) if spec.kind == "continuous" else str(value)


def available_conditions(root: str | Path | None = None) -> list[str]:
    """Names of the conditions that have a YAML file under ``root``/thermo/condition."""
    return _names(_folder(root))


def load_condition_specs(names: Iterable[str] | None = None, root: str | Path | None = None) -> dict[str, ConditionSpec]:
    """Read condition specs from ``root``/thermo/condition/<name>.yaml, in the order of ``names``.

    Args:
        names: which to load; ``None`` loads all.
        root: the ``configs`` folder; by default the one that ships with the package.

    Raises:
        ConfigError: no such file (with the closest name), a key the schema lacks, or a ``name`` unlike the file's.
    """
    return _specs(_folder(root), names)


def load_judged_specs(root: str | Path | None = None) -> dict[str, ConditionSpec]:
    """What can be asked although no model is conditioned on it: predictors judge (``root``/thermo/judged/<name>.yaml).

    Raises:
        ConfigError: as :func:`load_condition_specs`, or a file that names no predictor.
    """
    specs = _specs(_folder(root, "judged"))
    for spec in specs.values():
        if spec.kind != "continuous" or spec.predictor is None:
            raise ConfigError(f"{spec.name} is judged by nobody", "set kind: continuous and label: predictor:NAME")
    return specs


def _specs(folder: Path, names: Iterable[str] | None = None) -> dict[str, ConditionSpec]:
    known = _names(folder)
    specs: dict[str, ConditionSpec] = {}
    for name in known if names is None else names:
        if name not in known:
            raise ConfigError(f"no condition named {name!r}", did_you_mean(name, known))
        path = folder / f"{name}.yaml"
        spec = build(ConditionSpec, {"name": name, **read_condition_file(path)})
        if spec.name != name:
            raise ConfigError(f"{path} calls its condition {spec.name!r}", "file name and name: must agree")
        specs[name] = spec
    return specs


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_condition_file(path: Path) -> dict[str, Any]:
    """What one YAML file says.

    Raises:
        ConfigError: it cannot be read or holds no mapping.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        text = path.read_text(encoding="utf-8")
        if not isinstance(yaml.safe_load(text), dict):
            raise ConfigError(f"{path} describes no condition", "see docs/add_a_property.md")
        values = OmegaConf.to_container(OmegaConf.create(text))  # to which 1e-9 is a number, as in the other configs
    except OSError as error:
        raise ConfigError(f"cannot read the condition {path}: {error.strerror}", "see docs/add_a_property.md") from error
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", "mend the file") from error
    return {str(key): value for key, value in dict(values).items()}  # type: ignore[arg-type]  # a mapping, as just seen


def _folder(root: str | Path | None, kind: str = "condition") -> Path:
    return (Path(root) if root is not None else config_dir()) / "thermo" / kind
