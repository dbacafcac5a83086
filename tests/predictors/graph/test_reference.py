"""The composition reference: members never see their own fold, and training crystals get the members that never saw them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sse_diffusion.predictors.composition_data import LabelledCompositions
from sse_diffusion.predictors.features import element_table
from sse_diffusion.predictors.graph.reference import ReferenceConfig, fit_reference, fold_of, reference_values

CONFIG = ReferenceConfig(width=16, depth=1, folds=2, members_per_fold=2, epochs=150, batch_size=16)


@pytest.fixture(scope="module")
def rows() -> LabelledCompositions:
    """Binary compositions whose labels are random: nothing to learn, everything to remember."""
    rng = np.random.default_rng(0)
    pairs = [(a, b) for a in (3, 11, 19, 37, 12, 20, 38, 56) for b in (8, 16, 9, 17, 35, 53, 7, 34)]
    labels = np.stack([rng.normal(size=64), rng.normal(size=64)], axis=1)
    formulas = [f"formula{i}" for i in range(64)]
    return LabelledCompositions(formulas, [{a: 1.0, b: 1.0} for a, b in pairs], formulas, labels, np.zeros(64, dtype=bool))


def test_unseen_members_do_not_know_the_labels(rows: LabelledCompositions) -> None:
    model = fit_reference(rows, element_table(), CONFIG, progress=False)
    fold = fold_of(rows.formulas, CONFIG.folds)
    unseen = reference_values(model, element_table(), rows.compositions, fold, CONFIG.folds)
    seen = reference_values(model, element_table(), rows.compositions, 1 - fold, CONFIG.folds)
    error = [np.abs(values - rows.labels).mean() for values in (seen, unseen)]
    assert 2.0 * error[0] < error[1]


def test_all_members_answer_for_a_new_composition(rows: LabelledCompositions) -> None:
    model = fit_reference(rows, element_table(), CONFIG, progress=False)
    table, everything = element_table(), rows.compositions
    parts = [reference_values(model, table, everything, np.full(64, fold), CONFIG.folds) for fold in range(CONFIG.folds)]
    assert reference_values(model, table, everything) == pytest.approx(np.mean(parts, axis=0), abs=1e-6)


def test_folds_do_not_depend_on_the_machine() -> None:
    assert fold_of(["LiCl", "Li2O", "NaCl"], 4).tolist() == fold_of(["LiCl", "Li2O", "NaCl"], 4).tolist()
    assert len(set(fold_of([f"Li{n}O" for n in range(2, 60)], 4).tolist())) == 4


def test_training_repeats(rows: LabelledCompositions) -> None:
    one, two = (fit_reference(rows, element_table(), CONFIG, seed=5, progress=False) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
