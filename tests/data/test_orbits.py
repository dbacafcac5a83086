"""Crystal -> orbits -> crystal: the same crystal comes back, whatever its symmetry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.orbits import parse_orbits
from sse_diffusion.data.prototypes.library import PROTOTYPES

MATCHER = StructureMatcher(ltol=0.02, stol=0.02, angle_tol=1, scale=False)


def parsed(structure: Structure) -> Orbits:
    return parse_orbits(np.array(structure.atomic_numbers), structure.frac_coords, structure.lattice.matrix)


def neighbour_shells(structure: Structure, radius: float) -> dict[tuple[int, int], np.ndarray]:
    """Sorted distances below ``radius`` by pair of elements, per atom of the cell: equal crystals agree in every cell."""
    centre, other, _, distance = structure.get_neighbor_list(radius)
    z, shells = np.array(structure.atomic_numbers), {}
    for pair in {(int(z[i]), int(z[j])) for i, j in zip(centre, other, strict=True)}:
        shells[pair] = np.sort(distance[(z[centre] == pair[0]) & (z[other] == pair[1])])
    return shells


def assert_same_shells(a: Structure, b: Structure, radius: float, atol: float) -> None:
    """``a`` holds a whole number of cells of ``b``."""
    cells = round(len(a) / len(b))
    shells, others = neighbour_shells(a, radius), neighbour_shells(b, radius)
    assert shells and shells.keys() == others.keys()
    for pair, distances in shells.items():
        np.testing.assert_allclose(distances, np.repeat(others[pair], cells), atol=atol)


@pytest.mark.parametrize("name", PROTOTYPES)
def test_every_prototype_comes_back(name: str) -> None:
    prototype = PROTOTYPES[name]
    original = prototype.structure()
    orbits = parsed(original)
    assert orbits.group == prototype.number
    rebuilt = orbits.to_structure()
    assert len(rebuilt) == orbits.n_primitive
    assert original.volume / len(original) == pytest.approx(rebuilt.volume / len(rebuilt), rel=1e-4)
    if len(rebuilt) <= 30:  # the matcher is slow on large cells; their neighbour shells say the same
        assert MATCHER.fit(original, rebuilt)
    assert_same_shells(original, rebuilt, 3.6, atol=0.01)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 6))
def test_random_triclinic_crystals_come_back(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    lattice = Lattice.from_parameters(*rng.uniform(4.0, 7.0, 3), *rng.uniform(70, 110, 3))
    species = rng.choice([3, 8, 16, 17, 40], n)
    original = Structure(lattice, species, rng.random((n, 3)))
    orbits = parsed(original)
    rebuilt = orbits.to_structure()
    if orbits.group > 2:
        assert n <= 2  # nothing else has symmetry by chance
    assert len(rebuilt) <= n
    if orbits.group == 1:
        assert np.array_equal(np.sort(orbits.species), np.sort(species))
    if len(rebuilt) == n and orbits.group <= 2:  # symmetrised by at most 0.1 Angstrom: the elements' shells stay
        z = np.array(original.atomic_numbers)
        assert sorted(z) == sorted(rebuilt.atomic_numbers)
        assert rebuilt.volume == pytest.approx(original.volume, rel=0.02)
        if orbits.group == 1:
            assert_same_shells(original, rebuilt, 7.1, atol=1e-4)  # the longest edge: no cell is without neighbours


def test_a_small_distortion_is_symmetrised_and_a_large_one_kept() -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for shift_A, group_stays in ((0.03, True), (0.4, False)):
        moved = salt.copy()
        moved.translate_sites([0], [0, 0, shift_A / 5.64], to_unit_cell=True)
        assert (parsed(moved).group == 225) is group_stays


def test_free_coordinates_of_fixed_components_are_zero() -> None:
    table = wyckoff_table()
    orbits = parsed(PROTOTYPES["rutile"].structure())  # Ti 2a, O 4f at (x, x, 0)
    assert (orbits.free[~table.free[orbits.wyckoff]] == 0).all()
    assert table.free[orbits.wyckoff].sum() == 1 and min(orbits.free.max(), 1 - orbits.free.max()) == pytest.approx(
        0.305, abs=0.01
    )


def test_overlapping_atoms_are_refused_with_the_reasons() -> None:
    with pytest.raises(DataError, match="no symmetry description") as caught:
        parse_orbits(np.array([11, 17]), np.zeros((2, 3)), np.eye(3) * 5)
    assert "0.1 A" in caught.value.message and caught.value.hint
