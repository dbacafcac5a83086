"""The ratio of two rates: the published example, its symmetries, counts of zero, and how often the interval holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sse_diffusion.verification.metrics.rate_ratio import koopman, rate_ratio


def test_the_published_example() -> None:
    """Koopman (1984): 36/40 against 16/80 gives 2.94 to 7.15."""
    metric = rate_ratio(36, 40, 16, 80)
    assert metric.value == pytest.approx(4.5)
    assert metric.ci95 == pytest.approx((2.94, 7.15), abs=0.005)


@pytest.mark.parametrize("counts", [(5, 10, 1, 10), (24, 24, 12, 24), (48, 48, 1, 48), (24, 24, 24, 24)])
def test_turning_the_ratio_over_turns_the_interval_over(counts: tuple[int, int, int, int]) -> None:
    k1, n1, k2, n2 = counts
    low, high = koopman(k1, n1, k2, n2)
    assert koopman(k2, n2, k1, n1) == pytest.approx((1.0 / high, 1.0 / low), rel=1e-6)
    assert low < (k1 / n1) / (k2 / n2) < high


def test_without_a_hit_in_the_denominator_a_lower_bound_is_left() -> None:
    metric = rate_ratio(24, 24, 0, 24)
    assert metric.value is None and metric.ci95 is not None and "0/24" in metric.reason
    assert metric.ci95[0] > 5.0 and math.isinf(metric.ci95[1])
    assert koopman(0, 24, 24, 24)[1] == pytest.approx(1.0 / metric.ci95[0], rel=1e-6)
    assert koopman(0, 10, 0, 10) == (0.0, math.inf)
    assert rate_ratio(1, 2, 0, 0).reason == "nothing to count"


def test_the_interval_holds_the_truth_in_95_of_100_experiments() -> None:
    rng = np.random.default_rng(0)
    draws = zip(rng.binomial(48, 0.4, 400).tolist(), rng.binomial(48, 0.15, 400).tolist(), strict=True)
    held = [low <= 0.4 / 0.15 <= high for low, high in (koopman(a, 48, b, 48) for a, b in draws)]
    assert 0.92 <= np.mean(held) <= 0.98
