"""The hashed index of known crystals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import DataError
from sse_diffusion.verification.novelty import KnownIndex, find_space_group

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.13), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_knows_formula_and_group_together():
    index = KnownIndex.build([("LiCl", 225), ("Li2S", 225), ("LiCl", 225)])
    assert len(index) == 2
    assert index.contains("LiCl", 225) and index.contains("Cl4Li4", 225) and index.contains("Li4S2", 225)
    assert not index.contains("LiCl", 221) and not index.contains("LiBr", 225)


def test_finds_the_group_of_a_structure():
    index = KnownIndex.build([("LiCl", 225)])
    noisy = ROCK_SALT.copy()
    noisy.perturb(0.02)
    assert find_space_group(noisy) == 225 and index.contains(noisy) and index.contains(ROCK_SALT.get_primitive_structure())
    noisy.perturb(0.4)
    assert not index.contains(noisy)


def test_no_group_is_zero_not_an_error():
    overlapping = Structure(Lattice.cubic(4), ["Li", "Li"], [[0, 0, 0], [0, 0, 1e-4]])
    assert find_space_group(overlapping) == 0


def test_survives_a_file(tmp_path):
    index = KnownIndex.build([("LiCl", 225), ("Li3N", 191)])
    path = tmp_path / "deep" / "known.npy"
    index.save(path)
    loaded = KnownIndex(path)
    assert path.stat().st_size < 300 and len(loaded) == 2 and loaded.contains("Li3N", 191)
    assert loaded.fingerprint == index.fingerprint != KnownIndex.build([("LiCl", 225)]).fingerprint


def test_hash_is_the_same_on_every_machine():
    """A shipped index must mean the same everywhere: these numbers are part of the file format."""
    assert KnownIndex.build([("LiCl", 225)]).fingerprint == FINGERPRINT_OF_LICL_225


FINGERPRINT_OF_LICL_225 = "adf82335b4cf9bcf"


@pytest.mark.parametrize("content", [b"", b"not an array", None])
def test_bad_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "known.npy"
    if content is None:
        np.save(path, np.zeros((2, 2)))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match="index of known crystals"):
        KnownIndex(path)
    with pytest.raises(DataError):
        KnownIndex(tmp_path / "missing.npy")


def test_formula_alone_is_refused():
    with pytest.raises(ValueError, match="space group"):
        KnownIndex.build([]).contains("LiCl")


@given(st.lists(st.tuples(st.sampled_from(["LiCl", "Li2O", "NaCl", "Li3N", "MgO"]), st.integers(1, 230)), max_size=30))
def test_contains_exactly_what_was_put_in(pairs):
    index = KnownIndex.build(pairs)
    assert all(index.contains(*pair) for pair in pairs)
    others = {("LiCl", 1), ("MgO", 230), ("Li2O", 57)} - set(pairs)
    assert not any(index.contains(*pair) for pair in others)


def test_a_table_may_write_its_formulas_unreduced():
    index = KnownIndex.build([("Cl4Li4", 225), ("LiCl", 225)])
    assert len(index) == 1 and index.contains("LiCl", 225) and index.contains("Li2Cl2", 225)
