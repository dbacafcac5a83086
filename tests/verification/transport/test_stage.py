"""The transport stage of the funnel."""

from __future__ import annotations

import json

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.config import build
from sse_diffusion.verification.dynamics.guards import GuardConfig
from sse_diffusion.verification.funnel import FunnelConfig, build_stages, run_funnel
from sse_diffusion.verification.stage import FunnelContext
from sse_diffusion.verification.stages import dynamics
from sse_diffusion.verification.transport.study import TransportConfig, run_transport


def funnel(tmp_path, cell, quick, engine, **settings):
    protocol = {**quick, "temperatures_K": [1200, 700], "keep_ps": 2.0, "guards": {"min_distance_A": 0.0}}
    config = build(FunnelConfig, {"order": ["transport"], "stages": {"transport": {"protocol": protocol, **settings}}})
    context = FunnelContext(tmp_path, mobile_ion="Li", potential_loader=lambda: engine, engine_id="toy")
    (stage,) = build_stages(config)
    return stage, run_funnel([Candidate(id="a", structure=cell)], [stage], context).members[0], context


def test_stage_records_the_conductivity_and_is_read_back(tmp_path, cell, landscape, quick):
    engine = landscape(0.15)
    stage, member, context = funnel(tmp_path, cell, quick, engine)
    values = member.values
    assert member.alive and values["transport_sigma_status"] in ("ok", "unconverged") and values["transport_target_K"] == 300
    assert values["transport_sigma_low_S_per_cm"] < values["transport_sigma_S_per_cm"] < values["transport_sigma_high_S_per_cm"]
    assert stage.atom_steps(member, context) == 16 * 2 * 2 * 550 and engine.calls == 2 * 551
    assert json.loads((tmp_path / "transport" / "a" / "transport.json").read_text())["ion"] == "Li"
    again = landscape(0.15)
    assert funnel(tmp_path, cell, quick, again)[1].values == values and again.calls == 0


def test_a_slow_crystal_is_stopped_when_the_stage_is_a_gate(tmp_path, cell, landscape, quick):
    _, member, _ = funnel(tmp_path, cell, quick, landscape(3.0), min_conductivity_S_per_cm=100.0)
    assert not member.alive and "not above 100 S/cm" in member.reason and member.values["transport_sigma_status"] == "upper_bound"


def test_a_gate_stops_what_is_surely_too_slow(tmp_path, cell, landscape, quick, monkeypatch):
    protocol = TransportConfig(**{**quick, "temperatures_K": (1200, 700)}, guards=GuardConfig(min_distance_A=0.0))
    study = run_transport(cell, "Li", landscape(0.15), protocol, tmp_path)
    monkeypatch.setattr(dynamics, "run_transport", lambda *_: study)  # the same study, asked three times
    values = funnel(tmp_path, cell, quick, landscape(0.15))[1].values
    low, high = (values[f"transport_sigma_{end}_S_per_cm"] for end in ("low", "high"))
    for least, passes in ((0.5 * (low + high), True), (1.01 * high, False)):
        member = funnel(tmp_path, cell, quick, landscape(0.15), min_conductivity_S_per_cm=least)[1]
        assert member.alive is passes
