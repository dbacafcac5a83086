"""Expansion of orbits: closed under the group, reduced exactly to the primitive cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_diffusion.core.lattice import cell_fixed_value, cell_free
from sse_diffusion.core.orbits import Orbits, centring_vectors, primitive_transform
from sse_diffusion.core.wyckoff import N_GROUPS, wyckoff_table

# one group of each centring: P, A, C, I, F, R (hexagonal axes)
CENTRED = {14: 1, 38: 2, 12: 2, 139: 2, 216: 4, 166: 3}


def crystal_of(group: int, seed: int, n_orbits: int = 2) -> Orbits:
    """Random orbits in a random cell of the right family."""
    rng, table = np.random.default_rng(seed), wyckoff_table()
    chosen = rng.choice(list(table.positions(group)), n_orbits)
    chosen[-1] = table.positions(group)[-1]
    cell = np.where(cell_free()[group], rng.normal(0, 0.1, 6), cell_fixed_value()[group])
    cell[5] = np.log(table.multiplicity[chosen].sum() * 20.0) / 3
    return Orbits(group, cell, rng.integers(1, 90, n_orbits), chosen, rng.random((n_orbits, 3)) * table.free[chosen])


@settings(max_examples=60, deadline=None)
@given(group=st.integers(1, N_GROUPS), seed=st.integers(0, 10**6))
def test_expansion_is_closed_under_the_group(group: int, seed: int) -> None:
    """Every operation maps the atoms of each orbit onto atoms of the same orbit."""
    crystal, table = crystal_of(group, seed), wyckoff_table()
    _, frac, orbit = crystal.expand()
    rotation, translation = table.images(table.positions(group)[-1])
    step = max(1, len(rotation) // 24)  # coset after coset; all operations for most groups
    for r, t in zip(rotation[::step], translation[::step], strict=True):
        for index in range(len(crystal.species)):
            atoms = frac[orbit == index]
            difference = (atoms @ r.T + t)[:, None] - atoms[None]
            distance = np.abs(difference - np.round(difference)).max(-1)
            assert distance.min(axis=1).max() < 1e-6


@settings(max_examples=60, deadline=None)
@given(group=st.integers(1, N_GROUPS), seed=st.integers(0, 10**6))
def test_operations_are_isometries_of_the_cell(group: int, seed: int) -> None:
    """The cell parametrisation keeps every rotation of its group: W^T G W = G for the metric G."""
    crystal, table = crystal_of(group, seed), wyckoff_table()
    metric = crystal.lattice() @ crystal.lattice().T
    rotation, _ = table.images(table.positions(group)[-1])
    turned = rotation.transpose(0, 2, 1) @ metric @ rotation
    assert np.abs(turned - metric).max() < 1e-6 * metric.max()


@pytest.mark.parametrize(("group", "lattice_points"), CENTRED.items())
def test_primitive_cell_has_the_right_atoms_and_volume(group: int, lattice_points: int) -> None:
    crystal = crystal_of(group, seed=group)
    whole, primitive = crystal.to_structure(primitive=False), crystal.to_structure()
    assert len(whole) == crystal.n_conventional and len(primitive) == crystal.n_primitive
    assert len(whole) == lattice_points * len(primitive)
    assert whole.volume == pytest.approx(lattice_points * primitive.volume, rel=1e-9)
    assert whole.composition.reduced_formula == primitive.composition.reduced_formula


@pytest.mark.parametrize("group", CENTRED)
def test_primitive_and_conventional_cells_are_the_same_crystal(group: int) -> None:
    """Distances from one atom to its neighbours agree, which a wrong reduction would not survive."""
    crystal = crystal_of(group, seed=group)
    shells = []
    for structure in (crystal.to_structure(primitive=False), crystal.to_structure()):
        neighbours = structure.get_neighbors(structure[0], 6.0)
        shells.append(sorted((round(n.nn_distance, 5), n.specie.Z) for n in neighbours))
    assert len(shells[0]) > 3 and shells[0] == shells[1]


def test_primitive_transform_of_every_group_is_a_basis_of_the_lattice() -> None:
    for group in range(1, N_GROUPS + 1):
        transform, shifts = primitive_transform(group), centring_vectors(group)
        assert np.linalg.det(transform) == pytest.approx(1.0 / len(shifts))
        whole = np.concatenate([shifts, np.eye(3)]) @ np.linalg.inv(transform)
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
