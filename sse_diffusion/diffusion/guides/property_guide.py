r"""The shipped guide: the denoiser's own noise-aware head, one Gaussian per property, asked for an interval.

    log p(lo <= y <= hi | crystal so far) = log(Phi((hi - mu) / s) - Phi((lo - mu) / s))

What it says of a finished crystal, coordinates and cell included, replaces what it said of the discrete part. A point value is
asked as an interval of :data:`POINT_WIDTH` standard deviations of the training labels around it. Properties are taken as
independent of each other given the crystal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.diffusion.condition_tensors import OPEN_END, null_like
from sse_diffusion.diffusion.denoiser import Properties
from sse_diffusion.diffusion.guides.guide import Seen, Stage
from sse_diffusion.diffusion.model import CrystalModel

POINT_WIDTH = 0.1
"""Full width, in standard deviations of the (transformed) training labels: as fine as any label is known."""

FINISHED_TIME = 0.02
"""Time at which a finished crystal is shown to the head: hardly any noise."""

FAR = 1e4
"""Stands for an open end, in standard deviations: finite, so that gradients are."""


class PropertyGuide:
    """The head's probability of what is asked.

    The head judges a property from the crystal and the *other* conditions: the properties asked about are hidden from it, the
    rest of the request (state point, composition, mobile ion) stays.

    Args:
        model: with ``fields`` among its ``denoiser.property_names``.
        fields: continuous conditions to judge; a crystal that is not asked about one is not judged by it.
        strength: power of the probability by stage; 1 is Bayes' rule, a stage that is left out is not guided.
    """

    def __init__(self, model: CrystalModel, fields: Sequence[str], strength: Mapping[Stage, float]) -> None:
        self.model, self.fields, self.strength = model, tuple(fields), dict(strength)
        self.stages: frozenset[Stage] = frozenset(stage for stage, power in strength.items() if power != 0.0)
        self.columns = [model.denoiser.property_names.index(name) for name in self.fields]

    def log_likelihood(self, seen: Seen) -> Float[Tensor, " b"]:
        """See :class:`~sse_diffusion.diffusion.guides.guide.Guide`."""
        log_p = self.log_p(seen)
        if seen.stage == "final" and self.strength.get("discrete"):
            return self.strength["final"] * log_p - self.strength["discrete"] * self.log_p(Seen("discrete", seen.batch))
        return self.strength[seen.stage] * log_p

    def log_p(self, seen: Seen) -> Float[Tensor, " b"]:
        """log p(asked | what is seen), float64."""
        found = judged(self.model, seen, self.fields)
        interval = torch.stack([seen.batch.conditions[name] for name in self.fields], dim=1)
        return log_interval_probability(interval, found.mean[:, self.columns], found.log_std[:, self.columns].exp()).sum(-1)


def judged(model: CrystalModel, seen: Seen, hidden: Sequence[str]) -> Properties:
    """What the head says of crystals at any stage when these conditions are hidden from it."""
    return model.denoiser.properties(crystal_token(model, seen, hidden))


def crystal_token(model: CrystalModel, seen: Seen, hidden: Sequence[str] = ()) -> Float[Tensor, "b d"]:
    """What property heads read of crystals at any stage when these conditions are hidden from the trunk."""
    batch = seen.batch.with_(conditions={**seen.batch.conditions, **null_like({k: seen.batch.conditions[k] for k in hidden})})
    if seen.stage == "discrete":
        return model.denoiser.crystal(batch)
    if seen.stage == "final":
        x_cell = model.cell_noise.standardise(batch.cell, batch.group, model.atoms(batch))
        time = torch.full_like(x_cell[:, 0], FINISHED_TIME)
        return model.denoiser.crystal(batch, x_cell, time, time)
    assert seen.x_cell is not None and seen.t is not None and seen.t_cell is not None  # the protocol of this stage
    return model.denoiser.crystal(batch, seen.x_cell, seen.t, seen.t_cell)


def log_interval_probability(
    interval: Float[Tensor, "b f 2"], mean: Float[Tensor, "b f"], std: Float[Tensor, "b f"]
) -> Float[Tensor, "b f"]:
    """log p(lo <= y <= hi) of Gaussians, float64, with finite gradients at any distance; 0 where NaN is asked (nothing).

    Both ends are brought into the lower tail, where log Phi is exact, and subtracted as logarithms.

    Args:
        interval: standardised; points are widened, ends at +-:data:`OPEN_END` are open.
        mean, std: of the Gaussians.
    """
    known = ~interval.isnan().any(-1)
    interval, mean, std = interval.double().nan_to_num(0.0), mean.double(), std.double()
    half = 0.5 * POINT_WIDTH * (interval[..., 0] == interval[..., 1])
    lo, hi = ((interval[..., 0] - half - mean) / std, (interval[..., 1] + half - mean) / std)
    lo = torch.where(interval[..., 0] <= -OPEN_END, -FAR, lo)
    hi = torch.where(interval[..., 1] >= OPEN_END, FAR, hi)
    upper = lo + hi > 0  # the middle lies above the mean: look from the other side
    low, high = torch.where(upper, -hi, lo), torch.where(upper, -lo, hi)
    below, above = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    log_p = above + torch.log(-torch.expm1((below - above).clamp_max(-1e-12)))
    return torch.where(known, log_p, 0.0)
