"""CIF files and CIF text. Partial occupancy is refused with the site named: these models need ordered crystals."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.readers.raw import ColumnMap, RawCrystal, clean_split
from sse_diffusion.data.rows import Rejection
from sse_diffusion.data.validation import PARTIAL_OCCUPANCY, UNKNOWN_ELEMENT, UNREADABLE

if TYPE_CHECKING:
    from pymatgen.core import Structure

LABEL_FILE = "labels.csv"
"""Optional table beside the CIFs: column ``id`` (file name without .cif), ``split``, and label columns."""


def read_cif_folder(
    path: Path, columns: ColumnMap, fields: tuple[str, ...], limit: int | None, progress: bool
) -> Iterator[RawCrystal | Rejection]:
    """Stream ``*.cif`` below a folder (sorted), or one CIF file; labels come from ``labels.csv`` beside them when it exists.

    Raises:
        DataError: the folder holds no CIF, or ``labels.csv`` has no id column.
    """
    root = path if path.is_dir() else path.parent
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".cif") if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no .cif file", "point data.path at a folder with CIF files")
    table = _label_table(root / LABEL_FILE, columns)
    for row, file in enumerate(tqdm(files[:limit], desc="reading CIFs", unit="file", disable=not progress, leave=False)):
        name = str(file.relative_to(root).with_suffix(""))
        record = table.get(name, {})
        try:
            text = file.read_text(errors="replace")
        except OSError as error:
            yield Rejection(row, name, UNREADABLE, f"{file}: {error.strerror}")
            continue
        values = {key: record[key] for key in fields if key in record}
        yield parse_cif(text, row, name, values, clean_split(record.get(columns.split)))


def parse_cif(text: str, row: int, name: str, fields: dict[str, Any], split: str | None) -> RawCrystal | Rejection:
    """One CIF text as a crystal (its first block), or the reason why not."""
    from pymatgen.io.cif import CifParser

    shown = name or f"row-{row}"
    if "_cell_length_a" not in text:
        return Rejection(row, shown, UNREADABLE, "no _cell_length_a: not a CIF, or truncated")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structures = CifParser.from_str(text, occupancy_tolerance=100.0).parse_structures(primitive=False, check_occu=False)
        except Exception as error:  # damaged text makes the parser fail in any way; the row is reported, never lost
            return Rejection(row, shown, UNREADABLE, _first_line(error))
    if not structures:
        return Rejection(row, shown, UNREADABLE, "the CIF holds no structure")
    return from_structure(structures[0], row, name, fields, split)


def from_structure(
    structure: Structure, row: int, name: str, fields: dict[str, Any], split: str | None
) -> RawCrystal | Rejection:
    """An ordered pymatgen structure as a raw crystal; a disordered one as a rejection naming its first mixed site."""
    from pymatgen.core import DummySpecies

    shown = name or f"row-{row}"
    partial = [i for i, site in enumerate(structure) if not site.is_ordered]
    if partial:
        site = structure[partial[0]]
        detail = f"{len(partial)} of {len(structure)} sites, e.g. site {partial[0]} holds {site.species_string}; order it first"
        return Rejection(row, shown, PARTIAL_OCCUPANCY, detail)
    dummies = sorted({str(site.specie) for site in structure if isinstance(site.specie, DummySpecies)})
    if dummies:
        return Rejection(row, shown, UNKNOWN_ELEMENT, f"{', '.join(dummies)} is no element")
    numbers = np.array([site.specie.Z for site in structure], dtype=np.int64)
    return RawCrystal(row, name, numbers, structure.frac_coords.copy(), structure.lattice.matrix.copy(), fields, split)


def _label_table(path: Path, columns: ColumnMap) -> dict[str, dict[str, Any]]:
    """``labels.csv`` as id -> record; empty when there is none."""
    if not path.is_file():
        return {}
    import pandas as pd

    table = pd.read_csv(path, dtype={columns.id: str, "id": str})
    key = next((name for name in ("id", columns.id) if name in table), None)
    if key is None:
        raise DataError(f"{path} has no column 'id'; columns found: {', '.join(table.columns)}", "add the CIF names without .cif")
    return {str(record[key]).removesuffix(".cif"): record for record in table.to_dict("records")}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
