"""Numbers with their 95 % intervals: rates (Wilson), means (bootstrap), and numbers that are missing for a reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959964
RESAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class Metric:
    """One number of an evaluation.

    Attributes:
        value: the number; ``None`` when it could not be computed, with ``reason``.
        ci95: 95 % interval; ``None`` when the number is missing or one observation is all there is.
        k: what was counted, for rates.
        n: out of how many.
        reason: why the number is missing; empty otherwise.
    """

    value: float | None
    ci95: tuple[float, float] | None
    k: int | None = None
    n: int | None = None
    reason: str = ""

    @classmethod
    def rate(cls, k: int, n: int) -> Metric:
        """k of n, with its Wilson interval; missing when n is 0.

        Raises:
            ValueError: k is negative or above n.
        """
        if not 0 <= k <= n:
            raise ValueError(f"{k} of {n} is no rate")
        return cls(k / n, wilson(k, n), int(k), int(n)) if n else cls.missing("nothing to count")

    @classmethod
    def mean(cls, values: Sequence[float] | np.ndarray, seed: int = 0) -> Metric:
        """Mean of the finite values with its bootstrap interval; missing when there is none."""
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if len(finite) == 0:
            return cls.missing("no value to average")
        interval = bootstrap_mean(finite, seed) if len(finite) > 1 else None
        return cls(float(finite.mean()), interval, None, len(finite))

    @classmethod
    def missing(cls, reason: str) -> Metric:
        """A number that could not be computed."""
        return cls(None, None, reason=reason)


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of the rate k/n (Wilson, J. Am. Stat. Assoc. 22, 209 (1927)); (0, 1) when n is 0."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = k / n, Z95 * Z95
    centre = p + z2 / (2 * n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # The exact ends at k = 0 and k = n are 0 and 1; rounding would leave 1e-17 beside them.
    low = 0.0 if k == 0 else (centre - half) / (1 + z2 / n)
    high = 1.0 if k == n else (centre + half) / (1 + z2 / n)
    return low, high


def bootstrap_mean(values: Sequence[float] | np.ndarray, seed: int = 0, n: int = 2000) -> tuple[float, float]:
    """95 % percentile interval of the mean over n resamples (Efron & Tibshirani 1993).

    Args:
        values: at least one number.
        seed: of the resampling.
        n: resamples.

    Raises:
        ValueError: no value.
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        raise ValueError("the mean of no value has no interval")
    rng = np.random.default_rng(seed)
    parts = range(0, n, RESAMPLES_AT_ONCE)  # in parts: a table of 1e5 values would otherwise need gigabytes
    means = [data[rng.integers(0, len(data), (min(RESAMPLES_AT_ONCE, n - at), len(data)))].mean(axis=1) for at in parts]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
