"""The reference crystals of an evaluation: any table the package reads, filtered, with what was refused."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import DataError
from sse_diffusion.core.provenance import sha256_of_file
from sse_diffusion.data.readers.raw import ColumnMap
from sse_diffusion.data.rows import CrystalRow, Rejection
from sse_diffusion.data.tables import find_table, read_table
from sse_diffusion.data.validation import ValidationConfig

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pymatgen.core import Structure

MILD = ValidationConfig(min_distance_A=0.1, min_volume_A3_per_atom=0.5, max_volume_A3_per_atom=1000.0, max_atomic_number=118)
"""What a readable reference row is: training limits would drop sparse or heavy crystals and flatter the rate."""
ANYTHING = ValidationConfig(
    min_distance_A=0.0, min_volume_A3_per_atom=0.0, max_volume_A3_per_atom=math.inf, max_atomic_number=118
)
"""For crystals that are to be judged: overlapping atoms are a verdict, not a reason to drop the row."""


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """Which crystals to compare with.

    Attributes:
        path: Parquet, CSV, ASE database, extxyz, or a folder of CIFs; ``null`` for none.
        split: only rows of this split (column ``split``); ``null`` for all.
        min_sites, max_sites: only rows with so many sites in the cell as given; ``null`` for no bound.
        columns: names of the structural columns, see :class:`sse_diffusion.data.tables.ColumnMap`.
        cifs: zip or folder of CIFs beside a table of measurements; ``task=predictor`` only.
    """

    path: str | None = None
    split: str | None = None
    min_sites: int | None = None
    max_sites: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    cifs: str | None = None


@dataclass(frozen=True)
class Reference:
    """Readable rows of a table.

    Attributes:
        source: where they come from.
        sha256: of the file (of the ids, for a folder).
        rows: the chosen crystals.
        positions: their numbers among all readable rows of the table.
        n_table: readable rows of the whole table.
        rejected: rows of the whole table that are disordered or cannot be read.
    """

    source: str
    sha256: str
    rows: list[CrystalRow]
    positions: list[int]
    n_table: int
    rejected: list[Rejection]

    def __len__(self) -> int:
        """Number of chosen crystals."""
        return len(self.rows)

    @cached_property
    def structures(self) -> list[Structure]:
        """pymatgen structures, cells as given."""
        return [structure_of(row) for row in self.rows]

    def draw(self, limit: int | None) -> Reference:
        """A random subset that depends on ``limit`` only; a smaller one is part of a larger one."""
        if limit is None or limit >= len(self):
            return self
        chosen = sorted(np.random.default_rng(0).permutation(len(self))[:limit].tolist())
        return replace(self, rows=[self.rows[i] for i in chosen], positions=[self.positions[i] for i in chosen])


def structure_of(row: CrystalRow) -> Structure:
    """One row as a pymatgen structure."""
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice(row.lattice), [int(z) for z in row.species], row.frac)


def read_reference(config: DictConfig | Mapping[str, object]) -> Reference | None:
    """The chosen rows of the reference table; ``None`` when no path is given.

    Raises:
        DataError: no such table, unreadable, or no row is left by the filters.
    """
    asked = build(ReferenceConfig, config)
    if asked.path is None:
        return None
    path = find_table(asked.path)
    report = read_table(path, columns=build(ColumnMap, asked.columns), validation=MILD)
    low, high = asked.min_sites or 0, asked.max_sites or math.inf
    positions = [i for i, row in enumerate(report.rows) if low <= row.n_atoms <= high and asked.split in (None, row.split)]
    if not positions:
        found = ", ".join(f"{name} ({n})" for name, n in report.splits().items()) or "none"
        raise DataError(
            f"no row of {path.name} is left by reference.split={asked.split}, sites {low} to {high}",
            f"{len(report.rows)} rows can be read; splits: {found}",
        )
    sha256 = _identity(path, report.rows)
    return Reference(str(asked.path), sha256, [report.rows[i] for i in positions], positions, len(report.rows), report.rejected)


def _identity(path: Path, rows: list[CrystalRow]) -> str:
    """SHA-256 of the file, or of all ids and cells of a folder."""
    if path.is_file():
        return sha256_of_file(path)
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.id.encode() + row.species.tobytes() + row.frac.tobytes() + row.lattice.tobytes())
    return digest.hexdigest()
