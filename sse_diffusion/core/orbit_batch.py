"""Padded batch of crystals as orbits: what the denoiser reads and the samplers write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table

MASKED_GROUP = 0
MASKED_SPECIES = 0
MASKED_WYCKOFF = 1731
MAX_SPECIES = 94
"""Atomic numbers 1-94 are known to the model."""


@dataclass(frozen=True)
class OrbitBatch:
    """B crystals of at most M orbits.

    Attributes:
        group: (B,) space-group numbers; 0 is masked.
        cell: (B, 6) logarithmic cell k.
        species: (B, M) atomic numbers; 0 is masked (or padding).
        wyckoff: (B, M) Wyckoff indices; 1731 is masked (or padding).
        free: (B, M, 3) free coordinates u.
        mask: (B, M) True where there is an orbit.
        conditions: per-field condition tensors with leading dimension B.
    """

    group: Int64[Tensor, " b"]
    cell: Float[Tensor, "b 6"]
    species: Int64[Tensor, "b m"]
    wyckoff: Int64[Tensor, "b m"]
    free: Float[Tensor, "b m 3"]
    mask: Bool[Tensor, "b m"]
    conditions: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.group)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.group.device

    def to(self, device: torch.device | str) -> OrbitBatch:
        """Copy on another device."""
        moved = {k: getattr(self, k).to(device) for k in ("group", "cell", "species", "wyckoff", "free", "mask")}
        return OrbitBatch(**moved, conditions={k: v.to(device) for k, v in self.conditions.items()})

    def select(self, rows: Tensor | slice) -> OrbitBatch:
        """The crystals ``rows`` (indices, a boolean mask or a slice)."""
        chosen = {k: getattr(self, k)[rows] for k in ("group", "cell", "species", "wyckoff", "free", "mask")}
        return OrbitBatch(**chosen, conditions={k: v[rows] for k, v in self.conditions.items()})

    def with_(self, **changes: Tensor | dict[str, Tensor]) -> OrbitBatch:
        """Copy with some fields replaced."""
        return replace(self, **changes)

    @classmethod
    def from_orbits(cls, crystals: Sequence[Orbits], conditions: dict[str, Tensor] | None = None) -> OrbitBatch:
        """Pad a list of crystals."""
        width = max(len(c.species) for c in crystals)
        species = np.full((len(crystals), width), MASKED_SPECIES, dtype=np.int64)
        wyckoff = np.full((len(crystals), width), MASKED_WYCKOFF, dtype=np.int64)
        free = np.zeros((len(crystals), width, 3), dtype=np.float32)
        for row, crystal in enumerate(crystals):
            m = len(crystal.species)
            species[row, :m], wyckoff[row, :m], free[row, :m] = crystal.species, crystal.wyckoff, crystal.free
        return cls(
            group=torch.tensor([c.group for c in crystals]),
            cell=torch.tensor(np.stack([c.cell for c in crystals]), dtype=torch.float32),
            species=torch.from_numpy(species),
            wyckoff=torch.from_numpy(wyckoff),
            free=torch.from_numpy(free),
            mask=torch.from_numpy(np.arange(width)[None] < np.array([len(c.species) for c in crystals])[:, None]),
            conditions=conditions or {},
        )

    def to_orbits(self) -> list[Orbits]:
        """One :class:`Orbits` per crystal; masked fields must have been filled."""
        arrays = {k: getattr(self, k).cpu().numpy() for k in ("group", "cell", "species", "wyckoff", "free", "mask")}
        free = wyckoff_table().free
        crystals = []
        for row in range(len(self)):
            keep = arrays["mask"][row]
            w = arrays["wyckoff"][row][keep]
            u = np.mod(arrays["free"][row][keep].astype(np.float64), 1.0) * free[w]
            crystals.append(
                Orbits(int(arrays["group"][row]), arrays["cell"][row].astype(np.float64), arrays["species"][row][keep], w, u)
            )
        return crystals
