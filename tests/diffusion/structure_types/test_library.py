"""The library: means and scatters of the members as calculated by hand, and nothing lost between arrays and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.structure_types.build import collect_kinds
from sse_diffusion.diffusion.structure_types.grouping import Kind
from sse_diffusion.diffusion.structure_types.library import MAX_ROLES, SMALLEST_SPREAD, TypeLibrary


def rutiles(decorations: Callable[..., list[Orbits]], moves: list[float], strains: list[float]) -> list[Orbits]:
    """Rutile with its only free coordinate and its c/a moved by known amounts; each another size."""
    parent = decorations("rutile", 1)[0]
    crystals = []
    for n, (du, dk) in enumerate(zip(moves, strains, strict=True)):
        free = parent.free + du * wyckoff_table().free[parent.wyckoff]
        crystals.append(replace(parent, free=free, cell=parent.cell + np.array([0, 0, 0, 0, dk, 0.05 * n])))
    return crystals


def test_mean_and_scatter_are_those_of_the_members(decorations: Callable[..., list[Orbits]]) -> None:
    moves, strains = [0.0, 0.010, 0.002, -0.004], [0.0, 0.02, -0.01, 0.03]
    crystals = rutiles(decorations, moves, strains)
    (kind,) = collect_kinds(crystals)
    library = TypeLibrary.from_kinds([kind])
    (moving,) = np.flatnonzero(wyckoff_table().dof[library.wyckoff] == 1)
    free = crystals[0].free[moving]
    axis = int(np.flatnonzero(wyckoff_table().free[library.wyckoff[moving]])[0])
    # the sites of rutile may be numbered from the other oxygen: u and 1 - u are the same crystal
    expected = free[axis] + np.mean(moves)
    assert library.free[moving, axis] == pytest.approx(expected, abs=1e-5)
    assert library.spread[0] == pytest.approx(np.std(moves, ddof=1), rel=1e-3)
    cells = np.stack([c.cell for c in crystals])
    cells[:, -1] -= np.log(6) / 3
    np.testing.assert_allclose(library.cell[0], cells.mean(0), atol=1e-5)
    np.testing.assert_allclose(library.cell_spread[0], cells.std(0, ddof=1), atol=1e-5)
    assert library.count[0] == 4


def test_fixed_coordinates_stay_what_they_are(library: TypeLibrary, kinds: list[Kind]) -> None:
    fixed = ~wyckoff_table().free[library.wyckoff]
    assert fixed.any() and (library.free[fixed] == 0).all()
    assert ((library.free >= 0) & (library.free < 1)).all()
    assert (library.spread >= np.float32(SMALLEST_SPREAD)).all()


def test_the_mean_of_copies_is_the_crystal(library: TypeLibrary, kinds: list[Kind]) -> None:
    """Decorations differ in size only, so that every mean is its prototype again."""
    for v, kind in enumerate(kinds):
        gap = library.free[library.orbits_of(v)] - kind.first.crystal.free
        assert np.abs(gap - np.round(gap)).max() < 1e-4
        np.testing.assert_allclose(library.cell[v, :5], kind.first.crystal.cell[:5], atol=1e-4)
        assert library.spread[v] == np.float32(SMALLEST_SPREAD)


def test_rows_belong_to_their_types(library: TypeLibrary, kinds: list[Kind]) -> None:
    table = wyckoff_table()
    assert len(library) == len(kinds)
    for v, kind in enumerate(kinds):
        orbits, roles = library.orbits_of(v), library.roles_of(v)
        assert (table.group[library.wyckoff[orbits]] == library.group[v]).all()
        atoms = table.multiplicity[library.wyckoff[orbits]] // table.centring[library.group[v]]
        totals = np.bincount(library.role[orbits], weights=atoms)
        np.testing.assert_array_equal(totals, library.role_atoms[roles])
        assert list(library.signature(v)) == sorted(library.signature(v))
        assert library.n_atoms[v] == kind.first.crystal.n_primitive == sum(library.signature(v))
        assert library.dof[v] == table.dof[kind.first.crystal.wyckoff].sum()
        assert v in library.by_signature[library.signature(v)]
        assert tuple(range(len(library.signature(v)))) in library.symmetries(v)


def test_arrays_round_trip(library: TypeLibrary) -> None:
    again = TypeLibrary.from_arrays(library.arrays())
    for name, array in library.arrays().items():
        np.testing.assert_array_equal(getattr(again, name), array)
        assert getattr(again, name).dtype == array.dtype
    assert [again.symmetries(v) for v in range(len(again))] == [library.symmetries(v) for v in range(len(library))]


def test_no_element_and_no_single_crystal_is_stored(library: TypeLibrary, kinds: list[Kind]) -> None:
    """Counts and means only; atomic numbers are nowhere."""
    assert set(library.arrays()) == {
        "group", "count", "cell", "cell_spread", "spread", "start", "wyckoff", "role", "free", "role_start", "role_atoms",
        "symmetry_start", "symmetry",
    }  # fmt: skip
    assert (library.count >= 2).all() and library.role.max() < MAX_ROLES
