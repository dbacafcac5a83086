"""Intervals: known values, coverage, and what happens without data."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.verification.metrics.rates import Metric, bootstrap_mean, wilson


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(5, 120, 0.0179, 0.0939), (0, 63, 0.0, 0.0575), (10, 10, 0.7225, 1.0), (40, 80, 0.3930, 0.6070)]
)
def test_wilson_gives_published_values(k: int, n: int, low: float, high: float) -> None:
    """5/120 is the interval quoted for a peer (1.5-9.5 % by another formula lies within half a per cent)."""
    assert wilson(k, n) == pytest.approx((low, high), abs=2e-4)


def test_wilson_equals_the_score_test() -> None:
    """The ends are the rates p at which |k/n - p| is 1.96 standard errors of p itself: the definition."""
    for k, n in [(1, 9), (17, 40), (390, 1000)]:
        for p in wilson(k, n):
            assert abs(k / n - p) / np.sqrt(p * (1 - p) / n) == pytest.approx(1.959964, rel=1e-6)


def test_wilson_holds_the_truth_19_times_in_20() -> None:
    hits = np.random.default_rng(0).binomial(50, 0.15, 2000)
    inside = [low <= 0.15 <= high for low, high in (wilson(int(k), 50) for k in hits)]
    assert 0.92 < np.mean(inside) < 0.98


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, high = bootstrap_mean(values)
    assert low < values.mean() < high
    assert (high - low) / (2 * 1.96 * values.std() / 20) == pytest.approx(1.0, abs=0.1)


def test_bootstrap_is_reproducible_and_seeded() -> None:
    values = np.random.default_rng(2).exponential(1.0, 30)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_bootstrap_resamples_n_times() -> None:
    """Two resamples of {0, 1} can only give means at multiples of 1/2; a percentile lies between the two."""
    assert bootstrap_mean([5.0, 5.0, 5.0], n=250) == (5.0, 5.0)
    with pytest.raises(ValueError, match="no value"):
        bootstrap_mean([])


def test_rate_carries_its_counts() -> None:
    metric = Metric.rate(3, 12)
    assert (metric.value, metric.k, metric.n, metric.reason) == (0.25, 3, 12, "")
    assert metric.ci95 == wilson(3, 12)


@pytest.mark.parametrize(("k", "n"), [(5, 4), (-1, 3)])
def test_impossible_rate_is_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="no rate"):
        Metric.rate(k, n)


def test_mean_ignores_what_did_not_match() -> None:
    metric = Metric.mean([0.1, np.nan, 0.3, np.inf])
    assert metric.value == pytest.approx(0.2) and metric.n == 2 and metric.k is None
    assert metric.ci95 is not None and 0.1 <= metric.ci95[0] <= 0.2 <= metric.ci95[1] <= 0.3


def test_mean_of_one_has_no_interval() -> None:
    assert Metric.mean([0.4]) == Metric(0.4, None, None, 1)


@pytest.mark.parametrize("metric", [Metric.rate(0, 0), Metric.mean([]), Metric.mean([np.nan]), Metric.missing("why")])
def test_missing_numbers_say_why(metric: Metric) -> None:
    assert metric.value is None and metric.ci95 is None and metric.reason
