"""``sse predict``: properties of crystals and compositions with interval and domain flag, as a table on screen, CSV and JSON."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import write_bytes_atomically, write_json_atomically
from sse_diffusion.core.errors import CheckpointError, ConfigError, DataError
from sse_diffusion.core.results import Quantity
from sse_diffusion.predictors.conductivity.tables import parse_composition, parse_disordered
from sse_diffusion.predictors.registry import available, load_predictor

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pymatgen.core import Composition, Structure

log = logging.getLogger(__name__)

FORMULA_COLUMNS = ("formula", "composition", "Reduced Composition")
GPa_per_MPa = 1e-3
SHOWN_ROWS = 40
COLUMNS = (
    "id",
    "formula",
    "property",
    "value",
    "uncertainty",
    "low_95",
    "high_95",
    "unit",
    "status",
    "domain_percentile",
    "reason",
)


@dataclass(frozen=True, eq=False)
class Asked:
    """One crystal or composition.

    Attributes:
        id: file name without its ending, or the formula.
        crystal: a structure or a composition, or why it cannot be read.
    """

    id: str
    crystal: Structure | Composition | str

    @property
    def formula(self) -> str:
        """Reduced; empty when unreadable."""
        if isinstance(self.crystal, str):
            return ""
        composition = getattr(self.crystal, "composition", self.crystal)
        return str(composition.reduced_formula)


def run_predict(cfg: DictConfig) -> str:
    """Predict, write ``<out>/predictions.csv`` and ``.json`` when ``out`` is given, and return the table for the screen.

    Raises:
        ConfigError, DataError, CheckpointError, OutputError: with what to do.
    """
    if (cfg.input is None) == (cfg.formula is None):
        raise ConfigError("give either input=... or formula=...", "for example: sse predict formula=Li6PS5Cl, or input=my.cif")
    temperature, pressure = (_number(name, cfg[name]) for name in ("temperature_K", "pressure_MPa"))
    state = {"temperature_K": temperature, "pressure_GPa": pressure * GPa_per_MPa}
    asked = read_asked(cfg.input) if cfg.formula is None else [formula_asked(str(cfg.formula))]
    if cfg.property is None and cfg.checkpoint is not None:
        raise ConfigError("checkpoint= is of one property", "add property=NAME")
    records = []
    for name in [str(cfg.property)] if cfg.property is not None else available():
        try:
            answers = predict_property(asked, name, cfg.checkpoint, **state)
        except CheckpointError as error:
            if cfg.property is not None:
                raise
            log.warning("%s is left out: %s", name, error.message)
            continue
        records += [record_of(one, name, answer) for one, answer in zip(asked, answers, strict=True)]
    where = ""
    if cfg.out is not None:
        write_predictions(Path(str(cfg.out)).expanduser(), records)
        where = f"\nresults: {cfg.out}"
    return screen_table(records) + f"\nat {temperature:g} K and {pressure:g} MPa" + where


def _number(name: str, value: object) -> float:
    """A temperature or pressure as typed.

    Raises:
        ConfigError: no number, or a negative one.
    """
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ConfigError(f"{name} is {value}", "give a number of 0 or more")
    return number


def read_asked(source: str | Path) -> list[Asked]:
    """A CIF, a folder of CIFs, or a CSV with a column of formulas.

    Raises:
        DataError: nothing there, or nothing of these.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.cif"))
        if not files:
            raise DataError(f"{path} holds no .cif file", "give a folder with CIFs, a CIF, or a CSV with a column 'formula'")
        return [Asked(file.stem, parse_disordered(file.read_text(errors="replace"))) for file in files]
    if not path.is_file():
        raise DataError(f"input {path} does not exist", "give a CIF, a folder of CIFs, or a CSV with a column 'formula'")
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    return [Asked(path.stem, parse_disordered(path.read_text(errors="replace")))]


def formula_asked(text: str, name: str = "") -> Asked:
    """A formula; decimals and blanks are fine."""
    composition = parse_composition(text)
    return Asked(name or text, f"{text!r} is no formula" if composition is None else composition)


def predict_property(asked: Sequence[Asked], name: str, checkpoint: str | Path | None = None, **state: float) -> list[Quantity]:
    """One quantity per row; unreadable ones are answered ``failed``."""
    predictor = load_predictor(name, checkpoint, **state)
    readable = [one.crystal for one in asked if not isinstance(one.crystal, str)]
    answers = iter(predictor.predict(readable))
    return [Quantity.failed(one.crystal, predictor.unit) if isinstance(one.crystal, str) else next(answers) for one in asked]


def record_of(one: Asked, name: str, answer: Quantity) -> dict[str, Any]:
    """One line of the table; ``provenance`` is kept in the JSON only."""
    low, high = answer.provenance.get("interval_95", (None, None))
    plain = answer.to_dict()
    return {
        "id": one.id,
        "formula": one.formula,
        "property": name,
        **{key: plain[key] for key in ("value", "uncertainty")},
        "low_95": low,
        "high_95": high,
        **{key: plain[key] for key in ("unit", "status")},
        "domain_percentile": answer.provenance.get("domain_percentile"),
        "reason": answer.reason,
        "provenance": plain["provenance"],
    }


def write_predictions(out: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """``predictions.csv`` and, with provenance, ``predictions.json``.

    Raises:
        OutputError: the folder cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(records)
    write_bytes_atomically(out / "predictions.csv", text.getvalue().encode())
    write_json_atomically(out / "predictions.json", list(records))


def screen_table(records: Sequence[Mapping[str, Any]]) -> str:
    """The first rows as text."""
    head = ("id", "formula", "property", "value", "68 %", "95 % interval", "unit", "status")
    lines = [head, *(_line(record) for record in records[:SHOWN_ROWS])]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    if len(records) > SHOWN_ROWS:
        text.append(f"... and {len(records) - SHOWN_ROWS} more (out=DIR holds all of them)")
    return "\n".join(text)


def _line(record: Mapping[str, Any]) -> tuple[str, ...]:
    def number(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{sign}{value:.4g}"

    between = "-" if record["low_95"] is None else f"{number(record['low_95'])} to {number(record['high_95'])}"
    flag = record["status"] + (f": {record['reason']}" if record["reason"] else "")
    formula, uncertainty = str(record["formula"]), number(record["uncertainty"], "+-")
    return str(record["id"]), formula, record["property"], number(record["value"]), uncertainty, between, record["unit"], flag


def _read_csv(path: Path) -> list[Asked]:
    with path.open(newline="", encoding="utf-8", errors="replace") as handle:
        table = list(csv.DictReader(handle))
    column = next((name for name in FORMULA_COLUMNS if table and name in table[0]), None)
    if column is None:
        found = ", ".join(map(str, table[0])) if table else "no rows"
        raise DataError(f"{path} has no column of formulas ({found})", f"name it {FORMULA_COLUMNS[0]!r}")
    return [formula_asked(row[column] or "", row.get("id") or row.get("ID") or "") for row in table]
