"""Symmetry search on pymatgen structures by moyo, which refuses broken input with an exception where other libraries crash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class FoundSymmetry:
    """What a symmetry search found.

    Attributes:
        number: space-group number; 0 when none can be claimed (atoms on top of each other, a degenerate cell).
        primitive_numbers: atomic numbers of the primitive cell (of the cell as given when nothing was found).
    """

    number: int
    primitive_numbers: tuple[int, ...]


MIN_PLANE_SPACING_A, MAX_EDGE_A = 0.8, 200.0


def is_searchable(structure: Structure, symprec: float) -> bool:
    """Whether a symmetry search means anything: finite, not flat, no two atoms within the tolerance of each other.

    Symmetry libraries run away in memory or crash on cells that fail this.
    """
    if not is_searchable_cell(structure.lattice.matrix) or not np.isfinite(structure.frac_coords).all():
        return False
    distances = structure.distance_matrix[np.triu_indices(len(structure), 1)]
    return bool(distances.min(initial=np.inf) > max(2 * symprec, 0.05))


def is_searchable_cell(lattice_A: NDArray[np.float64]) -> bool:
    """Whether a cell (3, 3) of row vectors in Angstrom is finite, not flat and not endless: one half of :func:`is_searchable`."""
    if not np.isfinite(lattice_A).all() or np.abs(lattice_A).max() > MAX_EDGE_A:
        return False
    volume = abs(np.linalg.det(lattice_A))
    areas = [np.linalg.norm(np.cross(lattice_A[i - 2], lattice_A[i - 1])) for i in range(3)]
    return bool(volume >= 1.0 and volume / max(areas) >= MIN_PLANE_SPACING_A)


def find_symmetry(structure: Structure, symprec: float) -> FoundSymmetry:
    """Space group and primitive cell of an ordered structure.

    Args:
        structure: any cell.
        symprec: distance tolerance, Angstrom.
    """
    from moyopy import Cell, MoyoDataset

    numbers = [int(z) for z in structure.atomic_numbers]
    as_given = FoundSymmetry(0, tuple(numbers))
    if not is_searchable(structure, symprec):
        return as_given
    lattice = structure.lattice.matrix
    try:
        dataset = MoyoDataset(Cell(lattice.tolist(), structure.frac_coords.tolist(), numbers), symprec=symprec)
    except (ValueError, RuntimeError):
        return as_given
    return FoundSymmetry(int(dataset.number), tuple(int(z) for z in dataset.prim_std_cell.numbers))
