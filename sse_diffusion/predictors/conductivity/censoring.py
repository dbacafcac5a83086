"""Detection limits in a Gaussian process: expectation propagation for "at or below" observations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SWEEPS = 20
SMALLEST_PRECISION = 1e-6


def censored_sites(mean: Array, covariance: Array, limit: Array, noise: Array) -> tuple[Array, Array]:
    """Gaussian pseudo-observations that stand for f + noise <= limit.

    Expectation propagation (Minka 2001; Rasmussen and Williams 2006, section 3.6) with the Tobit factors
    Phi((limit - f) / sqrt(noise)), on the few rows that are censored; parallel updates, damped by one half.

    Args:
        mean, covariance: (c,) and (c, c) of f given every row that is not censored.
        limit: (c,) upper bounds.
        noise: (c,) variance of the observations.

    Returns:
        Values (c,) and variances (c,) of the pseudo-observations of f.
    """
    from scipy.linalg import cho_factor, cho_solve

    n = len(mean)
    precision, shift = np.full(n, SMALLEST_PRECISION), np.zeros(n)
    inverse = cho_solve(cho_factor(covariance + 1e-8 * np.eye(n)), np.eye(n)) if n else np.zeros((0, 0))
    for _ in range(SWEEPS if n else 0):
        posterior = cho_solve(cho_factor(inverse + np.diag(precision)), np.eye(n))
        centre = posterior @ (inverse @ mean + shift)
        spread = np.diag(posterior)
        cavity_precision = np.maximum(1.0 / spread - precision, 1e-9)
        cavity = (centre / spread - shift) / cavity_precision
        new_mean, new_variance = below(cavity, 1.0 / cavity_precision, limit, noise)
        wanted = np.maximum(1.0 / new_variance - cavity_precision, SMALLEST_PRECISION)
        wanted_shift = new_mean / new_variance - cavity * cavity_precision
        precision, shift = 0.5 * (precision + wanted), 0.5 * (shift + wanted_shift)
    return shift / precision, 1.0 / precision


def below(mean: Array, variance: Array, limit: Array, noise: Array) -> tuple[Array, Array]:
    """Mean and variance of f ~ N(mean, variance) given f + noise <= limit; all (n,)."""
    total = variance + noise
    z = (limit - mean) / np.sqrt(total)
    ratio = _mills(z)
    shrink = variance**2 / total * ratio * (z + ratio)
    return mean - variance / np.sqrt(total) * ratio, np.maximum(variance - shrink, 1e-9)


def negative_log_likelihood(mean: Array, deviation: Array, observed: Array, censored: NDArray[np.bool_]) -> Array:
    """-log p of each observation (n,): the normal density, or for a censored row the chance of being at or below ``observed``."""
    from scipy.stats import norm

    z = (observed - mean) / deviation
    return np.where(censored, -norm.logcdf(z), 0.5 * z**2 + np.log(deviation) + 0.5 * np.log(2.0 * np.pi))


def _mills(z: Array) -> Array:
    """phi(z) / Phi(z), stable far in the lower tail."""
    from scipy.stats import norm

    return np.exp(norm.logpdf(z) - norm.logcdf(z))
