"""Validity as the field counts it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import smact
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Lattice, Structure
from smact.screening import pauling_test

from sse_diffusion.verification.validity import composition_validity, structural_validity


def published_check(counts: dict[str, int]) -> bool:
    """The published algorithm: every combination of states through smact's own neutrality and Pauling tests."""
    elements = [smact.Element(symbol) for symbol in counts]
    if len(elements) == 1 or all(symbol in smact.metals for symbol in counts):
        return True
    for states in itertools.product(*[e.oxidation_states_smact14 or () for e in elements]):
        neutral = smact.neutral_ratios(states, stoichs=[(n,) for n in counts.values()], threshold=max(counts.values()))
        if neutral and pauling_test(states, [e.pauling_eneg for e in elements]):
            return True
    return False


@pytest.mark.parametrize(
    ("formula", "valid"),
    [
        ("LiCl", True), ("Li3PS4", True), ("Li6PS5Cl", True), ("Li10GeP2S12", True), ("Li7La3Zr2O12", True), ("LiFePO4", True),
        ("LiCl2", False), ("Li2Cl", False), ("NaF3", False), ("Si", True), ("FeNi3", True), ("HeO", False),
    ],
)  # fmt: skip
def test_known_compositions(formula, valid):
    verdict = composition_validity(Composition(formula))
    assert verdict.valid is valid and bool(verdict.reason) is not valid


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["Li", "Na", "Mg", "Fe", "Mn", "P", "S", "Cl", "O", "N", "F", "Si", "He", "Zr"]),
        st.integers(1, 6), min_size=1, max_size=4,
    )
)  # fmt: skip
def test_search_equals_the_published_enumeration(counts):
    divisor = np.gcd.reduce(list(counts.values()))
    assert composition_validity(counts).valid == published_check({s: int(n // divisor) for s, n in counts.items()})


def test_many_elements_are_fast():
    counts = {s: k + 1 for k, s in enumerate(["Mn", "Fe", "Cr", "V", "Ru", "Os", "S", "Cl", "O", "N"])}
    assert composition_validity(counts).valid in (True, False)


def test_multiple_of_a_valid_formula_is_valid():
    assert composition_validity({"K": 2, "O": 2}).valid == composition_validity({"K": 1, "O": 1}).valid is True


def cell(volume_per_atom: float, distance: float = 2.0) -> Structure:
    a = (2 * volume_per_atom) ** (1 / 3)
    return Structure(Lattice.cubic(a), ["Li", "Cl"], [[0, 0, 0], [distance, 0, 0]], coords_are_cartesian=True)


def test_close_atoms_are_invalid_and_named():
    verdict = structural_validity(cell(20, 0.49))
    assert not verdict and "Li-Cl" in verdict.reason and "0.49" in verdict.reason
    assert structural_validity(cell(20, 0.51))


def test_periodic_images_count():
    structure = Structure(Lattice.cubic(4), ["Li", "Cl"], [[0.01, 0, 0], [0.97, 0, 0]])
    assert not structural_validity(structure), "0.16 A apart across the boundary"


def test_tiny_cell_is_invalid():
    assert not structural_validity(Structure(Lattice.cubic(0.4), ["Li"], [[0, 0, 0]]))


@pytest.mark.parametrize(("volume", "absurd"), [(3.9, True), (4.1, False), (99, False), (101, True)])
def test_absurd_volume_is_a_flag_of_its_own(volume, absurd):
    """The field's verdict stays as published; ours is beside it with a reason."""
    verdict = structural_validity(cell(volume, 0.9))
    assert verdict.valid and verdict.absurd_volume is absurd and ("volume" in verdict.reason) is absurd


def test_not_a_number_is_invalid():
    structure = cell(20)
    structure[0].frac_coords[0] = np.nan
    assert not structural_validity(structure)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_verdict_does_not_depend_on_origin_or_order(seed):
    rng = np.random.default_rng(seed)
    structure = Structure(Lattice.cubic(3.5), ["Li"] * 4, rng.random((4, 3)))
    distances = structure.distance_matrix[np.triu_indices(4, 1)]
    assume(abs(distances.min() - 0.5) > 1e-6)
    moved = Structure(structure.lattice, structure.species, (structure.frac_coords + rng.random(3))[rng.permutation(4)])
    assert structural_validity(structure).valid == structural_validity(moved).valid == (distances.min() >= 0.5)
