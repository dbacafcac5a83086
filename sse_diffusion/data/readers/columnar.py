"""Parquet and CSV tables, with cell and coordinate columns or with a CIF column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.readers.cif import parse_cif
from sse_diffusion.data.readers.raw import ColumnMap, RawCrystal, clean_split, lattice_from_parameters
from sse_diffusion.data.rows import Rejection
from sse_diffusion.data.validation import UNREADABLE

if TYPE_CHECKING:
    import pandas as pd


def read_columnar(
    path: Path, columns: ColumnMap, fields: tuple[str, ...], limit: int | None, progress: bool
) -> Iterator[RawCrystal | Rejection]:
    """Stream a Parquet or CSV table.

    Raises:
        DataError: the file is truncated or no table, or a required column is missing (the columns found are named).
    """
    table = load_columns(path, limit)
    names = _texts(table, columns.id)
    splits = table[columns.split].tolist() if columns.split in table else [None] * len(table)
    labels = {name: table[name].tolist() for name in fields if name in table}
    if columns.cif in table:
        yield from _rows_with_cif(table[columns.cif].tolist(), names, splits, labels, progress)
        return
    _require(path, table, (*columns.cell, columns.species, columns.frac))
    cell = np.column_stack([_numbers(table[name]) for name in columns.cell])
    lattice = lattice_from_parameters(cell)
    species, coords = table[columns.species].tolist(), table[columns.frac].tolist()
    for row in tqdm(range(len(table)), desc="reading", unit="crystal", disable=not progress, leave=False, mininterval=0.5):
        try:
            numbers = _array(species[row])
            if not np.array_equal(numbers, numbers.astype(np.int64)):
                raise ValueError(f"column {columns.species!r} holds numbers that are not whole")
            frac = _array(coords[row]).reshape(-1, 3)
        except (ValueError, TypeError) as error:
            yield Rejection(row, names[row] or f"row-{row}", UNREADABLE, str(error))
            continue
        values = {name: column[row] for name, column in labels.items()}
        yield RawCrystal(row, names[row], numbers.astype(np.int64), frac, lattice[row], values, clean_split(splits[row]))


def _rows_with_cif(
    texts: list[Any], names: list[str], splits: list[Any], labels: dict[str, list[Any]], progress: bool
) -> Iterator[RawCrystal | Rejection]:
    for row, text in enumerate(tqdm(texts, desc="reading CIFs", unit="crystal", disable=not progress, leave=False)):
        values = {name: column[row] for name, column in labels.items()}
        yield parse_cif(str(text), row, names[row], values, clean_split(splits[row]))


def load_columns(path: Path, limit: int | None = None) -> pd.DataFrame:
    """A Parquet or CSV table in memory.

    Raises:
        DataError: the file is truncated or no table.
    """
    import pandas as pd
    import pyarrow

    try:
        if path.suffix in (".parquet", ".pq"):
            table = pd.read_parquet(path)
            return table if limit is None else table.head(limit)
        table = pd.read_csv(path, nrows=limit, low_memory=False)
        if limit is None and _cut_short(path, table):
            raise EOFError(f"the last row (row {len(table) - 1}) ends in the middle")
        return table
    except (ValueError, OSError, EOFError, pyarrow.ArrowException, pd.errors.ParserError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "it may be truncated: copy or download it again, and compare its size or checksum with the original"
        raise DataError(f"{path} cannot be read as a {path.suffix.lstrip('.')} table: {first_line}", hint) from error


def _cut_short(path: Path, table: pd.DataFrame) -> bool:
    """A CSV without a final line break whose last row lacks its last field."""
    if path.suffix != ".csv" or not len(table):
        return False
    with path.open("rb") as handle:
        handle.seek(-1, 2)
        return handle.read(1) not in b"\r\n" and bool(table.iloc[-1].isna().iloc[-1])


def _require(path: Path, table: pd.DataFrame, needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in table]
    if missing:
        found = ", ".join(map(str, table.columns))
        hint = "map your names in the data config, e.g. data.columns.species=my_column, or give a column 'cif' with CIF text"
        raise DataError(f"{path} lacks column(s) {', '.join(missing)}; columns found: {found}", hint)


def _texts(table: pd.DataFrame, name: str) -> list[str]:
    if name not in table:
        return [""] * len(table)
    return ["" if value is None or value != value else str(value) for value in table[name].tolist()]


def _numbers(column: pd.Series) -> NDArray[np.float64]:
    """Column as floats; text that is no number becomes NaN (and the row is refused as non-finite)."""
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)


def _array(value: Any) -> NDArray[np.float64]:
    """A cell of a list column: an array, a list, or text such as ``[3, 17]`` or ``3 17``."""
    if isinstance(value, str):
        text = value.strip()
        value = json.loads(text) if text.startswith("[") and "," in text else [float(v) for v in text.strip("[]").split()]
    if value is None or np.ndim(value) == 0:
        raise ValueError(f"a list of numbers was expected, found {value!r}")
    return np.asarray(value, dtype=np.float64).reshape(-1)
