"""Intervals that cover what they say: conformal quantiles, and coverage measured on groups that were kept apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = {"68": 0.68, "95": 0.95}


def conformal_quantile(scores: NDArray[np.float64], level: float) -> float:
    """The ceil((n + 1) level)-th smallest score: covers a new exchangeable row with probability >= level; NaN does not count."""
    known = np.sort(scores[np.isfinite(scores)])
    return float(known[min(int(np.ceil((len(known) + 1) * level)), len(known)) - 1])


def grouped_coverage(scores: NDArray[np.float64], folds: NDArray[np.int64], level: float) -> NDArray[np.float64]:
    """Whether each row is covered when the quantile comes from the other folds.

    Args:
        scores: (n,) |error| over the predicted scale, out of fold; NaN is unknown.
        folds: (n,) fold of each row; groups are whole.
        level: of the interval.

    Returns:
        (n,) 1 where covered, 0 where not, NaN where the score is unknown.
    """
    covered = np.full(len(scores), np.nan)
    for fold in np.unique(folds):
        here = folds == fold
        covered[here] = scores[here] <= conformal_quantile(scores[~here], level)
    return np.where(np.isfinite(scores), covered, np.nan)
