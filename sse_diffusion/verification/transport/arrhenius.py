"""Activation energy, prefactor and the diffusivity at another temperature: one posterior over all temperatures and replicas.

    ln D_i = ln D0 - E_a / (k T_i) + scatter_i + error_i

``error_i`` is the statistical error of run i (chi2 of a mean of squares, see :func:`log_moments`), ``scatter_i`` (Gaussian, one
unknown standard deviation s) what replicas differ by beyond it. With flat priors on ln D0 and E_a and a half-normal one on s
the posterior is a mixture over s of Gaussians, so it is drawn exactly, without a Markov chain. Upper bounds enter as censored
points and E_a >= 0 as a constraint, both through importance weights of the draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K
from sse_diffusion.verification.transport.conductivity import conductivity_factor
from sse_diffusion.verification.transport.diffusivity import log_moments


@dataclass(frozen=True, kw_only=True)
class ArrheniusConfig:
    """Priors and draws.

    Attributes:
        scatter: scale of the half-normal prior of s: replicas of one crystal differ by this much in ln D beyond their errors.
        draws: number of posterior draws.
        seed: of the draws.
        curvature_level: probability above which a curvature of ln D over 1/T is called non-Arrhenius.
    """

    scatter: float = 0.1
    draws: int = 20_000
    seed: int = 0
    curvature_level: float = 0.95


@dataclass(frozen=True)
class ArrheniusFit:
    """The posterior.

    Attributes:
        status, reason: ``ok``; ``unconverged`` when it bends or hangs on few effective draws; ``failed`` when there is none.
        activation_energy_eV, log10_D0: marginals (D0 in cm^2/s).
        draws_E_eV, draws_lnD0: (S,) joint posterior draws.
        scatter: posterior mean of s.
        curvature: d2 ln D / d(1/kT)^2 (eV^2) with its standard deviation; NaN below three temperatures.
        non_arrhenius: the curvature's interval leaves out zero.
        temperatures_K: of the runs that gave a number.
        provenance: points and priors.
    """

    status: Status
    reason: str
    activation_energy_eV: Quantity
    log10_D0: Quantity
    draws_E_eV: np.ndarray = field(default_factory=lambda: np.empty(0))
    draws_lnD0: np.ndarray = field(default_factory=lambda: np.empty(0))
    scatter: float = math.nan
    curvature: tuple[float, float] = (math.nan, math.nan)
    non_arrhenius: bool = False
    temperatures_K: tuple[float, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def diffusivity(self, temperature_K: float) -> Quantity:
        """D (cm^2/s) at a temperature: posterior median, half the 16-84 % range, 95 % interval in the provenance."""
        return self._at(temperature_K, 1.0, "cm^2/s")

    def conductivity(self, temperature_K: float, ions_per_A3: float, charge: int) -> Quantity:
        """sigma (S/cm) at a temperature through Nernst-Einstein, see :func:`conductivity_factor`; the density is not
        extrapolated."""
        return self._at(temperature_K, conductivity_factor(ions_per_A3, charge, temperature_K), "S/cm")

    def _at(self, temperature_K: float, factor: float, unit: str) -> Quantity:
        """Quantiles of factor D0 exp(-E / kT); says when that is an extrapolation."""
        if self.status is Status.FAILED:
            return Quantity.failed(self.reason, unit)
        draws = self.draws_lnD0 - self.draws_E_eV / (BOLTZMANN_eV_PER_K * temperature_K) + math.log(factor)
        low, under, median, over, high = np.exp(np.quantile(draws, (0.025, 0.16, 0.5, 0.84, 0.975)))
        facts = {
            "temperature_K": temperature_K,
            "interval_95": (float(low), float(high)),
            "sd_log10": float(draws.std() / math.log(10.0)),
            "extrapolated": not min(self.temperatures_K) <= temperature_K <= max(self.temperatures_K),
            "from_K": list(self.temperatures_K),
        }
        return Quantity(float(median), float(over - under) / 2.0, unit, self.status, self.reason, facts)


def fit_arrhenius(points: Sequence[Quantity], config: ArrheniusConfig | None = None) -> ArrheniusFit:
    """Joint fit of diffusivities (cm^2/s), one per run, each with ``provenance["temperature_K"]``.

    Numbers (``ok`` or ``unconverged`` with an error) are fitted, upper bounds are censored points, failures are left out. Of a
    subdiffusive run the upper end of the interval is a bound: what fills the cage of an ion at once does not take it further.
    ``failed`` when fewer than two temperatures have a number: then only a bound at the lowest temperature can be given.
    """
    config = config or ArrheniusConfig()
    numbers, bounds = _numbers_and_bounds(points)
    temperatures = tuple(sorted({float(q.provenance["temperature_K"]) for q in numbers}))
    if len(temperatures) < 2:
        reason = f"diffusivities at {len(temperatures)} temperatures ({len(bounds)} upper bounds): an activation energy needs two"
        return ArrheniusFit(
            Status.FAILED,
            reason,
            Quantity.failed(reason, "eV"),
            Quantity.failed(reason, "log10 cm^2/s"),
            temperatures_K=temperatures,
        )
    x, y, variance = _observations(numbers)
    centre = float(x.mean())
    rng = np.random.default_rng(config.seed)
    coefficients, scatter = _draw(np.stack([np.ones_like(x), x - centre], axis=1), y, variance, config, rng)
    weights = _weights(coefficients, scatter, centre, bounds)
    effective = float(weights.sum() ** 2 / np.square(weights).sum()) if weights.sum() > 0 else 0.0
    if effective < 100:
        reason = "the upper bounds contradict the diffusivities at other temperatures, or the activation energy is negative"
        return ArrheniusFit(
            Status.FAILED,
            reason,
            Quantity.failed(reason, "eV"),
            Quantity.failed(reason, "log10 cm^2/s"),
            temperatures_K=temperatures,
        )
    chosen = rng.choice(len(weights), size=config.draws, p=weights / weights.sum())
    energy = -coefficients[chosen, 1]
    ln_d0 = coefficients[chosen, 0] + energy * centre
    curvature, bends = _curvature(x, y, variance, config, rng)
    reason = f"ln D over 1/T bends: curvature {curvature[0]:.3g} +- {curvature[1]:.2g} eV^2" if bends else ""
    return ArrheniusFit(
        Status.UNCONVERGED if bends else Status.OK,
        reason,
        _marginal(energy, "eV"),
        _marginal(ln_d0 / math.log(10.0), "log10 cm^2/s"),
        energy,
        ln_d0,
        float(scatter[chosen].mean()),
        curvature,
        bends,
        temperatures,
        {"runs": len(numbers), "upper_bounds": len(bounds), "effective_draws": round(effective), "scatter_prior": config.scatter},
    )


def _observations(numbers: Sequence[Quantity]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """1 / kT (1/eV), ln D, and its variance."""
    x = np.array([1.0 / (BOLTZMANN_eV_PER_K * float(q.provenance["temperature_K"])) for q in numbers])
    y, sd = np.array([log_moments(q.value, q.uncertainty) for q in numbers]).T
    return x, y, sd**2


def _draw(
    design: np.ndarray, y: np.ndarray, variance: np.ndarray, config: ArrheniusConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(S, P) coefficients and (S,) scatters from p(b, s | y) of y = design b + N(0, variance + s^2), flat in b, half-normal in s.

    Given s the posterior of b is Gaussian, and p(s | y) ~ p(s) |C|^-1/2 |X' C^-1 X|^-1/2 exp(-chi2 / 2) is tabulated.
    """
    grid = np.linspace(0.0, 5.0 * config.scatter, 101)
    logs, means, roots = [], [], []
    for s in grid:
        c = variance + s**2
        information = design.T @ (design / c[:, None])
        covariance = np.linalg.inv(information)
        mean = covariance @ design.T @ (y / c)
        chi2 = float(np.square(y - design @ mean) @ (1.0 / c))
        logs.append(-0.5 * (np.log(c).sum() + np.linalg.slogdet(information)[1] + chi2 + (s / config.scatter) ** 2))
        means.append(mean)
        roots.append(np.linalg.cholesky(covariance))
    weights = np.exp(np.array(logs) - max(logs))
    index = rng.choice(len(grid), size=config.draws, p=weights / weights.sum())
    noise = rng.standard_normal((config.draws, design.shape[1]))
    return np.array(means)[index] + np.einsum("spq,sq->sp", np.array(roots)[index], noise), grid[index]


def _numbers_and_bounds(points: Sequence[Quantity]) -> tuple[list[Quantity], list[Quantity]]:
    """What is fitted, and what only limits it."""
    measured = [q for q in points if q.status in (Status.OK, Status.UNCONVERGED) and q.value > 0 and q.uncertainty > 0]
    falling = [q for q in measured if q.provenance.get("subdiffusive")]
    limits = [replace(q, value=q.provenance["interval_95"][1], status=Status.UPPER_BOUND) for q in falling]
    stated = [q for q in points if q.status is Status.UPPER_BOUND and q.value > 0]
    return [q for q in measured if not q.provenance.get("subdiffusive")], stated + limits


def _weights(coefficients: np.ndarray, scatter: np.ndarray, centre: float, bounds: Sequence[Quantity]) -> np.ndarray:
    """(S,) E_a >= 0, times the probability of each upper bound: Phi((ln bound - ln D(T)) / s)."""
    from scipy.stats import norm

    weights = (coefficients[:, 1] <= 0.0).astype(float)
    for bound in bounds:
        x = 1.0 / (BOLTZMANN_eV_PER_K * float(bound.provenance["temperature_K"]))
        expected = coefficients[:, 0] + coefficients[:, 1] * (x - centre)
        weights *= norm.cdf((math.log(bound.value) - expected) / np.maximum(scatter, 0.05))
    return weights


def _curvature(
    x: np.ndarray, y: np.ndarray, variance: np.ndarray, config: ArrheniusConfig, rng: np.random.Generator
) -> tuple[tuple[float, float], bool]:
    """Posterior mean and standard deviation of d2 ln D / d(1/kT)^2, and whether its interval leaves out zero."""
    if len(np.unique(x)) < 3:
        return (math.nan, math.nan), False
    away = x - x.mean()
    draws = 2.0 * _draw(np.stack([np.ones_like(x), away, away**2], axis=1), y, variance, config, rng)[0][:, 2]
    tail = 0.5 * (1.0 - config.curvature_level)
    low, high = np.quantile(draws, (tail, 1.0 - tail))
    return (float(draws.mean()), float(draws.std())), bool(low > 0 or high < 0)


def _marginal(draws: np.ndarray, unit: str) -> Quantity:
    """Mean and standard deviation, 95 % interval in the provenance."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return Quantity(float(draws.mean()), float(draws.std()), unit, provenance={"interval_95": (float(low), float(high))})
