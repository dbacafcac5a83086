"""Budgets: times and energies in words, costs from measurements, what fits by rank and why the rest does not."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.verification.budget import Budget, BudgetConfig, parse_limit, words
from sse_diffusion.verification.funnel import FunnelConfig, build_stages, run_funnel
from sse_diffusion.verification.stage import FunnelContext, Member
from sse_diffusion.verification.verify import engine_and_hull

LJ = {"name": "ase", "calculator": "ase.calculators.lj:LennardJones", "kwargs": {"sigma": 2.3, "epsilon": 0.05, "rc": 6.0}}


def crystal(a: float, cells: int = 1) -> Structure:
    """Rock-salt LiCl, primitive, or a row of such cells."""
    made = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Li", "Cl"], [[0, 0, 0], [0.5] * 3]).get_primitive_structure()
    return made.make_supercell([cells, 1, 1], in_place=False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("90min", 5400),
        ("1h 30min", 5400),
        ("1h30min", 5400),
        (45, 45),
        ("45", 45),
        ("1d", 86400),
        ("0.13kWh", 7200),
        (None, math.inf),
    ],
)
def test_times_and_energies(text, seconds):
    assert parse_limit(text, 65.0) == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "watts"), [("soon", None), ("2 weeks", None), ("1kWh", None), ("h2", None), ("", None)])
def test_what_is_no_budget(text, watts):
    with pytest.raises(ConfigError, match="budget="):
        parse_limit(text, watts)


def run(folder, candidates, limit=None, rate=1.0, **settings):
    """A two-step relaxation with a budget; all rank alike, so the order given counts. Returns report and budget."""
    stages = {"relax": {"rank_by": "space_group_found", "protocol": {"max_steps": 2, "max_seconds": 1e9}, **settings}}
    built = build_stages(FunnelConfig(order=("structure", "relax"), stages=stages))
    budget = Budget(BudgetConfig(limit=limit, watts=50.0, seconds_per_atom_step={"default": rate}))
    context = FunnelContext(out_dir=folder, **engine_and_hull(LJ, "chgnet-0.3.0"))
    return run_funnel(candidates, built, context, budget=budget), budget


CANDIDATES = [
    Candidate("large", crystal(5.0, 20)),
    Candidate("best", crystal(4.9)),
    Candidate("wide", crystal(6.0)),
    Candidate("last", crystal(5.5)),
]


def test_what_fits_is_taken_by_rank_and_the_rest_says_why(tmp_path):
    # 1 s per atom and step, 10 atoms of overhead, 2 steps: large costs 100 s, the others 24 s each
    report, budget = run(tmp_path, CANDIDATES, limit=60.0)
    assert {m.id: m.stopped_at for m in report.members} == {"large": "relax", "best": "", "wide": "", "last": "relax"}
    large, *_, last = [m.reason for m in report.members]
    assert "left out by the budget of 60 s: it would take about 2 min, 6" in large
    assert "24 s, 12 s are left after better-ranked ones" in last and budget.left_out == {"large": large, "last": last}
    assert sum(budget.estimate.values()) == pytest.approx(172, abs=1), "all of them, beforehand"
    record = budget.report()
    assert record["estimated_energy_Wh"] == pytest.approx(172 * 50 / 3600, rel=0.01) and record["computing_s"]["relax"] > 0
    json.dumps(record)


def test_more_time_goes_on_where_the_last_call_stopped(tmp_path):
    run(tmp_path, CANDIDATES, limit=60.0)
    stamp = (tmp_path / "stages" / "relax" / "best.json").stat().st_mtime_ns
    report, _ = run(tmp_path, CANDIDATES, limit=3600.0)
    assert all(m.alive for m in report.members)
    assert (tmp_path / "stages" / "relax" / "best.json").stat().st_mtime_ns == stamp, "what is there costs nothing"
    less, budget = run(tmp_path, CANDIDATES, limit=0.5)
    record = budget.report()
    assert record["computing_before_s"]["relax"] > 0 and "relax" not in record["computing_s"], "what it did cost is not forgotten"
    assert all("relax" in m.results for m in less.members), "nor is it thrown away for a small budget"


def test_measured_rates_replace_the_table(tmp_path):
    few = [Candidate(f"c{k}", crystal(4.8 + 0.1 * k)) for k in range(4)]
    _, budget = run(tmp_path, few, rate=1000.0)
    stages = build_stages(FunnelConfig(order=("relax",), stages={"relax": {"protocol": {"max_steps": 2}}}))
    member = Member(few[0], few[0].structure)
    cost = budget.cost(stages[0], member, FunnelContext(out_dir=tmp_path))
    assert cost < 60, "the table said 4000 s"


def test_the_cap_of_a_protocol_bounds_the_estimate(tmp_path):
    stage = build_stages(FunnelConfig(order=("relax",), stages={"relax": {"protocol": {"max_seconds": 7.0}}}))[0]
    budget = Budget(BudgetConfig(seconds_per_atom_step={"default": 1e6}))
    assert budget.cost(stage, Member(CANDIDATES[0], CANDIDATES[0].structure), FunnelContext(out_dir=tmp_path)) == 7.0


def test_words():
    assert [words(s) for s in (45, 600, 9000)] == ["45 s", "10 min", "2.5 h"]


def stage(name: str, steps: float, max_candidates: int | None = None):
    """A stage that takes so many seconds at one second per atom and step."""
    config = SimpleNamespace(max_candidates=max_candidates, protocol={})
    return SimpleNamespace(name=name, config=config, atom_steps=lambda member, context: steps)


def fits(limit: float, count: int, later=(), done=(), workers: int = 1) -> list[int]:
    """Which of so many candidates of 10 s each a budget has room for."""
    budget = Budget(BudgetConfig(limit=limit, seconds_per_atom_step={"default": 1.0}), workers=workers)
    members = [SimpleNamespace(id=k) for k in range(count)]
    out = budget.too_dear(stage("relax", 10.0), later, members, done, None)
    return [k for k in range(count) if k not in out]


def test_what_lies_ahead_is_counted_for_those_that_get_there():
    assert fits(61.0, 3) == [0, 1, 2]
    assert fits(61.0, 3, [stage("md", 30.0)]) == [0]
    assert fits(61.0, 4, [stage("md", 30.0, max_candidates=1)]) == [0, 1, 2], "the dynamics are of the first alone"


def test_what_is_done_costs_nothing_and_workers_share():
    assert fits(15.0, 3) == [0] and fits(15.0, 3, done=[0, 1]) == [0, 1, 2]
    assert fits(16.0, 3, workers=2) == [0, 1, 2] and fits(25.0, 9, workers=8) == list(range(9))
    assert fits(6.0, 1, workers=8) == [], "one candidate is not computed by eight"


def test_three_measurements_are_believed_and_two_are_not():
    budget, relax = Budget(BudgetConfig(seconds_per_atom_step={"default": 1.0})), stage("relax", 10.0)
    costs = []
    for seconds in (100.0, 300.0, 200.0):
        budget.learn(relax, None, None, SimpleNamespace(seconds=seconds), True)
        costs.append(budget.cost(relax, None, None))
    assert costs == [10.0, 10.0, 200.0] and budget.cost(stage("md", 20.0), None, None) == 400.0, "known from elsewhere"


def test_the_forecast_counts_the_dearest_that_may_enter():
    budget = Budget(BudgetConfig(seconds_per_atom_step={"default": 1.0}))
    by_size = SimpleNamespace(**{**vars(stage("md", 0.0, max_candidates=2)), "atom_steps": lambda member, context: member})
    budget.forecast([by_size, stage("relax", 5.0)], [10.0, 30.0, 20.0], None)
    assert budget.estimate == {"md": 50.0, "relax": 15.0}
