"""Read a run folder of ``sse design``; whatever is missing becomes a note, so that an unfinished run can still be reported."""

from __future__ import annotations

import csv
import json
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.errors import DataError

if TYPE_CHECKING:
    from pymatgen.core import Structure

log = logging.getLogger(__name__)

STAGES = (
    "sample",
    "structure",
    "composition",
    "constraints",
    "unique",
    "novel",
    "predict",
    "static",
    "relax",
    "hull",
    "window",
    "disagreement",
    "mechanics",
    "phonons",
    "md_gate",
    "transport",
    "report",
)
"""Stage names in the order a candidate meets them."""


@dataclass(frozen=True)
class RunFolder:
    """What a run left behind.

    Attributes:
        path: the folder.
        summary: ``summary.json`` (empty when missing).
        rows: ``candidates.csv`` as text cells, in file order.
        cifs: CIF text per candidate id.
        structures: the crystal of each CIF that could be parsed.
        md: ``md/<id>/md.json`` per candidate id.
        notes: one sentence for each thing that is missing or unreadable.
    """

    path: Path
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)
    cifs: dict[str, str] = field(default_factory=dict)
    structures: dict[str, Structure] = field(default_factory=dict)
    md: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def survivors(self) -> list[dict[str, str]]:
        """Rows that have a CIF: mobile in MD first, then by energy above the hull."""
        alive = [row for row in self.rows if row.get("id") in self.cifs]
        return sorted(alive, key=lambda r: (not truth(r.get("md_mobile")), number(r.get("e_above_hull_eV_per_atom"), math.inf)))


def read_run(path: str | Path) -> RunFolder:
    """Read everything the report shows.

    Raises:
        DataError: the folder does not exist, or holds neither ``summary.json`` nor ``candidates.csv``.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder", "give the out= folder of a finished or interrupted `sse design` run")
    if not any((path / name).is_file() for name in ("summary.json", "candidates.csv")):
        raise DataError(
            f"{path} holds neither summary.json nor candidates.csv", "give the out= folder of an `sse design` run as input="
        )
    notes: list[str] = []
    run = RunFolder(
        path=path, summary=_read_json(path / "summary.json", notes), rows=_read_rows(path / "candidates.csv", notes), notes=notes
    )
    for file in sorted((path / "cifs").glob("*.cif")):
        run.cifs[file.stem] = file.read_text(encoding="utf-8", errors="replace")
        structure = _parse_cif(file, notes)
        if structure is not None:
            run.structures[file.stem] = structure
    ids = {row.get("id") for row in run.rows}  # an older run in the same folder may have left others
    for file in sorted((path / "md").glob("*/md.json")):
        record = _read_json(file, notes)
        if record and (not run.rows or file.parent.name in ids):
            run.md[file.parent.name] = record
    if not run.cifs:
        notes.append("No candidate has survived so far: there is no CIF in cifs/.")
    if not run.md:
        notes.append("No molecular dynamics was run, so nothing is known about ion mobility.")
    return run


def truth(cell: object) -> bool | None:
    """True or False for a CSV cell ``true``/``false``; None when it is empty or anything else."""
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(str(cell).strip().lower())


def number(cell: object, default: float = math.nan) -> float:
    """The finite number in a cell, else ``default``."""
    try:
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default
    return value if math.isfinite(value) else default


def record_of(cell: object) -> dict[str, Any]:
    """The JSON object itself; an empty one for anything else."""
    return cell if isinstance(cell, dict) else {}


def _read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    """A JSON object, or an empty one with a note."""
    if not path.is_file():
        notes.append(f"{path.name} is missing; the run may still be under way.")
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        notes.append(f"{path.name} could not be read ({error}); its part of this page is empty.")
        return {}
    return record_of(record)


def _read_rows(path: Path, notes: list[str]) -> list[dict[str, str]]:
    """Rows of the candidate table; empty with a note when the file is missing."""
    if not path.is_file():
        notes.append("candidates.csv is missing, so there is no table of candidates.")
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as handle:
        return [{k: v or "" for k, v in row.items() if k is not None} for row in csv.DictReader(handle)]


def _parse_cif(path: Path, notes: list[str]) -> Structure | None:
    """The crystal of a CIF; None with a note when it cannot be parsed."""
    import warnings

    from pymatgen.core import Structure

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Structure.from_file(path)
    except (ValueError, KeyError, IndexError, TypeError, AssertionError) as error:
        log.warning("unreadable CIF %s: %s", path, error)
        notes.append(f"{path.name} could not be parsed ({error}); its picture is missing.")
        return None
