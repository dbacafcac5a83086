r"""Free coordinates: a wrapped normal on the torus (variance exploding), as in DiffCSP (Jiao et al. 2023).

    sigma(t) = sigma_min^(1-t) sigma_max^t,         u_t = u_0 + sigma(t) eps  mod 1
    p(u_t | u_0) = sum_n N(u_t - u_0 + n; 0, sigma^2)

The network learns  F = sigma grad log p / sqrt(E[(sigma grad log p)^2]),  which has unit variance at every t.
At t = 1 the distribution is uniform to within 2 exp(-2 pi^2 sigma_max^2) (1.4 % at 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

N_IMAGES = 4
"""Periodic images on each side: exact to float precision for sigma <= 0.5."""


@dataclass(frozen=True, kw_only=True)
class CoordinateNoiseConfig:
    """Noise scales as fractions of the conventional cell."""

    sigma_min: float = 0.002
    sigma_max: float = 0.5


def wrapped_score(difference: Float[Tensor, "*s"], sigma: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """grad log p of a wrapped normal of width ``sigma`` at ``difference`` from its centre (both fractional)."""
    n = torch.arange(-N_IMAGES, N_IMAGES + 1, device=difference.device, dtype=difference.dtype)
    x = (difference - difference.round()).unsqueeze(-1) + n
    weight = torch.softmax(-0.5 * (x / sigma.unsqueeze(-1)) ** 2, dim=-1)
    return -(weight * x).sum(-1) / sigma**2


class CoordinateNoise(nn.Module):
    """Forward process, target and score of the free coordinates."""

    def __init__(self, config: CoordinateNoiseConfig, n_table: int = 256) -> None:
        super().__init__()
        self.config = config
        t = torch.linspace(0.0, 1.0, n_table, dtype=torch.float64)
        # E[(sigma grad log p)^2] by quadrature over the normal noise
        eps = torch.linspace(-6.0, 6.0, 1201, dtype=torch.float64)
        density = torch.exp(-0.5 * eps**2)
        sigma = self.sigma(t)[:, None].expand(-1, len(eps))
        squared = (sigma * wrapped_score(sigma * eps, sigma)) ** 2
        variance = (squared * density).sum(-1) / density.sum()
        self.register_buffer("norm_table", variance.sqrt().float(), persistent=False)

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Noise scale at time t in [0, 1]."""
        low, high = math.log(self.config.sigma_min), math.log(self.config.sigma_max)
        return torch.exp(low + (high - low) * t)

    def time_of(self, sigma: float) -> float:
        """Inverse of :meth:`sigma`, within [0, 1]."""
        low, high = math.log(self.config.sigma_min), math.log(self.config.sigma_max)
        return min(1.0, max(0.0, (math.log(max(sigma, 1e-9)) - low) / (high - low)))

    def norm(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Root mean square of sigma grad log p at time t (linear interpolation of the table)."""
        position = t.clamp(0, 1) * (len(self.norm_table) - 1)
        lower = position.floor().long().clamp(max=len(self.norm_table) - 2)
        weight = position - lower
        return self.norm_table[lower] * (1 - weight) + self.norm_table[lower + 1] * weight

    def corrupt(
        self, free: Float[Tensor, "b m 3"], t: Float[Tensor, " b"], noise: Float[Tensor, "b m 3"], is_free: Tensor
    ) -> tuple[Float[Tensor, "b m 3"], Float[Tensor, "b m 3"]]:
        """Noisy coordinates and the network's target; fixed components stay zero.

        Args:
            free: clean u.
            t: time of each crystal.
            noise: standard normal.
            is_free: (b, m, 3) bool.
        """
        sigma = self.sigma(t)[:, None, None].expand_as(free)
        shift = sigma * noise * is_free
        target = sigma * wrapped_score(shift, sigma) / self.norm(t)[:, None, None]
        return torch.remainder(free + shift, 1.0), target * is_free

    def score(self, prediction: Float[Tensor, "b m 3"], t: Float[Tensor, " b"]) -> Float[Tensor, "b m 3"]:
        """grad log p from the network's output."""
        return prediction * (self.norm(t) / self.sigma(t))[:, None, None]
