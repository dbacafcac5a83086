"""Compact supercells of a wanted number of atoms, for molecular dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.errors import ConfigError

if TYPE_CHECKING:
    from pymatgen.core import Structure

_STEPS = np.array(list(product((-1, 0, 1), repeat=9)), dtype=np.int64).reshape(-1, 3, 3)
_IMAGES = np.array([t for t in product((-2, -1, 0, 1, 2), repeat=3) if t > (0, 0, 0)], dtype=np.float64)
_ROUNDS = 5
"""Of the pairwise reduction; three suffice for 150,000 random supercells."""


@dataclass(frozen=True)
class Supercell:
    """A supercell and how it was made.

    Attributes:
        structure: the supercell.
        multiple: how many of the given cells it holds.
        shortest_image_A: shortest lattice translation, Angstrom: how far an atom is from its own image.
    """

    structure: Structure
    multiple: int
    shortest_image_A: float


def compact_supercell(structure: Structure, min_atoms: int = 50, max_atoms: int = 64, hard_max_atoms: int = 96) -> Supercell:
    """The supercell within the wanted size whose shortest lattice translation is longest.

    Around the ideal matrix ``L inv(cell)`` of a cube of edge L all integer matrices within one step per entry are tried, so
    skewed primitive cells (fcc, rhombohedral) give cubes too. When no multiple of the cell lies within
    ``min_atoms``-``max_atoms``, the smallest multiple up to ``hard_max_atoms`` is taken, else the largest that stays below
    ``min_atoms``; a cell that is larger than ``hard_max_atoms`` by itself is used as it is.

    Args:
        structure: ordered crystal, usually a primitive cell.
        min_atoms, max_atoms, hard_max_atoms: numbers of atoms, inclusive.

    Raises:
        ConfigError: the three numbers are not in increasing order.
    """
    if not 1 <= min_atoms <= max_atoms <= hard_max_atoms:
        raise ConfigError(
            f"supercell sizes {min_atoms}, {max_atoms}, {hard_max_atoms} are not increasing",
            "min_atoms <= max_atoms <= hard_max_atoms",
        )
    return compact_multiple(structure, _allowed_multiples(len(structure), min_atoms, max_atoms, hard_max_atoms))


def compact_multiple(structure: Structure, multiples: Sequence[int]) -> Supercell:
    """The supercell of any of these multiples (rising numbers of cells) whose shortest lattice translation is longest.

    Args:
        structure: any crystal, with or without partial occupancy.
        multiples: at least one; the first wins ties.
    """
    reduced = structure.get_reduced_structure(reduction_algo="LLL")
    cell = np.asarray(reduced.lattice.matrix, dtype=np.float64)
    best_matrix, best_multiple, best_length = np.eye(3, dtype=np.int64), 1, -1.0
    if 1 in multiples:
        best_length = float(_shortest_translation(cell[None])[0])
    for multiple in (m for m in multiples if m > 1):
        matrices = _matrices(cell, multiple)
        lengths = _shortest_translation(matrices @ cell)
        # ties (one cell in several orientations) go to the least skewed matrix, so that the choice is stable
        first = np.lexsort((np.abs(matrices).sum(axis=(1, 2)), -np.round(lengths, 3)))[0]
        if lengths[first] > best_length + 1e-3:
            best_matrix, best_multiple, best_length = matrices[first], multiple, float(lengths[first])
    supercell = reduced.make_supercell(best_matrix, in_place=False).get_reduced_structure(reduction_algo="LLL")
    return Supercell(supercell, best_multiple, best_length)


def supercell_atoms(n_atoms: int, min_atoms: int, max_atoms: int, hard_max_atoms: int) -> int:
    """Most atoms that :func:`compact_supercell` can choose for a cell of ``n_atoms``, without making the cell."""
    return n_atoms * _allowed_multiples(n_atoms, min_atoms, max_atoms, hard_max_atoms)[-1]


def _allowed_multiples(n_atoms: int, min_atoms: int, max_atoms: int, hard_max_atoms: int) -> list[int]:
    """Numbers of primitive cells that meet the size limits, by falling preference of rule."""
    within = [m for m in range(1, max_atoms // n_atoms + 1) if m * n_atoms >= min_atoms]
    if within:
        return within
    smallest = -(-min_atoms // n_atoms)
    if smallest * n_atoms <= hard_max_atoms:
        return [smallest]
    return [max(1, hard_max_atoms // n_atoms)]


def _matrices(cell: np.ndarray, multiple: int) -> np.ndarray:
    """(K, 3, 3) integer matrices of determinant ``multiple`` near the cube of that volume; never empty for multiple >= 1."""
    edge = (multiple * abs(np.linalg.det(cell))) ** (1 / 3)
    ideal = edge * np.linalg.inv(cell)
    if np.linalg.det(cell) < 0:
        ideal = -ideal
    trials = np.rint(ideal).astype(np.int64)[None] + _STEPS
    a, b, c = trials[:, 0], trials[:, 1], trials[:, 2]
    found = trials[np.einsum("ki,ki->k", a, np.cross(b, c)) == multiple]
    divisors = [d for d in range(1, multiple + 1) if multiple % d == 0]
    diagonal = [np.diag(d) for d in product(divisors, repeat=3) if np.prod(d) == multiple]
    return np.concatenate([found, np.array(diagonal, dtype=np.int64)])


def _shortest_translation(cells: np.ndarray) -> np.ndarray:
    """(K,) shortest non-zero lattice translation of (K, 3, 3) cells.

    The vectors are reduced in pairs first (Gauss), after which images up to two cells away hold the shortest. Of a skewed cell it
    may be many cells away, and a search for the longest one would find just those that are not seen.
    """
    basis = np.array(cells, dtype=np.float64)
    for _ in range(_ROUNDS):
        for i, j in permutations(range(3), 2):
            along = np.einsum("ki,ki->k", basis[:, i], basis[:, j]) / np.square(basis[:, j]).sum(axis=1)
            basis[:, i] -= np.rint(along)[:, None] * basis[:, j]
    vectors = np.einsum("tj,kji->kti", _IMAGES, basis)
    return np.sqrt(np.einsum("kti,kti->kt", vectors, vectors).min(axis=1))
