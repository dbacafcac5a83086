"""Composition features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_diffusion.predictors.features import FEATURE_NAMES, MAX_Z, composition_features, element_table

LI, P, S, CL = 3, 15, 16, 17
column = FEATURE_NAMES.index


def test_known_values_of_li2s() -> None:
    x = composition_features([{LI: 2, S: 1}])[0]
    assert x[column("fraction_Z3")] == pytest.approx(2 / 3)
    assert x[column("electronegativity_mean")] == pytest.approx((2 * 0.98 + 2.58) / 3, abs=1e-3)
    assert x[column("electronegativity_range")] == pytest.approx(1.60, abs=1e-3)
    assert x[column("net_charge_per_atom")] == 0.0
    assert x[column("n_elements")] == 2
    assert x[column("log2_atoms_reduced")] == pytest.approx(np.log2(3))


def test_charge_balance_sees_an_impossible_salt() -> None:
    balanced, not_balanced = composition_features([{LI: 3, P: 1, S: 4}, {LI: 3, CL: 1}])
    assert balanced[column("net_charge_per_atom")] == pytest.approx(0.0, abs=1e-5)
    assert not_balanced[column("net_charge_per_atom")] > 0.2


compositions = st.dictionaries(st.integers(1, MAX_Z), st.integers(1, 12), min_size=1, max_size=6)


@given(compositions, st.integers(2, 5))
def test_scale_and_order_do_not_matter(composition: dict[int, int], factor: int) -> None:
    scaled = {z: n * factor for z, n in reversed(composition.items())}
    a, b = composition_features([composition, scaled])
    assert np.isfinite(a).all()
    assert np.allclose(a, b, atol=1e-4)


@given(st.lists(compositions, min_size=2, max_size=5))
def test_rows_do_not_depend_on_their_neighbours(batch: list[dict[int, int]]) -> None:
    together = composition_features(batch)
    assert together.shape == (len(batch), len(FEATURE_NAMES))
    for row, composition in zip(together, batch, strict=True):
        assert np.allclose(row, composition_features([composition])[0], atol=1e-5)


def test_element_table_has_no_gaps() -> None:
    assert element_table().shape[0] == MAX_Z + 1
    assert np.isfinite(element_table()).all()


@pytest.mark.parametrize("composition", [{}, {0: 1.0}, {MAX_Z + 1: 1.0}])
def test_unknown_elements_are_refused(composition: dict) -> None:
    with pytest.raises(KeyError):
        composition_features([composition])
