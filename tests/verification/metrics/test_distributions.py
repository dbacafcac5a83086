"""Distances between distributions: closed forms, identity, the small-sample floor."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.verification.metrics.distributions import (
    KEYS,
    Profile,
    compare,
    distances,
    jensen_shannon,
    profile,
    space_group_histogram,
)


def random_profile(n: int, seed: int, shift: float = 0.0) -> Profile:
    rng = np.random.default_rng(seed)
    groups = rng.choice([1, 2, 14, 62, 139, 194, 225], n, p=[0.02, 0.1, 0.2, 0.2, 0.18, 0.1, 0.2])
    return Profile(
        rng.normal(5.0 + shift, 1.0, n), rng.integers(1, 5, n).astype(float), rng.integers(2, 20, n).astype(float), groups
    )


def rock_salt(a: float, metal: str = "Na") -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [metal, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_divergence_of_equal_and_of_disjoint_histograms():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    assert jensen_shannon(p, p) == 0.0
    assert jensen_shannon(p, q) == pytest.approx(1.0)
    half = jensen_shannon(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    assert half == pytest.approx(0.5 * np.log2(4 / 3) + 0.5 * (0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25)))


def test_crystals_without_a_group_are_not_a_group():
    histogram = space_group_histogram(np.array([0, 0, 1, 225]))
    assert histogram[0] == histogram[224] == 0.5 and histogram.sum() == 1.0 and histogram.shape == (230,)


def test_shifted_density_is_the_shift():
    metrics = compare(random_profile(1500, 0, shift=0.3), random_profile(1500, 1))
    assert metrics["w_density"].value == pytest.approx(0.3, abs=0.1)
    low, high = metrics["w_density"].ci95
    assert low < metrics["w_density"].value < high < 0.5
    assert metrics["w_n_elements"].value < 0.08


def test_the_data_against_itself_reads_the_floor_and_another_distribution_more():
    reference = random_profile(3000, 0)
    same = compare(random_profile(300, 1), reference)
    assert same["jsd_space_group"].value < 2 * same["jsd_space_group_floor"].value
    collapsed = random_profile(300, 1)
    all_p1 = compare(Profile(collapsed.density_g_per_cm3, collapsed.n_elements, collapsed.n_atoms, np.ones(300, int)), reference)
    assert all_p1["p1_share"].value == 1.0 and all_p1["p1_share_reference"].value == pytest.approx(0.02, abs=0.01)
    assert all_p1["jsd_space_group"].value > 0.8


def test_the_floor_compares_a_draw_with_what_is_left():
    two = Profile(np.ones(2), np.ones(2), np.ones(2), np.array([1, 225]))
    one = Profile(np.ones(1), np.ones(1), np.ones(1), np.array([1]))
    metrics = compare(one, two)
    assert metrics["jsd_space_group_floor"].value == pytest.approx(1.0)
    assert compare(two, two)["jsd_space_group_floor"].value is None


def test_profile_of_real_cells():
    found = profile([rock_salt(5.64), rock_salt(5.64).get_primitive_structure()])
    assert found.space_group.tolist() == [225, 225] and found.n_elements.tolist() == [2, 2] and found.n_atoms.tolist() == [8, 2]
    assert found.density_g_per_cm3 == pytest.approx([2.16, 2.16], abs=0.01)  # halite


def test_invalid_samples_are_left_out_and_nothing_left_is_missing():
    broken = Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]])
    unbalanced = Structure(Lattice.cubic(4.5), ["Na", "Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])  # Na2Cl
    reference = [rock_salt(5.64), rock_salt(6.3, "K")]
    metrics = distances([None, broken, unbalanced, rock_salt(5.64)], reference)
    assert metrics["p1_share"].n == 1 and metrics["w_n_elements"].value == 0.0
    assert set(metrics) == set(KEYS)
    assert all(m.value is None and m.reason for m in distances([None, broken], reference).values())
