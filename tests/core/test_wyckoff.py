"""Facts of the International Tables, read off by hand, and the group axioms that every row of the table must obey."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.core.orbits import centring_vectors
from sse_diffusion.core.wyckoff import N_GROUPS, wyckoff_table

GROUPS = range(1, N_GROUPS + 1)


def wrapped(points: np.ndarray) -> set[tuple[float, ...]]:
    """Points of the torus as a set, exact to 1e-6."""
    return {tuple(p) for p in np.mod(np.round(np.mod(points, 1.0), 6), 1.0)}


def test_there_are_1731_positions_in_230_groups() -> None:
    table = wyckoff_table()
    assert len(table.group) == 1731
    assert np.array_equal(np.unique(table.group), np.arange(1, 231))
    assert len(table.positions(47)) == 27 and table.label(table.positions(47)[-1]) == "8A"


@pytest.mark.parametrize(
    ("group", "labels"),
    [
        (1, ["1a"]),
        (2, ["1a", "1b", "1c", "1d", "1e", "1f", "1g", "1h", "2i"]),
        (62, ["4a", "4b", "4c", "8d"]),
        (166, ["3a", "3b", "6c", "9d", "9e", "18f", "18g", "18h", "36i"]),
        (225, ["4a", "4b", "8c", "24d", "24e", "32f", "48g", "48h", "48i", "96j", "96k", "192l"]),
        (227, ["8a", "8b", "16c", "16d", "32e", "48f", "96g", "96h", "192i"]),
    ],
)
def test_letters_and_multiplicities_by_hand(group: int, labels: list[str]) -> None:
    table = wyckoff_table()
    assert [table.label(w) for w in table.positions(group)] == labels


def test_rock_salt_positions_by_hand() -> None:
    table = wyckoff_table()
    a, b, c = (table.images(w)[1] for w in list(table.positions(225))[:3])
    f_centring = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    assert wrapped(a) == wrapped(f_centring)
    assert wrapped(b) == wrapped(f_centring + 0.5)
    assert wrapped(c) == wrapped(np.concatenate([f_centring + 0.25, f_centring + 0.75]))


def test_diamond_is_in_origin_choice_2() -> None:
    table = wyckoff_table()
    a, _, c = list(table.positions(227))[:3]
    assert (0.125, 0.125, 0.125) in wrapped(table.images(a)[1])
    assert (0.0, 0.0, 0.0) in wrapped(table.images(c)[1])  # the centre of inversion lies at the origin


@pytest.mark.parametrize(("group", "lattice_points"), [(1, 1), (5, 2), (38, 2), (44, 2), (146, 3), (166, 3), (225, 4), (221, 1)])
def test_centring_by_hand(group: int, lattice_points: int) -> None:
    assert wyckoff_table().centring[group] == lattice_points == len(centring_vectors(group))


def test_multiplicity_counts_the_images_and_divides_the_general_one() -> None:
    table = wyckoff_table()
    assert np.array_equal(np.diff(table.image_start), table.multiplicity)
    for group in GROUPS:
        general = table.positions(group)[-1]
        assert table.dof[general] == 3
        assert (table.multiplicity[general] % table.multiplicity[list(table.positions(group))] == 0).all()


def test_free_coordinates_are_as_many_as_the_rank() -> None:
    table = wyckoff_table()
    first = table.rotation[table.image_start[:-1]]
    rank = np.linalg.matrix_rank(first)
    assert np.array_equal(rank, table.dof)
    assert np.array_equal(table.free.sum(axis=1), table.dof)
    np.testing.assert_array_equal(table.left_inverse @ first, np.eye(3) * table.free[:, None, :])


def test_images_of_a_generic_point_are_distinct() -> None:
    """Exactly ``multiplicity`` atoms per orbit, for all 1731 positions."""
    table, u = wyckoff_table(), np.array([0.1234, 0.2718, 0.3819])
    for position in range(len(table.group)):
        rotation, translation = table.images(position)
        assert len(wrapped(rotation @ u + translation)) == table.multiplicity[position], table.label(position)


def test_positions_of_a_group_do_not_describe_the_same_points() -> None:
    """Two letters never give the same set of images: what is generated has one description."""
    table, u = wyckoff_table(), np.array([0.1234, 0.2718, 0.3819])
    for group in GROUPS:
        images = [
            frozenset(wrapped(np.einsum("mij,j->mi", *(table.images(w)[0], u)) + table.images(w)[1]))
            for w in table.positions(group)
        ]
        assert len(set(images)) == len(images), group


@pytest.mark.parametrize("group", [1, 2, 5, 14, 29, 43, 62, 82, 96, 122, 141, 148, 152, 161, 167, 186, 198, 205, 217, 227, 230])
def test_general_position_is_a_group(group: int) -> None:
    """Closed under composition modulo lattice translations, with identity."""
    table = wyckoff_table()
    rotation, translation = table.images(table.positions(group)[-1])

    def key(r: np.ndarray, t: np.ndarray) -> tuple[int, ...]:
        return (*np.round(r).astype(int).ravel(), *(np.round(24 * t).astype(int) % 24))

    members = {key(r, t) for r, t in zip(rotation, translation, strict=True)}
    assert key(np.eye(3), np.zeros(3)) in members
    assert all(abs(round(np.linalg.det(r))) == 1 for r in rotation)
    generators = range(min(len(rotation), 12))
    for i in generators:
        for r, t in zip(rotation, translation, strict=True):
            assert key(rotation[i] @ r, rotation[i] @ t + translation[i]) in members
