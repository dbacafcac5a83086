"""Diffusivity with an error bar: the line that the mean squared displacement approaches, by generalised least squares.

The points of an MSD curve come from overlapping windows of the same paths and are strongly correlated. For a Brownian path seen
through the vibration about its site their covariance is known exactly, so that the line and its error follow without resampling:
Qian, Sheetz and Elson, Biophys. J. 60, 910 (1991); Bullerjahn, von Buelow and Hummer, J. Chem. Phys. 153, 024116 (2020). One
number is measured on top: by how much windows fluctuate more than M independent Gaussian walkers would (rare jumps, preferred
directions, ions that move together); the covariance is multiplied by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import CM2_PER_S_PER_A2_PER_PS
from sse_diffusion.verification.transport.paths import IonPaths, squared_displacements
from sse_diffusion.verification.transport.regime import Regime

MAX_LAGS = 16
CROOKED = 1e-3
"""Probability of the residuals below which the curve is certainly not what was fitted plus its own noise."""
STRAIGHT, BENT = 0.01, 1.5
"""A curve is taken for straight when its line has at least this probability and its bend fewer standard errors than this."""


@dataclass(frozen=True)
class LineFit:
    """MSD(t) = slope t + intercept over the fitted lags.

    Attributes:
        slope_A2_per_ps, slope_sd: and one standard deviation.
        intercept_A2: twice the vibration's mean squared amplitude, or what a ballistic or caged start leaves.
        times_ps, msd_A2: (L,) what was fitted.
        excess: measured over Brownian variance of a window, at least 1.
        probability: of residuals at least this large when the curve is what was fitted (chi2 test).
        bend: size of a term exp(-t / start) beside the line, in its own standard errors.
    """

    slope_A2_per_ps: float
    slope_sd: float
    intercept_A2: float
    times_ps: np.ndarray
    msd_A2: np.ndarray
    excess: float
    probability: float
    bend: float


def msd_covariance(lags: np.ndarray, frames: int, per_frame: float, noise: float) -> np.ndarray:
    """(L, L) covariance of the time-averaged squared displacement of one coordinate.

        Cov(MSD_i, MSD_j) = 2 / (n_i n_j) sum_{k,l} c(l - k)^2,      n_i = frames - lag_i windows

    with c the covariance of the two displacements: ``per_frame`` times the overlap of their windows, and ``noise`` for each end
    that they share (minus where the end of one is the start of the other).

    Args:
        lags: (L,) window lengths in frames.
        frames: length of the path.
        per_frame: variance of a displacement per frame (2 D times the frame's length).
        noise: variance of the vibration about the site.
    """
    covariance = np.zeros((len(lags), len(lags)))
    for a, i in enumerate(lags):
        for b, j in enumerate(lags[: a + 1]):
            n_i, n_j = frames - i, frames - j
            offset = np.arange(max(-j, 1 - n_i), min(i, n_j - 1) + 1)
            pairs = np.minimum(n_i, n_j - offset) - np.maximum(0, -offset)
            shared = np.minimum(i, offset + j) - np.maximum(0, offset)
            ends = (offset == 0) * 1.0 + (offset == i - j) - (offset == -j) - (offset == i)
            covariance[a, b] = covariance[b, a] = 2.0 * (pairs * (per_frame * shared + noise * ends) ** 2).sum() / (n_i * n_j)
    return covariance


def fit_line(positions: np.ndarray, frame_ps: float, start: int, end: int, fading: bool = False) -> LineFit:
    """Generalised least squares through the MSD of (T, M, 3) paths between the lags ``start`` and ``end`` (frames).

    The covariance depends on slope and intercept, so that the fit is repeated with its own result (three times).

    Args:
        positions: (T, M, 3).
        frame_ps: time between frames.
        start, end: lags.
        fading: fit a term exp(-t / start) too, what a start that is not over leaves; else its size is only measured.
    """
    from scipy.stats import chi2

    frames, ions, dimensions = positions.shape
    lags = np.unique(np.geomspace(start, max(end, start + 2), MAX_LAGS).round().astype(int))
    lags = lags[lags < frames]
    windows = [squared_displacements(positions, int(lag)) for lag in lags]
    curve = np.array([w.mean() for w in windows])
    design = np.stack([lags * frame_ps, np.ones(len(lags)), np.exp(1.0 - lags / lags[0])], axis=1)
    slope, intercept = np.polyfit(lags * frame_ps, curve, 1)
    independent = 2.0 / (dimensions * ions) * curve[0] ** 2
    excess = max(1.0, float(windows[0].mean(axis=1).var() / independent)) if independent > 0 else 1.0
    for _ in range(3):
        per_frame = max(slope, 1e-3 * curve[-1] / (lags[-1] * frame_ps), 1e-12) * frame_ps / dimensions
        noise = max(intercept, 0.0) / (2.0 * dimensions)
        covariance = msd_covariance(lags, frames, per_frame, noise) * dimensions / ions * excess
        root = np.linalg.cholesky(covariance + 1e-10 * np.trace(covariance) / len(lags) * np.eye(len(lags)))
        weighted, target = np.linalg.solve(root, design), np.linalg.solve(root, curve)
        slope, intercept = np.linalg.lstsq(weighted[:, :2], target, rcond=None)[0]
    bend, bend_sd = (values[2] for values in _least_squares(weighted, target))
    terms = weighted if fading else weighted[:, :2]
    values, errors = _least_squares(terms, target)
    residual = target - terms @ values
    probability = float(chi2.sf(residual @ residual, max(1, len(lags) - terms.shape[1])))
    return LineFit(
        float(values[0]), float(errors[0]), float(values[1]), lags * frame_ps, curve, excess, probability, bend / bend_sd
    )


def _least_squares(design: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and their standard errors at unit variance."""
    inverse = np.linalg.inv(design.T @ design)
    return inverse @ design.T @ target, np.sqrt(np.diag(inverse))


def straight_part(paths: IonPaths, regime: Regime) -> LineFit:
    """The line that the MSD approaches, from where it is straight on (between ``regime.start`` and ``regime.latest``).

    Rattling in a cage and jumps that are soon undone bend the curve at short lags, where it is most precise. Waiting until no
    bend is seen is not enough: one of one standard error is not seen, and shifts the slope by as much. So from there on a term
    exp(-t / start) is fitted beside the line, which widens the error by about 1.7.

    A collective path is too noisy to choose its begin: residuals are measured in units of the slope, so that a path whose slope
    came out low looks crooked and starts again elsewhere, which lifts the mean. Its line begins where that of its members does,
    whose curve is M times as precise: a bend that is not seen there is small against the error here, and no term is fitted.
    """
    alone = paths.members_A is None
    asked = paths.positions_A if paths.members_A is None else paths.members_A
    start = regime.start
    while start < regime.latest:
        line = fit_line(asked, paths.frame_ps, start, regime.end)
        if line.probability >= STRAIGHT and abs(line.bend) < BENT:
            break
        start = min(regime.latest, max(start + 1, round(1.4 * start)))
    return fit_line(paths.positions_A, paths.frame_ps, start, regime.end, fading=alone)


def diffusivity(paths: IonPaths, regime: Regime) -> Quantity:
    """D = slope / 6 of the mean squared displacement, cm^2/s (Einstein 1905); of M ions the tracer diffusivity, of
    :attr:`IonPaths.collective` the collective (charge) one.

    ``upper_bound`` for ions that the regime calls immobile; ``unconverged`` for subdiffusive ones, and when the error is larger
    than half of the value. The 95 % interval is in the provenance, see :func:`interval`; so is ``subdiffusive``: the slope still
    falls with the lag, so that what it tends to is at most this.
    """
    unit, duration = "cm^2/s", round(paths.duration_ps, 3)
    facts: dict[str, Any] = {"temperature_K": paths.temperature_K, "duration_ps": duration, "hops": regime.hops}
    facts["subdiffusive"] = regime.status == "subdiffusive"
    if regime.status == "immobile":
        return Quantity(regime.upper_bound_cm2_per_s, math.nan, unit, Status.UPPER_BOUND, regime.reason, facts)
    fit = straight_part(paths, regime)
    value, error = (x / 6.0 * CM2_PER_S_PER_A2_PER_PS for x in (fit.slope_A2_per_ps, fit.slope_sd))
    if regime.hops:  # rare jumps: their number alone fluctuates by 1 / sqrt(n), which a Gaussian covariance cannot know
        error = max(error, value / math.sqrt(regime.hops))
    facts |= {"start_ps": round(float(fit.times_ps[0]), 4), "end_ps": round(float(fit.times_ps[-1]), 4), "excess": fit.excess}
    if not value > 0:
        return Quantity(regime.upper_bound_cm2_per_s, math.nan, unit, Status.UPPER_BOUND, "the slope is not positive", facts)
    facts["interval_95"] = interval(value, error)
    crooked = "the mean squared displacement is not a straight line yet" if fit.probability < CROOKED else ""
    if regime.reason or crooked or error > 0.5 * value:
        reason = regime.reason or crooked or f"the error is {error / value:.0%} of the value: too few independent displacements"
        return Quantity(value, error, unit, Status.UNCONVERGED, reason, facts)
    return Quantity(value, error, unit, provenance=facts)


def interval(value: float, sd: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a scale parameter (D, sigma): value nu / chi2_nu with nu = 2 (value / sd)^2 degrees of freedom.

    A diffusivity is a mean of squares, so that its estimate is distributed as chi2 / nu; symmetric for small errors, and never
    below zero for large ones.
    """
    from scipy.stats import chi2

    if not (value > 0 and sd > 0):
        return (value, value) if sd == 0 else (math.nan, math.nan)
    freedom = 2.0 * (value / sd) ** 2
    tail = 0.5 * (1.0 - level)
    smallest, largest = (float(chi2.ppf(p, freedom)) for p in (tail, 1.0 - tail))
    return value * freedom / largest, value * freedom / smallest if smallest > 0 else math.inf


def log_moments(value: float, sd: float) -> tuple[float, float]:
    """Mean and standard deviation of ln D when D_hat / D is distributed as chi2_nu / nu, nu = 2 (value / sd)^2."""
    from scipy.special import digamma, polygamma

    half = (value / sd) ** 2
    return math.log(value) + math.log(half) - float(digamma(half)), math.sqrt(float(polygamma(1, half)))
