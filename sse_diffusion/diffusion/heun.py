r"""Heun's second-order method on the probability-flow ODE (Karras et al. 2022, algorithm 1), two evaluations a step.

Coordinates move along du/dsigma = -sigma s(u, sigma) with sigma as time, the cell along its angle phi, dx/dphi = v:

    d = -sigma s(u, sigma),   u* = u + (sigma' - sigma) d,   u' = u + (sigma' - sigma) (d + d*) / 2

The last step, to sigma = 0, is Euler's. No noise is added: ``churn`` is not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.diffusion.guidance import guided_continuous
from sse_diffusion.diffusion.guides.guide import Guide
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import CELL_BOUND, SamplerConfig, Start, set_out


def heun(
    model: CrystalModel,
    batch: OrbitBatch,
    config: SamplerConfig,
    seed: int,
    index: Int64[Tensor, " b"],
    start: Start | None = None,
    guides: Sequence[Guide] = (),
) -> OrbitBatch:
    """Sample with at most ``config.steps`` evaluations; arguments as in :mod:`sse_diffusion.diffusion.samplers`."""
    is_free, atoms = model.is_free(batch), model.atoms(batch)
    start = start or Start.from_noise(batch)
    u, x = set_out(model, batch, start, seed, index)
    intervals = max(1, (config.steps + 1) // 2)
    times = torch.linspace(1.0, 0.0, intervals + 1, device=batch.device)

    def slopes(u: Float[Tensor, "b m 3"], x: Float[Tensor, "b 6"], time: Tensor) -> tuple[Tensor, Tensor]:
        """du/dsigma and dx/dphi."""
        t, t_cell = time * start.t, time * start.t_cell
        noisy = batch.with_(free=u, cell=model.cell_noise.restore(x, batch.group, atoms))
        output = guided_continuous(model, noisy, x, t, t_cell, config.guidance_continuous, guides, config.gradient_clip)
        sigma = model.coordinate_noise.sigma(t)[:, None, None]
        return -sigma * model.coordinate_noise.score(output.free * is_free, t), output.cell

    for step in range(intervals):
        last = step == intervals - 1
        sigma = model.coordinate_noise.sigma(times[step] * start.t)[:, None, None]
        target = torch.zeros_like(sigma) if last else model.coordinate_noise.sigma(times[step + 1] * start.t)[:, None, None]
        turn = (times[step + 1] - times[step]) * start.t_cell[:, None] * (math.pi / 2)
        du, dx = slopes(u, x, times[step])
        there = start.put_back(torch.remainder(u + (target - sigma) * du, 1.0))
        x_there = _rotate(x, dx, turn)
        if not last:
            du_there, dx_there = slopes(there, x_there, times[step + 1])
            there = start.put_back(torch.remainder(u + (target - sigma) * (du + du_there) / 2, 1.0))
            x_there = _rotate(x, (dx + dx_there) / 2, turn)
        u, x = there, x_there
    return batch.with_(free=u, cell=start.final_cell(model.cell_noise.restore(x, batch.group, atoms)))


def _rotate(x: Float[Tensor, "b 6"], v: Float[Tensor, "b 6"], turn: Float[Tensor, "b 1"]) -> Float[Tensor, "b 6"]:
    """x after the angle ``turn``: exact for constant clean cell and noise (the exponential step of the first order)."""
    return (turn.cos() * x + turn.sin() * v).clamp(-CELL_BOUND, CELL_BOUND)
