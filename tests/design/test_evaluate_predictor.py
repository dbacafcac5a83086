"""`sse evaluate task=predictor`: flat numbers for a table with OBELiX's columns, and for any table with a label column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sse_diffusion.cli import main

HEAD = "ID,Reduced Composition,Ionic conductivity (S cm-1),DOI\n"
KEYS = ("mae", "r2", "mae_uncensored", "coverage95", "coverage68", "nll", "enrichment_top10")


def run(tmp_path: Path, *arguments: str) -> dict:
    assert main(["evaluate", "task=predictor", f"out={tmp_path / 'out'}", *arguments]) == 0
    return json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_obelix_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    formulas = ["Li1.05Ti2P3O12", "Li6.1PS5Cl", "Li7.2La3Zr2O12", "Li3.01ErCl6", "Li2.02SO4", "Li10GeP2S12"]
    lines = [f"r{i},{f},{'<1E-10' if i == 4 else f'{10.0 ** -(3 + i % 3):g}'},10.77/{i}\n" for i, f in enumerate(formulas)]
    (tmp_path / "t.csv").write_text(HEAD + "".join(lines))
    found = run(tmp_path, "property=log10_conductivity", f"reference.path={tmp_path / 't.csv'}")
    assert found["n"] == 6
    assert found["n_censored"] == 1
    assert found["n_composition_in_training"] >= 1  # Li10GeP2S12
    assert "LEAKAGE" in caplog.text
    assert found["mae_unseen_ci95"][0] <= found["mae_unseen"] <= found["mae_unseen_ci95"][1]
    for key in KEYS:
        assert isinstance(found[key], float)
        assert len(found[f"{key}_ci95"]) == 2
    assert found["mae_with_cif"] is None
    assert found["mae_with_cif_reason"] == "no row to measure it on"
    assert found["mae_uncensored_n"] == 5  # each error says over how many rows
    assert found["mae_unseen_n"] == found["n_unseen"] < 6


def test_any_property_with_a_label_column(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "gaps.csv").write_text("formula,gap\nLi2F2,8.7\nNaCl,5.0\nCuAu,0\nLi7Na3Ca2S7F2,2.4\n")
    found = run(tmp_path, "property=band_gap", f"reference.path={tmp_path / 'gaps.csv'}", "+reference.columns.target=gap")
    assert found["n"] == 4
    assert found["mae"] < 1.5
    assert found["unit"] == "eV"
    assert "LEAKAGE" in caplog.text
    assert found["n_composition_in_training"] == 2  # CuAu is of a test system, the last one does not exist
    assert found["mae_unseen_n"] == 2


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gaps.csv").write_text("formula,gap\nLiF,8.7\n")
    assert main(["evaluate", "task=predictor", f"out={tmp_path}"]) == 2
    assert "property" in capsys.readouterr().err
    assert (
        main(["evaluate", "task=predictor", "property=band_gap", f"reference.path={tmp_path / 'gaps.csv'}", f"out={tmp_path}"])
        == 2
    )
    assert "reference.columns.target" in capsys.readouterr().err
