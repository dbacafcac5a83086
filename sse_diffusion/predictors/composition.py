"""Properties of a crystal from its composition alone: an ensemble with calibrated intervals, whatever the property."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from sse_diffusion.core.checkpoint import load_checkpoint, save_checkpoint
from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.predictors.ensemble import EnsembleMLP, mixture
from sse_diffusion.predictors.features import FEATURE_NAMES, MAX_Z, composition_features, element_table
from sse_diffusion.predictors.training_index import TrainingIndex

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

VERSION = 1
MIN_COMPOSITIONS_PER_ELEMENT = 10
"""An element in fewer training compositions than this puts a crystal outside the domain."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One property that is predicted.

    Attributes:
        name: key of the calibration and of the metrics.
        unit: of labels and predictions.
        floor: smallest physical value; predictions and intervals are cut there.
    """

    name: str
    unit: str
    floor: float = -math.inf


@dataclass(frozen=True, kw_only=True)
class CompositionModelConfig:
    """Shape of the ensemble.

    Attributes:
        width: hidden units per layer.
        depth: hidden layers.
        members: perceptrons in the ensemble.
    """

    width: int = 192
    depth: int = 2
    members: int = 5


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns the ensemble's spread into intervals (split conformal prediction on a fold of whole chemical systems).

    The central interval of level L is mu +- scale[L] * sd, cut at the target's floor.

    Attributes:
        scale_68, scale_95: per target, the conformal quantile of |y - mu| / sd; 1 and 2 where a target is not listed.
        prior_95: per target, the 95 % quantile of |y - median(y)| over the training compositions, in the target's unit: outside
            the domain it widens the 95 % half-width, and half of it the 68 % half-width (of energies above the hull half the
            training compositions lie within 0.02 eV/atom, so their 68 % quantile would look like knowledge).
        element_counts: training compositions that hold each element, by symbol.
    """

    scale_68: dict[str, float] = field(default_factory=dict)
    scale_95: dict[str, float] = field(default_factory=dict)
    prior_95: dict[str, float] = field(default_factory=dict)
    element_counts: dict[str, int] = field(default_factory=dict)


class CompositionPredictor:
    """Predicts ``targets`` from the composition alone; it cannot tell polymorphs apart. A property is a subclass.

    Args:
        model: the ensemble, with its feature scaling.
        config: its shape.
        calibration: see :class:`Calibration`.
        table: elemental properties (MAX_Z + 1, P) the model was trained with.
        sha256: of the weights, for provenance.

    Attributes:
        kind: of the checkpoint, and its name among the shipped ones.
        targets: what is predicted; :meth:`predict` answers the first.
        trained: the compositions it was trained on, where they are recorded.
    """

    kind: ClassVar[str]
    targets: ClassVar[tuple[Target, ...]]

    def __init__(
        self,
        model: EnsembleMLP,
        config: CompositionModelConfig,
        calibration: Calibration,
        table: NDArray[np.float32] | None = None,
        sha256: str = "",
    ) -> None:
        self.model = model.eval()
        self.config = config
        self.calibration = calibration
        self.table = element_table() if table is None else table
        self.sha256 = sha256
        self.trained: TrainingIndex | None = None

    @property
    def name(self) -> str:
        """Name of the first target."""
        return self.targets[0].name

    @property
    def unit(self) -> str:
        """Unit of the first target."""
        return self.targets[0].unit

    @classmethod
    def untrained(cls, config: CompositionModelConfig | None = None, seed: int = 0) -> Self:
        """Random weights in the given shape (the start of training, and tests)."""
        config = config or CompositionModelConfig()
        model = EnsembleMLP(len(FEATURE_NAMES), len(cls.targets), config.width, config.depth, config.members, seed)
        return cls(model, config, Calibration())

    @classmethod
    def load(cls, checkpoint: str | Path | None = None) -> Self:
        """Read a checkpoint folder; by default the one that ships with the package.

        Raises:
            CheckpointError: missing, truncated, altered, of another kind or version, or trained on other features.
        """
        read = load_checkpoint(cls.kind if checkpoint is None else checkpoint, cls.kind, VERSION)
        folder, record, tensors = read.path, read.config, dict(read.tensors)
        if record.get("features") != list(FEATURE_NAMES) or record.get("targets") != [t.name for t in cls.targets]:
            raise CheckpointError(f"{folder} was trained on other features or targets", "train it again with this release")
        try:
            shape = CompositionModelConfig(**record["model"])
            calibration = Calibration(**record["calibration"])
            model = EnsembleMLP(len(FEATURE_NAMES), len(cls.targets), shape.width, shape.depth, shape.members)
            table = tensors.pop("element_table").numpy()
            model.load_state_dict(tensors)
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{folder} is incomplete: {error}", "copy or train the checkpoint again") from error
        predictor = cls(model, shape, calibration, table, read.sha256)
        predictor.trained = TrainingIndex.load(folder)
        return predictor

    def save(self, folder: str | Path, training: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint (about 1.4 MB); ``training`` is recorded beside the model's shape."""
        tensors = {**self.model.state_dict(), "element_table": torch.from_numpy(self.table)}
        record = {
            "model": asdict(self.config),
            "training": dict(training or {}),
            "targets": [target.name for target in self.targets],
            "calibration": asdict(self.calibration),
            "features": list(FEATURE_NAMES),
        }
        save_checkpoint(folder, self.kind, VERSION, record, tensors)
        if self.trained is not None:
            self.trained.save(folder)

    def predict(self, structures: Sequence[Structure | Composition]) -> list[Quantity]:
        """The first target of each crystal or composition; ``provenance["signed_value"]``: before it is cut at the floor."""
        return self.quantities(structures, self.targets[0])

    def distributions(self, compositions: Sequence[Mapping[int, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and uncalibrated standard deviation, both (n, targets), of compositions by atomic number."""
        if not compositions:
            return np.zeros((0, len(self.targets))), np.zeros((0, len(self.targets)))
        features = torch.from_numpy(composition_features(compositions, self.table))
        with torch.no_grad():
            mean, deviation = mixture(*self.model(features))
        return mean.double().numpy(), deviation.double().numpy()

    def quantities(self, structures: Sequence[Structure | Composition], target: Target) -> list[Quantity]:
        """``target`` of each crystal."""
        parsed = [_composition(structure) for structure in structures]
        readable = {i: composition for i, composition in enumerate(parsed) if not isinstance(composition, str)}
        mean, deviation = self.distributions(list(readable.values()))
        column = self.targets.index(target)
        answers = {
            i: self._quantity(composition, float(m), float(d), target)
            for (i, composition), m, d in zip(readable.items(), mean[:, column], deviation[:, column], strict=True)
        }
        return [answers.get(i) or Quantity.failed(str(parsed[i]), target.unit) for i in range(len(parsed))]

    def _quantity(self, composition: Mapping[int, float], mean: float, deviation: float, target: Target) -> Quantity:
        rules, name, floor = self.calibration, target.name, target.floor
        half_68, half_95 = rules.scale_68.get(name, 1.0) * deviation, rules.scale_95.get(name, 2.0) * deviation
        reason = self._outside_domain(composition)
        if reason:  # the model's own spread cannot be trusted: add that of all compositions
            prior = rules.prior_95.get(name, 2.0)
            half_68, half_95 = half_68 + 0.5 * prior, half_95 + prior
        interval = [max(mean - half_95, floor), max(mean + half_95, floor)]
        provenance = {
            "predictor": self.kind,
            "checkpoint_sha256": self.sha256,
            "signed_value": mean,
            "interval_95": interval,
        }
        status = Status.UNCONVERGED if reason else Status.OK
        return Quantity(max(mean, floor), half_68, target.unit, status, reason, provenance)

    def _outside_domain(self, composition: Mapping[int, float]) -> str:
        counts = {symbol_of(z): self.calibration.element_counts.get(symbol_of(z), 0) for z in composition}
        rare = [f"{symbol} in {n}" for symbol, n in counts.items() if n < MIN_COMPOSITIONS_PER_ELEMENT]
        needed = f"(needs {MIN_COMPOSITIONS_PER_ELEMENT})"
        return f"outside the training domain: {', '.join(rare)} training compositions {needed}" if rare else ""


@lru_cache(maxsize=MAX_Z)
def symbol_of(z: int) -> str:
    """Symbol of an atomic number."""
    from pymatgen.core.periodic_table import Element

    return Element.from_Z(z).symbol


def _composition(structure: Structure | Composition) -> dict[int, float] | str:
    """Counts by atomic number, or the reason why there are none."""
    from pymatgen.core.periodic_table import Element

    counts: dict[int, float] = {}
    for species, amount in getattr(structure, "composition", structure).items():
        z = getattr(species, "Z", 0)
        if not Element.is_valid_symbol(getattr(species, "symbol", "")) or not 1 <= z <= MAX_Z:
            return f"{species} is not an element the predictor knows"
        counts[z] = counts.get(z, 0.0) + float(amount)
    return counts or "the structure has no atoms"
