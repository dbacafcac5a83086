"""The whole chain with a toy engine."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.results import Status
from sse_diffusion.verification.dynamics.guards import GuardConfig
from sse_diffusion.verification.dynamics.trajectory import Trajectory
from sse_diffusion.verification.transport.paths import IonPaths
from sse_diffusion.verification.transport.study import TransportConfig, _collect, run_transport, state_point


def test_from_dynamics_to_the_conductivity_at_300_K(tmp_path, cell, landscape, quick):
    config = TransportConfig(**quick, guards=GuardConfig(min_distance_A=0.0))
    seen = []
    result = run_transport(cell, "Li", landscape(0.15), config, tmp_path, seen.append)
    assert len(seen) == 3 and [p.temperature_K for p in result.points] == [1200.0, 800.0, 600.0]
    for point in result.points:
        assert point.tracer.value > 0 and point.conductivity.unit == "S/cm" and len(point.replicas) == 2
        expected = 8 / 16 * 2 / 27.0 * 1e24 * 1.602177e-19 / (8.617333e-5 * point.temperature_K) * point.tracer.value
        assert point.nernst_einstein.value == pytest.approx(expected, rel=1e-5)
    assert result.points[0].tracer.value > result.points[2].tracer.value
    sigma = result.nernst_einstein_target
    assert sigma.unit == "S/cm" and sigma.provenance["extrapolated"] and sigma.provenance["interval_95"][0] < sigma.value
    record = json.loads((tmp_path / "transport.json").read_text())
    assert record["tracer_fit"]["activation_energy_eV"]["value"] == pytest.approx(result.tracer_fit.activation_energy_eV.value)
    assert record["points"][0]["replicas"][0]["regime"]["hops"] > 0 and "draws_E_eV" not in record["tracer_fit"]

    again = landscape(0.15)
    repeated = run_transport(cell, "Li", again, config, tmp_path)
    assert again.calls == 0 and repeated.to_dict() == result.to_dict(), "a finished study is read"


def test_immobile_crystal_gives_upper_bounds(tmp_path, cell, landscape, quick):
    config = TransportConfig(**{**quick, "temperatures_K": (800.0, 600.0), "keep_ps": 2.0}, replicas=1)
    result = run_transport(cell, "Li", landscape(3.0), config, tmp_path)
    assert all(p.tracer.status is Status.UPPER_BOUND for p in result.points)
    assert result.tracer_fit.status is Status.FAILED
    sigma = result.nernst_einstein_target
    assert sigma.status is Status.UPPER_BOUND and "no jump" in sigma.reason and sigma.value > 0


def test_too_short_and_stopped_runs_fail_with_the_reason(tmp_path, cell, landscape, quick):
    config = TransportConfig(**{**quick, "keep_ps": 0.1}, replicas=1, guards=GuardConfig(min_distance_A=0.0))
    result = run_transport(cell, "Li", landscape(0.1), config, tmp_path)
    assert all(p.tracer.status is Status.FAILED and "were kept" in p.tracer.reason for p in result.points)
    assert result.nernst_einstein_target.status is Status.FAILED
    melts = TransportConfig(**quick, replicas=1, guards=GuardConfig(min_distance_A=2.5))
    stopped = run_transport(cell, "Li", landscape(0.1), melts, tmp_path)
    assert all(p.tracer.status is Status.FAILED and "of each other" in p.tracer.reason for p in stopped.points)


def test_bad_input_is_named(tmp_path, cell, landscape):
    with pytest.raises(ConfigError, match="distinct"):
        TransportConfig(temperatures_K=(600, 600))
    with pytest.raises(ConfigError, match="charge of Cl"):
        run_transport(cell, "Cl", landscape(0.1), TransportConfig(), tmp_path)
    with pytest.raises(DataError, match="no Na"):
        run_transport(cell, "Na", landscape(0.1), TransportConfig(), tmp_path)


def recorded(sigma_chlorine: float = 0.0, jump_from: int = 0) -> Trajectory:
    """Eight lithium ions that walk with 0.1 A^2 per ps from frame ``jump_from`` on, among eight chlorine that may drift."""
    rng, frames = np.random.default_rng(0), 400
    walk = np.zeros((frames, 16, 3))
    walk[jump_from:, :8] = np.cumsum(0.45 * rng.normal(size=(frames - jump_from, 8, 3)), axis=0)
    walk[:, 8:] = 0.05 * rng.normal(size=(frames, 8, 3))
    walk += np.cumsum(sigma_chlorine * rng.normal(size=(frames, 1, 3)), axis=0)
    flat = np.full(frames, 1.0) + 0.01 * rng.normal(size=frames)
    return Trajectory(
        np.array(["Li"] * 8 + ["Cl"] * 8), np.array([6.9] * 8 + [35.5] * 8), 1.0, 800.0, walk.astype(np.float32),
        np.zeros_like(walk, dtype=np.float32), np.tile(np.eye(3) * 6.0, (frames, 1, 1)), flat, 800 * flat, flat, 1.0, "", {},
    )  # fmt: skip


def test_drift_of_the_framework_and_the_dropped_part_do_not_count():
    still, drifting, late = recorded(), recorded(3.0), recorded(jump_from=200)
    quiet, moved = (IonPaths.of(run, "Li").positions_A for run in (still, drifting))
    np.testing.assert_allclose(moved, quiet, atol=1e-3)
    assert np.ptp(moved.sum(axis=1), axis=0).min() > 5.0, "what the ions do together is no drift"
    assert IonPaths.of(late, "Li", drop_ps=200.0).duration_ps == 199.0
    config = TransportConfig(drop_ps=200.0, keep_ps=199.0)
    after, whole = (state_point([late], "Li", 1, replace(config, drop_ps=drop)).tracer for drop in (200.0, 0.0))
    assert after.value == pytest.approx(1e-5, rel=0.35) and after.value > 1.3 * whole.value


def test_collective_conductivity_is_that_of_the_sum():
    """All ions make the same moves: D_J = 8 D, so the Haven ratio is 1/8 and sigma eight times Nernst and Einstein's."""
    run = recorded()
    run.positions_A[:, :8] = run.positions_A[:, :1]
    point = state_point([run], "Li", 1, TransportConfig(drop_ps=0.0))
    assert 4.0 < point.conductivity.value / point.nernst_einstein.value < 16.0
    low, high = point.haven.provenance["interval_95"]
    assert low < 1 / 8 < high < 0.5


def test_a_run_that_drifts_is_not_believed():
    run = recorded()
    drifting = replace(run, potential_eV=run.potential_eV + np.linspace(0.0, 5.0, 400))
    config = TransportConfig(drop_ps=0.0)
    assert "drifts" not in state_point([run], "Li", 1, config).tracer.reason
    tracer = state_point([drifting], "Li", 1, config).tracer
    assert tracer.status is Status.UNCONVERGED and "energy still drifts" in tracer.reason


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_ions_are_as_dense_as_at_the_lowest_temperature(order):
    """An expanding crystal: what is extrapolated to room temperature is counted per volume of the coldest run."""
    config = TransportConfig(drop_ps=0.0)
    hot = recorded()
    cold = replace(hot, target_K=400.0, cells_A=hot.cells_A * 0.9)
    points = [state_point([run], "Li", 1, config) for run in (hot, cold)]
    result = _collect("Li", 16, [points[k] for k in order], 1, config, {})
    expected = result.tracer_fit.conductivity(300.0, 8 / (0.9 * 6.0) ** 3, 1)
    assert result.nernst_einstein_target.value == pytest.approx(expected.value, rel=1e-9)


def test_a_temperature_is_the_same_however_it_is_typed(tmp_path, cell, landscape, quick):
    typed = [TransportConfig(**{**quick, "temperatures_K": t, "keep_ps": 0.1}, replicas=1) for t in ((800, 600), (800.0, 600.0))]
    engine = landscape(0.1)
    run_transport(cell, "Li", engine, typed[0], tmp_path)
    first = engine.calls
    run_transport(cell, "Li", engine, typed[1], tmp_path)
    assert first > 0 and engine.calls == first
