"""Soft labels: conductivities that dynamics computed, each with its own standard deviation, as rows beside the measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.results import Status
from sse_diffusion.predictors.conductivity.tables import ConductivityRow, parse_composition, parse_disordered

if TYPE_CHECKING:
    from pymatgen.core import Structure

COLUMNS = ("id", "composition", "structure", "temperature_K", "log10_sigma", "sd", "status")
"""Of a table of soft labels. ``structure``: a CIF beside the table, or empty; ``log10_sigma`` of S/cm with its standard deviation
``sd`` (of an upper bound: empty); ``status``: ok, upper_bound, or unconverged (its standard deviation counts twice)."""
LABELS = (Status.OK, Status.UNCONVERGED, Status.UPPER_BOUND)
UNCONVERGED_FACTOR = 2.0


def read_soft_labels(path: str | Path) -> list[ConductivityRow]:
    """The labels of a table with COLUMNS, as rows whose source is the file's name.

    Raises:
        DataError: no such file, a column is missing, a cell cannot be read, or no row is a label.
    """
    import pandas as pd

    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"{file} does not exist", f"give a CSV with the columns {', '.join(COLUMNS)}")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise DataError(f"{file} has no column {missing[0]}", f"needed: {', '.join(COLUMNS)}")
    rows = [_row(record, file) for record in table.to_dict("records") if record["status"] in LABELS]
    if not rows:
        raise DataError(f"{file} holds no label", f"rows count whose status is {', '.join(LABELS)}")
    return rows


def _row(record: Mapping[str, str], file: Path) -> ConductivityRow:
    limit = record["status"] == Status.UPPER_BOUND
    composition = parse_composition(record["composition"])
    try:
        temperature, value = float(record["temperature_K"]), float(record["log10_sigma"])
        deviation = 0.0 if limit and not record["sd"] else float(record["sd"])
    except ValueError as error:
        raise DataError(f"{file}, row {record['id']}: {error}", "temperature_K, log10_sigma and sd are numbers") from error
    if composition is None or not (temperature > 0 and math.isfinite(value) and 0 <= deviation < math.inf):
        raise DataError(f"{file}: row {record['id']} is no label", "it needs a formula, T > 0, a finite log10_sigma, sd >= 0")
    deviation *= UNCONVERGED_FACTOR if record["status"] == Status.UNCONVERGED else 1.0
    structure = _structure(file.parent / record["structure"]) if record["structure"] else None
    return ConductivityRow(
        id=record["id"],
        composition=composition,
        structure=structure,
        temperature_K=temperature,
        log10_sigma=value,
        limit=limit,
        sd=deviation,
        source=file.stem,
    )


def _structure(file: Path) -> Structure:
    if not file.is_file():
        raise DataError(f"{file} does not exist", "the column `structure` names CIFs relative to the table")
    found = parse_disordered(file.read_text(errors="replace"))
    if isinstance(found, str):
        raise DataError(f"{file} cannot be read: {found}", "leave `structure` empty to use the composition alone")
    return found
