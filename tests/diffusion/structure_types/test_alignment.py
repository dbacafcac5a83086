"""Laying one crystal over another: settings of one arrangement are recognised, displacements recovered, others refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sse_diffusion.core.lattice import cell_fixed_value, cell_free, lattice_to_log
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.orbits import assign_orbits
from sse_diffusion.diffusion.structure_types.alignment import SITE_TOLERANCE, Overlay, Sites, overlay, settings

GROUPS = [2, 12, 14, 19, 62, 82, 88, 136, 141, 148, 152, 166, 186, 194, 198, 205, 216, 225, 227]
"""All families and centrings, chiral, polar and centrosymmetric."""
POLAR = {186}


def random_crystal(group: int, seed: int, n_orbits: int = 3) -> Orbits:
    """Orbits of different elements, the first on a position with free coordinates, in a random cell of the family."""
    rng, table = np.random.default_rng(seed), wyckoff_table()
    free = [w for w in table.positions(group) if table.dof[w] > 0]
    small = sorted(free, key=lambda w: table.multiplicity[w])[:4]
    chosen = rng.choice(small, n_orbits)
    cell = np.where(cell_free()[group], rng.normal(0, 0.08, 6), cell_fixed_value()[group])
    cell[5] = np.log(table.multiplicity[chosen].sum() * 20.0) / 3
    return Orbits(group, cell, np.arange(n_orbits) + 20, chosen, rng.random((n_orbits, 3)) * table.free[chosen])


def laid(first: Orbits, second: Orbits, label: np.ndarray | None = None) -> Overlay | None:
    """Overlay whose labels are the elements."""
    one, other = (np.unique(c.species, return_inverse=True)[1] if label is None else label for c in (first, second))
    return overlay(Sites.of(first), Sites.of(second), one, other)


@lru_cache
def normaliser(group: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Maps x -> W x + s that turn a group into itself, by trial: signed axes, quarter or sixth shifts, all operations."""
    table = wyckoff_table()
    rotation, translation = table.images(table.positions(group)[-1])
    known = {r.astype(int).tobytes(): translation[(rotation == r).all((1, 2))] for r in rotation}
    hexagonal = 143 <= group <= 194
    some = settings(143 if hexagonal else 2)  # one of each pair or triple; the group's own rotations give the others
    axes = [r @ w for w in some for r in (np.eye(3), -np.eye(3))]
    steps = np.arange(6) / 6 if hexagonal else np.arange(4) / 4
    shifts = np.array(list(product(steps, repeat=3)))
    found = []
    for w in axes:
        inverse = np.linalg.inv(w)
        keep = np.ones(len(shifts), dtype=bool)
        for r, t in zip(rotation, translation, strict=True):
            turned = np.round(w @ r @ inverse)
            expected = known.get(turned.astype(int).tobytes())
            if expected is None:
                keep[:] = False
                break
            moved = t @ w.T + shifts - shifts @ turned.T
            gap = moved[:, None] - expected[None]
            keep &= (np.abs(gap - np.round(gap)).max(-1) < 1e-6).any(1)
        found += [(w, s) for s in shifts[keep]]
    return found


def transformed(crystal: Orbits, w: np.ndarray, s: np.ndarray) -> Orbits:
    """The same crystal in another setting: x' = W x + s, encoded anew, its orbits in whatever order they are met."""
    species, frac, _ = crystal.expand()
    inverse = np.linalg.inv(w)
    metric = inverse.T @ crystal.lattice() @ crystal.lattice().T @ inverse
    lattice = np.linalg.cholesky(metric)
    order = np.random.default_rng(0).permutation(len(species))
    encoded = assign_orbits(crystal.group, species[order], np.mod(frac @ w.T + s, 1.0)[order], lattice)
    assert not isinstance(encoded, str), encoded
    wyckoff, symbols, free = encoded
    return Orbits(crystal.group, lattice_to_log(torch.from_numpy(lattice)).numpy(), symbols, wyckoff, free)


@hypothesis_settings(max_examples=40, deadline=None)
@given(group=st.sampled_from(GROUPS), seed=st.integers(0, 10**6))
def test_every_setting_of_a_crystal_is_the_same_arrangement(group: int, seed: int) -> None:
    """Shifts, permutations of axes and inversions of the normaliser are undone, and so is the change of the cell."""
    maps = normaliser(group)
    w, s = maps[seed % len(maps)]
    crystal = random_crystal(group, seed)
    found = laid(crystal, transformed(crystal, w, s))
    assert found is not None
    assert found.rms < 1e-5
    assert np.abs(found.shift).max() < 1e-5
    np.testing.assert_allclose(found.k, crystal.cell, atol=1e-6)


def test_settings_are_needed() -> None:
    """The normaliser holds maps beyond the group's own: without them the test above would be empty."""
    outside = 0
    for group in GROUPS:
        table = wyckoff_table()
        own = {np.round(r).astype(int).tobytes() for r in table.images(table.positions(group)[-1])[0]}
        outside += any(w.astype(int).tobytes() not in own for w, _ in normaliser(group))
        assert any(np.abs(s).max() > 0 for _, s in normaliser(group))
    assert outside > len(GROUPS) / 2


def closest(crystal: Orbits) -> float:
    """Smallest distance of two atoms, in units of (V/N)^(1/3)."""
    sites = Sites.of(crystal)
    gap = sites.frac[:, None] - sites.frac[None]
    gap -= np.round(gap)
    squared = np.einsum("ijx,xy,ijy->ij", gap, sites.metric, gap)
    return float(np.sqrt(squared[np.triu_indices(len(gap), 1)].min()))


@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
@given(group=st.sampled_from(sorted(set(GROUPS) - POLAR)), seed=st.integers(0, 10**6), size=st.floats(1e-4, 0.006))
def test_displacements_are_recovered_exactly(group: int, seed: int, size: float) -> None:
    """Moved free coordinates come back as the shift, and so does a change of the cell's size and shape."""
    table, rng = wyckoff_table(), np.random.default_rng(seed)
    crystal = random_crystal(group, seed)
    assume(closest(crystal) > 0.25)
    moved = size * rng.uniform(-1, 1, crystal.free.shape) * table.free[crystal.wyckoff]
    stretched = crystal.cell + np.where(cell_free()[group], rng.normal(0, 0.02, 6), 0)
    other = replace(crystal, free=np.mod(crystal.free + moved, 1.0), cell=stretched)
    found = laid(crystal, other)
    assert found is not None
    d = other.expand()[1] - crystal.expand()[1]
    d -= np.round(d)
    direct = np.sqrt(np.einsum("ix,xy,iy->i", d, Sites.of(crystal).metric, d).mean())
    assert found.rms <= direct + 1e-6
    assume(found.rms > direct - 1e-6)  # now and then another setting lies even closer
    np.testing.assert_allclose(found.shift, moved, atol=1e-9)
    np.testing.assert_allclose(found.k, stretched, atol=1e-6)


def test_along_a_polar_axis_only_relative_displacements_count(decorations: Callable[..., list[Orbits]]) -> None:
    """The origin of wurtzite floats along z: moving both sites is nothing, moving one is shared between the two."""
    crystal = decorations("wurtzite", 1)[0]
    both, one = crystal.free.copy(), crystal.free.copy()
    both[:, 2] += 0.013
    one[0, 2] += 0.01
    rigid, relative = laid(crystal, replace(crystal, free=both)), laid(crystal, replace(crystal, free=one))
    assert rigid is not None and rigid.rms < 1e-6 and np.abs(rigid.shift).max() < 1e-6
    assert relative is not None
    np.testing.assert_allclose(relative.shift[:, 2], [0.005, -0.005], atol=1e-9)
    c = np.sqrt(Sites.of(crystal).metric[2, 2])
    assert relative.rms == pytest.approx(0.005 * c, rel=1e-6)


def test_other_arrangements_on_the_same_positions_are_refused(decorations: Callable[..., list[Orbits]]) -> None:
    """alpha-NaFeO2 and delafossite: group, sites and frequencies are the same, the stacking of the oxygens is not."""
    ferrite, delafossite = decorations("alpha_sodium_ferrite", 2), decorations("delafossite", 2)
    same = replace(delafossite[1], species=delafossite[0].species)
    assert laid(delafossite[0], same) is not None
    for a in ferrite:
        for b in delafossite:
            one, other = Sites.of(a), Sites.of(b)
            kinds = [np.where(c.species == np.bincount(c.species).argmax(), 1, 0) for c in (a, b)]
            assert overlay(one, other, *kinds) is None


def test_labels_must_agree(decorations: Callable[..., list[Orbits]]) -> None:
    """Perovskite with A and B swapped is another crystal; rock salt with both swapped is the same."""
    perovskite, salt = decorations("perovskite", 1)[0], decorations("rock_salt", 1)[0]
    sites, label = Sites.of(perovskite), np.arange(3)
    a, b = (int(i) for i in np.flatnonzero(perovskite.species != 8))
    swapped = label.copy()
    swapped[[a, b]] = label[[b, a]]
    assert overlay(sites, sites, label, label) is not None
    assert overlay(sites, sites, label, swapped) is None
    found = overlay(Sites.of(salt), Sites.of(salt), np.array([0, 1]), np.array([1, 0]))
    assert found is not None and found.rms < 1e-9


@pytest.mark.parametrize(("share", "accepted"), [(0.95, True), (1.05, False)])
def test_no_site_may_be_further_away_than_the_tolerance(share: float, accepted: bool) -> None:
    """One pair of atoms of P-1 moves along the shortest edge; the fixed ones keep the origin where it is."""
    table = wyckoff_table()
    a, general = table.positions(2)[0], table.positions(2)[-1]
    wyckoff = np.array([a, general, general])
    free = np.array([[0, 0, 0], [0.2, 0.3, 0.4], [0.15, 0.8, 0.6]])
    cell = np.array([0, 0, 0, 0, 0, np.log(5 * 15.0) / 3])
    crystal = Orbits(2, cell, np.array([3, 8, 16]), wyckoff, free)
    length = np.sqrt(Sites.of(crystal).metric[0, 0])
    moved = free.copy()
    moved[1, 0] += share * SITE_TOLERANCE / length
    assert (laid(crystal, replace(crystal, free=moved)) is not None) is accepted


@pytest.mark.parametrize(("stretch", "accepted"), [(1.2, True), (1.5, False)])
def test_cells_of_other_shapes_are_refused(stretch: float, accepted: bool, decorations: Callable[..., list[Orbits]]) -> None:
    """Rutile with a stretched c axis; the size of the cell alone never matters."""
    rutile = decorations("rutile", 1)[0]
    lattice = rutile.lattice()
    lattice[2] *= stretch
    assert laid(rutile, replace(rutile, cell=rutile.cell + np.array([0, 0, 0, 0, 0, 0.7]))) is not None
    other = replace(rutile, cell=lattice_to_log(torch.from_numpy(lattice)).numpy())
    assert (laid(rutile, other) is not None) is accepted


def test_other_frequencies_are_refused(decorations: Callable[..., list[Orbits]]) -> None:
    salt, fluorite = decorations("rock_salt", 1)[0], decorations("fluorite", 1)[0]
    assert overlay(Sites.of(salt), Sites.of(fluorite), np.array([0, 1]), np.array([0, 1])) is None
