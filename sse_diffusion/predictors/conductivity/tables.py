"""Tables of measured conductivities: OBELiX's columns (with CIFs, when there are some) and Liverpool's, as one kind of row."""

from __future__ import annotations

import logging
import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.grouped import composition_key, doi_key

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Composition, Structure

log = logging.getLogger(__name__)

DETECTION_LIMIT = -10.0
"""log10 of S/cm: values at or below it say "not conducting", not how little."""
ROOM_TEMPERATURE_K = 300.0
ZERO_CELSIUS_K = 273.15
CONDUCTIVITY = "Ionic conductivity (S cm-1)"
OBELIX_COLUMNS = ("Reduced Composition", CONDUCTIVITY)
OBELIX_VALUES = (CONDUCTIVITY, "IC (Total)", "IC (Bulk)")
"""Where the conductivity stands; the first that is filled counts."""
LIVERPOOL_COLUMNS = ("composition", "source", "temperature", "log_target")
CELL = ("a", "b", "c", "alpha", "beta", "gamma")
_NUMBER = re.compile(r"^\s*(?P<limit>[<≤]?)\s*(?P<value>[0-9.]+(?:[eE][+-]?[0-9]+)?)\s*$")


@dataclass(frozen=True, eq=False)
class ConductivityRow:
    """One measured (or asked) conductivity.

    Attributes:
        id: of the row in its table.
        composition: as written, of one formula unit or cell.
        structure: with partial occupancies as they are; ``None`` without a CIF.
        volume_per_atom_A3, space_group: of the table, where only the cell is known; NaN and ``None`` when not.
        temperature_K: of the measurement.
        log10_sigma: of S/cm; NaN in a row that is only asked.
        limit: the table itself says "below": ``<1E-10``.
        sd: standard deviation of ``log10_sigma`` that a soft label (of dynamics) brings along; NaN for measurements.
        source: name of the table.
        doi: of the paper, or its citation; ``None`` when unknown.
        family: the human label; never a feature.
    """

    id: str
    composition: Composition
    structure: Structure | None = None
    volume_per_atom_A3: float = math.nan
    space_group: int | None = None
    temperature_K: float = ROOM_TEMPERATURE_K
    log10_sigma: float = math.nan
    limit: bool = False
    sd: float = math.nan
    source: str = ""
    doi: str | None = None
    family: str = ""

    @property
    def measured(self) -> bool:
        """True for a measurement, false for a soft label."""
        return math.isnan(self.sd)

    @property
    def censored(self) -> bool:
        """True at and below the detection limit, and where the table says "below"."""
        return self.limit or self.log10_sigma <= DETECTION_LIMIT

    @cached_property
    def key(self) -> str:
        """The composition whatever its scale: what folds are grouped by."""
        return composition_key(self.composition.get_el_amt_dict())


def read_conductivities(path: str | Path, cifs: str | Path | None = None, source: str = "") -> list[ConductivityRow]:
    """Read a table with OBELiX's or with Liverpool's columns.

    Args:
        path: CSV.
        cifs: zip file or folder with ``<ID>.cif``, for OBELiX's columns.
        source: name of the table in the rows; by default the file's.

    Raises:
        DataError: missing file, columns or usable rows.
    """
    table = _read_csv(Path(path).expanduser())
    name = source or Path(path).stem
    if set(OBELIX_COLUMNS) <= set(table.columns):
        structures = read_structures(cifs) if cifs is not None else {}
        rows = [_obelix_row(record, structures, name) for record in table.to_dict("records")]
    elif set(LIVERPOOL_COLUMNS) <= set(table.columns):
        rows = [_liverpool_row(record, name) for record in table.to_dict("records")]
    else:
        raise DataError(
            f"{path} has columns {', '.join(map(str, table.columns))}",
            f"needed: {', '.join(OBELIX_COLUMNS)} (OBELiX) or {', '.join(LIVERPOOL_COLUMNS)} (Liverpool)",
        )
    usable = [row for row in rows if row is not None]
    if len(usable) < len(rows):
        log.warning(
            "%s: %d of %d rows left out (no readable composition or conductivity)", path, len(rows) - len(usable), len(rows)
        )
    if not usable:
        raise DataError(f"{path} has no usable row", "check the composition and conductivity columns")
    return usable


def read_structures(path: str | Path) -> dict[str, Structure]:
    """CIFs of a zip file or folder by file name without ``.cif``; unreadable ones are logged and left out.

    Raises:
        DataError: there is no such file or folder.
    """
    place = Path(path).expanduser()
    texts: dict[str, str]
    if place.is_dir():
        texts = {file.stem: file.read_text(errors="replace") for file in sorted(place.glob("*.cif"))}
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            names = sorted(name for name in archive.namelist() if name.lower().endswith(".cif"))
            texts = {Path(name).stem: archive.read(name).decode(errors="replace") for name in names}
    else:
        raise DataError(f"{place} is neither a folder nor a zip file", "give a folder with CIFs, or a zip of them")
    parsed = {name: parse_disordered(text) for name, text in texts.items()}
    bad = {name: found for name, found in parsed.items() if isinstance(found, str)}
    for name, reason in bad.items():
        log.warning("%s of %s is left out: %s", name, place, reason)
    return {name: found for name, found in parsed.items() if not isinstance(found, str)}


def parse_disordered(text: str) -> Structure | str:
    """The first crystal of a CIF, partial occupancies as they are, or the reason why there is none."""
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parser = CifParser.from_str(text, occupancy_tolerance=100.0)  # rounding leaves sums like 1.002; scaled to 1
            structure: Structure = parser.parse_structures(primitive=False, check_occu=False)[0]
        except Exception as error:  # damaged text makes the parser fail in any way; the caller hears why
            return (str(error).splitlines() or [type(error).__name__])[0][:200]
    return structure


def parse_conductivity(cell: Any) -> tuple[float, bool] | None:
    """log10 of a table's cell in S/cm and whether it says "below"; ``None`` when it holds no positive number."""
    found = _NUMBER.match(str(cell))
    value = float(found["value"]) if found else 0.0
    return (math.log10(value), bool(found and found["limit"])) if value > 0 else None


def parse_composition(text: Any) -> Composition | None:
    """A formula with blanks and decimals as a composition; ``None`` when it cannot be read."""
    from pymatgen.core import Composition

    try:
        composition = Composition(str(text).replace(" ", ""))
    except ValueError:
        return None
    return composition if composition.num_atoms > 0 else None


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise DataError(f"{path} does not exist", "give a CSV with OBELiX's or Liverpool's columns")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _obelix_row(record: Mapping[str, str], structures: Mapping[str, Structure], source: str) -> ConductivityRow | None:
    composition = parse_composition(record["Reduced Composition"])
    cells = (parse_conductivity(record.get(column, "")) for column in OBELIX_VALUES)
    value = next((cell for cell in cells if cell is not None), None)
    if composition is None or value is None:
        return None
    return ConductivityRow(
        id=record.get("ID", ""),
        composition=composition,
        structure=structures.get(record.get("ID", "")),
        volume_per_atom_A3=_volume_per_atom(record),
        space_group=int(number) if (number := _number(record, "Space group #")) == number else None,
        log10_sigma=value[0],
        limit=value[1],
        source=source,
        doi=doi_key(record.get("DOI")),
        family=record.get("Family", ""),
    )


def _liverpool_row(record: Mapping[str, str], source: str) -> ConductivityRow | None:
    """Its ``log_target`` counts: five rows of the published table have a ``target`` rounded to nothing."""
    composition, value = parse_composition(record["composition"]), _number(record, "log_target")
    celsius = _number(record, "temperature")
    if composition is None or math.isnan(value + celsius):
        return None
    return ConductivityRow(
        id=record.get("ID", ""),
        composition=composition,
        temperature_K=celsius + ZERO_CELSIUS_K,
        log10_sigma=value,
        source=source,
        doi=doi_key(record["source"]),
        family=record.get("family", ""),
    )


def _number(record: Mapping[str, str], column: str) -> float:
    try:
        return float(record.get(column, ""))
    except ValueError:
        return math.nan


def _volume_per_atom(record: Mapping[str, str]) -> float:
    """Of the cell in the table and its content, A^3; NaN when either is missing."""
    from pymatgen.core import Lattice

    lengths = [_number(record, name) for name in CELL]
    content = parse_composition(record.get("True Composition", ""))
    if content is None or any(not value > 0 for value in lengths):
        return math.nan
    return float(Lattice.from_parameters(*lengths).volume / content.num_atoms)
