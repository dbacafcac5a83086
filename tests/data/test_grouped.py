"""Groups are what shares a key through any chain; folds keep them whole and balanced; leakage raises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.data.grouped import (
    check_no_leakage,
    composition_key,
    connected_groups,
    doi_key,
    grouped_folds,
    quantile_bins,
)

keys = st.lists(st.tuples(st.sampled_from([None, *"abcdef"]), st.sampled_from([None, *"uvwxyz"])), min_size=1, max_size=40)


def test_a_chain_through_two_columns_is_one_group_and_missing_keys_tie_nothing() -> None:
    doi = ["d1", "d1", "d2", None, None, float("nan"), float("nan")]
    composition = ["A", "B", "B", None, None, "C", "D"]
    groups = connected_groups(doi, composition)  # type: ignore[arg-type]
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups.tolist())) == 5
    assert len(set(connected_groups(["x", "y"], ["y", "x"]).tolist())) == 2, "the same word in two columns is not the same key"


@settings(max_examples=60, deadline=None)
@given(keys)
def test_groups_are_the_transitive_closure_of_shared_keys(rows: list[tuple[str, str]]) -> None:
    groups = connected_groups(*map(list, zip(*rows, strict=True)))
    tied = np.array([[any(x is not None and x == y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows])
    tied |= np.eye(len(rows), dtype=bool)
    reachable = np.linalg.matrix_power(tied.astype(float), len(rows)) > 0
    assert np.array_equal(reachable, groups[:, None] == groups)
    assert sorted(set(groups.tolist())) == list(range(groups.max() + 1))


def test_folds_keep_groups_whole_and_balance_size_and_strata() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 120, size=600)
    strata = quantile_bins(rng.normal(size=120)[groups], 4)
    folds = grouped_folds(groups, 5, seed=1, strata=strata)
    assert all(len(set(folds[groups == g].tolist())) == 1 for g in set(groups.tolist()))
    sizes = np.bincount(folds, minlength=5)
    assert sizes.min() >= 0.9 * 120 and sizes.max() <= 1.1 * 120
    table = np.array([[np.sum((folds == f) & (strata == s)) for s in range(4)] for f in range(5)])
    assert table.min() >= 0.75 * 30 and table.max() <= 1.25 * 30
    assert np.array_equal(folds, grouped_folds(groups, 5, seed=1, strata=strata))
    assert not np.array_equal(folds, grouped_folds(groups, 5, seed=2, strata=strata))


def test_one_giant_group_leaves_the_other_folds_even() -> None:
    sizes = np.bincount(grouped_folds([0] * 50 + list(range(1, 41)), 5, seed=0))
    assert sorted(sizes.tolist()) == [10, 10, 10, 10, 50]


def test_bad_folds_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 folds of 2 groups"):
        grouped_folds([0, 1, 1], 5, seed=0)
    with pytest.raises(DataError, match="lengths"):
        connected_groups(["a"], ["a", "b"])


def test_quantile_bins_are_even_and_unknown_labels_have_their_own() -> None:
    bins = quantile_bins(np.array([3.0, 1.0, 2.0, 4.0, np.nan]), 2)
    assert bins.tolist() == [1, 0, 0, 1, 2]


def test_leakage_names_examples_and_missing_keys_do_not_count() -> None:
    check_no_leakage(["a", None], ["b", None], "formula(s)")
    with pytest.raises(DataError, match=r"1 source\(s\) .*: 10\.1/x"):
        check_no_leakage(["10.1/x", "10.1/y"], ["10.1/x"], "source(s)")


def test_keys_ignore_scale_order_and_resolver() -> None:
    assert composition_key({"O": 3, "Li": 6}) == composition_key({"Li": 2, "O": 1}) == "Li0.667 O0.333"
    assert composition_key({"Li": 1, "Cl": 1, "O": 0}) == "Cl0.500 Li0.500"
    assert doi_key("https://doi.org/10.1/AB ") == doi_key("doi: 10.1/ab") == "10.1/ab"
    assert doi_key("") is doi_key(None) is doi_key(float("nan")) is None  # type: ignore[arg-type]
