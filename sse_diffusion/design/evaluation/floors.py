"""What chance reaches: random coordinates in the true cell, and in the true group, cell and orbits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.orbits import parse_orbits
from sse_diffusion.data.rows import CrystalRow
from sse_diffusion.verification.metrics.match import in_parallel

if TYPE_CHECKING:
    from pymatgen.core import Structure

TRUE_CELL, TRUE_GENE = 0, 1
"""Streams of the random numbers of the two floors."""


def true_orbits(rows: Sequence[CrystalRow], workers: int = 1) -> list[Orbits | None]:
    """Symmetry description of each row; ``None`` where no tolerance reproduces it."""
    return in_parallel(_parse, rows, workers, "symmetry of the truth")


def _parse(row: CrystalRow) -> Orbits | None:
    try:
        return parse_orbits(row.species, row.frac, row.lattice)
    except DataError:
        return None


def random_in_cell(truth: Structure, seed: int, row: int, shot: int) -> Structure:
    """All atoms of the true (primitive) cell at random coordinates: P1."""
    from pymatgen.core import Structure

    frac = np.random.default_rng([seed, row, shot, TRUE_CELL]).random((len(truth), 3))
    return Structure(truth.lattice, truth.species, frac)


def random_in_orbits(truth: Orbits, seed: int, row: int, shot: int) -> Orbits:
    """The true group, cell and occupied Wyckoff positions with random free coordinates: what symmetry alone gives."""
    draw = np.random.default_rng([seed, row, shot, TRUE_GENE]).random(truth.free.shape)
    return Orbits(truth.group, truth.cell, truth.species, truth.wyckoff, draw * wyckoff_table().free[truth.wyckoff])
