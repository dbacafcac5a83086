"""The whole chain with a toy engine."""

from __future__ import annotations

import json

import pytest

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.results import Status
from sse_diffusion.verification.dynamics.guards import GuardConfig
from sse_diffusion.verification.transport.study import TransportConfig, run_transport


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
