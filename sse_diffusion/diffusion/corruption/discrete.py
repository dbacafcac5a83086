r"""Space group, species and Wyckoff positions: absorbing-state diffusion (Austin et al. 2021; Shi et al. 2024).

Each unknown is replaced by the mask independently with probability t; the network predicts the masked ones from the rest.
The loss bound weighs the cross-entropy of every masked unit by 1/t. The group has a schedule of its own: it is masked only
together with everything else, because sampling unmasks it first and all the rest depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sse_diffusion.core.orbit_batch import MASKED_GROUP, MASKED_SPECIES, MASKED_WYCKOFF, OrbitBatch


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """Share of training examples in which everything, the space group too, is masked."""

    group_probability: float = 0.15


@dataclass(frozen=True)
class Masked:
    """A batch with masked fields and what is to be predicted.

    Attributes:
        batch: the corrupted batch.
        group: (b,) True where the group is masked.
        species: (b, m) True where the species is masked.
        wyckoff: (b, m) True where the Wyckoff position is masked.
        weight: (b,) 1/t of each crystal.
    """

    batch: OrbitBatch
    group: Bool[Tensor, " b"]
    species: Bool[Tensor, "b m"]
    wyckoff: Bool[Tensor, "b m"]
    weight: Float[Tensor, " b"]

    def select(self, rows: Tensor | slice) -> Masked:
        """The crystals ``rows``."""
        return Masked(self.batch.select(rows), self.group[rows], self.species[rows], self.wyckoff[rows], self.weight[rows])


def mask_fields(
    batch: OrbitBatch,
    config: MaskingConfig,
    u_time: Float[Tensor, " b"],
    u_group: Float[Tensor, " b"],
    u_units: Float[Tensor, "b m 2"],
) -> Masked:
    """Mask a batch; the three ``u`` are uniform in (0, 1).

    When the group is masked so is everything else; when it is known each species and Wyckoff position is masked with
    probability t, with t uniform in (0, 1).
    """
    group = u_group < config.group_probability
    t = torch.where(group, torch.ones_like(u_time), u_time).clamp_min(0.02)
    hidden = (u_units < t[:, None, None]) | group[:, None, None]
    species, wyckoff = hidden[..., 0] & batch.mask, hidden[..., 1] & batch.mask
    corrupted = batch.with_(
        group=batch.group.masked_fill(group, MASKED_GROUP),
        species=batch.species.masked_fill(species, MASKED_SPECIES),
        wyckoff=batch.wyckoff.masked_fill(wyckoff, MASKED_WYCKOFF),
    )
    return Masked(corrupted, group, species, wyckoff, 1.0 / t)
