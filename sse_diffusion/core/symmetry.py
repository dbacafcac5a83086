"""Symmetry search on pymatgen structures by moyo, which refuses broken input with an exception where other libraries crash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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


def find_symmetry(structure: Structure, symprec: float) -> FoundSymmetry:
    """Space group and primitive cell of an ordered structure.

    Args:
        structure: any cell.
        symprec: distance tolerance, Angstrom.
    """
    from moyopy import Cell, MoyoDataset

    numbers = [int(z) for z in structure.atomic_numbers]
    as_given = FoundSymmetry(0, tuple(numbers))
    lattice = np.asarray(structure.lattice.matrix)
    if not np.isfinite(lattice).all() or abs(np.linalg.det(lattice)) < 1e-3 or not np.isfinite(structure.frac_coords).all():
        return as_given
    try:
        dataset = MoyoDataset(Cell(lattice.tolist(), structure.frac_coords.tolist(), numbers), symprec=symprec)
    except (ValueError, RuntimeError):
        return as_given
    return FoundSymmetry(int(dataset.number), tuple(int(z) for z in dataset.prim_std_cell.numbers))
