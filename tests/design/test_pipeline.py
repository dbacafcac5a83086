"""The whole question -> tested candidates: files, counts, reasons, resumption, interruption, refusals."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from sse_diffusion.core.errors import ConfigError, OutputError
from sse_diffusion.design.pipeline import run_design

FLAT_KEYS = (
    "sampled structurally_valid composition_valid constraint_violations unique novel relaxed "
    "within_0.1_eV_of_hull md_gated md_mobile "
    "peak_memory_gb seconds_total seed checkpoint_sha256 seconds versions conditions engine commit"
).split()


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "candidates.csv").open(encoding="utf-8") as handle:
        return {row["id"]: row for row in csv.DictReader(handle)}


def test_run_writes_all_files_and_true_counts(design_config, proposer, engine, tmp_path) -> None:
    from ase.io import read

    assert run_design(design_config(md_gate=True), proposer) == 0
    out = tmp_path / "out"
    summary, rows = json.loads((out / "summary.json").read_text()), rows_of(out)
    assert all(key in summary for key in FLAT_KEYS)
    assert summary["sampled"] == len(rows) == 6
    assert summary["structurally_valid"] == 5 and summary["constraint_violations"] == 1
    assert summary["md_gated"] == 2 == len(list((out / "md").glob("*/md.json")))
    assert summary["engine"]["name"] == "LJ" and summary["conditions"]["mobile_ion"] == "Li"
    assert set(summary["seconds"]) >= {"sample", "relax", "md_gate", "report"}
    assert [a.info["id"] for a in read(out / "candidates.extxyz", ":")] == list(rows)
    relaxed = {a.info["id"] for a in read(out / "relaxed.extxyz", ":")}
    assert relaxed == {i for i, row in rows.items() if row["relax_status"]}
    assert {p.stem for p in (out / "cifs").glob("*.cif")} <= relaxed
    assert "candidates.csv" in (out / "README.txt").read_text()
    assert (out / "report" / "index.html").read_text().startswith("<!DOCTYPE html>")


def test_every_dropped_candidate_has_a_stage_and_a_reason(design_config, proposer, engine, tmp_path) -> None:
    run_design(design_config(), proposer)
    rows = rows_of(tmp_path / "out")
    assert rows["t-00004"]["stopped_at"] == "structure" and "A" in rows["t-00004"]["reason"]
    assert rows["t-00005"]["stopped_at"] == "constraints" and "Na" in rows["t-00005"]["reason"]
    assert rows["t-00001"]["stopped_at"] == "unique" and "t-00000" in rows["t-00001"]["reason"]
    assert all(row["reason"] for row in rows.values() if row["stopped_at"])


def test_second_call_computes_nothing_and_keeps_the_results(design_config, proposer, engine, tmp_path) -> None:
    run_design(design_config(), proposer)
    out = tmp_path / "out"
    table, first, calls = (out / "candidates.csv").read_bytes(), json.loads((out / "summary.json").read_text()), engine.calls
    run_design(design_config(), proposer)
    second = json.loads((out / "summary.json").read_text())
    assert proposer.calls == 1 and engine.calls == calls
    assert (out / "candidates.csv").read_bytes() == table
    assert second["engine"] == first["engine"] and second["sessions"] == 2
    assert second["seconds_total"] > first["seconds_total"] and second["peak_memory_gb"] >= first["peak_memory_gb"]


def test_interrupted_run_loses_nothing_and_ends_like_an_uninterrupted_one(design_config, proposer, engine, tmp_path) -> None:
    engine.interrupt_at = 2
    with pytest.raises(KeyboardInterrupt):
        run_design(design_config(), proposer)
    out = tmp_path / "out"
    assert len(list((out / "stages" / "static").glob("*.json"))) == 1
    assert json.loads((out / "summary.json").read_text())["stages_done"][-1] == "predict"
    assert len(rows_of(out)) == 6
    engine.interrupt_at = None
    run_design(design_config(), proposer)
    whole = tmp_path / "whole"
    run_design(design_config(f"out={whole}"), proposer)
    assert (out / "candidates.csv").read_bytes() == (whole / "candidates.csv").read_bytes()
    assert proposer.calls == 2  # once for each folder


def test_another_question_in_the_same_folder_is_refused_unless_told(design_config, proposer, engine, tmp_path) -> None:
    run_design(design_config(), proposer)
    with pytest.raises(ConfigError, match=r"ask.temperature_K(.|\n)*overwrite=true"):
        run_design(design_config("ask.temperature_K=500"), proposer)
    assert len(rows_of(tmp_path / "out")) == 6
    run_design(design_config("ask.temperature_K=500", "overwrite=true"), proposer)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["conditions"]["temperature_K"] == 500


def test_truncated_store_is_sampled_again(design_config, proposer, engine, tmp_path) -> None:
    run_design(design_config(), proposer)
    stored = tmp_path / "out" / "sampled.json"
    stored.write_text(stored.read_text()[:100])
    run_design(design_config(), proposer)
    assert proposer.calls == 2


def test_unwritable_out_is_found_before_any_work(design_config, proposer, engine, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="out="):
        run_design(design_config(f"out={tmp_path / 'file' / 'below'}"), proposer)
    assert proposer.calls == 0 and engine.calls == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_out_is_found_before_any_work(design_config, proposer, engine, tmp_path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(OutputError):
        run_design(design_config(), proposer)
    assert proposer.calls == 0


def test_zero_crystals_are_refused(design_config, proposer, engine) -> None:
    with pytest.raises(ConfigError, match="n=0"):
        run_design(design_config("n=0"), proposer)
