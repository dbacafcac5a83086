"""Uniqueness under the field's matcher."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.verification import duplicates
from sse_diffusion.verification.duplicates import ReferenceMatcher, duplicate_of, unique

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.13), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CAESIUM_CHLORIDE = Structure(Lattice.cubic(3.2), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
SODIUM = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def another_view(structure: Structure, seed: int = 0) -> Structure:
    """The same crystal: primitive cell, other origin, other scale, slightly displaced."""
    rng = np.random.default_rng(seed)
    view = structure.get_primitive_structure()
    view.translate_sites(range(len(view)), rng.random(3))
    view.scale_lattice(view.volume * 1.05)
    view.perturb(0.05)
    return view


def test_same_crystal_in_other_clothes_is_a_duplicate():
    marks = duplicate_of(
        [ROCK_SALT, CAESIUM_CHLORIDE, another_view(ROCK_SALT), SODIUM, another_view(CAESIUM_CHLORIDE), ROCK_SALT]
    )
    assert marks == [None, None, 0, None, 1, 0]


def test_unique_keeps_the_first_of_each():
    crystals = [ROCK_SALT, another_view(ROCK_SALT), SODIUM]
    assert [c.id for c in unique([Candidate(str(k), s) for k, s in enumerate(crystals)])] == ["0", "2"]
    assert unique([]) == []


def test_reference_matcher_names_what_it_found():
    matcher = ReferenceMatcher([("rs", ROCK_SALT), ("na", SODIUM)], formulas={"LiCl"})
    assert matcher.match(another_view(ROCK_SALT)) == "rs"
    assert matcher.match(CAESIUM_CHLORIDE) is None
    assert matcher.match(SODIUM) is None, "formulas outside the filter are not kept"


def test_a_crystal_is_compared_with_the_first_of_each_kind_alone(monkeypatch):
    """In a chain of near-equals the third is no repetition of the first, though it equals the second."""
    near = SimpleNamespace(fit=lambda a, b: abs(a.volume - b.volume) < 1.5)
    monkeypatch.setattr(duplicates, "field_matcher", lambda: near)
    chain = [Structure(Lattice.orthorhombic(1, 10, a), ["Li"], [[0, 0, 0]]) for a in (1.0, 1.1, 1.2, 1.0)]
    assert duplicate_of(chain) == [None, 0, None, 0]
