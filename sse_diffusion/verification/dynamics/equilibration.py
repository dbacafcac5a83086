"""Has a run settled? Statistical inefficiency, and a comparison of its early with its late part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EquilibrationCheck:
    """Drift of one observable.

    Attributes:
        z: difference of the means of the first 20 % and the last 50 %, in its own standard errors.
        settled: ``|z|`` is below the limit.
        drift_per_ps: slope of a straight line through the whole, in the observable's unit per ps.
        effective_samples: number of independent values in the whole.
    """

    z: float
    settled: bool
    drift_per_ps: float
    effective_samples: float


def statistical_inefficiency(series: np.ndarray) -> float:
    """g = 1 + 2 sum of the autocorrelation function (up to its first zero), at least 1 (Chodera, JCTC 12, 1799 (2016), eq. 4).

    Args:
        series: (T,) values at equal intervals.
    """
    n = len(series)
    deviation = series - series.mean()
    variance = float(deviation @ deviation) / n
    if n < 3 or variance <= 1e-30 * max(1.0, float(np.square(series).mean())):
        return 1.0
    spectrum = np.fft.rfft(deviation, 2 * n)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:n] / (variance * n)
    negative = np.flatnonzero(correlation <= 0.0)
    end = int(negative[0]) if len(negative) else n
    return max(1.0, 1.0 + 2.0 * float(correlation[1:end].sum()))


def check_equilibration(series: np.ndarray, frame_ps: float, z_limit: float = 3.0) -> EquilibrationCheck:
    """Geweke's diagnostic (Bayesian Statistics 4, 169 (1992)) with standard errors from the statistical inefficiency.

    Args:
        series: (T,) e.g. potential energy or volume after the dropped part.
        frame_ps: time between values.
        z_limit: 3: one false alarm in 370.
    """
    n = len(series)
    if n < 20:
        return EquilibrationCheck(math.nan, False, math.nan, float(n))
    early, late = series[: n // 5], series[n // 2 :]
    # the correlation time of the late half serves both: the early part is too short to estimate its own
    inefficiency = statistical_inefficiency(late)
    error = math.sqrt(inefficiency * float(late.var()) * (1.0 / len(early) + 1.0 / len(late)))
    difference = float(early.mean() - late.mean())
    if error <= (round_off := 1e-12 * float(np.abs(series).max())):  # a constant, whose mean is known to rounding
        z = 0.0 if abs(difference) <= round_off else math.copysign(math.inf, difference)
    else:
        z = difference / error
    slope = float(np.polyfit(np.arange(n) * frame_ps, series, 1)[0])
    return EquilibrationCheck(z, abs(z) < z_limit, slope, n / inefficiency)
