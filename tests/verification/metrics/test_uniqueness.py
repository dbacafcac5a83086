"""Unique and novel: the field's matcher, the denominators, and both sources of what is known."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.verification.metrics.uniqueness import unique_and_novel
from sse_diffusion.verification.novelty import KnownIndex

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.13), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CAESIUM_CHLORIDE = Structure(Lattice.cubic(3.2), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
SODIUM = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
COLLAPSED = Structure(Lattice.cubic(3.2), ["Li", "Cl"], [[0, 0, 0], [0.05, 0, 0]])


def moved(structure: Structure) -> Structure:
    """The same crystal as a primitive cell with another origin, a little distorted."""
    view = structure.get_primitive_structure()
    view.translate_sites(range(len(view)), [0.21, 0.37, 0.11])
    view.perturb(0.02)
    return view


SAMPLES = [ROCK_SALT, None, moved(ROCK_SALT), CAESIUM_CHLORIDE, COLLAPSED, SODIUM]


@pytest.mark.parametrize("workers", [1, 2])
def test_verdict_on_every_sample(workers):
    result = unique_and_novel(SAMPLES, iter([("known", moved(SODIUM)), ("other", ROCK_SALT)]), workers=workers)
    assert result.valid.tolist() == [True, False, True, True, False, True]
    assert result.unique.tolist() == [True, False, False, True, False, True]
    assert result.novel.tolist() == [False, False, False, True, False, False]


def test_the_denominator_is_all_samples_unless_the_name_says_otherwise():
    metrics = unique_and_novel(SAMPLES, [("other", ROCK_SALT)]).metrics
    counts = {name: (m.k, m.n) for name, m in metrics.items()}
    assert counts == {
        "uniqueness": (3, 6), "uniqueness_of_valid": (3, 4), "novelty": (2, 6), "novelty_of_valid": (2, 4),
        "novelty_of_unique": (2, 3), "unique_novel": (2, 6),
    }  # fmt: skip
    assert metrics["uniqueness"].ci95[0] < 0.5 < metrics["uniqueness"].ci95[1]


def test_index_of_known_pairs_is_used_without_references():
    index = KnownIndex.build([("LiCl", 225)])
    result = unique_and_novel(SAMPLES, None, index)
    assert result.novel.tolist() == [False, False, False, True, False, True]
    assert "coarser" in result.compared_with
    assert not unique_and_novel(SAMPLES, [("r", CAESIUM_CHLORIDE)], index).novel[3]  # crystals beat the index


def test_without_anything_known_novelty_is_missing_with_a_reason():
    result = unique_and_novel(SAMPLES)
    assert result.novel is None and result.metrics["novelty"].value is None and "no reference" in result.metrics["novelty"].reason
    assert result.metrics["uniqueness"].k == 3


def test_no_valid_sample_is_zero_not_a_crash():
    result = unique_and_novel([None, COLLAPSED], [("r", ROCK_SALT)])
    assert result.metrics["uniqueness"].value == 0.0 and result.metrics["uniqueness_of_valid"].value is None
    assert np.array_equal(result.unique, [False, False])
