"""Labels from a second file land on the right crystals, what is missing is NaN, and every mistake is one clear error."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.data.dataset import cache_file
from sse_diffusion.data.rows import TableReport
from sse_diffusion.data.sources import load_source


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """Data config of three crystals a, b, c, the last of which is refused."""
    rows = [
        {"material_id": name, "split": "train", "a": edge, "b": 3.9, "c": 4.4, "alpha": 90.0, "beta": 101.0, "gamma": 90.0,
         "atomic_numbers": [3, 17], "frac_coords": [0.1, 0.2, 0.3, 0.6, 0.7, 0.8], "band_gap": 6.0}
        for name, edge in (("a", 4.1), ("b", 4.2), ("c", 0.01))
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    return {"path": str(tmp_path / "t.parquet"), "labels": {"band_gap_eV": "band_gap"}, "progress": False}


def load(table: dict[str, Any], **extra: Any) -> TableReport:
    """The table with one extra file."""
    return load_source({**table, "extra_labels": [extra]})


@pytest.mark.parametrize("ending", [".csv", ".csv.xz", ".parquet"])
def test_labels_follow_the_id(table: dict[str, Any], tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"name": ["stranger", "b", "c"], "e_meV": [1.0, 250.0, 3.0], "reason": ["", "slow", ""]})
    path = tmp_path / f"extra{ending}"
    frame.to_parquet(path) if ending == ".parquet" else frame.to_csv(path, index=False)
    labels = {"migration_barrier_eV": {"column": "e_meV", "unit": "meV"}, "why": "reason"}
    with caplog.at_level(logging.INFO):
        report = load(table, path=str(path), id="name", labels=labels)
    first, second = (row.labels for row in report.rows)
    assert math.isnan(first["migration_barrier_eV"]) and second["migration_barrier_eV"] == pytest.approx(0.25)
    assert second["why"] == "slow" and second["band_gap_eV"] == 6.0
    assert report.missing_labels() == {"band_gap_eV": 0, "migration_barrier_eV": 1, "why": 1}
    assert any("1 of 3 ids are not in the table" in note for note in report.notes)  # c is known, though refused
    assert "label migration_barrier_eV: 1 of 2 crystals" in caplog.text


def test_numeric_ids_match_as_text(table: dict[str, Any], tmp_path: Path) -> None:
    frame = pd.read_parquet(table["path"]).assign(material_id=[7, 8, 9])
    frame.to_parquet(table["path"])
    pd.DataFrame({"id": [8], "x": [1.5]}).to_csv(tmp_path / "x.csv", index=False)
    report = load(table, path=str(tmp_path / "x.csv"), labels={"x": "x"})
    assert [row.labels["x"] for row in report.rows] == pytest.approx([math.nan, 1.5], nan_ok=True)


def test_symmetry_cache_does_not_depend_on_labels(table: dict[str, Any], tmp_path: Path) -> None:
    pd.DataFrame({"id": ["a"], "x": [1.5]}).to_csv(tmp_path / "x.csv", index=False)
    without, extended = load_source(table).rows, load(table, path=str(tmp_path / "x.csv"), labels={"x": "x"}).rows
    assert cache_file(without, tmp_path, "orbits") == cache_file(extended, tmp_path, "orbits")


def test_mistakes_are_named(table: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    pd.DataFrame({"id": ["a", "a"], "barrier": [1.0, 2.0]}).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"no column 'barier'.*\n.*did you mean 'barrier'"):
        load(table, path=str(path), labels={"x": "barier"})
    with pytest.raises(DataError, match=r"no column 'ID'.*\n.*known: barrier, id"):
        load(table, path=str(path), id="ID", labels={"x": "barrier"})
    with pytest.raises(DataError, match=r"more than once .first: a."):
        load(table, path=str(path), labels={"x": "barrier"})
    with pytest.raises(ConfigError, match=r"band_gap_eV .* is a label already"):
        load(table, path=str(path), labels={"band_gap_eV": "barrier"})
    with pytest.raises(ConfigError, match="unknown key 'file'"):
        load(table, file=str(path), labels={"x": "barrier"})
    with pytest.raises(ConfigError, match="unknown unit"):
        load(table, path=str(path), labels={"x": {"column": "barrier", "unit": "mev"}})
    for missing in (str(tmp_path / "no.csv"), "package:thermo/assets/no.csv.xz"):
        with pytest.raises(DataError, match=r"no data at .*\n.*out of data.extra_labels"):
            load(table, path=missing, labels={"x": "barrier"})


def test_packaged_asset(table: dict[str, Any]) -> None:
    """The shipped barriers are readable; toy ids are not in them."""
    report = load(table, path="package:thermo/assets/migration_barriers.csv.xz", labels={"migration_barrier_eV": "e_1d_eV"})
    assert report.missing_labels()["migration_barrier_eV"] == len(report.rows)
