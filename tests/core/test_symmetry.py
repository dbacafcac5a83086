"""The symmetry search answers "none" on broken cells instead of crashing or running away."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.symmetry import find_symmetry, is_searchable

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_rock_salt_is_225_with_two_atoms_from_any_cell() -> None:
    for view in (SALT, SALT.get_primitive_structure(), SALT * (2, 1, 1)):
        found = find_symmetry(view, 0.01)
        assert found.number == 225 and sorted(found.primitive_numbers) == [11, 17]


def test_tolerance_decides_about_a_small_distortion() -> None:
    moved = SALT.copy()
    moved.translate_sites([0], [0.0, 0.0, 0.02 / 5.64], to_unit_cell=True)
    assert find_symmetry(moved, 0.1).number == 225
    assert find_symmetry(moved, 1e-3).number not in (0, 225)


@pytest.mark.parametrize(
    ("lattice", "frac"),
    [
        (np.eye(3) * 5, [[0, 0, 0], [0, 0, 0]]),  # on top of each other
        (np.eye(3) * 5, [[0, 0, 0], [0.999999, 0, 0]]),  # the same across the boundary
        (np.diag([5.0, 5.0, 0.01]), [[0, 0, 0], [0.5, 0.5, 0.5]]),  # flat
        (np.diag([5.0, 5.0, 0.0]), [[0, 0, 0], [0.5, 0.5, 0.5]]),  # no volume
        ([[5, 0, 0], [0, 5, 0], [5, 5, 1e-4]], [[0, 0, 0], [0.5, 0.5, 0.5]]),  # sheared to nothing
        (np.diag([1e4, 5.0, 5.0]), [[0, 0, 0], [0.5, 0.5, 0.5]]),  # endless
        (np.eye(3) * np.nan, [[0, 0, 0], [0.5, 0.5, 0.5]]),
        (np.full((3, 3), np.inf), [[0, 0, 0], [0.5, 0.5, 0.5]]),
        (np.eye(3) * 5, [[0, 0, 0], [np.nan, 0.5, 0.5]]),
    ],
)
def test_broken_cells_have_no_symmetry(lattice: np.ndarray, frac: list[list[float]]) -> None:
    structure = Structure(Lattice(lattice), ["Na", "Cl"], frac)
    assert not is_searchable(structure, 0.01)
    found = find_symmetry(structure, 0.01)
    assert found.number == 0 and found.primitive_numbers == (11, 17)


def test_one_atom_is_searchable() -> None:
    assert find_symmetry(Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]]), 0.01).number == 221
