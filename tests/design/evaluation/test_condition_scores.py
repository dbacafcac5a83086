"""Scores of made-up answers: a model that obeys, one that ignores, one whose crystals cannot be labelled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.config import build
from sse_diffusion.core.results import Quantity
from sse_diffusion.design.evaluation.condition_plan import ASKED, SHUFFLED, UNCONDITIONAL, PlanConfig, read_questions, trials_of
from sse_diffusion.design.evaluation.condition_rows import Judged, rows_of
from sse_diffusion.design.evaluation.condition_scores import reasons, score_question
from sse_diffusion.design.labels.sample import Sample
from sse_diffusion.thermo.conditions import load_condition_specs
from sse_diffusion.verification.metrics.rates import Metric

ENERGY = "formation_energy_eV_per_atom"
SPECS = load_condition_specs()
CRYSTAL = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3])
Answer = Callable[[dict[str, Any], np.random.Generator], float]


def judged(question: dict[str, Any], answer: Answer, novel: bool | None = True) -> Judged:
    """A trial whose crystals have the label that ``answer`` gives for what the model was asked."""
    plan = build(PlanConfig, {"questions": {"q": question}, "n": 30, "n_control": 90, "tolerance": {ENERGY: 0.25}})
    (trial,) = trials_of(read_questions(plan, SPECS), plan, SPECS, 0)
    rng, rows, known = np.random.default_rng(0), {}, {}
    for name, arm in trial.arms.items():
        crystals = [(Sample(f"{cell.name}-{i}", CRYSTAL, 300.0, 0.0), cell.ask) for cell in arm.cells for i in range(cell.n)]
        for sample, ask in crystals:  # shared cells: the same crystal has the same label in every arm
            known.setdefault(sample.id, answer(dict(ask), rng))
        labels = {ENERGY: {s.id: _quantity(known[s.id]) for s, _ in crystals}}
        verdicts = None if novel is None else {s.id: novel for s, _ in crystals}
        rows[name] = rows_of(trial.question, arm.requests, crystals, labels, [True] * len(crystals), verdicts)
    return Judged(trial, rows)


def _quantity(value: float) -> Quantity:
    return Quantity(value) if math.isfinite(value) else Quantity.failed("relaxation failed: step 3")


def scores(question: dict[str, Any], answer: Answer, novel: bool | None = True) -> dict[str, Metric]:
    one = judged(question, answer, novel)
    return score_question(one.trial.question, one.rows)


def obeys(ask: dict[str, Any], rng: np.random.Generator) -> float:
    asked = ask.get(ENERGY, -1.5)
    return (-2.1 if asked == "<-2" else float(asked)) + 0.1 * rng.standard_normal() * (asked != "<-2")


def ignores(ask: dict[str, Any], rng: np.random.Generator) -> float:
    return -1.5 + 0.7 * rng.standard_normal()


SWEEP, SINGLE = {"each": {ENERGY: [-3.0, -2.0, -1.0, 0.0]}}, {"ask": {ENERGY: "<-2"}}


def test_a_sweep_that_is_obeyed() -> None:
    found = scores(SWEEP, obeys)
    assert found["hit_rate"].value == pytest.approx(0.98, abs=0.03) and found["hit_rate"].n == 120
    assert found["spearman"].value == pytest.approx(0.97, abs=0.03) and found["mae"].value == pytest.approx(0.08, abs=0.02)
    assert found["mean_at_-2.0"].value == pytest.approx(-2.0, abs=0.05) and found["mean_at_-2.0"].n == 30
    assert found["mean_unconditional"].value == pytest.approx(-1.5, abs=0.05)


def test_shuffling_destroys_the_link() -> None:
    found = scores(SWEEP, obeys)
    assert found["hit_rate_shuffled"].value == pytest.approx(0.25, abs=0.1)
    low, high = found["spearman_shuffled"].ci95
    assert low < 0.0 < high and found["spearman"].ci95[0] > high
    assert found["ratio_shuffled"].ci95[0] > 2.0


def test_a_model_that_ignores_the_request_is_no_better_than_its_controls() -> None:
    for question in (SWEEP, SINGLE):
        found = scores(question, ignores)
        for name in ("ratio", "ratio_shuffled"):
            low, high = found[name].ci95
            assert low < 1.0 < high
    assert "spearman" not in scores(SINGLE, ignores)


def test_a_single_request_that_is_obeyed_beats_both_controls() -> None:
    found = scores(SINGLE, obeys)
    assert found["hit_rate"].k == found["hit_rate"].n == 90
    assert found["hit_rate_unconditional"].k == 0 and found["ratio"].value is None and found["ratio"].ci95[0] > 5.0
    assert 0.0 < found["hit_rate_shuffled"].value < 0.6 and found["ratio_shuffled"].ci95[0] > 1.5


def test_crystals_without_a_label_stay_in_the_denominator_and_say_why() -> None:
    def half(ask: dict[str, Any], rng: np.random.Generator) -> float:
        return obeys(ask, rng) if rng.random() < 0.5 else math.nan

    one = judged(SWEEP, half)
    found = score_question(one.trial.question, one.rows)
    assert found["hit_rate"].n == 120 and found["hit_rate"].k < 80
    assert found["unlabelled"].k == reasons(one.rows[ASKED])["relaxation failed"] > 40
    assert found["spearman"].n == 120 - found["unlabelled"].k


def test_novelty_of_hits_is_counted_among_the_hits() -> None:
    assert scores(SINGLE, obeys, novel=False)["novelty_of_hits"].k == 0
    missing = scores(SINGLE, obeys, novel=None)["novelty"]
    assert missing.value is None and "no reference" in missing.reason
    one = judged(SINGLE, ignores)
    rows = {**one.rows, ASKED: [replace(row, novel=not row.hit) for row in one.rows[ASKED]]}
    found = score_question(one.trial.question, rows)
    assert 0 < found["hit_rate"].k == found["novelty_of_hits"].n < 90 and found["novelty_of_hits"].k == 0
    assert found["novelty"].k == 90 - found["hit_rate"].k and found["novelty"].n == 90


def test_rows_of_the_arms_know_what_the_model_was_given() -> None:
    rows = judged(SINGLE, obeys).rows
    assert {tuple(row.given) for row in rows[UNCONDITIONAL]} == {()}
    assert {row.given[ENERGY] for row in rows[ASKED]} == {"<-2"} and len({row.given[ENERGY] for row in rows[SHUFFLED]}) == 6
