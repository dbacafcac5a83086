"""Read any supported table of crystals into validated rows: Parquet, CSV, a folder of CIFs, an ASE database, extended xyz."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError, DataError, did_you_mean
from sse_diffusion.data.readers.ase_files import read_ase_db, read_extxyz
from sse_diffusion.data.readers.cif import read_cif_folder
from sse_diffusion.data.readers.columnar import read_columnar
from sse_diffusion.data.readers.raw import ColumnMap, RawCrystal, Reader
from sse_diffusion.data.rows import CrystalRow, Rejection, TableReport
from sse_diffusion.data.validation import DUPLICATE_ID, ValidationConfig, validate_crystals

__all__ = ["ColumnMap", "CrystalRow", "LabelSource", "Rejection", "TableReport", "find_table", "label_source", "read_table"]

log = logging.getLogger(__name__)

READERS: dict[str, Reader] = {
    ".parquet": read_columnar,
    ".pq": read_columnar,
    ".csv": read_columnar,
    ".csv.gz": read_columnar,
    ".csv.xz": read_columnar,
    ".cif": read_cif_folder,
    ".db": read_ase_db,
    ".extxyz": read_extxyz,
    ".xyz": read_extxyz,
}
"""Reader of each file name ending; a folder is read as CIFs."""

UNIT_SCALE: dict[str, float] = {
    "": 1.0,
    "eV": 1.0,
    "eV/atom": 1.0,
    "meV": 1e-3,
    "meV/atom": 1e-3,
    "kJ/mol": 1.0 / 96.48533212,
    "Ry": 13.605693123,
    "GPa": 1.0,
    "A^3/atom": 1.0,
    "S/cm": 1.0,
    "mS/cm": 1e-3,
    "S/m": 1e-2,
}
"""Factor from a column's unit to the unit this package uses for that quantity."""


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """Where a label comes from.

    Attributes:
        column: column (or info key) of the table.
        unit: unit the column is written in, one of :data:`UNIT_SCALE`; numbers are converted to eV, GPa or S/cm.
    """

    column: str
    unit: str = ""

    def value(self, fields: Mapping[str, Any]) -> float | str:
        """The label of one row: number in the package's unit, text as it is, NaN when absent or no number."""
        raw = fields.get(self.column)
        if isinstance(raw, str):
            try:
                return float(raw) * UNIT_SCALE[self.unit]
            except ValueError:
                return raw
        try:
            return math.nan if raw is None else float(raw) * UNIT_SCALE[self.unit]
        except (TypeError, ValueError):
            return math.nan


@dataclass
class _Columns:
    """Raw crystals gathered for vectorised validation."""

    crystals: list[RawCrystal] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


NO_TABLE = "give the path of your table: data.path=/path/to/table.parquet (or use data=prototypes, which needs no file)"


def find_table(path: str | Path, hint: str = NO_TABLE) -> Path:
    """Resolve a path against the working folder, then against the project folder.

    Args:
        path: file or folder.
        hint: what the user can do when nothing is there.

    Raises:
        DataError: nothing is there.
    """
    wanted = Path(path).expanduser()
    places = [wanted] if wanted.is_absolute() else [Path.cwd() / wanted, Path(__file__).resolve().parents[2] / wanted]
    for place in places:
        if place.exists():
            return place.resolve()
    looked = " or ".join(str(place) for place in dict.fromkeys(places))
    raise DataError(f"no data at {looked}", hint)


def read_table(
    path: str | Path,
    labels: Mapping[str, str | Mapping[str, str]] | None = None,
    limit: int | None = None,
    progress: bool = True,
    columns: ColumnMap | None = None,
    validation: ValidationConfig | None = None,
) -> TableReport:
    """Read and validate a table; every row ends up in ``rows`` or in ``rejected``.

    Args:
        path: .parquet, .csv(.gz, .xz), .db (ASE), .xyz / .extxyz, one .cif, or a folder with .cif files.
        labels: label name -> column, or label name -> {column, unit}. A label that a row lacks becomes NaN and is counted.
        limit: read only the first rows.
        progress: show progress bars.
        columns: names of the structural columns.
        validation: limits of a believable crystal.

    Raises:
        DataError: the file is absent, truncated, of an unknown kind, empty, or lacks a required column.
        ConfigError: a label has an unknown unit or no column.
    """
    start = time.perf_counter()
    source = find_table(path)
    sources = {name: label_source(name, value) for name, value in (labels or {}).items()}
    wanted = tuple(dict.fromkeys(s.column for s in sources.values()))
    reader = _reader_of(source)
    gathered = _gather(reader(source, columns or ColumnMap(), wanted, limit, progress))
    if not gathered.crystals and not gathered.rejected:
        raise DataError(f"{source} holds no row", "check that the file was written completely")
    rows = _accept(gathered, sources, validation or ValidationConfig())
    seen = set().union(*(crystal.fields for crystal in gathered.crystals)) if gathered.crystals else set()
    notes = tuple(f"no row has the column {c!r}: label is NaN everywhere" for c in wanted if c not in seen)
    for note in notes:
        log.warning("%s: %s", source.name, note)
    rejected = sorted(gathered.rejected, key=lambda r: r.row)
    report = TableReport(str(source), rows, rejected, time.perf_counter() - start, notes)
    log.info("%s", report.summary())
    return report


def label_source(name: str, value: str | Mapping[str, str]) -> LabelSource:
    """A label of a data config: column, or {column, unit}.

    Raises:
        ConfigError: unknown unit or key, or no column.
    """
    source = LabelSource(column=value) if isinstance(value, str) else build(LabelSource, value)
    if source.unit not in UNIT_SCALE:
        raise ConfigError(f"label {name!r}: unknown unit {source.unit!r}", did_you_mean(source.unit, UNIT_SCALE))
    return source


def _reader_of(source: Path) -> Reader:
    if source.is_dir():
        return read_cif_folder
    for ending in sorted(READERS, key=len, reverse=True):
        if source.name.lower().endswith(ending):
            return READERS[ending]
    raise DataError(f"{source} has an unknown file type", f"known: {', '.join(READERS)}, or a folder of CIFs")


def _gather(stream: Iterable[RawCrystal | Rejection]) -> _Columns:
    """Split a reader's stream; rows without a name get their number, a repeated name is refused."""
    gathered, names = _Columns(), set()
    for item in stream:
        if isinstance(item, Rejection):
            gathered.rejected.append(item)
            continue
        crystal = item if item.id else replace(item, id=f"row-{item.row}")
        if crystal.id in names:
            gathered.rejected.append(Rejection(crystal.row, crystal.id, DUPLICATE_ID, "an earlier row has the same id"))
            continue
        names.add(crystal.id)
        gathered.crystals.append(crystal)
    return gathered


def _accept(gathered: _Columns, sources: Mapping[str, LabelSource], config: ValidationConfig) -> list[CrystalRow]:
    """Validate the gathered crystals; refused ones move to ``gathered.rejected``."""
    crystals = gathered.crystals
    lattice = np.stack([c.lattice for c in crystals]) if crystals else np.zeros((0, 3, 3))
    findings = validate_crystals([c.species for c in crystals], [c.frac for c in crystals], lattice, config)
    rows = []
    for crystal, finding in zip(crystals, findings, strict=True):
        if finding is not None:
            gathered.rejected.append(Rejection(crystal.row, crystal.id, finding.reason, finding.detail))
            continue
        frac = crystal.frac % 1.0
        frac[frac >= 1.0] = 0.0  # -1e-17 % 1.0 rounds to 1.0
        values = {name: source.value(crystal.fields) for name, source in sources.items()}
        rows.append(CrystalRow(crystal.id, crystal.species, frac, crystal.lattice, values, crystal.split))
    return rows
