"""Two processes (gloo) are one run: the same curve as one process, resumable on any number, ending together when told to."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sse_diffusion.core.compose import compose
from sse_diffusion.diffusion.train import LAST, TOLD_TO_END, run_train

pytestmark = pytest.mark.slow  # each run starts interpreters of its own

STEPS = 10
OPTIONS = (
    "experiment=tiny", "data.max_per_prototype=2", "data.progress=false", "denoiser.width=32", "loader.max_tokens=256",
    "loader.workers=1", "samples.every_steps=5", "samples.n=2", "samples.steps=2", "optimiser.total_steps=10",
    "optimiser.warmup_steps=3", "optimiser.learning_rate=0.003", "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1", "trainer.val_check_interval=5", "logger.wandb.mode=disabled", "threads=1",
)  # fmt: skip
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"loader.cache_dir={tmp_path_factory.mktemp('cache')}"


def start(out: Path, cache: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sse_diffusion.cli", "train", f"out={out}", cache, *OPTIONS, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def two_processes(out: Path, cache: str, *options: str) -> str:
    process = start(out, cache, *TWO, *options)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    return text


def one_process(out: Path, cache: str, *options: str) -> None:
    assert run_train(compose("train", [*OPTIONS, cache, f"out={out}", *options])) == 0


def curve(out: Path) -> dict[int, dict[str, float]]:
    """Training losses by step; validation losses under 100 + step."""
    steps: dict[int, dict[str, float]] = {}
    for file in [*sorted((out / "csv").glob("metrics_part*.csv")), out / "csv" / "metrics.csv"]:
        for row in csv.DictReader(file.open()):
            for stage, offset in (("train", 0), ("val", 100)):
                if row.get(f"{stage}/loss"):
                    values = {k: float(v) for k, v in row.items() if k.startswith(f"{stage}/") and v}
                    steps[offset + int(row["step"])] = values
    return steps


def assert_same_curve(one: Path, other: Path) -> None:
    a, b = curve(one), curve(other)
    assert sorted(a) == sorted(b) == [*range(STEPS), 104, 109]
    for step, values in a.items():
        assert b[step] == pytest.approx(values, rel=1e-4), step


def state(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / LAST, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def reference(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, without a break."""
    out = tmp_path_factory.mktemp("one") / "run"
    one_process(out, cache, f"trainer.max_steps={STEPS}")
    return out


def test_two_processes_have_the_loss_curve_of_one(reference: Path, cache: str, out_dir: Path) -> None:
    text = two_processes(out_dir, cache, f"trainer.max_steps={STEPS}")
    assert_same_curve(reference, out_dir)
    one, two = state(reference), state(out_dir)
    assert one.keys() == two.keys()
    for name in one:  # weights and averaged weights; Adam divides by small second moments, so rounding shows in single numbers
        if one[name].is_floating_point():
            assert (one[name] - two[name]).norm() <= 1e-3 * one[name].norm() + 1e-6, name
    assert text.count("results:") == 1  # only the first process speaks


def test_a_run_of_two_processes_goes_on_with_one(reference: Path, cache: str, out_dir: Path) -> None:
    two_processes(out_dir, cache, "trainer.max_steps=5")
    one_process(out_dir, cache, f"trainer.max_steps={STEPS}")
    assert_same_curve(reference, out_dir)


def test_a_run_of_one_process_goes_on_with_two_and_accumulation(reference: Path, cache: str, out_dir: Path) -> None:
    one_process(out_dir, cache, "trainer.max_steps=5")
    two_processes(
        out_dir, cache, f"trainer.max_steps={STEPS}", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=10"
    )
    assert_same_curve(reference, out_dir)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_all_processes_stop_after_the_same_step(
    reference: Path, cache: str, out_dir: Path, number: signal.Signals
) -> None:
    """Only the first process gets the signal; the state is saved, and the same command goes on."""
    process = start(out_dir, cache, *TWO, f"trainer.max_steps={10**6}", "checkpoint.every_minutes=0")
    deadline = time.monotonic() + 120
    while not (out_dir / LAST).is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == (TOLD_TO_END if number == signal.SIGTERM else 130), text
    done = torch.load(out_dir / LAST, weights_only=True)["global_step"]
    assert done > 0 and not list(out_dir.glob("*.partial"))
    two_processes(out_dir, cache, f"trainer.max_steps={done + 2}")
    assert {step for step in curve(out_dir) if step < 100} >= set(range(min(done + 2, 100)))
    a, b = curve(reference), curve(out_dir)
    for step in range(min(STEPS, done + 2)):
        assert b[step] == pytest.approx(a[step], rel=1e-4), step
