"""The funnel: nothing lost, everything resumable, one bad candidate ends nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from omegaconf import OmegaConf
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError, EngineError, OutputError
from sse_diffusion.core.results import Quantity
from sse_diffusion.thermo.chemistry import Chemistry
from sse_diffusion.thermo.hull import ReferenceHull, ReferencePhase
from sse_diffusion.verification.funnel import FunnelConfig, build_stages, run_funnel
from sse_diffusion.verification.funnel_records import COLUMNS, candidate_row, funnel_counts
from sse_diffusion.verification.novelty import KnownIndex
from sse_diffusion.verification.potential import Evaluation, PotentialInfo
from sse_diffusion.verification.stage import BaseStage, FunnelContext, StageConfig, StageOutcome
from sse_diffusion.verification.stages.predict import CONDUCTIVITY

SCHEME = "toy"


def crystal(symbols=("Li", "Cl"), a=5.13, group="Fm-3m", second=0.5) -> Structure:
    return Structure.from_spacegroup(group, Lattice.cubic(a), list(symbols), [[0, 0, 0], [second] * 3]).get_primitive_structure()


class LJEngine:
    """Lennard-Jones behind the Potential contract; knows Li, Na, Cl, Br; counts evaluations; fails on one composition."""

    info = PotentialInfo("LJ", "1", "MIT", "toy", SCHEME, frozenset({"Li", "Na", "Cl", "Br", "He"}), "linear")

    def __init__(self, poison: str = "") -> None:
        self.poison, self.calls = poison, 0

    def evaluate(self, atoms):
        results = []
        for one in atoms:
            self.calls += 1
            if self.poison and self.poison in one.get_chemical_symbols():
                raise RuntimeError("poisoned")
            one.calc = self.calculator()
            results.append(Evaluation(one.get_potential_energy(), one.get_forces(), one.get_stress(voigt=False)))
        return results

    def calculator(self):
        return LennardJones(sigma=2.3, epsilon=0.05, rc=6.0, smooth=True)


def toy_hull() -> ReferenceHull:
    return ReferenceHull([ReferencePhase(s, 0.0, 20.0, "computed", SCHEME) for s in ("Li", "Na", "Cl2", "Br2")])


class Predictor:
    def __init__(self):
        self.calls = 0

    def predict_e_hull(self, structures):
        self.calls += 1
        return [Quantity(0.01 * len(s), 0.01, "eV/atom") for s in structures]


CANDIDATES = [
    Candidate("good", crystal(), 225),
    Candidate("twin", crystal(a=5.2), 225),
    Candidate("salt", crystal(("Na", "Cl"), 5.6), 225),
    Candidate("cscl-type", Structure(Lattice.cubic(3.2), ["Li", "Cl"], [[0, 0, 0], [0.5] * 3]), 221),
    Candidate("bromide", crystal(("Li", "Br"), 5.5), 225),
    Candidate("helium", crystal(("Li", "He"), 5.0), 225),
    Candidate("collapsed", Structure(Lattice.cubic(5), ["Li", "Cl"], [[0, 0, 0], [0.01, 0, 0]]), 1),
    Candidate("huge", crystal(a=12.0), 225),
]
MD = {
    "temperature_K": 50.0, "drop_ps": 0.02, "keep_ps": 0.1, "min_keep_ps": 0.05, "gate_lag_ps": 0.05, "block_ps": 0.04,
    "min_atoms": 8, "max_atoms": 16, "hard_max_atoms": 32,
}  # fmt: skip
SETTINGS = {
    "composition": {"everyone": True},
    "constraints": {"everyone": True},
    "relax": {"max_candidates": 2, "rank_by": "static_e_above_hull_eV_per_atom", "protocol": {"max_steps": 5}},
    "md_gate": {"max_candidates": 1, "protocol": MD},
}
ORDER = ("structure", "composition", "constraints", "unique", "novel", "predict", "static", "relax", "hull", "md_gate")


def context(tmp_path, engine=None, **changes) -> FunnelContext:
    engine = engine or LJEngine()
    values = {
        "out_dir": tmp_path, "mobile_ion": "Li", "chemistry": Chemistry(require=frozenset({"Li"})),
        "potential_loader": lambda: engine, "engine_id": "lj", "hull_loader": toy_hull, "hull_id": "toy",
        "predictor_loader": Predictor, "predictor_id": "p",
        "known": KnownIndex.build([("LiBr", 225)]),
    }  # fmt: skip
    return FunnelContext(**{**values, **changes})


def run(tmp_path, engine=None, order=ORDER, settings=SETTINGS, candidates=CANDIDATES, **changes):
    stages = build_stages(FunnelConfig(order=order, stages=settings))
    return run_funnel(candidates, stages, context(tmp_path, engine, **changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("funnel")
    return folder, run(folder)


def test_everyone_ends_with_a_stage_and_a_reason(finished):
    report = finished[1]
    ends = {m.id: m.stopped_at for m in report.members}
    assert ends == {
        "good": "md_gate", "twin": "unique", "salt": "constraints", "cscl-type": "md_gate", "bromide": "novel",
        "helium": "composition", "collapsed": "structure", "huge": "structure",
    }  # fmt: skip
    assert all(m.reason for m in report.members)
    reasons = {m.id: m.reason for m in report.members}
    assert "good" in reasons["twin"] and "Li is absent" in reasons["salt"] and "A apart" in reasons["collapsed"]
    assert "volume" in reasons["huge"] and "LiBr in space group 225" in reasons["bromide"]


def test_rows_and_counts(finished):
    report = finished[1]
    rows = {m.id: candidate_row(m) for m in report.members}
    assert all(tuple(row) == COLUMNS for row in rows.values())
    assert rows["huge"]["structurally_valid"] == "true", "the field's definition passes it; our volume flag stops it"
    assert rows["twin"]["unique"] == "false" and rows["twin"]["relaxed"] == "" and rows["good"]["novel"] == "true"
    counts = funnel_counts(report)
    assert counts["sampled"] == 8 and counts["structurally_valid"] == 7 and counts["composition_valid"] == 7
    assert counts["constraint_violations"] == 1 and counts["novel"] == 2 and counts["md_gated"] == 1 and counts["md_mobile"] == 0


def test_one_result_file_per_candidate_and_stage(finished):
    folder, report = finished
    for member in report.members:
        for stage, result in member.results.items():
            record = json.loads((folder / "stages" / stage / f"{member.id}.json").read_text())
            assert record["seconds"] >= 0 and record["passed"] == result.passed and record["reason"] == result.reason


def test_second_run_computes_nothing(finished):
    folder, first = finished

    def forbidden():
        raise AssertionError("loaded again")

    again = run(folder, potential_loader=forbidden, hull_loader=forbidden, predictor_loader=forbidden)
    assert [candidate_row(m) for m in again.members] == [candidate_row(m) for m in first.members]


def test_killed_in_the_middle_then_resumed(tmp_path):
    class Dying(LJEngine):
        def evaluate(self, atoms):
            if self.calls == 1:
                raise KeyboardInterrupt
            return super().evaluate(atoms)

    order = ("structure", "static")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Dying(), order, {}, CANDIDATES[:4])
    engine = LJEngine()
    report = run(tmp_path, engine, order, {}, CANDIDATES[:4])
    assert engine.calls == 3 and all("static_energy_eV_per_atom" in m.values for m in report.members)


def test_half_written_result_is_computed_again(tmp_path):
    run(tmp_path, None, ("structure",), {}, CANDIDATES[:1])
    file = tmp_path / "stages" / "structure" / "good.json"
    file.write_text(file.read_text()[:40])
    assert run(tmp_path, None, ("structure",), {}, CANDIDATES[:1]).members[0].results["structure"].passed


def test_only_what_changed_is_computed_again(tmp_path):
    order = ("structure", "static")
    run(tmp_path, LJEngine(), order, {}, CANDIDATES[:3])
    engine = LJEngine()
    moved = [*CANDIDATES[:2], Candidate("salt", crystal(("Na", "Cl"), 5.7), 225)]
    run(tmp_path, engine, order, {}, moved)
    assert engine.calls == 1, "a changed structure"
    run(tmp_path, engine, order, {"static": {"max_candidates": 2}}, moved)
    assert engine.calls == 1, "a changed budget keeps results"
    run(tmp_path, engine, order, {"static": {"max_force_eV_per_A": 50.0}}, moved)
    assert engine.calls == 4, "a changed protocol does not"
    run(tmp_path, engine, order, {}, moved, engine_id="other")
    assert engine.calls == 7, "nor does another engine"


def test_one_failing_candidate_never_ends_the_run(tmp_path):
    report = run(tmp_path, LJEngine(poison="Na"), ("static",), {}, CANDIDATES[:3])
    by_id = {m.id: m for m in report.members}
    assert by_id["salt"].stopped_at == "static" and "poisoned" in by_id["salt"].reason
    assert by_id["good"].alive and by_id["twin"].alive


def test_missing_engine_is_one_error_and_keeps_results(tmp_path):
    def broken():
        raise EngineError("no weights", "install them")

    with pytest.raises(EngineError, match="no weights"):
        run(tmp_path, None, ("structure", "static"), {}, CANDIDATES[:2], potential_loader=broken)
    assert len(list((tmp_path / "stages" / "structure").glob("*.json"))) == 2


def test_budget_keeps_the_best_ranked(tmp_path):
    report = run(tmp_path, None, ("static", "relax"), SETTINGS, CANDIDATES[:5])
    chosen = {m.id for m in report.members if "relax" in m.results}
    heights = {m.id: m.values["static_e_above_hull_eV_per_atom"] for m in report.members}
    assert chosen == set(sorted(heights, key=heights.get)[:2])
    assert all("rank" in m.reason and "budget" in m.reason for m in report.members if m.id not in chosen)


def test_time_budget_stops_the_rest_and_says_so(tmp_path):
    report = run(tmp_path, None, ("static",), {"static": {"max_seconds": 1e-9}}, CANDIDATES[:3])
    assert [m.alive for m in report.members] == [True, False, False] and "time budget" in report.members[1].reason
    more = run(tmp_path, None, ("static",), {"static": {"max_seconds": 60}}, CANDIDATES[:3])
    assert all(m.alive for m in more.members)


@pytest.mark.parametrize(("fallback", "tested"), [(True, 1), (False, 0)])
def test_md_limit_and_fallback(tmp_path, fallback, tested):
    settings = {**SETTINGS, "md_gate": {"max_candidates": 1, "limit_eV_per_atom": -99.0, "fallback": fallback, "protocol": MD}}
    report = run(tmp_path, None, ("relax", "hull", "md_gate"), settings, CANDIDATES[:1])
    assert funnel_counts(report)["md_gated"] == tested
    assert ("next best" if fallback else "not below") in report.members[0].reason


def test_energies_of_another_scheme_never_meet_the_hull(tmp_path):
    other = ReferenceHull([ReferencePhase(s, 0.0, 20.0, "computed", "another scheme") for s in ("Li", "Cl2")])
    report = run(tmp_path, None, ("relax", "hull"), SETTINGS, CANDIDATES[:1], hull_loader=lambda: other)
    assert report.members[0].stopped_at == "hull" and "another scheme" in report.members[0].reason
    assert "e_above_hull_eV_per_atom" not in report.members[0].values


@dataclass(frozen=True, kw_only=True)
class VolumeConfig(StageConfig):
    """A plug-in's settings."""

    largest: float = 17.0


class VolumeStage(BaseStage):
    """A plug-in."""

    config_class = VolumeConfig

    def evaluate(self, member, context):
        volume = member.structure.volume / len(member.structure)
        return StageOutcome(
            volume <= self.config.largest, {"plugin_volume": volume}, "" if volume <= self.config.largest else "too large"
        )


def test_plug_in_stage_by_import_path(tmp_path, monkeypatch):
    import sys
    import types

    module = types.ModuleType("my_stages")
    module.VolumeStage = VolumeStage
    monkeypatch.setitem(sys.modules, "my_stages", module)
    settings = {"volume": {"implementation": "my_stages:VolumeStage", "largest": 17.0}}
    report = run(tmp_path, None, ("structure", "volume"), settings, CANDIDATES[:3])
    assert {m.id: m.stopped_at for m in report.members} == {"good": "", "twin": "volume", "salt": "volume"}


def test_bad_settings_and_ids(tmp_path):
    with pytest.raises(ConfigError, match="unknown funnel stage 'relaxx'"):
        build_stages(FunnelConfig(order=("relaxx",)))
    with pytest.raises(ConfigError, match="max_candidate"):
        build_stages(FunnelConfig(order=("relax",), stages={"relax": {"max_candidate": 3}}))
    with pytest.raises(ConfigError, match="two candidates"):
        run(tmp_path, candidates=[CANDIDATES[0], CANDIDATES[0]])
    with pytest.raises(ConfigError, match="file name"):
        run(tmp_path, candidates=[Candidate("../evil", CANDIDATES[0].structure)])


def test_unwritable_output_is_an_output_error(tmp_path):
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        run(blocker / "x", None, ("structure",), {}, CANDIDATES[:1])


@pytest.mark.parametrize("choice", ["default", "verify"])
def test_shipped_yaml_builds(choice):
    config = compose("verify", [f"verification/funnel={choice}", "transport.enabled=true"])
    stages = build_stages(build(FunnelConfig, config.verification.funnel))
    funnel = OmegaConf.to_container(config.verification.funnel, resolve=True)
    assert [s.name for s in stages] == [name for name in funnel["order"] if (funnel["stages"][name] or {}).get("enabled", True)]
    by_name = {s.name: s for s in stages}
    assert by_name["relax"].config.protocol["fmax_eV_per_A"] == 0.05 and by_name["md_gate"].config.protocol["drop_ps"] == 1.0


def test_nan_results_are_standard_json(tmp_path):
    class Silent(Predictor):
        def predict_e_hull(self, structures):
            return [Quantity.failed("outside the training domain", "eV/atom") for _ in structures]

    report = run(tmp_path, None, ("predict",), {}, CANDIDATES[:1], predictor_loader=Silent)
    text = (tmp_path / "stages" / "predict" / "good.json").read_text()
    assert "NaN" not in text and report.members[0].alive and "training domain" in report.members[0].results["predict"].reason
    assert np.isnan(Quantity.failed("x").value)


class Conductor:
    """log10 sigma by formula: one known to be poor, one good, one outside the domain."""

    def predict(self, compositions):
        from sse_diffusion.core.results import Status

        told = {"LiCl": (-9.0, Status.OK), "LiBr": (-3.0, Status.OK), "NaCl": (-9.0, Status.UNCONVERGED)}
        made = [told[c.reduced_formula] for c in compositions]
        return [Quantity(v, 1.0, "", s, "" if s is Status.OK else "no lithium", {"interval_95": [v - 2, v + 2]}) for v, s in made]


@pytest.mark.parametrize(("least", "alive"), [(None, "good salt bromide"), (-6.5, "salt bromide"), (-7.5, "good salt bromide")])
def test_the_screen_by_conductivity_stops_only_what_surely_lies_below_the_limit(tmp_path, least, alive):
    chosen = [c for c in CANDIDATES if c.id in ("good", "salt", "bromide")]
    settings = {"predict": {"min_log10_conductivity": least}, "static": {"rank_by": "-predicted_log10_conductivity"}}
    ways = {"conductivity_loader": Conductor, "conductivity_id": "c", "temperature_K": 350.0}
    report = run(tmp_path, None, ("predict", "static"), settings, chosen, **ways)
    assert " ".join(m.id for m in report.members if m.alive) == alive
    rows = {m.id: candidate_row(m) for m in report.members}
    told = {name: [row[CONDUCTIVITY + end] for end in ("", "_low", "_high", "_in_domain")] for name, row in rows.items()}
    assert told["bromide"] == [-3.0, -5.0, -1.0, "true"]
    assert told["salt"] == [-9.0, -11.0, -7.0, "false"]
    assert set(rows["good"]) == set(COLUMNS)
    if least == -6.5:
        assert "at 350 K is predicted to be -7.0 at most (< -6.5)" in rows["good"]["reason"]
    again = build_stages(FunnelConfig(order=("predict",), stages=settings))[0]
    key = again.depends_on(report.members, context(tmp_path, **ways))
    assert key != again.depends_on(report.members, context(tmp_path, **{**ways, "temperature_K": 300.0}))


def test_largest_first_and_a_limit_without_a_predictor(tmp_path):
    from sse_diffusion.verification.stage import Member, rank

    members = [Member(c, c.structure, {"sigma": s}) for c, s in zip(CANDIDATES, (-5.0, float("nan"), -2.0), strict=False)]
    assert [m.id for m in rank(members, "-sigma")] == ["salt", "good", "twin"]
    assert [m.id for m in rank(members, "sigma")] == ["good", "salt", "twin"]
    with pytest.raises(ConfigError, match="no conductivity predictor"):
        run(tmp_path, None, ("predict",), {"predict": {"min_log10_conductivity": -4.0}}, CANDIDATES[:1])


def test_a_height_outside_the_domain_stops_nobody(tmp_path):
    from sse_diffusion.core.results import Status
    from sse_diffusion.verification.stages.predict import PredictStage

    class Unsure(Predictor):
        def predict_e_hull(self, structures):
            return [Quantity(0.5, 0.1, "eV/atom", Status.UNCONVERGED if "Na" in s.formula else Status.OK) for s in structures]

    chosen = [c for c in CANDIDATES if c.id in ("good", "salt")]
    limit = {"predict": {"max_e_hull_eV_per_atom": 0.1}}
    report = run(tmp_path, None, ("predict",), limit, chosen, predictor_loader=Unsure)
    assert {m.id: m.alive for m in report.members} == {"good": False, "salt": True}
    ways = {"conductivity_loader": Conductor, "conductivity_id": "c"}
    keys = [PredictStage("predict").depends_on([], context(tmp_path, **ways, pressure_GPa=p)) for p in (0.0, 5.0)]
    assert keys[0] != keys[1], "the conductivity is that at the pressure asked for"


def test_time_of_earlier_sessions_counts(tmp_path):
    run(tmp_path, None, ("static",), {}, CANDIDATES[:1])
    report = run(tmp_path, None, ("static",), {"static": {"max_seconds": 1e-9}}, CANDIDATES[:2])
    assert [m.alive for m in report.members] == [True, False] and "time budget" in report.members[1].reason


def test_what_looks_at_all_crystals_stays_in_this_process(tmp_path):
    class Elsewhere:
        workers, preparing_s = 2, 0.0

        def run(self, job, tasks):
            raise AssertionError("sent away")

        def close(self):
            """Nothing."""

    stages = build_stages(FunnelConfig(order=("unique",)))
    report = run_funnel(CANDIDATES[:2], stages, context(tmp_path), executor=Elsewhere())
    assert [m.alive for m in report.members] == [True, False]
