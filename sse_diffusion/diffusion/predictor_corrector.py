r"""Predictor-corrector sampling (Song et al. 2021, algorithms 2-5): an ancestral step, then a Langevin step at the new noise.

    u <- u + eps s(u, sigma) + sqrt(2 eps) z,        eps = 2 (r sigma)^2

with the signal-to-noise ratio r, and the same for the cell, whose score is -noise / spread. The long-run comparison for
samplers of few evaluations: two evaluations a step, several hundred to be exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.rng import normal
from sse_diffusion.diffusion.guidance import guided_continuous
from sse_diffusion.diffusion.guides.guide import Guide
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import STREAM_NOISE, SamplerConfig, Start, set_out, step_cell, step_coordinates

STREAM_CORRECTOR = 2 * STREAM_NOISE
RATIO = 0.16
"""r, the value of Song et al. 2021 for variance-exploding noise."""


def predictor_corrector(
    model: CrystalModel,
    batch: OrbitBatch,
    config: SamplerConfig,
    seed: int,
    index: Int64[Tensor, " b"],
    start: Start | None = None,
    guides: Sequence[Guide] = (),
) -> OrbitBatch:
    """Sample with at most ``config.steps`` evaluations; arguments as in :mod:`sse_diffusion.diffusion.samplers`."""
    m = batch.mask.shape[1]
    is_free, atoms = model.is_free(batch), model.atoms(batch)
    start = start or Start.from_noise(batch)
    u, x = set_out(model, batch, start, seed, index)
    steps = max(1, (config.steps + 1) // 2)
    times = torch.linspace(1.0, 0.0, steps + 1, device=batch.device)
    cell_free = model.cell_noise.is_free[batch.group]

    def network(time: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs at the present state."""
        noisy = batch.with_(free=u, cell=model.cell_noise.restore(x, batch.group, atoms))
        t, t_cell = time * start.t, time * start.t_cell
        output = guided_continuous(model, noisy, x, t, t_cell, config.guidance_continuous, guides, config.gradient_clip)
        return output.free * is_free, output.cell

    for step in range(steps):
        last = step == steps - 1
        free, v = network(times[step])
        z = normal(seed, index, STREAM_NOISE + 2 * step, (m, 3)) * is_free
        z_cell = normal(seed, index, STREAM_NOISE + 2 * step + 1, (6,)) * cell_free
        t, after = times[step] * start.t, times[step + 1] * start.t
        u = start.put_back(step_coordinates(model, u, free, t, after, 0.0 if last else 1.0, last, z))
        x = step_cell(model, x, v, times[step] * start.t_cell, times[step + 1] * start.t_cell, 0.0 if last else 1.0, z_cell)
        if last:
            break
        free, v = network(times[step + 1])
        z = normal(seed, index, STREAM_CORRECTOR + 2 * step, (m, 3)) * is_free
        z_cell = normal(seed, index, STREAM_CORRECTOR + 2 * step + 1, (6,)) * cell_free
        eps = 2 * (RATIO * model.coordinate_noise.sigma(after)[:, None, None]) ** 2
        u = start.put_back(torch.remainder(u + eps * model.coordinate_noise.score(free, after) + (2 * eps).sqrt() * z, 1.0))
        signal, spread = model.cell_noise.signal_and_noise(times[step + 1] * start.t_cell)
        eps = 2 * (RATIO * spread) ** 2
        x = x - eps * (spread * x + signal * v) / spread + (2 * eps).sqrt() * z_cell
    return batch.with_(free=u, cell=start.final_cell(model.cell_noise.restore(x, batch.group, atoms)))
