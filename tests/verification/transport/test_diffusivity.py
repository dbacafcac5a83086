"""Diffusivities against walks of known D: value, error bar, and what is no diffusion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sse_diffusion.core.results import Status
from sse_diffusion.testing.walkers import CORRELATION_FACTORS, brownian, vacancy_lattice_gas
from sse_diffusion.verification.transport.conductivity import haven_ratio
from sse_diffusion.verification.transport.diffusivity import diffusivity, fit_line, interval, log_moments, msd_covariance
from sse_diffusion.verification.transport.paths import IonPaths, mean_squared_displacement
from sse_diffusion.verification.transport.regime import RegimeConfig, diffusive_regime

D = 0.1
"""A^2/ps."""


def paths(walks: np.ndarray) -> IonPaths:
    """One frame per ps."""
    return IonPaths(walks, 1.0, 1000.0, 800.0)


def measured(walks: np.ndarray, collective: bool = False):
    one = paths(walks)
    regime = diffusive_regime(one, RegimeConfig(hop_smoothing_ps=1.0))
    return diffusivity(one.collective if collective else one, regime)


def covered(values, true: float) -> float:
    inside = [q.provenance["interval_95"][0] < true * 1e-4 < q.provenance["interval_95"][1] for q in values]
    return sum(inside) / len(inside)


def test_covariance_of_the_msd_is_that_of_simulated_walks():
    rng = np.random.default_rng(0)
    lags, frames, walkers = np.array([1, 3, 10, 25]), 60, 60_000
    walks = np.cumsum(rng.normal(size=(frames, walkers, 1)) * 0.7, axis=0) + 0.5 * rng.normal(size=(frames, walkers, 1))
    each = np.array([np.square(walks[lag:] - walks[:-lag])[..., 0].mean(axis=0) for lag in lags])
    expected = msd_covariance(lags, frames, 0.49, 0.25)
    np.testing.assert_allclose(np.cov(each), expected, rtol=0.04)


@pytest.mark.parametrize(("ions", "vibration", "collective"), [(24, 0.0, False), (24, 0.6, False), (24, 0.0, True)])
def test_random_walks_of_known_diffusivity(ions, vibration, collective):
    """The full test with its numbers is benchmarks/transport.py."""
    found = [measured(brownian(np.random.default_rng(k), 300, ions, D, vibration), collective) for k in range(12)]
    values = np.array([q.value for q in found]) * 1e4
    scatter = values.std(ddof=1) / np.sqrt(12)
    assert abs(values.mean() - D) < 3 * scatter and scatter < 0.1 * D
    assert np.mean([q.uncertainty for q in found]) * 1e4 == pytest.approx(values.std(ddof=1), rel=0.6)
    assert covered(found, D) >= 10 / 12


@pytest.mark.slow
@pytest.mark.parametrize(("vibration", "memory"), [(0.5, 0.8), (0.8, 0.6)])
def test_rattling_that_the_line_has_not_left_behind_is_inside_the_error(vibration, memory):
    """Cages that relax over several frames bend the curve where it is most precise; a line alone covers 31 of 40 and fewer."""
    found = [measured(brownian(np.random.default_rng(k), 500, 24, D, vibration, memory=memory)) for k in range(40)]
    assert np.mean([q.value for q in found]) * 1e4 == pytest.approx(D, rel=0.03)
    assert covered(found, D) >= 36 / 40


def test_a_collective_path_does_not_choose_its_begin():
    """Mirrored ions have the same curve each, and another sum: where the line begins must not depend on what the sum did."""
    walk = brownian(np.random.default_rng(0), 300, 24, D)
    signs = [np.random.default_rng(k).choice([-1.0, 1.0], 24)[:, None] for k in range(16)]
    assert len({measured(walk * sign, collective=True).provenance["start_ps"] for sign in signs}) == 1


def test_a_collective_line_begins_where_the_ions_move_on_a_line():
    slopes = []
    for k in range(12):
        walk = brownian(np.random.default_rng(k), 500, 24, D, 0.5, memory=0.8)
        start = measured(walk, collective=True).provenance["start_ps"]
        slopes.append(fit_line(walk, 1.0, round(start), 250).slope_A2_per_ps / 6)
    assert np.mean(slopes) == pytest.approx(D, rel=0.045), "8 % high where the cage is still seen"


def test_few_jumps_and_short_paths_are_not_precise():
    walk = paths(brownian(np.random.default_rng(1), 400, 24, D))
    regime = diffusive_regime(walk, RegimeConfig(hop_smoothing_ps=1.0))
    nine = diffusivity(walk, replace(regime, hops=9))
    assert nine.uncertainty == pytest.approx(nine.value / 3), "their number alone is known to one in three"
    lonely = measured(brownian(np.random.default_rng(1), 60, 1, D))
    assert lonely.status is Status.UNCONVERGED and "too few independent displacements" in lonely.reason


def test_ions_that_move_together_have_a_haven_ratio_and_a_wider_error():
    rng = np.random.default_rng(3)
    alone, groups = brownian(rng, 600, 24, D), brownian(rng, 600, 24, D, together=4)
    assert measured(groups).uncertainty == pytest.approx(2.0 * measured(alone).uncertainty, rel=0.35)
    haven = haven_ratio(measured(groups), measured(groups, collective=True))
    assert haven.provenance["interval_95"][0] < 0.25 < haven.provenance["interval_95"][1] < 0.8


def test_motion_in_one_direction_has_three_times_the_variance():
    walk = brownian(np.random.default_rng(0), 500, 24, D)
    line = walk * np.array([np.sqrt(3.0), 0, 0])
    assert measured(line).uncertainty == pytest.approx(np.sqrt(3) * measured(walk).uncertainty, rel=0.25)


def test_vibration_is_an_upper_bound_and_not_a_diffusivity():
    rng = np.random.default_rng(0)
    still = measured(0.25 * rng.normal(size=(300, 20, 3)))
    assert still.status is Status.UPPER_BOUND and "0 jumps" in still.reason and 0 < still.value < 1e-6
    # a tenfold longer look at nothing gives a tenfold lower bound
    longer = measured(0.25 * rng.normal(size=(3000, 20, 3)))
    assert longer.value == pytest.approx(still.value / 10, rel=0.2)
    rattling = 0.2 * rng.normal(size=(300, 20, 3))
    rattling[..., 0] += 3.0 * (rng.random((300 // 10, 20)) < 0.5).repeat(10, axis=0)
    caged = measured(rattling)
    assert caged.status is Status.UPPER_BOUND and "flat" in caged.reason


def test_no_jump_bounds_the_rate_by_three_jumps():
    """-ln 0.05 = 3.0 jumps of 2 A among 20 ions in 299 ps; a stiff crystal's own MSD is below that."""
    still = measured(0.02 * np.random.default_rng(0).normal(size=(300, 20, 3)))
    assert still.value == pytest.approx(-np.log(0.05) * 2.0**2 / (6 * 20 * 299) * 1e-4, rel=1e-3)


def test_upper_bound_holds_for_ions_that_jump_rarely():
    """Of walks so slow that most show no jump, at most 5 % may lie above their bound."""
    above, rate, ions, frames = 0, 1.0 / 3000, 10, 300
    for k in range(60):
        rng = np.random.default_rng(k)
        jumped = rng.random((frames, ions, 1)) < rate
        direction = rng.normal(size=(frames, ions, 3))
        walk = np.cumsum(2.5 * jumped * direction / np.linalg.norm(direction, axis=2, keepdims=True), axis=0)
        q = measured(walk + 0.1 * rng.normal(size=walk.shape))
        if q.status is Status.UPPER_BOUND:
            above += rate * 2.5**2 / 6.0 * 1e-4 > q.value
    assert above <= 6


def test_a_few_jumps_give_a_large_error():
    """Sixteen jumps at random times: no smaller than 1 / sqrt(n), whatever the windows fluctuate by."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        jumped = rng.random((1000, 24, 1)) < 16 / 24_000
        direction = rng.normal(size=(1000, 24, 3))
        direction /= np.linalg.norm(direction, axis=2, keepdims=True)
        q = measured(np.cumsum(3.0 * jumped * direction, axis=0) + 0.1 * rng.normal(size=(1000, 24, 3)))
        if q.status is not Status.UPPER_BOUND:
            assert 4 < q.provenance["hops"] < 40 and q.uncertainty >= 0.999 * q.value / np.sqrt(q.provenance["hops"])


def test_slope_window_of_the_line():
    """A caged start (fast to and fro below 20 frames) must not count: the line begins where one hop is reached."""
    rng = np.random.default_rng(0)
    cage = np.zeros((4000, 30, 3))
    for t in range(1, 4000):
        cage[t] = 0.9 * cage[t - 1] + 0.3 * rng.normal(size=(30, 3))
    walk = brownian(rng, 4000, 30, 0.01) + cage
    q = measured(walk)
    assert abs(q.value * 1e4 - 0.01) < 3 * q.uncertainty * 1e4 and q.provenance["start_ps"] > 20
    free = fit_line(walk, 1.0, 1, 20)
    assert free.slope_A2_per_ps / 6 > 0.02, "the start alone would give more than twice the diffusivity"


def test_lattice_gas_tracer_correlation():
    """Small version of the benchmark: simple cubic, 2 %."""
    walks, uncorrelated = vacancy_lattice_gas(np.random.default_rng(0), "sc", 6, 60, 16)
    found = measured(walks.astype(float))
    assert found.value * 1e4 / uncorrelated == pytest.approx(CORRELATION_FACTORS["sc"], rel=0.03)


def test_interval_and_logarithm_follow_chi2():
    rng = np.random.default_rng(0)
    nu = 12.0
    estimates = 2.0 * rng.chisquare(nu, 4000) / nu
    hit = [low < 2.0 < high for low, high in (interval(e, e * np.sqrt(2 / nu)) for e in estimates[:1000])]
    assert np.mean(hit) == pytest.approx(0.95, abs=0.02)
    mean, sd = log_moments(1.0, np.sqrt(2 / nu))
    logs = np.log(estimates / 2.0)
    assert (logs + mean).mean() == pytest.approx(0.0, abs=0.02) and logs.std() == pytest.approx(sd, rel=0.05)


def test_kinisi_agrees_on_the_tracer():
    pytest.importorskip("kinisi")
    from sse_diffusion.verification.transport.kinisi_fit import diffusivity_by_kinisi

    one = paths(brownian(np.random.default_rng(2), 200, 24, D))
    regime = diffusive_regime(one, RegimeConfig(hop_smoothing_ps=1.0))
    before = np.random.get_state()[1].copy()
    theirs, ours = diffusivity_by_kinisi(one, regime, n_lags=30), diffusivity(one, regime)
    assert np.array_equal(before, np.random.get_state()[1]), "the global random stream must stay as it was"
    assert abs(theirs.value - ours.value) < 1.5 * (theirs.uncertainty + ours.uncertainty)
    assert theirs.uncertainty == pytest.approx(ours.uncertainty, rel=0.7)


def test_mean_squared_displacement_is_exact_for_a_straight_line():
    line = np.arange(10.0)[:, None, None] * np.ones((1, 2, 3))
    np.testing.assert_allclose(mean_squared_displacement(line, np.array([1, 4])), [3.0, 48.0])


@pytest.mark.parametrize(("exponent", "status"), [(0.45, "subdiffusive"), (1.0, "diffusive")])
def test_ions_that_move_in_cages_of_cages_are_no_diffusion_yet(exponent, status):
    """Fractional Brownian motion, whose mean squared displacement is a power of time."""
    t = np.arange(1.0, 301.0)
    covariance = 0.5 * (t[:, None] ** exponent + t**exponent - np.abs(t[:, None] - t) ** exponent)
    walk = 1.5 * np.einsum("ts,sic->tic", np.linalg.cholesky(covariance), np.random.default_rng(0).normal(size=(300, 40, 3)))
    regime = diffusive_regime(paths(walk), RegimeConfig(hop_smoothing_ps=1.0))
    assert regime.hops > 100 and regime.exponent == pytest.approx(exponent, abs=0.12) and regime.status == status
    found = diffusivity(paths(walk), regime)
    assert (found.status is Status.UNCONVERGED and "too short" in found.reason) == (status == "subdiffusive")
