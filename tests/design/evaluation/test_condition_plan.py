"""What a plan asks: requests, ranges of hits, the two controls, and errors that say what to write instead."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.design.evaluation.condition_plan import (
    ASKED,
    SHUFFLED,
    UNCONDITIONAL,
    PlanConfig,
    Question,
    Trial,
    read_questions,
    trials_of,
)
from sse_diffusion.design.labels.labeller import SOURCES
from sse_diffusion.thermo.conditions import load_condition_specs

ENERGY, GAP = "formation_energy_eV_per_atom", "band_gap_eV"
SPECS = load_condition_specs()
SWEEP = {"sweep": {"each": {ENERGY: [-2.0, -1.0, 0.0]}}}
SINGLE = {"single": {"ask": {GAP: ">2", "mobile_ion": "Li"}}}


def plan(questions: dict[str, Any], **choices: Any) -> PlanConfig:
    settings = {"n": 4, "n_control": 9, "tolerance": {ENERGY: 0.25}, "given": {"n_atoms": [2, 20]}}
    return build(PlanConfig, {"questions": questions, **settings, **choices})


def read(questions: dict[str, Any], **choices: Any) -> list[Question]:
    return read_questions(plan(questions, **choices), SPECS)


def trial(questions: dict[str, Any], seed: int = 0, **choices: Any) -> Trial:
    chosen = plan(questions, **choices)
    return trials_of(read_questions(chosen, SPECS), chosen, SPECS, seed)[0]


def test_values_are_met_within_their_tolerance_and_ranges_as_they_are() -> None:
    sweep, single = read({**SWEEP, **SINGLE})
    assert sweep.swept == ENERGY and single.swept is None and single.fields == (GAP,)
    assert sweep.hit(1, {ENERGY: -1.25}) and not sweep.hit(1, {ENERGY: -1.26}) and not sweep.hit(0, {ENERGY: float("nan")})
    assert single.hit(0, {GAP: 2.0}) and single.hit(0, {GAP: 99.0}) and not single.hit(0, {GAP: 1.99})
    (pair,) = read({"pair": {"ask": {GAP: "<1", ENERGY: -1.0}}})
    assert pair.hit(0, {GAP: 0.5, ENERGY: -1.1}) and not pair.hit(0, {GAP: 0.5, ENERGY: 0.0})


def test_nothing_is_asked_of_the_unconditional_control_but_its_chemistry_is_the_same() -> None:
    arms = trial(SINGLE).arms
    (asked,), (control,) = arms[ASKED].cells, arms[UNCONDITIONAL].cells
    assert asked.ask == {"n_atoms": [2, 20], "mobile_ion": "Li", GAP: ">2"} and asked.guidance == {GAP: 2.0}
    assert control.ask == {"n_atoms": [2, 20], "mobile_ion": "Li"} and control.guidance == {}
    assert asked.n == control.n == 9 and asked.seed != control.seed
    assert Counter(trial(SWEEP).arms[UNCONDITIONAL].requests) == {0: 3, 1: 3, 2: 3}


def test_shuffling_a_sweep_permutes_the_asked_values_among_the_same_crystals() -> None:
    arms = trial(SWEEP).arms
    assert arms[SHUFFLED].cells == arms[ASKED].cells
    assert Counter(arms[SHUFFLED].requests) == Counter(arms[ASKED].requests) == {0: 4, 1: 4, 2: 4}
    assert arms[SHUFFLED].requests != arms[ASKED].requests
    assert trial(SWEEP).arms[SHUFFLED] == arms[SHUFFLED]


def test_shuffling_a_single_request_asks_for_values_of_the_training_distribution() -> None:
    cells = trial(SINGLE, n_control=400, shuffled_values=400).arms[SHUFFLED].cells
    values = [cell.ask[GAP] for cell in cells]
    assert all(cell.ask["mobile_ion"] == "Li" and cell.n == 1 for cell in cells)
    assert min(values) >= SPECS[GAP].low and len(set(values)) > 100
    assert 0.0 < sum(v > 2.0 for v in values) / 400 < 0.5, "most labels of the table do not meet the request"
    few = trial(SINGLE).arms[SHUFFLED]
    assert sum(cell.n for cell in few.cells) == len(few.requests) == 9 and len(few.cells) == 6


def test_every_weight_is_a_trial_and_the_controls_are_shared() -> None:
    chosen = plan(SWEEP, guidance=[1.0, 4.0])
    trials = trials_of(read_questions(chosen, SPECS), chosen, SPECS, 0)
    assert [t.prefix for t in trials] == ["sweep.", "sweep.guidance_4."]
    assert [t.arms[ASKED].cells[0].guidance for t in trials] == [{}, {ENERGY: 4.0}]
    first, second = (t.arms[UNCONDITIONAL].cells[0].name for t in trials)
    assert first == second and trials[0].arms[ASKED].cells[0].name != trials[1].arms[ASKED].cells[0].name


@pytest.mark.parametrize(
    ("questions", "choices", "text"),
    [
        (
            {"a": {"ask": {"formation_enery_eV_per_atom": -1}}},
            {},
            r"question a(.|\n)*did you mean 'formation_energy_eV_per_atom'",
        ),
        ({"a": {"ask": {GAP: 2.0}}}, {}, "plan.tolerance.band_gap_eV"),
        ({"a": {"ask": {"mobile_ion": "Li"}}}, {}, "nothing is asked"),
        ({"a": {"each": {ENERGY: [0.0, 1.0], GAP: [">1"]}}}, {}, "same number of values"),
        ({"a": {"asks": {GAP: 2.0}}}, {}, "did you mean 'ask'"),
        (SWEEP, {"only": ["sweeps"]}, "did you mean 'sweep'"),
        (SWEEP, {"guidance": []}, "the plan is empty"),
    ],
)
def test_errors_say_what_to_write(questions: dict[str, Any], choices: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        read(questions, **choices)


def test_a_field_without_a_source_is_refused_with_those_that_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SOURCES, GAP)
    with pytest.raises(ConfigError, match=r"no independent source labels 'band_gap_eV'(.|\n)*density_g_cm3"):
        read(SINGLE)


def test_the_shipped_plan_can_be_asked_of_a_model_that_knows_every_condition() -> None:
    config = build(PlanConfig, compose("evaluate", ["task=conditions"]).plan)
    questions = {q.name: q for q in read_questions(config, SPECS)}
    assert questions["gibbs_above_hull_lt_0.05"].base["temperature_K"] == 300
    assert questions["gibbs_above_hull_and_band_gap"].fields == ("gibbs_above_hull_eV_per_atom", "band_gap_eV")
    assert questions["migration_barrier_lt_0.4"].base["mobile_ion"] == "Li"
