r"""Classifier-free guidance (Ho & Salimans 2022):  F = F_null + w (F_asked - F_null),  and the same on logits.

w = 1 asks without amplification and costs one evaluation; any other weight costs two (run as one batch of double size).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.diffusion.condition_tensors import null_like
from sse_diffusion.diffusion.denoiser import ContinuousOutput, DiscreteLogits
from sse_diffusion.diffusion.model import CrystalModel


def _doubled(batch: OrbitBatch) -> OrbitBatch:
    """The batch twice: as asked, then with every condition unknown."""
    nulls = null_like(batch.conditions)
    return OrbitBatch(
        **{
            k: getattr(batch, k).repeat(2, *[1] * (getattr(batch, k).dim() - 1))
            for k in ("group", "cell", "species", "wyckoff", "free", "mask")
        },
        conditions={k: torch.cat([v, nulls[k]]) for k, v in batch.conditions.items()},
    )


def _mix(both: Float[Tensor, "bb ..."], weight: float) -> Float[Tensor, "b ..."]:
    asked, null = both.chunk(2)
    mixed = null + weight * (asked - null)
    return torch.where(torch.isfinite(asked), mixed, asked)


def guided_size(model: CrystalModel, conditions: dict[str, Tensor], weight: float) -> Float[Tensor, "b s"]:
    """Logits of the number of orbits."""
    asked = model.denoiser.size_logits(conditions).float()
    if weight == 1.0:
        return asked
    null = model.denoiser.size_logits(null_like(conditions)).float()
    return null + weight * (asked - null)


def guided_discrete(model: CrystalModel, batch: OrbitBatch, weight: float) -> DiscreteLogits:
    """Logits of group, positions and species."""
    if weight == 1.0:
        return model.denoiser.discrete(batch)
    both = model.denoiser.discrete(_doubled(batch))
    return DiscreteLogits(_mix(both.group, weight), _mix(both.wyckoff, weight), _mix(both.species, weight))


def guided_continuous(
    model: CrystalModel, batch: OrbitBatch, x_cell: Tensor, t: Tensor, t_cell: Tensor, weight: float
) -> ContinuousOutput:
    """Outputs of the coordinates and the cell."""
    if weight == 1.0:
        return model.denoiser.continuous(batch, x_cell, t, t_cell)
    both = model.denoiser.continuous(_doubled(batch), x_cell.repeat(2, 1), t.repeat(2), t_cell.repeat(2))
    return ContinuousOutput(_mix(both.free, weight), _mix(both.cell, weight))
