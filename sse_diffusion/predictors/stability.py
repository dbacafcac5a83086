"""Energy above the hull from composition alone: the funnel's cheapest screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sse_diffusion.core.checkpoint import load_checkpoint, save_checkpoint
from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.predictors.ensemble import EnsembleMLP, mixture
from sse_diffusion.predictors.features import FEATURE_NAMES, MAX_Z, composition_features, element_table

if TYPE_CHECKING:
    from pymatgen.core import Structure

KIND, VERSION = "stability_composition", 1
TARGETS = ("energy_above_hull", "formation_energy")
MIN_COMPOSITIONS_PER_ELEMENT = 10
"""An element in fewer training compositions than this puts a crystal outside the domain."""


@dataclass(frozen=True, kw_only=True)
class StabilityModelConfig:
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

    The central interval of level L is mu +- scale[L] * sd, clipped at 0 for the energy above the hull.

    Attributes:
        scale_68, scale_95: per target, the conformal quantile of |y - mu| / sd.
        prior_95: per target, the 95 % quantile of |y - median(y)| over the training compositions, eV/atom: outside the
            domain it widens the 95 % half-width, and half of it the 68 % half-width (half the training
            compositions lie within 0.02 eV/atom of the hull, so their 68 % quantile would look like knowledge).
        element_counts: training compositions that hold each element, by symbol.
    """

    scale_68: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TARGETS, 1.0))
    scale_95: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TARGETS, 2.0))
    prior_95: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TARGETS, 2.0))
    element_counts: dict[str, int] = field(default_factory=dict)


class CompositionStability:
    """Predicts, from the composition alone, how far above the hull its lowest known crystal lies.

    It cannot tell polymorphs apart: a bad structure of a good composition looks good. That is for the force field later.

    Args:
        model: the ensemble, with its feature scaling.
        config: its shape.
        calibration: see :class:`Calibration`.
        table: elemental properties (MAX_Z + 1, P) the model was trained with.
        sha256: of the weights, for provenance.
    """

    name = "energy_above_hull"
    unit = "eV/atom"

    def __init__(
        self,
        model: EnsembleMLP,
        config: StabilityModelConfig,
        calibration: Calibration,
        table: NDArray[np.float32] | None = None,
        sha256: str = "",
    ) -> None:
        self.model = model.eval()
        self.config = config
        self.calibration = calibration
        self.table = element_table() if table is None else table
        self.sha256 = sha256

    @classmethod
    def untrained(cls, config: StabilityModelConfig | None = None, seed: int = 0) -> CompositionStability:
        """Random weights in the given shape (the start of training, and tests)."""
        config = config or StabilityModelConfig()
        model = EnsembleMLP(len(FEATURE_NAMES), len(TARGETS), config.width, config.depth, config.members, seed)
        return cls(model, config, Calibration())

    @classmethod
    def load(cls, folder: str | Path | None = None) -> CompositionStability:
        """Read a checkpoint folder; by default the one that ships with the package.

        Raises:
            CheckpointError: missing, truncated, altered, of another kind or version, or trained on other features.
        """
        checkpoint = load_checkpoint("stability_composition" if folder is None else folder, KIND, VERSION)
        folder, record, tensors = checkpoint.path, checkpoint.config, dict(checkpoint.tensors)
        if record.get("features") != list(FEATURE_NAMES) or record.get("targets") != list(TARGETS):
            raise CheckpointError(f"{folder} was trained on other features or targets", "train it again with this release")
        try:
            shape = StabilityModelConfig(**record["model"])
            calibration = Calibration(**record["calibration"])
            model = EnsembleMLP(len(FEATURE_NAMES), len(TARGETS), shape.width, shape.depth, shape.members)
            table = tensors.pop("element_table").numpy()
            model.load_state_dict(tensors)
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{folder} is incomplete: {error}", "copy or train the checkpoint again") from error
        return cls(model, shape, calibration, table, checkpoint.sha256)

    def save(self, folder: str | Path, training: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint (about 1.4 MB); ``training`` is recorded beside the model's shape."""
        tensors = {**self.model.state_dict(), "element_table": torch.from_numpy(self.table)}
        record = {
            "model": asdict(self.config),
            "training": dict(training or {}),
            "targets": list(TARGETS),
            "calibration": asdict(self.calibration),
            "features": list(FEATURE_NAMES),
        }
        save_checkpoint(folder, KIND, VERSION, record, tensors)

    def predict(self, structures: Sequence[Structure]) -> list[Quantity]:
        """Same as :meth:`predict_e_hull`."""
        return self.predict_e_hull(structures)

    def predict_e_hull(self, structures: Sequence[Structure]) -> list[Quantity]:
        """Energy above the hull, eV/atom, never negative.

        ``provenance["signed_value"]`` is the value before it is cut at 0 (how far below the competing phases): it ranks
        compositions that are all predicted stable.
        """
        return self._quantities(structures, "energy_above_hull")

    def predict_formation_energy(self, structures: Sequence[Structure]) -> list[Quantity]:
        """Formation energy from the elements, eV/atom (MP2020-corrected scheme)."""
        return self._quantities(structures, "formation_energy")

    def distributions(self, compositions: Sequence[Mapping[int, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and uncalibrated standard deviation, both (n, len(TARGETS)), of compositions by atomic number."""
        if not compositions:
            return np.zeros((0, len(TARGETS))), np.zeros((0, len(TARGETS)))
        features = torch.from_numpy(composition_features(compositions, self.table))
        with torch.no_grad():
            mean, deviation = mixture(*self.model(features))
        return mean.double().numpy(), deviation.double().numpy()

    def _quantities(self, structures: Sequence[Structure], target: str) -> list[Quantity]:
        parsed = [_composition(structure) for structure in structures]
        readable = {i: composition for i, composition in enumerate(parsed) if not isinstance(composition, str)}
        mean, deviation = self.distributions(list(readable.values()))
        column = TARGETS.index(target)
        answers = {
            i: self._quantity(composition, float(m), float(d), target)
            for (i, composition), m, d in zip(readable.items(), mean[:, column], deviation[:, column], strict=True)
        }
        return [answers.get(i) or Quantity.failed(str(parsed[i]), self.unit) for i in range(len(parsed))]

    def _quantity(self, composition: Mapping[int, float], mean: float, deviation: float, target: str) -> Quantity:
        rules = self.calibration
        half_68, half_95 = rules.scale_68[target] * deviation, rules.scale_95[target] * deviation
        reason = self._outside_domain(composition)
        if reason:  # the model's own spread cannot be trusted: add that of all compositions
            half_68, half_95 = half_68 + 0.5 * rules.prior_95[target], half_95 + rules.prior_95[target]
        floor = 0.0 if target == "energy_above_hull" else -np.inf
        interval = [max(mean - half_95, floor), max(mean + half_95, floor)]
        provenance = {
            "predictor": "stability_composition",
            "checkpoint_sha256": self.sha256,
            "signed_value": mean,
            "interval_95": interval,
        }
        status = Status.UNCONVERGED if reason else Status.OK
        return Quantity(max(mean, floor), half_68, self.unit, status, reason, provenance)

    def _outside_domain(self, composition: Mapping[int, float]) -> str:
        counts = {_symbol(z): self.calibration.element_counts.get(_symbol(z), 0) for z in composition}
        rare = [f"{symbol} in {n}" for symbol, n in counts.items() if n < MIN_COMPOSITIONS_PER_ELEMENT]
        needed = f"(needs {MIN_COMPOSITIONS_PER_ELEMENT})"
        return f"outside the training domain: {', '.join(rare)} training compositions {needed}" if rare else ""


@lru_cache(maxsize=MAX_Z)
def _symbol(z: int) -> str:
    from pymatgen.core.periodic_table import Element

    return Element.from_Z(z).symbol


def _composition(structure: Structure) -> dict[int, float] | str:
    """Counts by atomic number, or the reason why there are none."""
    from pymatgen.core.periodic_table import Element

    counts: dict[int, float] = {}
    for species, amount in structure.composition.items():
        z = getattr(species, "Z", 0)
        if not Element.is_valid_symbol(getattr(species, "symbol", "")) or not 1 <= z <= MAX_Z:
            return f"{species} is not an element the predictor knows"
        counts[z] = counts.get(z, 0.0) + float(amount)
    return counts or "the structure has no atoms"
