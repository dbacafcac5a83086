"""Crystals at a given level of masking or noise: what property heads are scored at."""

from __future__ import annotations

import torch

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.rng import normal, uniform
from sse_diffusion.diffusion.corruption.discrete import MaskingConfig, mask_fields
from sse_diffusion.diffusion.guides.guide import Seen, Stage
from sse_diffusion.diffusion.model import CrystalModel

LEVELS: dict[Stage, tuple[float, ...]] = {"discrete": (0.0, 0.1, 0.3, 0.6, 0.9, 1.0), "continuous": (0.02, 0.1, 0.3, 0.6, 0.9)}
"""Probability that an element or a position is masked; time of coordinates and cell."""


def at_level(model: CrystalModel, batch: OrbitBatch, stage: Stage, level: float, seed: int) -> Seen:
    """A batch at one level; the group is known at every one, at the continuous stage so is everything discrete.

    Args:
        model: whose corruptions they are.
        batch: whole crystals, with the conditions that are to be shown.
        stage: ``discrete`` or ``continuous``.
        level: see :data:`LEVELS`.
        seed: of mask and noise; crystal i of the batch has its own stream.
    """
    b, m = batch.species.shape
    index, t = torch.arange(b), torch.full((b,), level)
    if stage == "discrete":
        if level == 0.0:
            return Seen(stage, batch)
        known = MaskingConfig(group_probability=0.0)
        return Seen(stage, mask_fields(batch, known, t, torch.ones(b), uniform(seed, index, 1, (m, 2))).batch)
    atoms = model.atoms(batch)
    x = model.cell_noise.standardise(batch.cell, batch.group, atoms)
    x, _ = model.cell_noise.corrupt(x, t, normal(seed, index, 2, (6,)), batch.group)
    free, _ = model.coordinate_noise.corrupt(batch.free, t, normal(seed, index, 3, (m, 3)), model.is_free(batch))
    return Seen(stage, batch.with_(free=free, cell=model.cell_noise.restore(x, batch.group, atoms)), x, t, t)
