"""The report on a table finds what was put into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sse_diffusion.core.doctor import Check
from sse_diffusion.core.errors import DataError
from sse_diffusion.data.hygiene_report import HygieneConfig, check_table

TABLE = """name,formula,sigma,doi,T,side
a,Li2O,1e-4,10.1/x,25,train
b,O1Li2,1e-6,https://doi.org/10.1/X,27,train
c,Li2O,1e-2,10.1/y,200,train
d,LiCl,<1E-10,10.1/z,25,test
e,Cl2Li2,1e-10,10.1/w,25,test
f,LiBr,3e-5,10.1/v,25,test
"""


def report(folder: Path, **changes: object) -> dict[str, Check]:
    """The checks of TABLE by name."""
    (folder / "t.csv").write_text(TABLE)
    values: dict[str, object] = {
        "path": str(folder / "t.csv"), "label": "sigma", "log10": True, "floor": 1e-10, "composition": "formula",
        "source": "doi", "same": ("T",), "same_within": 20.0, "id": "name", "split": "side",
    }  # fmt: skip
    return {c.name: c for c in check_table(HygieneConfig(**(values | changes)))}  # type: ignore[arg-type]


def test_repeats_conflicts_limits_and_groups(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert "2 are upper limits (33.3%)" in found["label"].found
    assert "2 rows repeat 1 keys; label noise 1.41" in found["repeats"].found, "200 degrees is another measurement"
    assert "a, b differ by 2" in found["conflicts"].advice
    assert found["groups"].found.startswith("3 groups") and "largest has 3 rows" in found["groups"].found
    assert found["leakage source"].level == found["leakage composition"].level == "ok"
    assert "3 rows repeat" in report(tmp_path, same=())["repeats"].found
    assert report(tmp_path, tolerance=3.0)["conflicts"].level == "ok"


def test_leakage_between_splits_and_into_a_second_table_fails(tmp_path: Path) -> None:
    (tmp_path / "held.csv").write_text("name,formula,sigma,doi,T,side\nz,Li4O2,1,10.1/new,25,test\n")
    found = report(tmp_path, split=None, against=str(tmp_path / "held.csv"))
    assert found["leakage composition"].level == "fail" and "Li0.667 O0.333" in found["leakage composition"].found
    assert found["leakage source"].level == "ok"
    (tmp_path / "leak.csv").write_text(TABLE.replace("10.1/w", "10.1/x"))
    leaking = {
        c.name: c for c in check_table(HygieneConfig(path=str(tmp_path / "leak.csv"), label="T", source="doi", split="side"))
    }
    assert leaking["leakage source"].level == "fail" and "10.1/x" in leaking["leakage source"].found


def test_outliers_are_named(tmp_path: Path) -> None:
    rows = "".join(f"r{i},{i % 10}\n" for i in range(40))
    (tmp_path / "t.csv").write_text(f"id,y\n{rows}odd,1000\n")
    found = {c.name: c for c in check_table(HygieneConfig(path=str(tmp_path / "t.csv"), label="y", id="id"))}
    assert "1 beyond 3 standard deviations, 1 beyond 1.5" in found["outliers"].found and "odd (1000)" in found["outliers"].advice


def test_a_wrong_column_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'formul'.*\n.*did you mean 'formula'"):
        report(tmp_path, composition="formul")
