"""Is this diffusion? Jumps, the exponent of the mean squared displacement, and where its straight part begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sse_diffusion.core.units import CM2_PER_S_PER_A2_PER_PS
from sse_diffusion.verification.msd import count_hops
from sse_diffusion.verification.transport.paths import IonPaths, mean_squared_displacement


@dataclass(frozen=True, kw_only=True)
class RegimeConfig:
    """Thresholds.

    Attributes:
        hop_distance_A, hop_smoothing_ps: see :func:`sse_diffusion.verification.msd.count_hops`.
        min_hops: fewer jumps of all ions together give an upper bound.
        plateau_exponent: d ln MSD / d ln t below this is a plateau: an upper bound.
        diffusive_exponent: between the two the ions move, but the run is too short for a diffusivity.
        start_ps: shortest lag of the fit; ``None``: where the mean squared displacement reaches one hop, or later when the
            curve is
            not straight from there on.
        latest_start, end: fractions of the run: latest begin, and the longest lag that is used.
    """

    hop_distance_A: float = 2.0
    hop_smoothing_ps: float = 0.2
    min_hops: int = 1
    plateau_exponent: float = 0.3
    diffusive_exponent: float = 0.6
    start_ps: float | None = None
    latest_start: float = 0.2
    end: float = 0.5


@dataclass(frozen=True)
class Regime:
    """What was found.

    Attributes:
        status: ``diffusive``, ``subdiffusive`` or ``immobile``.
        reason: why not diffusive.
        hops: jumps of all ions together. exponent: d ln MSD / d ln t over the fitted lags.
        start, latest: earliest and latest begin of the straight part, frames. end: longest lag.
        upper_bound_cm2_per_s: 95 % upper limit of the diffusivity.
    """

    status: str
    reason: str
    hops: int
    exponent: float
    start: int
    latest: int
    end: int
    upper_bound_cm2_per_s: float


def diffusive_regime(paths: IonPaths, config: RegimeConfig) -> Regime:
    """Look at the paths before a diffusivity is fitted; a line can be fitted to a vibrating lattice too.

    The upper limit is the larger of MSD / (6 t) at the last lag and what n observed jumps allow: at 95 % their true number is
    at most chi2_0.95(2 n + 2) / 2 (Gehrels, Astrophys. J. 303, 336 (1986)), each of one hop distance.
    """
    from scipy.stats import chi2

    frames, ions = paths.positions_A.shape[:2]
    window = max(1, round(config.hop_smoothing_ps / paths.frame_ps))
    hops = int(count_hops(paths.positions_A, window, config.hop_distance_A).sum())
    end = max(2, round(config.end * (frames - 1)))
    latest = max(1, round(config.latest_start * (frames - 1)))
    start, latest = _start(paths, config, latest, end)
    lags = np.unique(np.geomspace(start, end, 12).round().astype(int))
    curve = mean_squared_displacement(paths.positions_A, lags)
    exponent = float(np.polyfit(np.log(lags), np.log(np.maximum(curve, 1e-12)), 1)[0]) if len(lags) > 1 else float("nan")
    from_jumps = chi2.ppf(0.95, 2 * hops + 2) / 2 * config.hop_distance_A**2 / (6.0 * ions * paths.duration_ps)
    from_msd = float(curve[-1]) / (6.0 * lags[-1] * paths.frame_ps)
    bound = max(from_jumps, from_msd) * CM2_PER_S_PER_A2_PER_PS
    if hops < config.min_hops:
        status, reason = "immobile", f"{hops} jumps of more than {config.hop_distance_A:g} A in {paths.duration_ps:.1f} ps"
    elif not exponent > config.plateau_exponent:
        status, reason = (
            "immobile",
            f"the mean squared displacement is flat: it grows as t^{exponent:.2f}; {hops} jumps to and fro",
        )
    elif exponent < config.diffusive_exponent:
        status, reason = "subdiffusive", f"the mean squared displacement grows as t^{exponent:.2f}: the run is too short"
    else:
        status, reason = "diffusive", ""
    return Regime(status, reason, hops, exponent, start, latest, end, bound)


def _start(paths: IonPaths, config: RegimeConfig, latest: int, end: int) -> tuple[int, int]:
    """Earliest and latest begin of the straight part, frames."""
    if config.start_ps is not None:
        fixed = int(np.clip(round(config.start_ps / paths.frame_ps), 1, end - 1))
        return fixed, fixed
    lags = np.unique(np.geomspace(1, latest, 24).round().astype(int))
    curve = mean_squared_displacement(paths.positions_A, lags)
    reached = np.flatnonzero(curve >= config.hop_distance_A**2)
    return (int(lags[reached[0]]) if len(reached) else latest), latest
