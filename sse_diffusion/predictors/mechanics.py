"""Elastic moduli and Debye temperature of a crystal from its structure, with calibrated intervals: boosted trees on descriptors.

Learnt are the decimal logarithms of K, G and the Debye temperature. Young's modulus follows from K and G, E = 9 K G / (3 K + G)
(isotropic polycrystal). Intervals are symmetric in the logarithm: quantile times a scale that a second ensemble predicts from the
same descriptors (normalised conformal prediction, Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.checkpoint import load_checkpoint, save_checkpoint
from sse_diffusion.core.errors import CheckpointError, ConfigError, did_you_mean
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.predictors.boosted_trees import trees_from_tensors, trees_to_tensors
from sse_diffusion.predictors.composition import symbol_of
from sse_diffusion.predictors.conformal import LEVELS
from sse_diffusion.predictors.descriptors.table import FAMILIES, DescriptorTable, describe
from sse_diffusion.predictors.domain import DomainDistance
from sse_diffusion.predictors.features import FEATURE_NAMES, MAX_Z
from sse_diffusion.predictors.training_index import TrainingIndex

if TYPE_CHECKING:
    from lightgbm import Booster
    from pymatgen.core import Structure

VERSION = 1
LEARNT = ("bulk_modulus", "shear_modulus", "debye_temperature")
YOUNG = "youngs_modulus"
UNITS = {"bulk_modulus": "GPa", "shear_modulus": "GPa", YOUNG: "GPa", "debye_temperature": "K"}
PROPERTIES = tuple(UNITS)
MIN_CRYSTALS_PER_ELEMENT = 10
"""An element in fewer training crystals than this puts a crystal outside the domain."""
MIN_SCALE = 0.01
"""Smallest predicted scale, decades."""
CONVENTION = "aflow"
"""Column that says which convention a label follows: 1 for AFLOW's, 0 for the Materials Project's, which is what is predicted."""
FRACTIONS = FEATURE_NAMES[:MAX_Z]

Array = NDArray[np.float64]


def youngs_modulus(bulk: Array, shear: Array) -> Array:
    """E = 9 K G / (3 K + G), in the unit of K and G."""
    return 9 * bulk * shear / (3 * bulk + shear)


def youngs_scale(mean: Array, scale: Array) -> Array:
    """Scale (n,) of log E from means and scales (n, >= 2) of log K and log G.

    Errors are taken as fully correlated; d log E / d log K = G / (3 K + G), d log E / d log G = 3 K / (3 K + G).
    """
    bulk, shear = 10 ** mean[:, 0], 10 ** mean[:, 1]
    return np.asarray((shear * scale[:, 0] + 3 * bulk * scale[:, 1]) / (3 * bulk + shear))


@dataclass(frozen=True, kw_only=True)
class MechanicsCalibration:
    """What turns scales into intervals.

    Attributes:
        quantiles: property -> {"68", "95"}: quantile of |log10 error| over the predicted scale, out of fold.
        prior_95: property -> 95 % quantile of |log10 label - median|: added to the half-widths outside the domain (half of it to
            those of the 68 % interval).
        element_counts: training crystals that hold each element, by symbol.
    """

    quantiles: dict[str, dict[str, float]] = field(default_factory=dict)
    prior_95: dict[str, float] = field(default_factory=dict)
    element_counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MechanicsModel:
    """What is learnt.

    Attributes:
        columns: descriptors that the trees read, in their order; CONVENTION comes after the last.
        means: property -> trees for its log10.
        scales: property -> trees for the log10 of the expected |error|.
        domain: distance to the training crystals in :attr:`domain_columns`.
    """

    columns: tuple[str, ...]
    means: Mapping[str, Booster]
    scales: Mapping[str, Booster]
    domain: DomainDistance

    @property
    def domain_columns(self) -> list[str]:
        """The columns but the element fractions (rare elements are flagged by their counts)."""
        return [name for name in self.columns if name not in FRACTIONS]

    def distributions(self, descriptors: Array) -> tuple[Array, Array]:
        """Means and scales (n, len(PROPERTIES)) of the log10 of the properties from ``descriptors`` (n, len(columns))."""
        features = np.column_stack([descriptors, np.zeros(len(descriptors))])
        mean = {name: trees.predict(features) for name, trees in self.means.items()}
        scale = {name: np.maximum(10 ** trees.predict(features), MIN_SCALE) for name, trees in self.scales.items()}
        moduli = [np.column_stack([of["bulk_modulus"], of["shear_modulus"]]) for of in (mean, scale)]
        mean[YOUNG] = np.log10(youngs_modulus(*(10 ** moduli[0]).T))
        scale[YOUNG] = youngs_scale(*moduli)
        return np.column_stack([mean[p] for p in PROPERTIES]), np.column_stack([scale[p] for p in PROPERTIES])


class MechanicsPredictor:
    """Predicts one of PROPERTIES; :meth:`predict_all` answers all of them from one look at the crystals.

    A crystal with partial occupancies is answered from the mean of its sites (descriptors are weighted by occupancy) with status
    ``unconverged``: no training crystal has any.

    Args:
        model: the trees.
        calibration: see :class:`MechanicsCalibration`.
        answer: the property of :meth:`predict`.
        sha256: of the weights, for provenance.

    Raises:
        ConfigError: no such property.
    """

    kind: ClassVar[str] = "mechanics"

    def __init__(
        self, model: MechanicsModel, calibration: MechanicsCalibration, answer: str = "bulk_modulus", sha256: str = ""
    ) -> None:
        if answer not in UNITS:
            raise ConfigError(f"no elastic property {answer!r}", did_you_mean(answer, PROPERTIES))
        self.model, self.calibration, self.name, self.sha256 = model, calibration, answer, sha256
        self.trained: TrainingIndex | None = None  # the compositions it was trained on, where they are recorded

    @property
    def unit(self) -> str:
        """Of the property that :meth:`predict` answers."""
        return UNITS[self.name]

    @classmethod
    def load(cls, checkpoint: str | Path = "mechanics", target: str = "bulk_modulus") -> Self:
        """Read a checkpoint folder, or a shipped checkpoint by its name.

        Raises:
            CheckpointError: missing, truncated, altered, or of another kind or version.
            ConfigError: no such property.
        """
        read = load_checkpoint(checkpoint, cls.kind, VERSION)
        try:
            trees = {part: _under(read.tensors, part) for part in ("mean", "scale")}
            model = MechanicsModel(
                tuple(read.config["columns"]),
                trees_from_tensors(trees["mean"]),
                trees_from_tensors(trees["scale"]),
                DomainDistance.from_tensors(read.tensors),
            )
            calibration = MechanicsCalibration(**read.config["calibration"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{read.path} is incomplete: {error}", "copy or train the checkpoint again") from error
        predictor = cls(model, calibration, target, read.sha256)
        predictor.trained = TrainingIndex.load(read.path)
        return predictor

    def save(self, folder: str | Path, training: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint; ``training`` is recorded beside the model."""
        parts = {"mean": self.model.means, "scale": self.model.scales}
        tensors = {f"{part}.{name}": t for part, trees in parts.items() for name, t in trees_to_tensors(trees).items()}
        record = {
            "properties": list(PROPERTIES),
            "columns": list(self.model.columns),
            "calibration": asdict(self.calibration),
            "training": dict(training or {}),
        }
        save_checkpoint(folder, self.kind, VERSION, record, {**tensors, **self.model.domain.tensors()})
        if self.trained is not None:
            self.trained.save(folder)

    def predict(self, structures: Sequence[Structure]) -> list[Quantity]:
        """One quantity per structure."""
        return self.predict_all(structures)[self.name]

    def predict_all(self, structures: Sequence[Structure]) -> dict[str, list[Quantity]]:
        """Every property of each structure. Compositions without a structure are answered ``failed``."""
        return self.from_descriptors(describe(structures, FAMILIES))

    def from_descriptors(self, table: DescriptorTable) -> dict[str, list[Quantity]]:
        """Every property of each row of a table with all descriptor families."""
        if not len(table.values):
            return {name: [] for name in PROPERTIES}
        problems = dict(table.problems)
        no_cell = np.isnan(table.columns(["volume_per_atom_A3"])[:, 0])
        problems |= {int(i): "elastic properties need a structure" for i in np.flatnonzero(no_cell) if i not in problems}
        mean, scale = self.model.distributions(table.columns(self.model.columns))
        far = self._percentiles(table)
        warnings = [self._outside(fractions, p) for fractions, p in zip(table.columns(FRACTIONS), far, strict=True)]
        partial = table.columns(["partial_share"])[:, 0] > 0
        return {
            name: [
                Quantity.failed(problems[i], UNITS[name])
                if i in problems
                else self._quantity(name, mean[i, column], scale[i, column], warnings[i], bool(partial[i]), float(far[i]))
                for i in range(len(mean))
            ]
            for column, name in enumerate(PROPERTIES)
        }

    def _percentiles(self, table: DescriptorTable) -> Array:
        domain = self.model.domain
        return domain.percentile(domain.distance(table.columns(self.model.domain_columns)))

    def _outside(self, fractions: Array, percentile: float) -> str:
        """Why a crystal is outside the domain; empty when it is inside."""
        held = [symbol_of(int(z) + 1) for z in np.flatnonzero(fractions > 0)]
        counts = {symbol: self.calibration.element_counts.get(symbol, 0) for symbol in held}
        rare = [f"{symbol} in {n}" for symbol, n in counts.items() if n < MIN_CRYSTALS_PER_ELEMENT]
        if rare:
            return f"outside the training domain: {', '.join(rare)} training crystals (needs {MIN_CRYSTALS_PER_ELEMENT})"
        if percentile > self.model.domain.limit:
            return (
                f"outside the training domain: farther from it than {percentile:.1f} % of the training crystals from each other"
            )
        return ""

    def _quantity(self, name: str, mean: float, scale: float, outside: str, partial: bool, percentile: float) -> Quantity:
        rules = self.calibration
        half = {level: rules.quantiles[name][level] * scale for level in LEVELS}
        if outside:
            half = {"68": half["68"] + 0.5 * rules.prior_95[name], "95": half["95"] + rules.prior_95[name]}
        low, high = 10 ** (mean - half["68"]), 10 ** (mean + half["68"])
        disorder = "sites are partly filled: the training crystals are ordered" if partial else ""
        reason = "; ".join(filter(None, (outside, disorder)))
        provenance = {
            "predictor": self.kind,
            "checkpoint_sha256": self.sha256,
            "interval_95": [float(10 ** (mean - half["95"])), float(10 ** (mean + half["95"]))],
            "domain_percentile": percentile,
        }
        status = Status.UNCONVERGED if reason else Status.OK
        return Quantity(float(10**mean), float(high - low) / 2, UNITS[name], status, reason, provenance)


def _under(tensors: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The tensors whose name begins with ``part.``, without it."""
    return {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
