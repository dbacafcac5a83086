"""Mean squared displacements, hops and a diffusivity with error bar from an unwrapped trajectory.

All displacements are relative to the centre of mass of the framework (every atom that is not the mobile ion), which removes the
drift of the cell. T frames, N atoms; times in ps, lengths in Angstrom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import CM2_PER_S_PER_A2_PER_PS


def relative_to_framework(positions: np.ndarray, masses: np.ndarray, framework: np.ndarray) -> np.ndarray:
    """Positions (T, N, 3) minus the framework's centre of mass in every frame.

    Args:
        positions: unwrapped Cartesian positions, (T, N, 3).
        masses: (N,).
        framework: (N,) bool; when no atom is framework the centre of mass of all atoms is taken.
    """
    chosen = framework if framework.any() else np.ones_like(framework)
    weights = masses[chosen] / masses[chosen].sum()
    return positions - np.einsum("n,tnc->tc", weights, positions[:, chosen])[:, None, :]


def msd_per_atom(positions: np.ndarray) -> np.ndarray:
    """(T, N) mean squared displacement of each atom at each lag (in frames), averaged over all time origins."""
    frames = len(positions)
    result = np.zeros(positions.shape[:2])
    for lag in range(1, frames):
        step = positions[lag:] - positions[:-lag]
        result[lag] = np.einsum("tnc,tnc->tn", step, step).mean(axis=0)
    return result


def count_hops(positions: np.ndarray, window: int, distance_A: float = 2.0) -> np.ndarray:
    """(N,) hops of each atom.

    The path is smoothed by a running mean of ``window`` frames, which removes the vibration about a site. The site of an atom is
    its first smoothed position; when the smoothed path is more than ``distance_A`` from the site, a hop is counted and the site
    moves there. A jump to and fro counts twice; a vibration of any amplitude about a fixed centre counts as none.
    """
    window = max(1, min(window, len(positions)))
    sums = np.cumsum(np.concatenate([np.zeros((1, *positions.shape[1:])), positions]), axis=0)
    smooth = (sums[window:] - sums[:-window]) / window
    hops = np.zeros(positions.shape[1], dtype=np.int64)
    site = smooth[0].copy()
    for frame in smooth[1:]:
        moved = np.linalg.norm(frame - site, axis=1) > distance_A
        hops += moved
        site[moved] = frame[moved]
    return hops


def lindemann_index(positions: np.ndarray, nearest_distance_A: float) -> float:
    """Root mean squared displacement about the time-averaged site over the nearest-neighbour distance (Lindemann, 1910)."""
    deviation = positions - positions.mean(axis=0)
    return float(np.sqrt(np.einsum("tnc,tnc->tn", deviation, deviation).mean()) / nearest_distance_A)


@dataclass(frozen=True)
class SlopeWindow:
    """Lag range of the straight-line fit of the MSD, as fractions of the trajectory's length."""

    low: float = 0.2
    high: float = 0.6


def diffusivity(msd: np.ndarray, frame_ps: float, window: SlopeWindow, n_blocks: int = 8) -> Quantity:
    """Tracer diffusivity D = slope of MSD(lag) / 6 in cm^2/s (Einstein 1905), with a block error bar.

    The ions are dealt into ``n_blocks`` blocks; the error is the standard error of the mean of their slopes. Ions of different
    blocks may move together and a run of a few ps sees few hops, so the error is a lower limit of the true one.

    Args:
        msd: (T, M) per-ion MSD, row = lag in frames.
        frame_ps: time between frames.
        window: lags of the fit.
        n_blocks: at most the number of ions.
    """
    lags = np.arange(len(msd))
    chosen = (lags >= window.low * len(msd)) & (lags <= window.high * len(msd)) & (lags > 0)
    if chosen.sum() < 2:
        return Quantity.failed("too few frames for a slope of the mean squared displacement", unit="cm^2/s")
    times = lags[chosen] * frame_ps
    slopes = np.polyfit(times, msd[chosen], 1)[0] / 6.0 * CM2_PER_S_PER_A2_PER_PS
    blocks = np.array([b.mean() for b in np.array_split(slopes, min(n_blocks, len(slopes)))])
    value = float(slopes.mean())
    error = float(blocks.std(ddof=1) / math.sqrt(len(blocks))) if len(blocks) > 1 else math.nan
    status, reason = (
        (Status.OK, "") if value > 0 else (Status.UNCONVERGED, "the slope of the mean squared displacement is not positive")
    )
    return Quantity(value, error, "cm^2/s", status, reason)


def diffusivity_upper_bound(msd_A2: float, lag_ps: float, reason: str) -> Quantity:
    """Upper bound MSD / (6 lag) of an immobile ion: what D would be if all of the displacement were diffusion."""
    value = msd_A2 / (6.0 * lag_ps) * CM2_PER_S_PER_A2_PER_PS
    return Quantity(value, math.nan, "cm^2/s", Status.UPPER_BOUND, reason)
