"""Data hygiene in one place: standardisation, outliers, detection limits, repeats and their spread (the label noise)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import DataError

Array = NDArray[np.float64]
N_BOOTSTRAP = 1000


@dataclass(frozen=True)
class Standardiser:
    """z = (x - mean) / scale per column, and back.

    Attributes:
        mean, scale: (d,); the scale is the standard deviation, 1 where a column does not vary.
    """

    mean: Array
    scale: Array

    @classmethod
    def fit(cls, values: Array) -> Standardiser:
        """From the training rows (n, d); NaN does not count, and a column without any number gets mean 0 and scale 1.

        Raises:
            DataError: no rows.
        """
        if not len(values):
            raise DataError("a standardiser needs at least one row", "check the filter of the training rows")
        known = np.isfinite(values)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, values, 0.0).sum(0) / count
        deviation = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(0) / count)
        return cls(mean, np.where(deviation > 1e-12 * np.maximum(np.abs(mean), 1.0), deviation, 1.0))

    def apply(self, values: Array) -> Array:
        """(n, d) in units of standard deviations."""
        return np.asarray((values - self.mean) / self.scale)

    def invert(self, values: Array) -> Array:
        """Inverse of :meth:`apply`."""
        return np.asarray(values * self.scale + self.mean)


def z_score_outliers(values: Array, limit: float = 3.0) -> NDArray[np.bool_]:
    """(n,) True farther than ``limit`` standard deviations from the mean; NaN is no outlier."""
    z = Standardiser.fit(values[:, None]).apply(values[:, None])[:, 0]
    return np.abs(np.nan_to_num(z)) > limit


def iqr_outliers(values: Array, factor: float = 1.5) -> NDArray[np.bool_]:
    """(n,) True farther than ``factor`` interquartile ranges outside the quartiles (Tukey's fences); NaN is no outlier."""
    if not np.isfinite(values).any():
        return np.zeros(len(values), dtype=bool)
    low, high = np.nanquantile(values, [0.25, 0.75])
    reach = factor * (high - low)
    return (values < low - reach) | (values > high + reach)


def read_limits(column: Sequence[object], floor: float = -math.inf) -> tuple[Array, NDArray[np.bool_]]:
    """Numbers of a column in which ``<1E-10`` is an upper limit.

    Args:
        column: numbers or text; anything else becomes NaN.
        floor: values at or below this are limits too (of detection).

    Returns:
        values (n,), and (n,) True where the value is an upper limit: the label is known to be at or below it only.
    """
    values, limited = np.full(len(column), math.nan), np.zeros(len(column), dtype=bool)
    for i, entry in enumerate(column):
        text = str(entry).strip()
        limited[i] = text.startswith("<")
        try:
            values[i] = float(text.lstrip("<≤= "))
        except ValueError:
            limited[i] = False
    return values, limited | (values <= floor)


@dataclass(frozen=True)
class Conflict:
    """Rows of one key whose labels differ by more than the tolerance.

    Attributes:
        key: what the rows share.
        rows: their numbers.
        spread: largest label minus smallest.
    """

    key: str
    rows: tuple[int, ...]
    spread: float


@dataclass(frozen=True)
class Repeats:
    """Rows that describe the same thing, and what their labels say about the noise.

    Attributes:
        n_keys: keys with more than one label.
        n_rows: rows of those keys.
        conflicts: the widest first.
        noise: pooled standard deviation within keys, sqrt(sum (y - mean_k)^2 / sum (n_k - 1)); NaN without repeats.
        noise_interval: 95 %, from a bootstrap over keys.
        mean_difference: mean |y_i - y_j| over the pairs of a key, each key weighing the same; NaN without repeats.
    """

    n_keys: int
    n_rows: int
    conflicts: tuple[Conflict, ...]
    noise: float
    noise_interval: tuple[float, float]
    mean_difference: float


def find_repeats(keys: Sequence[str | None], labels: Array, tolerance: float, seed: int = 0) -> Repeats:
    """Rows with equal keys.

    Args:
        keys: (n,) what makes two rows the same measurement; ``None``: unlike any other.
        labels: (n,); NaN does not count.
        tolerance: labels of one key that differ by more are a conflict.
        seed: of the bootstrap.
    """
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None and math.isfinite(labels[row]):
            rows_of.setdefault(key, []).append(row)
    repeated = {key: rows for key, rows in rows_of.items() if len(rows) > 1}
    if not repeated:
        return Repeats(0, 0, (), math.nan, (math.nan, math.nan), math.nan)
    spreads = {key: float(np.ptp(labels[rows])) for key, rows in repeated.items()}
    conflicts = [Conflict(k, tuple(rows), spreads[k]) for k, rows in repeated.items() if spreads[k] > tolerance]
    squares = np.array([labels[rows].var() * len(rows) for rows in repeated.values()])
    freedom = np.array([len(rows) - 1 for rows in repeated.values()])
    drawn = np.random.default_rng(seed).integers(0, len(squares), size=(N_BOOTSTRAP, len(squares)))
    low, high = np.quantile(np.sqrt(squares[drawn].sum(1) / freedom[drawn].sum(1)), [0.025, 0.975])
    return Repeats(
        n_keys=len(repeated),
        n_rows=sum(map(len, repeated.values())),
        conflicts=tuple(sorted(conflicts, key=lambda c: -c.spread)),
        noise=float(np.sqrt(squares.sum() / freedom.sum())),
        noise_interval=(float(low), float(high)),
        mean_difference=float(np.mean([_mean_pair_difference(labels[rows]) for rows in repeated.values()])),
    )


def _mean_pair_difference(labels: Array) -> float:
    i, j = np.triu_indices(len(labels), 1)
    return float(np.abs(labels[i] - labels[j]).mean())
