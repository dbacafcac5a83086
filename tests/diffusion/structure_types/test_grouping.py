"""Sorting: decorations of one prototype are one type, prototypes differ, and a type's own symmetries are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.diffusion.structure_types.build import collect_kinds
from sse_diffusion.diffusion.structure_types.grouping import (
    MAX_PERMUTATIONS,
    automorphisms,
    key_of,
    primitive_counts,
    role_orders,
    site_kinds,
)

Decorations = Callable[..., list[Orbits]]
DIFFERENT = (
    "rock_salt", "caesium_chloride", "zinc_blende", "wurtzite", "nickel_arsenide", "fluorite", "cuprite", "rutile", "anatase",
    "corundum", "perovskite", "orthorhombic_perovskite", "spinel", "alpha_sodium_ferrite", "delafossite", "chalcopyrite",
    "ilmenite", "lithium_niobate", "olivine", "scheelite", "zircon", "gamma_lithium_phosphate", "beta_lithium_thiophosphate",
)  # fmt: skip
"""Prototypes of which no two are the same arrangement."""


def test_decorations_of_one_prototype_are_one_type(decorations: Decorations) -> None:
    crystals, names = [], []
    for name in DIFFERENT:
        crystals += (some := decorations(name, 3))
        names += [name] * len(some)
    kinds = collect_kinds(crystals)
    assert sorted(sorted({names[m] for m in kind.members}) for kind in kinds) == sorted([name] for name in DIFFERENT)
    assert len(kinds) == len(DIFFERENT)
    assert sorted(m for kind in kinds for m in kind.members) == list(range(len(crystals)))
    assert all(laid.rms < 1e-4 for kind in kinds for laid in kind.overlays)


@pytest.mark.parametrize(("one", "other"), [("fluorite", "antifluorite"), ("perovskite", "antiperovskite")])
def test_anti_types_are_the_same_type(one: str, other: str, decorations: Decorations) -> None:
    """Which elements sit where does not make a type: that is left to the roles."""
    assert len(collect_kinds([*decorations(one, 2), *decorations(other, 2)])) == 1


def test_polymorphs_share_a_key_and_are_still_told_apart(decorations: Decorations) -> None:
    ferrite, delafossite = decorations("alpha_sodium_ferrite", 3), decorations("delafossite", 3)
    assert {key_of(c) for c in ferrite} == {key_of(c) for c in delafossite}
    kinds = collect_kinds([*ferrite, *delafossite])
    assert sorted(kind.members for kind in kinds) == [[0, 1, 2], [3, 4, 5]]


def test_roles_mean_the_same_sites_in_every_member(decorations: Decorations) -> None:
    """In spinel the tetrahedral cation, the octahedral one and the anion; members list their elements in that order."""
    crystals = decorations("spinel", 5)
    (kind,) = collect_kinds(crystals)
    wanted = [site_kinds(crystals[0])[z] for z in kind.elements[0]]
    for member, elements in zip(kind.members, kind.elements, strict=True):
        counts = primitive_counts(crystals[member])
        assert [counts[z] for z in elements] == [2, 4, 8]
        assert [site_kinds(crystals[member])[z] for z in elements] == wanted


def test_equally_frequent_elements_get_their_roles_by_geometry(
    decorations: Decorations, substituted: Callable[[Orbits, Sequence[int]], Orbits]
) -> None:
    """Perovskite: the octahedral element is B whether it is the lighter or the heavier one."""
    parent = decorations("perovskite", 1)[0]  # SrTiO3: O, Ti, Sr by atomic number
    heavy_b, light_b = substituted(parent, [8, 82, 38]), substituted(parent, [8, 22, 56])
    (kind,) = collect_kinds([parent, heavy_b, light_b])
    b = kind.elements[0].index(22)
    assert [elements[b] for elements in kind.elements] == [22, 82, 22]
    assert [elements[2] for elements in kind.elements] == [8, 8, 8]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rock_salt", {(0, 1), (1, 0)}),
        ("zinc_blende", {(0, 1), (1, 0)}),
        ("caesium_chloride", {(0, 1), (1, 0)}),
        ("fluorite", {(0, 1)}),
        ("rutile", {(0, 1)}),
        ("perovskite", {(0, 1, 2)}),
        ("chalcopyrite", {(0, 1, 2), (1, 0, 2)}),
    ],
)
def test_symmetries_of_the_roles(name: str, expected: set[tuple[int, ...]], decorations: Decorations) -> None:
    (kind,) = collect_kinds(decorations(name, 2))
    found = automorphisms(kind)
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_counts_are_of_the_primitive_cell(decorations: Decorations) -> None:
    salt, spinel = decorations("rock_salt", 1)[0], decorations("spinel", 1)[0]
    assert primitive_counts(salt) == {11: 1, 17: 1}
    assert primitive_counts(spinel) == {12: 2, 13: 4, 8: 8}


def test_orders_of_elements() -> None:
    """Ascending frequency; all permutations of equally frequent ones; nothing when there are too many."""
    assert role_orders({8: 3, 38: 1, 22: 1}) == [(22, 38, 8), (38, 22, 8)]
    assert role_orders({3: 2, 8: 1}) == [(8, 3)]
    four = dict.fromkeys([3, 11, 19, 37], 1)
    assert len(role_orders(four)) == len(set(role_orders(four))) == 24 == MAX_PERMUTATIONS
    assert role_orders({**four, 55: 1}) == []


def test_a_crystal_with_too_many_equal_elements_has_no_type(decorations: Decorations) -> None:
    cell = decorations("orthorhombic_perovskite", 1)[0]
    free = np.random.default_rng(0).random((5, 3))
    five = replace(cell, group=1, species=np.arange(5) + 20, wyckoff=np.zeros(5, dtype=int), free=free)
    assert len(primitive_counts(five)) == 5
    assert collect_kinds([five, five]) == []


def test_several_processes_sort_alike(decorations: Decorations) -> None:
    crystals = [c for name in ("rock_salt", "rutile", "spinel") for c in decorations(name, 3)]
    one, two = collect_kinds(crystals, 1), collect_kinds(crystals, 2)
    assert [(k.members, k.elements) for k in one] == [(k.members, k.elements) for k in two]
