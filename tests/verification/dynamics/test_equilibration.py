"""Statistical inefficiency and the drift check."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.verification.dynamics.equilibration import check_equilibration, statistical_inefficiency


def autoregressive(rng: np.random.Generator, frames: int, keep: float) -> np.ndarray:
    noise, series = rng.normal(size=frames), np.zeros(frames)
    for t in range(1, frames):
        series[t] = keep * series[t - 1] + noise[t]
    return series


def test_statistical_inefficiency_of_known_series():
    """g = (1 + keep) / (1 - keep) of a first-order autoregressive series."""
    rng = np.random.default_rng(0)
    for keep in (0.0, 0.5, 0.9):
        values = [statistical_inefficiency(autoregressive(rng, 4000, keep)) for _ in range(8)]
        assert np.mean(values) == pytest.approx((1 + keep) / (1 - keep), rel=0.2)
    assert statistical_inefficiency(np.full(100, 3.0)) == 1.0


def test_settled_runs_pass_and_drifting_ones_do_not():
    passed = sum(check_equilibration(autoregressive(np.random.default_rng(k), 1000, 0.8), 0.02).settled for k in range(50))
    assert passed >= 48
    series = autoregressive(np.random.default_rng(0), 1000, 0.8)
    relaxing = series + 20.0 * np.exp(-np.arange(1000) / 150)
    found = check_equilibration(relaxing, 0.02)
    assert not found.settled and found.z > 3 and found.drift_per_ps < 0
    assert not check_equilibration(-relaxing, 0.02).settled, "nor when it rises"
    assert not check_equilibration(series[:10], 0.02).settled
    for constant in (2.0, 0.1, 216.0 * (1 + 1e-15)):  # sums of equal numbers differ by rounding
        assert check_equilibration(np.full(399, constant), 0.02).settled
    assert not check_equilibration(np.where(np.arange(100) < 20, 1.0, 2.0), 0.02).settled
