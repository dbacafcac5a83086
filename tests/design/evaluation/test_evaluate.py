"""The verb: one dispatch table, results on the terminal with their protocols."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from sse_diffusion import cli
from sse_diffusion.core.errors import ConfigError, OutputError
from sse_diffusion.design.evaluation.evaluate import TASKS, run_evaluate
from sse_diffusion.design.evaluation.workers import worker_count


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_is_there(task: str) -> None:
    module, _, name = TASKS[task].partition(":")
    assert callable(getattr(import_module(module), name))


def test_unknown_task_is_answered_with_the_closest(evaluation: Callable) -> None:
    with pytest.raises(ConfigError, match=r"unknown task 'crystal'.*\n.*did you mean 'crystals'"):
        run_evaluate(evaluation("task=crystal"))


def test_a_task_must_be_named(capsys: pytest.CaptureFixture[str], out_dir: Path) -> None:
    assert cli.main(["evaluate", f"out={out_dir}"]) == 2
    assert "task" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made(evaluation: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="out="):
        run_evaluate(evaluation("task=crystals", f"out={tmp_path / 'file' / 'inside'}"))


def test_the_command_prints_every_number_with_its_protocol(
    table: Path, out_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"input={table}", f"out={out_dir}", "measures=[validity]", "workers=1"]
    assert cli.main(["evaluate", "task=crystals", *options]) == 0
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if line.split()[:1] == ["composition_validity"])
    assert "5/6" in line and "0.8333" in line and "SMACT" in line
    assert f"results: {out_dir}" in shown


def test_interrupted_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, out_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sse_diffusion.design.evaluation.crystals.evaluate_crystals", interrupted)
    assert cli.main(["evaluate", "task=crystals", "input=x", f"out={out_dir}"]) == 130
    assert "same command goes on" in capsys.readouterr().err


def test_workers_default_to_the_cores_of_this_process() -> None:
    assert worker_count(None) >= 1 and worker_count(3) == 3
