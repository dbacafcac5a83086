"""Labels that live in a second file, keyed by the id of the crystal: computed properties, your own measurements."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError, DataError, did_you_mean
from sse_diffusion.data.readers.columnar import load_columns
from sse_diffusion.data.rows import TableReport
from sse_diffusion.data.tables import LabelSource, find_table, label_source

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

PACKAGE = "package:"
"""Prefix of a path inside the installed package, e.g. ``package:thermo/assets/migration_barriers.csv.xz``."""


@dataclass(frozen=True, kw_only=True)
class ExtraLabels:
    """A file with labels.

    Attributes:
        path: .csv(.gz, .xz) or .parquet; looked up as the table is, or inside the package after :data:`PACKAGE`.
        labels: label name -> column or {column, unit}.
        id: column that names the crystal.
    """

    path: str
    labels: Mapping[str, Any]
    id: str = "id"


def with_extra_labels(report: TableReport, files: Sequence[Mapping[str, Any]]) -> TableReport:
    """The same rows with the labels of every file; a crystal that a file lacks gets NaN.

    Args:
        report: the table as read.
        files: nodes of :class:`ExtraLabels`.

    Raises:
        ConfigError: unknown key or unit, or a label that the table or an earlier file gives already.
        DataError: a file is absent or unreadable, lacks a column, or names a crystal twice.
    """
    for node in files:
        report = _attach(report, build(ExtraLabels, node))
    return report


def _attach(report: TableReport, extra: ExtraLabels) -> TableReport:
    taken = [name for name in extra.labels if report.rows and name in report.rows[0].labels]
    if taken:
        raise ConfigError(
            f"extra_labels: {', '.join(taken)} from {extra.path} is a label already", "take it out of one of the two"
        )
    sources = {name: label_source(name, value) for name, value in extra.labels.items()}
    path, table = _read(extra, sources)
    fields: dict[str, dict[str, Any]] = table.to_dict("index")
    rows = [
        replace(row, labels={**row.labels, **{n: s.value(fields.get(row.id, {})) for n, s in sources.items()}})
        for row in report.rows
    ]
    known = {row.id for row in rows} | {rejection.id for rejection in report.rejected}
    strangers = len(set(fields) - known)
    notes = (f"{path.name}: {strangers} of {len(table)} ids are not in the table",) if strangers else ()
    for name in sources:
        given = sum(not _is_missing(row.labels[name]) for row in rows)
        log.info("label %s: %d of %d crystals, from %s", name, given, len(rows), path.name)
    for note in notes:
        log.info("%s", note)
    return replace(report, rows=rows, notes=report.notes + notes)


def _is_missing(value: float | str) -> bool:
    return value == "" or (isinstance(value, float) and math.isnan(value))


def _read(extra: ExtraLabels, sources: Mapping[str, LabelSource]) -> tuple[Path, pd.DataFrame]:
    """The wanted columns, indexed by id as text."""
    hint = f"give the path of the file, or take {', '.join(extra.labels)} out of data.extra_labels"
    if extra.path.startswith(PACKAGE):
        path = Path(__file__).resolve().parents[1] / extra.path.removeprefix(PACKAGE)
        if not path.is_file():
            raise DataError(f"no data at {path}", hint)
    else:
        path = find_table(extra.path, hint)
    table = load_columns(path)
    for column in (extra.id, *(source.column for source in sources.values())):
        if column not in table:
            raise DataError(f"{path} has no column {column!r}", did_you_mean(column, map(str, table.columns)))
    table = table.set_index(table[extra.id].astype(str))
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()]
        raise DataError(f"{path} names {len(twice)} crystals more than once (first: {twice[0]})", "keep one row per crystal")
    return path, table[list(dict.fromkeys(source.column for source in sources.values()))]
