"""Batches of crystals of given composition, for tests of what looks at a batch."""

from __future__ import annotations

import torch
from pymatgen.core import Composition

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.model import CrystalModel


def crystals(model: CrystalModel, *formulas: str, volume: float = 12.0) -> OrbitBatch:
    """One atom per orbit in P1, of a given volume per atom (A^3)."""
    general = wyckoff_table().positions(1)[-1]
    numbers = [[el.Z for el, k in Composition(f).items() for _ in range(int(k))] for f in formulas]
    n, m = len(formulas), max(map(len, numbers))
    species = torch.zeros(n, m, dtype=torch.long)
    for row, zs in enumerate(numbers):
        species[row, : len(zs)] = torch.tensor(zs)
    mask = species > 0
    cell = torch.zeros(n, 6)
    cell[:, 5] = (volume * mask.sum(1)).log() / 3
    return OrbitBatch(
        group=torch.ones(n, dtype=torch.long), cell=cell, species=species, wyckoff=torch.where(mask, general, 1731),
        free=torch.rand(n, m, 3, generator=torch.Generator().manual_seed(0)), mask=mask, conditions=model.null_conditions(n),
    )  # fmt: skip
