"""What is to be said about a labelled table before training on it: repeats, conflicts, outliers, limits, leakage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.doctor import Check
from sse_diffusion.core.errors import ConfigError, DataError, did_you_mean
from sse_diffusion.data.grouped import check_no_leakage, composition_key, connected_groups, doi_key
from sse_diffusion.data.hygiene import Array, Repeats, find_repeats, iqr_outliers, read_limits, z_score_outliers

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class HygieneConfig:
    """A table with a label, and which of its columns say what.

    Attributes:
        path: CSV (also .gz, .xz) or Parquet.
        label: column of the label; ``<1E-10`` is an upper limit.
        log10: look at the decimal logarithm of the label.
        floor: values at or below it are detection limits (in the unit of the column).
        composition: column with formulas.
        source: column with the sources (DOI).
        same: further columns that repeats must share, such as the temperature.
        same_within: numbers in those columns are equal when they round to the same multiple of this (0: exactly).
        id: column that names rows.
        split: column with the side of each row (train, val, test).
        against: a second table with the same columns: no composition or source of the one may occur in the other.
        tolerance: labels of one key that differ by more are a conflict (after log10).
        z_limit, iqr_factor: of the outliers.
    """

    path: str
    label: str
    log10: bool = False
    floor: float | None = None
    composition: str | None = None
    source: str | None = None
    same: tuple[str, ...] = ()
    same_within: float = 0.0
    id: str | None = None
    split: str | None = None
    against: str | None = None
    tolerance: float = 0.5
    z_limit: float = 3.0
    iqr_factor: float = 1.5

    def __post_init__(self) -> None:
        """Refuse limits that would call everything or nothing a conflict."""
        if min(self.tolerance, self.z_limit, self.iqr_factor) <= 0:
            raise ConfigError("tolerance, z_limit and iqr_factor must be positive", "see docs/data.md, Hygiene")


def check_table(config: HygieneConfig) -> list[Check]:
    """The lines of ``sse doctor data hygiene.path=...``.

    Raises:
        DataError: no such file or column.
    """
    table = _read(Path(config.path), config)
    floor = -math.inf if config.floor is None else config.floor
    values, limited = read_limits(table[config.label].tolist(), floor)
    labels = _log10(values) if config.log10 else values
    names = [str(v) for v in (table[config.id] if config.id else table.index)]
    checks = [_label(labels, limited)]
    if config.composition:
        keys = _repeat_keys(table, config)
        exact = np.where(limited, math.nan, labels)  # two limits say nothing about noise
        checks += _repeats(find_repeats(keys, exact, config.tolerance), names, config.tolerance, keys)
    checks.append(_outliers(np.where(limited, math.nan, labels), names, config))
    return checks + _groups(table, config) + _leakage(table, config)


def _label(labels: Array, limited: np.ndarray) -> Check:
    known = np.isfinite(labels)
    share = f"{known.sum()}/{len(labels)} rows have one; {limited.sum()} are upper limits ({limited.mean():.1%})"
    if not known.any():
        return Check("label", "fail", share, "is it the right column? zero or negative labels have no logarithm")
    advice = "use a censored likelihood, or leave them out and say so" if limited.any() else ""
    return Check("label", "note" if limited.any() or not known.all() else "ok", share, advice)


def _repeats(found: Repeats, names: Sequence[str], tolerance: float, keys: Sequence[str | None]) -> list[Check]:
    if not found.n_keys:
        return [Check("repeats", "ok", f"none among {sum(k is not None for k in keys)} rows")]
    low, high = found.noise_interval
    noise = (
        f"{found.n_rows} rows repeat {found.n_keys} keys; label noise {found.noise:.3g} (95 %: {low:.3g} to {high:.3g}), "
        f"mean difference of repeats {found.mean_difference:.3g}"
    )
    advice = "keep them on one side of every split; no model can be better than the noise"
    checks = [Check("repeats", "note", noise, advice)]
    if found.conflicts:
        shown = "; ".join(f"{', '.join(names[r] for r in c.rows[:4])} differ by {c.spread:.3g}" for c in found.conflicts[:SHOWN])
        share = f"{len(found.conflicts)}/{found.n_keys} repeated keys differ by more than {tolerance:g}"
        return [*checks, Check("conflicts", "note", share, f"look at their sources: {shown}")]
    return [*checks, Check("conflicts", "ok", f"0/{found.n_keys} repeated keys differ by more than {tolerance:g}")]


def _outliers(labels: Array, names: Sequence[str], config: HygieneConfig) -> Check:
    z, iqr = z_score_outliers(labels, config.z_limit), iqr_outliers(labels, config.iqr_factor)
    found = (
        f"{z.sum()} beyond {config.z_limit:g} standard deviations, {iqr.sum()} beyond {config.iqr_factor:g} interquartile ranges"
    )
    if not (z | iqr).any():
        return Check("outliers", "ok", found)
    distance = np.where(z | iqr, np.abs(labels - np.nanmedian(labels)), -np.inf)
    worst = ", ".join(f"{names[i]} ({labels[i]:.4g})" for i in np.argsort(-distance)[: min(SHOWN, int((z | iqr).sum()))])
    return Check("outliers", "note", found, f"check the unit and the source of {worst}")


def _groups(table: pd.DataFrame, config: HygieneConfig) -> list[Check]:
    """How many independent rows the table has."""
    columns = list(_leak_keys(table, config).values())
    if not columns:
        return []
    sizes = np.bincount(connected_groups(*columns))
    found = f"{len(sizes)} groups that share no {' or '.join(_leak_keys(table, config))}; the largest has {sizes.max()} rows"
    return [Check("groups", "ok", found)]


def _leakage(table: pd.DataFrame, config: HygieneConfig) -> list[Check]:
    """Keys on more than one side of the split, or in the second table too."""
    sides = {}
    if config.split:
        sides = {str(name): rows for name, rows in table.groupby(config.split)}
    if config.against:
        sides = {**(sides or {config.path: table}), config.against: _read(Path(config.against), config)}
    names, checks = list(sides), []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            ours, theirs = _leak_keys(sides[first], config), _leak_keys(sides[second], config)
            for what in ours:
                title = f"leakage {what}"
                try:
                    check_no_leakage(ours[what], theirs[what], f"{what}(s)")
                    checks.append(Check(title, "ok", f"nothing in common: {first}, {second}"))
                except DataError as error:
                    checks.append(Check(title, "fail", f"{first}, {second}: {error.message}", error.hint))
    return checks


def _leak_keys(table: pd.DataFrame, config: HygieneConfig) -> dict[str, list[str | None]]:
    keys: dict[str, list[str | None]] = {}
    if config.source:
        keys["source"] = [doi_key(s) for s in table[config.source]]
    if config.composition:
        keys["composition"] = _compositions(table[config.composition].tolist())
    return keys


def _repeat_keys(table: pd.DataFrame, config: HygieneConfig) -> list[str | None]:
    """Composition, and the bins of the columns that must be equal too; ``None`` where the formula cannot be read."""
    keys = _compositions(table[str(config.composition)].tolist())
    for column in config.same:
        values, width = table[column], config.same_within
        bins = (values / width).round().map(str) if width > 0 and values.dtype.kind in "if" else values.map(str)
        keys = [None if key is None else f"{key} | {column} {value}" for key, value in zip(keys, bins, strict=True)]
    return keys


def _compositions(formulas: Sequence[object]) -> list[str | None]:
    from pymatgen.core import Composition

    def key(formula: str) -> str | None:
        try:
            return composition_key(Composition(formula.replace(" ", "")).get_el_amt_dict())
        except (ValueError, ZeroDivisionError):  # a glass written in words, for example
            return None

    known = {text: key(text) for text in {str(f) for f in formulas}}
    return [known[str(f)] for f in formulas]


def _log10(values: Array) -> Array:
    return np.log10(values, where=values > 0, out=np.full(len(values), math.nan))


def _read(path: Path, config: HygieneConfig) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise DataError(f"{path} does not exist", "set hygiene.path (and hygiene.against) to a CSV or Parquet table")
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
    else:  # only an empty field is missing: the formula NaN is sodium nitride
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    wanted = [config.label, config.composition, config.source, config.id, config.split, *config.same]
    if missing := [c for c in wanted if c is not None and c not in table.columns]:
        raise DataError(f"{path} has no column {missing[0]!r}", did_you_mean(missing[0], map(str, table.columns)))
    return table
