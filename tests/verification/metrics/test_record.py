"""The result files: flat keys, intervals, reasons, protocols, provenance."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sse_diffusion.verification.metrics.rates import Metric
from sse_diffusion.verification.metrics.record import protocol_of, summary, table, write_metrics

METRICS = {"match_rate": Metric.rate(1, 4), "rmse": Metric.mean([0.1, 0.2]), "sun_0.1": Metric.missing("no hull")}
PROTOCOL = {"match_rate": "any of k", "rmse": "best | of k", "sun": "CHGNet hull"}


def written(out: Path) -> dict:
    write_metrics(out, METRICS, PROTOCOL, {"n": 4, "checkpoint_sha256": "ab", "seed": 0, "settings": {"k": 1}})
    return json.loads((out / "metrics.json").read_text())


def test_keys_are_flat(out_dir: Path) -> None:
    record = written(out_dir)
    assert record["match_rate"] == 0.25 and record["match_rate_k"] == 1 and record["match_rate_n"] == 4
    low, high = record["match_rate_ci95"]
    assert 0.04 < low < 0.06 and 0.68 < high < 0.72
    assert record["rmse"] == pytest.approx(0.15) and record["rmse_n"] == 2 and "rmse_k" not in record
    assert record["n"] == 4 and record["settings"] == {"k": 1}


def test_missing_numbers_are_null_with_a_reason(out_dir: Path) -> None:
    record = written(out_dir)
    assert record["sun_0.1"] is None and record["sun_0.1_reason"] == "no hull"
    assert "sun_0.1_ci95" not in record and "match_rate_reason" not in record


def test_provenance_and_protocols_are_there(out_dir: Path) -> None:
    record = written(out_dir)
    assert record["protocol_sun"] == "CHGNet hull" and "cores" in record["machine"]
    assert record["commit"] and record["versions"]["python"] and record["checkpoint_sha256"] == "ab"


def test_numbers_are_standard_json(out_dir: Path) -> None:
    write_metrics(out_dir, {"w": Metric(math.nan, (0.0, math.inf))}, {}, {})
    text = (out_dir / "metrics.json").read_text()
    assert json.loads(text)["w"] is None and "NaN" not in text and "Infinity" not in text


def test_two_entries_of_one_name_are_refused(out_dir: Path) -> None:
    with pytest.raises(ValueError, match="rmse_n"):
        write_metrics(out_dir, {"rmse": Metric.mean([0.1, 0.2])}, {}, {"rmse_n": 7})
    assert not (out_dir / "metrics.json").exists()


def test_the_longest_name_gives_the_protocol() -> None:
    known = {"match_rate": "whole", "match_rate_valid_only": "filtered"}
    assert protocol_of("match_rate_valid_only", known) == "filtered"
    assert protocol_of("match_rate_up_to_8", known) == "whole"
    assert protocol_of("match_rates", known) == "" == protocol_of("floor_match_rate", known)


def test_table_has_the_protocol_beside_every_number(out_dir: Path) -> None:
    lines = {line.split(" | ")[0].strip("| "): line for line in table(METRICS, PROTOCOL, {"n": 4}).splitlines()}
    assert "| 0.25 |" in lines["match_rate"] and "| 1/4 |" in lines["match_rate"] and "any of k" in lines["match_rate"]
    assert "missing" in lines["sun_0.1"] and "no hull" in lines["sun_0.1"] and "CHGNet hull" in lines["sun_0.1"]
    assert lines["rmse"].count("|") == 6, "a bar in the text must not make a column"
    written(out_dir)
    assert (out_dir / "metrics.md").read_text() == table(METRICS, PROTOCOL, {"n": 4, "checkpoint_sha256": "ab", "seed": 0})


def test_summary_shows_every_metric_with_its_protocol(out_dir: Path) -> None:
    written(out_dir)
    lines = {line.split()[0]: line for line in summary(out_dir).splitlines()}
    assert set(lines) == set(METRICS)
    assert "0.25" in lines["match_rate"] and "1/4" in lines["match_rate"] and "any of k" in lines["match_rate"]
    assert "missing" in lines["sun_0.1"] and "no hull" in lines["sun_0.1"]
