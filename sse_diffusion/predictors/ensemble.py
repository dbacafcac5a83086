"""A small ensemble of multilayer perceptrons that predicts a location and a scale for each target."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

MIN_LOG_SCALE, MAX_LOG_SCALE = -7.0, 3.0


class EnsembleMLP(nn.Module):
    """``members`` independent perceptrons evaluated in one batched product.

    Each predicts, per target, the location mu and the scale b of a Laplace distribution
    p(y) = exp(-|y - mu| / b) / (2 b): mu is a conditional median, which heavy-tailed energies need.

    Args:
        n_features: width of the input.
        n_targets: number of properties.
        width: hidden units per layer.
        depth: hidden layers.
        members: perceptrons.
        seed: of the initial weights.
    """

    def __init__(self, n_features: int, n_targets: int, width: int, depth: int, members: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        sizes = [n_features, *[width] * depth, 2 * n_targets]
        self.n_targets = n_targets
        self.members = members
        self.register_buffer("feature_mean", torch.zeros(n_features))
        self.register_buffer("feature_std", torch.ones(n_features))
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            bound = math.sqrt(3.0 / fan_in)
            self.weights.append(nn.Parameter((torch.rand(members, fan_in, fan_out, generator=generator) * 2 - 1) * bound))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Location and log scale.

        Args:
            features: (n, F) shared by all members, or (M, n, F) one batch per member.

        Returns:
            mu and log b, both (M, n, T).
        """
        x = ((features - self.feature_mean) / self.feature_std).clamp(-8.0, 8.0)
        if x.ndim == 2:
            x = x.expand(self.members, -1, -1)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if i < last:
                x = nn.functional.silu(x)
        mu, log_scale = x.split(self.n_targets, dim=-1)
        return mu, log_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)


def mixture(mu: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the ensemble: within-member variance 2 b^2 plus the spread of the means.

    Args:
        mu: (M, n, T).
        log_scale: (M, n, T).

    Returns:
        Both (n, T).
    """
    variance = (2.0 * (2.0 * log_scale).exp()).mean(0) + mu.var(0, unbiased=False)
    return mu.mean(0), variance.sqrt()


def laplace_nll(mu: Tensor, log_scale: Tensor, target: Tensor, censored: Tensor) -> Tensor:
    """Negative log likelihood of Laplace-distributed targets, elementwise.

    Censored targets are only known to lie at or below ``target`` (a phase on the hull: 0 eV above it, by how much the next
    best decomposition is worse is not in the table); they contribute -log P(y <= target).
    """
    z = (target - mu) * (-log_scale).exp()
    density = math.log(2.0) + log_scale + z.abs()
    tail = torch.where(z < 0, math.log(2.0) - z, -torch.log1p(-0.5 * (-z.clamp(min=0.0)).exp()))
    return torch.where(censored, tail, density)
