"""De novo evaluation: what is sampled, what it is compared with, and how an interrupted run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.design.evaluation import dng
from sse_diffusion.design.evaluation.dng import comparison, evaluate_dng
from sse_diffusion.diffusion import generate
from sse_diffusion.verification.novelty import KnownIndex

CHEAP = ["task=dng", "n=6", "batch=4", "measures=[validity,uniqueness]"]


def positions(out: Path) -> list[np.ndarray]:
    return [atoms.get_positions() for atoms in read(out / "crystals.extxyz", index=":")]


def test_one_command_writes_crystals_and_numbers(evaluation: Callable, table: Path, metrics: Callable, out_dir: Path) -> None:
    evaluate_dng(evaluation(*CHEAP, f"reference.path={table}"))
    found = metrics()
    assert found["task"] == "dng" and found["n"] == 6 and found["nfe"] == 2 and found["seconds"] > 0
    assert found["uniqueness_n"] == found["novelty_n"] == found["structural_validity_n"] == 6
    assert len(found["uniqueness_ci95"]) == 2 and "StructureMatcher" in found["protocol_uniqueness"]
    assert f"6 crystals of {table}" in found["protocol_novelty"]
    ids = [atoms.info["id"] for atoms in read(out_dir / "crystals.extxyz", index=":")]
    assert set(ids) <= {f"dng-{i:05d}" for i in range(6)} and len(ids) == 6 - found["n_not_sampled"]
    assert {"seconds_validity", "seconds_uniqueness"} <= set(found)


def test_a_larger_n_keeps_the_crystals_and_samples_only_the_rest(
    evaluation: Callable, out_dir: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    sample_batch = generate.sample_batch

    def counting(model: Any, request: Any, index: Any, *rest: Any) -> Any:
        asked.extend(index.tolist())
        return sample_batch(model, request, index, *rest)

    monkeypatch.setattr(generate, "sample_batch", counting)
    options = [f"reference.path={table}", "measures=[validity]"]
    evaluate_dng(evaluation(*CHEAP[:1], "n=5", "batch=2", *options))
    first = positions(out_dir)
    evaluate_dng(evaluation(*CHEAP[:1], "n=7", "batch=3", *options))
    assert asked == [0, 1, 2, 3, 4, 5, 6]
    assert all(np.allclose(a, b) for a, b in zip(first, positions(out_dir), strict=False))
    with pytest.raises(ConfigError, match="seed"):
        evaluate_dng(evaluation(*CHEAP, "seed=1", *options))


def test_without_a_reference_the_training_table_is_used(
    evaluation: Callable, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dng, "default_table", lambda: str(table))
    found = comparison(evaluation("task=dng"))
    assert found.novelty is not None and [row.split for row in found.novelty.rows] == ["train", "train"]
    assert found.distribution is not None and len(found.distribution) == 6
    assert found.facts["n_reference_novelty"] == 2 and found.facts["n_reference"] == 6


def test_without_any_table_the_index_judges_novelty_and_the_rest_is_missing(
    evaluation: Callable, checkpoint: Path, tmp_path: Path, metrics: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dng, "default_table", lambda: str(tmp_path / "absent.parquet"))
    KnownIndex.build([("NaCl", 225)]).save(checkpoint / "known.npy")
    try:
        evaluate_dng(evaluation("task=dng", "n=3", "measures=[validity,uniqueness,coverage,distributions]"))
    finally:
        (checkpoint / "known.npy").unlink()
    found = metrics()
    assert found["novelty_n"] == 3 and "index" in found["protocol_novelty"] and found["n_known"] == 1
    assert found["coverage_recall"] is None and found["w_density"] is None and found["coverage_recall_reason"]


def test_asked_conditions_are_met_and_recorded(evaluation: Callable, table: Path, metrics: Callable, out_dir: Path) -> None:
    options = [f"reference.path={table}", "measures=[validity]", "n=3", "task=dng"]
    evaluate_dng(evaluation(*options, "ask.elements.require=[Li]"))
    assert all("Li" in atoms.get_chemical_symbols() for atoms in read(out_dir / "crystals.extxyz", index=":"))
    assert "Li" in json.dumps(metrics()["asked"])


def test_nothing_to_sample_is_refused(evaluation: Callable) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        evaluate_dng(evaluation("task=dng", "n=0"))
