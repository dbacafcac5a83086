"""ASE databases and extended-xyz files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.readers.raw import ColumnMap, RawCrystal, clean_split
from sse_diffusion.data.rows import Rejection
from sse_diffusion.data.validation import ABSURD_VOLUME, NOT_PERIODIC

if TYPE_CHECKING:
    from ase import Atoms


def read_extxyz(
    path: Path, columns: ColumnMap, fields: tuple[str, ...], limit: int | None, progress: bool
) -> Iterator[RawCrystal | Rejection]:
    """Stream the frames of an extended-xyz file; id, split and labels come from the comment line.

    Raises:
        DataError: a frame cannot be parsed (truncated file); the frame number is named.
    """
    from ase.io import iread

    frames = iread(str(path), index=slice(0, limit), format="extxyz")
    row = 0
    with tqdm(desc="reading frames", unit="frame", disable=not progress, leave=False) as bar:
        while True:
            try:
                atoms = next(frames)
            except StopIteration:
                return
            except (ValueError, KeyError, IndexError, OSError, RuntimeError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                hint = "the file may be truncated: copy it again, or cut it after the last whole frame"
                raise DataError(f"{path} cannot be read at frame {row}: {reason}", hint) from error
            yield _from_atoms(atoms, row, dict(atoms.info), columns, fields)
            row += 1
            bar.update()


def read_ase_db(
    path: Path, columns: ColumnMap, fields: tuple[str, ...], limit: int | None, progress: bool
) -> Iterator[RawCrystal | Rejection]:
    """Stream the rows of an ASE database; id, split and labels come from its key-value pairs.

    Raises:
        DataError: the file is no ASE database.
    """
    import sqlite3

    from ase.db import connect

    try:
        with connect(str(path)) as database:
            total = database.count()
            selection = database.select(limit=limit)
            for row, entry in enumerate(tqdm(selection, total=total, desc="reading", disable=not progress, leave=False)):
                info = {**dict(entry.data), **entry.key_value_pairs}
                info.setdefault(columns.id, f"db-{entry.id}")
                yield _from_atoms(entry.toatoms(), row, info, columns, fields)
    except (sqlite3.Error, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an ASE database: {error}", "check it with: ase db " + path.name) from error


def _from_atoms(
    atoms: Atoms, row: int, info: dict[str, Any], columns: ColumnMap, fields: tuple[str, ...]
) -> RawCrystal | Rejection:
    name = str(info.get(columns.id, info.get("id", "")))
    if not atoms.pbc.all():
        return Rejection(row, name or f"row-{row}", NOT_PERIODIC, f"periodic only along {[bool(p) for p in atoms.pbc]}")
    lattice = np.asarray(atoms.cell.array, dtype=np.float64)
    if abs(np.linalg.det(lattice)) < 1e-6:
        return Rejection(row, name or f"row-{row}", ABSURD_VOLUME, "the cell has no volume")
    values = {key: info[key] for key in fields if key in info}
    frac = atoms.get_scaled_positions(wrap=False)
    return RawCrystal(row, name, atoms.numbers.astype(np.int64), frac, lattice, values, clean_split(info.get(columns.split)))
