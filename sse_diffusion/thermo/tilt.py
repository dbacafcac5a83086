"""Sampling a tilted distribution, p(x) exp(-u(x)), with weighted particles: sequential Monte Carlo on a Feynman-Kac path.

A generator draws x_K, ..., x_0 step by step; u is a reduced energy, lambda dPhi / kT. With any guesses u_k of u along the way
(u_0 = u at the end, 0 at the start) the weights

    log w  +=  u_{k+1}(x_{k+1}) - u_k(x_k) + log p(x_k | x_{k+1}) - log q(x_k | x_{k+1})

telescope to exp(-u(x_0)) p / q: weighted averages converge to those of the tilted distribution as the number of particles grows,
whatever the guesses and whatever drift (gradient guidance) the proposal q adds to the model's own step p. Guidance without the
weights does not. Resampling keeps the particles that matter; good guesses keep the effective sample size up.
(Del Moral, Feynman-Kac Formulae, 2004; Neal, Stat. Comput. 11, 125 (2001); Wu et al., NeurIPS 36 (2023), arXiv 2306.17775.)

Shapes: populations p are independent of each other, particles n of one population compete.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sse_diffusion.core.errors import ConfigError


def log_mean_exp(log_weights: Float[Tensor, "*p n"]) -> Float[Tensor, "*p"]:
    """log of the mean weight, stable for any size of the logarithms; -inf when every weight is zero."""
    return torch.logsumexp(log_weights, -1) - math.log(log_weights.shape[-1])


def normalised_weights(log_weights: Float[Tensor, "*p n"]) -> Float[Tensor, "*p n"]:
    """Weights that add up to 1; equal ones when every weight is zero."""
    return torch.softmax(torch.where(_alive(log_weights)[..., None], log_weights, 0.0), -1)


def effective_sample_size(log_weights: Float[Tensor, "*p n"]) -> Float[Tensor, "*p"]:
    """(sum w)^2 / sum w^2: n for equal weights, 1 for a single survivor, 0 when every weight is zero (Kong 1992)."""
    size = 1.0 / normalised_weights(log_weights).square().sum(-1)
    return torch.where(_alive(log_weights), size, 0.0)


def systematic_resample(
    log_weights: Float[Tensor, "*p n"], u: Float[Tensor, "*p"], draws: int | None = None
) -> Int64[Tensor, "*p m"]:
    """Ancestors of m equally weighted particles, ascending: i has floor(m w_i) or one more descendants, m w_i on average.

    Args:
        log_weights: need not be normalised.
        u: one uniform number in [0, 1) per population (Kitagawa, J. Comput. Graph. Stat. 5, 1 (1996)).
        draws: m; as many as there are particles by default.
    """
    n = draws or log_weights.shape[-1]
    cumulative = normalised_weights(log_weights.double()).cumsum(-1)
    cumulative = cumulative / cumulative[..., -1:]
    teeth = (torch.arange(n, device=u.device, dtype=torch.float64) + u.double()[..., None]) / n
    return torch.searchsorted(cumulative, teeth, right=True).clamp_(max=log_weights.shape[-1] - 1)


class FeynmanKac:
    """Weights of p populations of n particles along a path of reduced energies.

    Each step: move the particles with the model (or a guided proposal), evaluate their reduced energy, :meth:`reweight`, then
    :meth:`resample` and pick the crystals that it names. For annealed importance sampling, a move that leaves the current target
    unchanged is reported with :meth:`moved` instead.

    Args:
        populations: p.
        particles: n per population.
        threshold: resample a population when its effective sample size falls below this share of n.
        device: of the weights; they are float64 (except on MPS devices, which have none).

    Attributes:
        log_weights: (p, n).
        log_evidence: (p,) log E_p[exp(-u)] so far, unbiased in exp: -kT times it is a free-energy difference.
        effective_sizes: one (p,) tensor per reweighting, before resampling.

    Raises:
        ConfigError: fewer than one population or two particles, or a threshold outside [0, 1].
    """

    def __init__(self, populations: int, particles: int, threshold: float = 0.5, device: torch.device | str = "cpu") -> None:
        if populations < 1 or particles < 2 or not 0.0 <= threshold <= 1.0:
            raise ConfigError(
                f"{populations} populations of {particles} particles, threshold {threshold}",
                "give at least one population of two particles and a threshold from 0 (never resample) to 1",
            )
        kind = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.threshold = threshold
        self.log_weights = torch.zeros(populations, particles, dtype=kind, device=device)
        self.effective_sizes: list[Float[Tensor, " p"]] = []
        self._reduced = torch.zeros_like(self.log_weights)
        self._banked = torch.zeros(populations, dtype=kind, device=device)

    @property
    def log_evidence(self) -> Float[Tensor, " p"]:
        """See the class."""
        return self._banked + log_mean_exp(self.log_weights)

    @property
    def weights(self) -> Float[Tensor, "p n"]:
        """Normalised within each population."""
        return normalised_weights(self.log_weights)

    def reweight(
        self, reduced_energy: Float[Tensor, "p n"], log_ratio: Float[Tensor, "p n"] | float = 0.0
    ) -> Float[Tensor, " p"]:
        """Account for a step of the path.

        Args:
            reduced_energy: u_k of each particle where it is now: lambda_k dPhi / kT. Not a number or +inf removes the particle.
            log_ratio: log p - log q of the step just made: 0 when the proposal was the model's own step.

        Returns:
            effective sample sizes.
        """
        reduced = torch.nan_to_num(reduced_energy.to(self.log_weights), nan=math.inf, posinf=math.inf)
        change = self._reduced - reduced + log_ratio
        self.log_weights = torch.where(torch.isneginf(self.log_weights), self.log_weights, self.log_weights + change)
        self._reduced = torch.where(torch.isfinite(reduced), reduced, 0.0)
        sizes = effective_sample_size(self.log_weights)
        self.effective_sizes.append(sizes)
        return sizes

    def moved(self, reduced_energy: Float[Tensor, "p n"]) -> None:
        """The particles made a move that leaves the current target unchanged: weights stay, their energies are these now."""
        self._reduced = reduced_energy.to(self.log_weights).clone()

    def resample(self, u: Float[Tensor, " p"], likeness: Float[Tensor, "p n"] | None = None) -> Int64[Tensor, "p n"]:
        """Resample the populations whose effective sample size is below the threshold.

        Args:
            u: one uniform number in [0, 1) per population.
            likeness: any number that is close for like particles (volume, number of atoms): with these side by side, the share of
                each kind keeps to its weight to within one particle (Kitagawa 1996); by default the order is as it is.

        Returns:
            for each place, the particle that goes on there (its own number where nothing was done); the caller copies them.
            Copies separate again through the noise of their place.
        """
        n = self.log_weights.shape[-1]
        own = torch.arange(n, device=u.device).expand_as(self.log_weights)
        sizes = effective_sample_size(self.log_weights)
        poor = (sizes < self.threshold * n) & (sizes > 0)
        order = own if likeness is None else likeness.argsort(-1)
        drawn = order.gather(1, systematic_resample(self.log_weights.gather(1, order), u))
        ancestors = torch.where(poor[:, None], drawn, own)
        self._banked = torch.where(poor, self.log_evidence, self._banked)
        self.log_weights = torch.where(poor[:, None], 0.0, self.log_weights)
        self._reduced = self._reduced.gather(1, ancestors)
        return ancestors

    def average(self, values: Float[Tensor, "p n"]) -> Float[Tensor, " p"]:
        """Weighted average of a property in each population: that of the tilted distribution in the limit of many particles."""
        return (self.weights * values.to(self.weights)).sum(-1)


def _alive(log_weights: Float[Tensor, "*p n"]) -> Tensor:
    """Whether any weight of a population is positive."""
    return log_weights.amax(-1) > -math.inf
