"""How many times more often: the ratio of two independent rates with its score interval (Koopman, Biometrics 40, 513 (1984)).

    U(phi) = sum over both i of (k_i - n_i p_i)^2 / (n_i p_i (1 - p_i))

with p_1 = phi p_2 the most likely rates under that ratio. The interval holds every phi with U below the 95 % quantile of chi^2;
it exists for counts of zero, where the interval of the log ratio does not.
"""

from __future__ import annotations

import math

from sse_diffusion.verification.metrics.rates import Z95, Metric

FARTHEST = 30.0
"""Logarithm of the largest ratio that is looked at."""


def rate_ratio(k: int, n: int, k_other: int, n_other: int) -> Metric:
    """(k/n) / (k_other/n_other) with its 95 % interval; ``n`` counts both groups.

    Without a hit in the denominator the value is missing, the interval's lower end still says how large the ratio is at least.
    """
    if not (n and n_other):
        return Metric.missing("nothing to count")
    interval = koopman(k, n, k_other, n_other)
    if k_other == 0:
        return Metric(
            None, interval, n=n + n_other, reason=f"{k_other}/{n_other} in the denominator: only a lower bound is known"
        )
    return Metric((k / n) / (k_other / n_other), interval, n=n + n_other)


def koopman(k1: int, n1: int, k2: int, n2: int) -> tuple[float, float]:
    """95 % score interval of (k1/n1) / (k2/n2); (0, inf) when both are zero."""
    if k1 == 0 and k2 == 0:
        return 0.0, math.inf

    def excess(log_ratio: float) -> float:
        return _score(math.exp(log_ratio), k1, n1, k2, n2) - Z95 * Z95

    best = math.log((k1 / n1) / (k2 / n2)) if k1 and k2 else -FARTHEST if k1 == 0 else FARTHEST
    low = 0.0 if k1 == 0 else math.exp(_root(excess, -FARTHEST, best))
    high = math.inf if k2 == 0 else math.exp(_root(excess, best, FARTHEST))
    return low, high


def _root(function: object, low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=1e-10))


def _score(phi: float, k1: int, n1: int, k2: int, n2: int) -> float:
    n, k = n1 + n2, k1 + k2
    b = phi * (n1 + k2) + k1 + n2
    p = (b - math.sqrt(max(b * b - 4.0 * n * phi * k, 0.0))) / (2.0 * n)
    return _misfit(k1, n1, p) + _misfit(k2, n2, p / phi)


def _misfit(k: int, n: int, p: float) -> float:
    p = min(max(p, 1e-15), 1.0 - 1e-15)
    return (k - n * p) ** 2 / (n * p * (1.0 - p))
