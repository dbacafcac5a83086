"""`sse predict`: CIFs, folders, CSVs and formulas in; table, CSV and JSON out; what cannot be read is one line, not the end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.cli import main


@pytest.fixture
def cifs(tmp_path: Path) -> Path:
    folder = tmp_path / "cifs"
    folder.mkdir()
    half = Structure(Lattice.cubic(4.2), [{"Li": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    half.to(str(folder / "half.cif"))
    (folder / "broken.cif").write_text("nothing")
    return folder


def predict(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["predict", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_folder(cifs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = predict(capsys, f"input={cifs}", "property=log10_conductivity", f"out={tmp_path / 'out'}", "temperature_K=400")
    assert code == 0
    assert "400 K" in out
    rows = {row["id"]: row for row in csv.DictReader((tmp_path / "out" / "predictions.csv").open())}
    assert float(rows["half"]["low_95"]) < float(rows["half"]["value"]) < float(rows["half"]["high_95"])
    assert rows["half"]["domain_percentile"]
    assert rows["broken"]["status"] == "failed"
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {record["id"] for record in records} == {"half", "broken"}


def test_formulas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.csv").write_text("id,formula\na,Li0.3La0.57TiO3\nb,Li2UO4\nc,42\n")
    code, out, _ = predict(capsys, f"input={tmp_path / 'f.csv'}", "property=log10_conductivity")
    assert code == 0
    assert "unconverged" in out
    assert "U in 0" in out
    assert "'42' is no formula" in out
    code, out, _ = predict(capsys, "formula=LiCl", "property=band_gap")
    assert code == 0
    assert "eV" in out


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, word in (
        ((), "either input"),
        (("input=nowhere.cif",), "does not exist"),
        (("formula=LiCl", "property=conductivity"), "log10_conductivity"),
        (("formula=LiCl", "property=log10_conductivity", "temperature_K=9000"), "temperature_K"),
        (("formula=LiCl", "checkpoint=mine"), "property=NAME"),
        ((f"input={tmp_path}",), "holds no .cif"),
    ):
        code, _, err = predict(capsys, *arguments)
        assert code == 2
        assert word in err


@pytest.mark.parametrize("option", ["temperature_K=hot", "temperature_K=nan", "pressure_MPa=-1"])
def test_what_is_no_temperature_or_pressure_is_refused_as_typed(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, value = option.split("=")
    assert main(["predict", "formula=Li6PS5Cl", option]) == 2
    assert f"{name} is {value}" in capsys.readouterr().err
