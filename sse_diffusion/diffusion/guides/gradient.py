r"""Predictor guidance: the gradient of a guide's log-likelihood, added to the network's outputs as a score.

By Bayes, grad log p(noisy | asked) = grad log p(noisy) + grad l with l = log p(asked | noisy). With the corruptions' own
conventions (:mod:`~sse_diffusion.diffusion.corruption.coordinates`, :mod:`~sse_diffusion.diffusion.corruption.cell`),

    coordinates (variance exploding):  score = F norm / sigma         so  F += (sigma / norm) grad_u l
    cell (variance preserving):        score = -eps / spread with eps = spread x + signal v
                                       so  v += -(spread / signal) grad_x l

and Tweedie's clean cell signal x - spread v moves by spread^2 / signal grad_x l, as it must. Each change is cut to ``clip`` times
the norm of what the network itself says of the crystal, since a learnt l is steep where it was never trained.

Alone this is biased (the predictor is not the exact likelihood, steps are finite, the cut); see :mod:`~.particles`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.diffusion.denoiser import ContinuousOutput
from sse_diffusion.diffusion.guides.guide import Guide, Seen, log_likelihood
from sse_diffusion.diffusion.model import CrystalModel

LEAST_SIGNAL = 1e-3
"""The cell's signal is taken as no less than this: at t = 1 the noisy cell says nothing, and the term is zero over zero."""


def with_gradient(
    model: CrystalModel, output: ContinuousOutput, batch: OrbitBatch, x_cell: Float[Tensor, "b 6"], t: Float[Tensor, " b"],
    t_cell: Float[Tensor, " b"], guides: Sequence[Guide], clip: float,
) -> ContinuousOutput:  # fmt: skip
    """The outputs with the gradient of all guides of the continuous stage (equations: see the module).

    Args:
        model: whose corruptions set the scales.
        output: of the network at this state.
        batch: with noisy coordinates; the cell is taken from ``x_cell``.
        x_cell, t, t_cell: as in :meth:`~sse_diffusion.diffusion.denoiser.OrbitTransformer.continuous`.
        guides: those without the stage are not asked.
        clip: largest change relative to the norm of the output, per crystal and field.
    """
    with torch.enable_grad():
        u, x = batch.free.detach().requires_grad_(), x_cell.detach().requires_grad_()
        cell = model.cell_noise.restore(x, batch.group, model.atoms(batch))
        total = log_likelihood(guides, Seen("continuous", batch.with_(free=u, cell=cell), x, t, t_cell)).sum()
        to_u, to_x = torch.autograd.grad(total, (u, x), allow_unused=True, materialize_grads=True)
    sigma, norm = model.coordinate_noise.sigma(t), model.coordinate_noise.norm(t)
    signal, spread = model.cell_noise.signal_and_noise(t_cell)
    free = (sigma / norm)[:, None, None] * to_u * model.is_free(batch)
    turn = -spread / signal.clamp_min(LEAST_SIGNAL) * to_x * model.cell_noise.is_free[batch.group]
    return ContinuousOutput(_added(output.free, free, clip), _added(output.cell, turn, clip), output.properties)


def _added(value: Float[Tensor, "b ..."], change: Float[Tensor, "b ..."], clip: float) -> Float[Tensor, "b ..."]:
    """Sum, the change of each crystal shortened to ``clip`` times the norm of its value."""
    change = change.nan_to_num(0.0)
    longest = clip * value.flatten(1).norm(dim=1)
    share = (longest / change.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp_max(1.0)
    return value + change * share.view(-1, *[1] * (value.dim() - 1))
