"""Compact supercells: known best shapes, sizes, and that an atom is as far from its own image as is said."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.verification.supercell import compact_multiple, compact_supercell, supercell_atoms

STEPS = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), -1).reshape(-1, 3)
STEPS = STEPS[np.any(STEPS, axis=1)]


def crystal(lattice: Lattice, n: int = 1) -> Structure:
    """Atoms anywhere."""
    return Structure(lattice, ["Li"] * n, np.random.default_rng(0).random((n, 3)))


def shortest(structure: Structure) -> float:
    """Shortest lattice translation, Angstrom."""
    return float(np.linalg.norm(STEPS @ structure.lattice.get_lll_reduced_lattice().matrix, axis=1).min())


def oblique(seed: int) -> Lattice:
    """A cell of low symmetry."""
    rng = np.random.default_rng(seed)
    a, b, c, alpha, gamma = rng.uniform([3, 3, 3, 60, 60], [9, 9, 20, 120, 120])
    return Lattice.from_parameters(a, b, c, alpha, 90, gamma)


@pytest.mark.parametrize("seed", range(12))
def test_the_image_is_as_far_as_is_said(seed):
    """Of skewed cells the shortest translation is many vectors away; they must not look better than they are."""
    made = compact_supercell(crystal(oblique(seed), 16))
    assert made.shortest_image_A == pytest.approx(shortest(made.structure), rel=1e-6)


@pytest.mark.parametrize("seed", [1, 4, 6, 16])
def test_nothing_is_better_than_what_is_taken(seed):
    """Against all sublattices of index 5, by their Hermite normal forms; of left-handed cells too."""
    cell = oblique(seed)
    forms = [
        [[a, b, c], [0, d, e], [0, 0, f]]
        for a, d, f in ((1, 1, 5), (1, 5, 1), (5, 1, 1))
        for b in range(d)
        for c in range(f)
        for e in range(f)
    ]
    assert len(forms) == 31
    best = max(shortest(crystal(Lattice(np.array(form) @ cell.matrix))) for form in forms)
    assert compact_multiple(crystal(cell), [5]).shortest_image_A == pytest.approx(best, rel=1e-6)


def test_sixty_four_cells_of_a_face_centred_lattice_are_a_face_centred_lattice():
    """The densest packing of images there is."""
    edge = 4.0
    fcc = Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), ["Ar"], [[0, 0, 0]]).get_primitive_structure()
    made = compact_supercell(fcc)
    assert made.multiple == 64 and made.shortest_image_A == pytest.approx(4 * edge / np.sqrt(2))


@pytest.mark.parametrize(
    ("sizes", "atoms"),
    [
        ((30, 50, 64, 96), 60),  # the largest within the limits
        ((30, 50, 52, 200), 60),  # none within: the smallest above
        ((40, 50, 64, 70), 40),  # that would be too many
        ((200, 50, 64, 96), 200),  # a cell is never cut
        ((25, 50, 50, 96), 50),  # limits are inclusive
    ],
)
def test_sizes(sizes, atoms):
    assert supercell_atoms(*sizes) == atoms


def test_of_equals_the_smaller_is_taken():
    """Two or three squares of 6 A side by side: the shortest diagonal is the same."""
    made = compact_supercell(crystal(Lattice.tetragonal(6.0, 30.0), 10), 20, 30)
    assert made.multiple == 2 and made.shortest_image_A == pytest.approx(6.0 * np.sqrt(2.0))
