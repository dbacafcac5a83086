r"""How surprised the denoiser is by coordinates: its error at small noise, integrated over the logarithm of the noise scale.

    D = sum_i |F(u + sigma z, sigma) - target|_i^2,       -log p(u) = const + int E[D] d ln sigma

the evidence bound of a diffusion model (Song et al., Maximum likelihood training of score-based diffusion models, NeurIPS 2021),
cut to noise of 0.7 to 30 % of the cell and without its constant, which is the same for equally many coordinates.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.rng import normal
from sse_diffusion.diffusion.model import CrystalModel

LEVELS = ((0.01, 0.85), (0.03, 1.15), (0.1, 0.85), (0.2, 0.85))
"""Noise scales and the width of ln sigma that each stands for."""
REPEATS = 2
STREAM = 5_000


@torch.no_grad()
def coordinate_surprisal(
    model: CrystalModel, batch: OrbitBatch, which: Bool[Tensor, "b m"], seed: int, index: Int64[Tensor, " b"]
) -> Float[Tensor, " b"]:
    """-log p of the coordinates of some orbits, the others and the cell known, up to a constant; nats.

    Args:
        model: trained model.
        batch: finished crystals.
        which: orbits whose coordinates are judged.
        seed, index: of the random streams.
    """
    moving = model.is_free(batch) & which[..., None]
    x = model.cell_noise.standardise(batch.cell, batch.group, model.atoms(batch))
    known = torch.zeros(len(batch), device=batch.device)
    total = torch.zeros_like(known)
    for level, (sigma, width) in enumerate(LEVELS):
        t = torch.full_like(known, model.coordinate_noise.time_of(sigma))
        for repeat in range(REPEATS):
            z = normal(seed, index, STREAM + REPEATS * level + repeat, (batch.mask.shape[1], 3))
            noisy, target = model.coordinate_noise.corrupt(batch.free, t, z, moving)
            output = model.denoiser.continuous(batch.with_(free=noisy), x, t, known).free
            total += width / REPEATS * (((output - target) * moving) ** 2).sum((1, 2))
    return total
