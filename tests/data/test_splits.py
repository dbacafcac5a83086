"""Splits are grouped by reduced formula, deterministic, independent of order; leakage is found."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.data.splits import SplitConfig, assign_splits, check_leakage, reduced_formula, split_counts
from sse_diffusion.data.tables import CrystalRow


def row(name: str, species: list[int], split: str | None = None) -> CrystalRow:
    """A row whose geometry does not matter."""
    return CrystalRow(name, np.array(species), np.zeros((len(species), 3)), np.eye(3), {}, split)


formulas = st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=4), min_size=1, max_size=30)


def test_reduced_formula_ignores_order_and_multiples() -> None:
    assert reduced_formula(np.array([17, 3, 3, 3])) == reduced_formula(np.array([3, 17, 3, 3, 3, 17, 3, 3])) == "3:3 17:1"


@settings(max_examples=80, deadline=None)
@given(formulas, st.integers(0, 5), st.randoms(use_true_random=False))
def test_assignment_is_grouped_complete_and_independent_of_order(species: list[list[int]], seed: int, random: Random) -> None:
    config = SplitConfig(val_fraction=0.3, test_fraction=0.3, seed=seed)
    rows = [row(str(i), s) for i, s in enumerate(species)] + [row(f"double-{i}", s * 2) for i, s in enumerate(species)]
    split = {r.id: r.split for r in assign_splits(rows, config)}
    check_leakage(assign_splits(rows, config))
    assert set(split.values()) <= {"train", "val", "test"}
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert {r.id: r.split for r in assign_splits(shuffled, config)} == split


def test_fractions_are_met_on_many_formulas() -> None:
    rows = [row(f"{a}-{b}", [a, b, b]) for a in range(1, 60) for b in range(60, 94)]
    counts = split_counts(assign_splits(rows, SplitConfig(val_fraction=0.2, test_fraction=0.1)))
    assert counts["val"] / len(rows) == pytest.approx(0.2, abs=0.03)
    assert counts["test"] / len(rows) == pytest.approx(0.1, abs=0.03)


def test_a_given_split_is_kept_and_others_of_its_formula_follow() -> None:
    rows = [row("free", [3, 17]), row("given", [3, 3, 17, 17], "test"), row("other", [3, 9])]
    split = {r.id: r.split for r in assign_splits(rows, SplitConfig(val_fraction=0.0))}
    assert split == {"free": "test", "given": "test", "other": "train"}
    anew = {r.id: r.split for r in assign_splits(rows, SplitConfig(val_fraction=0.0, keep_column=False))}
    assert set(anew.values()) == {"train"}


def test_leakage_names_the_rows() -> None:
    with pytest.raises(DataError, match=r"1 reduced formula.*one \(train\), two \(val\)"):
        check_leakage([row("one", [3, 17], "train"), row("two", [17, 17, 3, 3], "val"), row("three", [3, 9], "val")])


def test_unknown_split_names_and_impossible_fractions_are_refused() -> None:
    with pytest.raises(DataError, match="split 'holdout'"):
        assign_splits([row("x", [3], "holdout")])
    with pytest.raises(ConfigError, match="less than 1"):
        SplitConfig(val_fraction=0.6, test_fraction=0.5)
