"""How good the predictions of a property are: errors with intervals, ranking, coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.predictors.composition import Calibration, Target

RESAMPLES = 1000
ABOVE = 1e-3
"""A label this far above its floor is told from the floor."""


def truth(labels: NDArray[np.float64], target: Target) -> NDArray[np.float64]:
    """Labels cut at the target's floor (energies below the hull, the signed labels of stable phases, count as on it)."""
    return np.maximum(labels, target.floor)


def misses(mean: NDArray[np.float64], true: NDArray[np.float64], target: Target) -> NDArray[np.float64]:
    """Half-width that an interval about ``mean``, cut at the floor, needs to hold ``true``."""
    return np.where(true <= target.floor, np.maximum(mean - target.floor, 0.0), np.abs(mean - true))


def score_target(
    rules: Calibration,
    target: Target,
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    labels: NDArray[np.float64],
    above: str = "",
    near: float = 0.0,
) -> dict[str, Any]:
    """Numbers of one target on the rows with a label.

    Args:
        rules: intervals. target: what was predicted.
        mean, deviation, labels: (n,) predictions and labels; NaN where there is no label.
        above: what a row above the floor is called; empty: the floor plays no part.
        near: ``auc_<near>`` tells rows at or below this from the others.

    Returns:
        n, MAE, R2 and their bootstrap intervals (95 %), the MAE of a constant, Spearman, coverage, width.
    """
    from scipy.stats import mannwhitneyu, spearmanr

    true = truth(labels, target)
    known = np.isfinite(true)
    mean, deviation, true = mean[known], deviation[known], true[known]
    scores = misses(mean, true, target) / deviation
    cut, unit = np.maximum(mean, target.floor), target.unit.replace("/", "_per_")
    result: dict[str, Any] = {
        "n": len(true),
        f"mae_{unit}": _mae(cut, true),
        f"mae_{unit}_ci95": _bootstrap(_mae, cut, true),
        f"mae_constant_{unit}": float(np.abs(true - np.median(true)).mean()),
        "r2": _r2(cut, true),
        "r2_ci95": _bootstrap(_r2, cut, true),
        "spearman": float(spearmanr(mean, true)[0]),
        "coverage_68": float((scores <= rules.scale_68[target.name]).mean()),
        "coverage_95": float((scores <= rules.scale_95[target.name]).mean()),
        f"median_half_width_68_{unit}": float(np.median(rules.scale_68[target.name] * deviation)),
    }
    if above:
        off, low = true > target.floor + ABOVE, true <= near
        result |= {f"n_{above}": int(off.sum()), f"spearman_{above}": float(spearmanr(mean[off], true[off])[0])}
        result[f"mae_{above}_{unit}"] = _mae(cut[off], true[off])
        if low.any() and not low.all():
            wins = mannwhitneyu(mean[~low], mean[low]).statistic
            result[f"auc_{near:g}"] = float(wins / (low.sum() * (~low).sum()))
    return {k: np.round(v, 5).tolist() for k, v in result.items()}


def _mae(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    return float(np.abs(predicted - true).mean())


def _r2(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    spread = float(((true - true.mean()) ** 2).sum())
    return 1.0 - float(((predicted - true) ** 2).sum()) / spread if spread > 0 else 0.0


def _bootstrap(statistic: Any, predicted: NDArray[np.float64], true: NDArray[np.float64]) -> list[float]:
    """95 % percentile interval over resampled rows."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(true), len(true)) for _ in range(RESAMPLES))
    return np.percentile([statistic(predicted[rows], true[rows]) for rows in draws], [2.5, 97.5]).tolist()
