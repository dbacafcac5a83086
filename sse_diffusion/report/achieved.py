"""Conditions asked against what came out: one line per condition, counted over the tested crystals and over the survivors."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from sse_diffusion.core.errors import SSEError
from sse_diffusion.report.markup import element, paragraph, plain_table
from sse_diffusion.report.run_folder import RunFolder, number, truth
from sse_diffusion.thermo.request import Interval, parse_interval

log = logging.getLogger(__name__)

Row = dict[str, str]

COLUMNS = {
    "energy_above_hull_eV_per_atom": ("e_above_hull_eV_per_atom", "Energy above hull", "eV/atom"),
    "gibbs_above_hull_eV_per_atom": ("gibbs_above_hull_eV_per_atom", "Gibbs energy above hull", "eV/atom"),
}
"""Continuous conditions that a column of the table measures: column, words, unit."""

UNMEASURED = {"formation_energy_eV_per_atom": "Formation energy", "band_gap_eV": "Band gap"}
"""Conditions that nothing in the funnel measures."""


def conditions_table(run: RunFolder) -> str:
    """The table, or a sentence when the run does not say what was asked."""
    asked = run.summary.get("conditions")
    if not isinstance(asked, dict) or not asked:
        return paragraph("What was asked is not recorded in this run.")
    rows = [line for key, value in asked.items() if value not in (None, [], {}) for line in _lines(key, value, run)]
    table = plain_table(("condition", "asked", "all that were tested", "survivors"), rows)
    return element("div", table, class_="conditions")


def _lines(key: str, value: Any, run: RunFolder) -> list[tuple[str, str, str, str]]:
    """Table rows of one condition."""
    alive = run.survivors()
    if key in COLUMNS:
        return [_continuous(key, value, run.rows, alive)]
    if key == "elements":
        return _elements(value, run.rows, alive)
    if key in ("mobile_ion",):

        def test(row: Row) -> bool | None:
            """Whether the crystal holds the ion."""
            return str(value) in _symbols(row) if row.get("formula") else None

        return [("Mobile ion", str(value), _count(run.rows, test), _count(alive, test))] if value != "none" else []
    if key in ("temperature_K", "pressure_GPa"):
        words = {"temperature_K": "Temperature", "pressure_GPa": "Pressure"}[key]
        note = "state point of the Gibbs energy; MD and relaxation have their own"
        return [(words, f"{value:g} {key.rsplit('_', 1)[1]}" if isinstance(value, int | float) else str(value), note, "")]
    if key == "n_atoms":
        return [_atoms(value, run.rows, alive)]
    words = UNMEASURED.get(key, {"formula": "Formula", "z": "Formula units", "space_group": "Space group"}.get(key, key))
    if key in UNMEASURED:
        return [(words, _plain(value), "not measured by this funnel", "")]
    return [(words, _plain(value), _count(run.rows, _obeyed), _count(alive, _obeyed))]


def _obeyed(row: Row) -> bool | None:
    return truth(row.get("constraint_ok"))


def _continuous(key: str, value: Any, rows: list[Row], alive: list[Row]) -> tuple[str, str, str, str]:
    """How many values lie in the asked range, and the best and median value."""
    column, words, unit = COLUMNS[key]
    try:
        wanted: Interval | None = parse_interval(value, key, unit)
    except SSEError as error:
        log.warning("condition %s: %s", key, error.message)
        wanted = None
    return words, f"{_plain(value)} {unit}", _spread(rows, column, wanted), _spread(alive, column, wanted)


def _spread(rows: list[Row], column: str, wanted: Interval | None) -> str:
    """``3 of 12; lowest 0.012, median 0.087``."""
    values = sorted(v for row in rows if math.isfinite(v := number(row.get(column))))
    if not values:
        return "none was measured"
    middle = values[len(values) // 2] if len(values) % 2 else 0.5 * (values[len(values) // 2 - 1] + values[len(values) // 2])
    inside = f"{sum(wanted.contains(v) for v in values)} of {len(values)} in range; " if wanted else ""
    return f"{inside}lowest {values[0]:.3f}, median {middle:.3f}"


def _elements(value: Any, rows: list[Row], alive: list[Row]) -> list[tuple[str, str, str, str]]:
    """One row for each of require, allow, forbid that was given."""
    if not isinstance(value, dict):
        value = {"require": value, "allow": value}
    tests: tuple[tuple[str, str, Callable[[set[str], set[str]], bool]], ...] = (
        ("require", "Must contain", lambda have, asked: asked <= have),
        ("allow", "May contain", lambda have, asked: have <= asked),
        ("forbid", "Must not contain", lambda have, asked: not asked & have),
    )
    lines = []
    for key, words, test in tests:
        asked = {str(s) for s in value.get(key) or ()}
        if asked:
            check = partial(_elements_pass, asked=asked, test=test)
            lines.append((words, ", ".join(map(str, value[key])), _count(rows, check), _count(alive, check)))
    return lines


def _elements_pass(row: Row, asked: set[str], test: Callable[[set[str], set[str]], bool]) -> bool | None:
    return test(_symbols(row), asked) if row.get("formula") else None


def _atoms(value: Any, rows: list[Row], alive: list[Row]) -> tuple[str, str, str, str]:
    """Number of atoms in the primitive cell."""
    ends = [number(v, math.inf) for v in (value if isinstance(value, list | tuple) else str(value).split(".."))]

    def check(row: Row) -> bool | None:
        """Whether the number of atoms is in the range."""
        return ends[0] <= float(row["n_atoms"]) <= ends[-1] if row.get("n_atoms") else None

    return "Atoms per primitive cell", " to ".join(f"{e:g}" for e in ends), _count(rows, check), _count(alive, check)


def _symbols(row: Row) -> set[str]:
    """Elements in the formula cell."""
    import re

    return set(re.findall(r"[A-Z][a-z]?", row.get("formula", "")))


def _count(rows: list[Row], test: Callable[[Row], bool | None]) -> str:
    """``255 of 256``."""
    verdicts = [v for row in rows if (v := test(row)) is not None]
    return f"{sum(verdicts)} of {len(verdicts)}" if verdicts else "none to count"


def _plain(value: Any) -> str:
    """Lists joined, the rest as text."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
