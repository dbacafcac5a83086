"""What the model samples while it trains: validity, histograms and a picture for the loggers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.request import Chemistry, Request

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_DISTANCE_A = 0.5
LARGEST_CELL = 40
"""Atoms per primitive cell in these samples, so that a look costs seconds."""


@dataclass(frozen=True)
class Media:
    """Arrays and a figure for W&B."""

    volumes: np.ndarray
    atoms: np.ndarray
    figure: Figure

    def log_to(self, run: Any, step: int) -> None:
        """Histograms and the picture of one look."""
        import matplotlib.pyplot as plt
        import wandb

        run.log({"samples/volume_A3_per_atom": wandb.Histogram(self.volumes), "samples/atoms": wandb.Histogram(self.atoms),
                 "samples/picture": wandb.Image(self.figure), "trainer/global_step": step})  # fmt: skip
        plt.close(self.figure)


def look(model: CrystalModel, n: int, steps: int, seed: int = 0) -> tuple[dict[str, float], Media]:
    """Sample ``n`` unconditional crystals and measure them.

    Returns:
        Metrics (share with all distances >= 0.5 Angstrom and a volume of 4-100 Angstrom^3/atom, mean surprisal) and media.
    """
    from sse_diffusion.diffusion.generate import sample_batch

    request = Request({}, Chemistry(n_atoms=(1, LARGEST_CELL)))
    training = model.training
    model.eval()
    crystals, surprisal = sample_batch(
        model, request, torch.arange(n, device=model.first_position.device), seed, SamplerConfig(steps=steps)
    )
    model.train(training)
    volumes = np.array([abs(np.linalg.det(c.lattice())) / c.n_conventional for c in crystals])
    valid = np.array([4.0 < v < 100.0 and closest_pair(c) >= MIN_DISTANCE_A for c, v in zip(crystals, volumes, strict=True)])
    metrics = {"samples/valid": float(valid.mean()), "samples/surprisal": float(surprisal.mean())}
    return metrics, Media(volumes, np.array([c.n_primitive for c in crystals]), picture(crystals[:8]))


def closest_pair(crystal: Orbits) -> float:
    """Shortest interatomic distance, Angstrom."""
    structure = crystal.to_structure()
    distances = structure.distance_matrix + np.diag(np.full(len(structure), np.inf))
    return float(min(distances.min(), *structure.lattice.abc))


def picture(crystals: list[Orbits]) -> Figure:
    """Conventional cells seen along c, one panel each."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(12, 6))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, crystal in zip(axes.flat, crystals, strict=False):
        species, frac, _ = crystal.expand()
        xyz = frac @ crystal.lattice()
        axis.scatter(xyz[:, 0], xyz[:, 1], c=species, s=40 + species, cmap="viridis", vmin=1, vmax=94)
        axis.set_title(f"{crystal.to_structure().composition.reduced_formula}, {crystal.group}", fontsize=8)
        axis.set_aspect("equal")
    return figure
