"""Conformal quantiles cover what they say, also when groups are kept apart."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.predictors.conformal import conformal_quantile, grouped_coverage


def test_quantile_is_the_conservative_order_statistic() -> None:
    assert conformal_quantile(np.arange(1.0, 10.0), 0.68) == 7.0  # ceil(10 * 0.68)
    assert conformal_quantile(np.array([3.0, np.nan, 1.0]), 0.95) == 3.0


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_coverage_is_the_level_for_exchangeable_rows_and_lower_for_a_fold_that_differs(level: float) -> None:
    rng = np.random.default_rng(0)
    scores, folds = np.abs(rng.normal(size=20000)), rng.integers(0, 5, 20000)
    assert np.nanmean(grouped_coverage(scores, folds, level)) == pytest.approx(level, abs=0.01)
    shifted = scores * np.where(folds == 0, 3.0, 1.0)
    assert np.nanmean(grouped_coverage(shifted, folds, level)[folds == 0]) < level - 0.2
    scores[::10] = np.nan
    assert np.array_equal(np.isnan(grouped_coverage(scores, folds, level)), np.isnan(scores))
