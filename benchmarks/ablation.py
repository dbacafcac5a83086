"""Ablations at equal CPU time: variants of `sse train experiment=budget_40min`, each trained for the same core-minutes.

    python benchmarks/ablation.py [plan=benchmarks/ablations.yaml] [core_minutes=4] [seeds=0,1] [only=NAME,NAME] [core=1]
        [code=FOLDER]

Every run is a process of its own, pinned to one core, of a copy of the code made at the start (`code` names the copy; one that is
there is used), so that editing does not mix two states. A run (1) measures the CPU time of a step relative to the reference's, in
turns, so that other work on the machine meets both alike; (2) trains for as many steps as the budget holds when the reference's
takes 0.795 s, with warm-up, decay and averaging in the preset's proportions; (3) computes the validation losses of the averaged
weights with the reference's noise, times and batches, whatever it was trained with; (4) predicts the structures of 200 validation
crystals of <= 20 sites in one shot, everything from noise (`sse evaluate task=csp`, no structure types).

Rows go to results/ablations.json as they are finished; what is there (variant, seed, budget) is not run again.
`python benchmarks/ablation_table.py` prints them as the table of docs/ablations.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from measure import RESULTS, options

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.provenance import git_commit

ROWS = RESULTS / "ablations.json"
RUNS = Path("runs/ablations")
COMMIT = "commit"
NICE = 5
Job = dict[str, Any]


def read_rows() -> list[Job]:
    """Finished runs."""
    return json.loads(ROWS.read_text()) if ROWS.is_file() else []


def identity(row: Mapping[str, Any]) -> tuple[str, int, float]:
    """What is run once."""
    return str(row["variant"]), int(row["seed"]), float(row["core_minutes"])


def planned(plan: Mapping[str, Mapping[str, Any]], names: list[str], seeds: list[int], core_minutes: float) -> list[Job]:
    """All variants with the first seed, then with the next one, ...; only those named, when any are.

    Raises:
        SystemExit: a name that the plan lacks.
    """
    if unknown := set(names) - set(plan):
        raise SystemExit(f"no variant {sorted(unknown)[0]!r}; there are: {', '.join(plan)}")
    return [
        {"variant": name, **plan[name], "seed": seed, "core_minutes": core_minutes}
        for seed in seeds
        for name in plan
        if not names or name in names
    ]


def snapshot(folder: Path) -> None:
    """A copy of the package, its configurations and the benchmarks, with the commit it was made at."""
    root = Path(__file__).resolve().parents[1]
    for name in ("sse_diffusion", "configs", "benchmarks"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    (folder / COMMIT).write_text(git_commit())


def run_job(job: Job, code: Path, core: int) -> Job | None:
    """Train and evaluate in a child process; ``None`` when it failed (its log stays)."""
    out = RUNS / f"{job['variant']}-seed{job['seed']}-{job['core_minutes']:g}min"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_json_atomically(out / "job.json", {**job, "out": str(out), "core": core})
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(code / "benchmarks" / "ablation_run.py"), str(out / "job.json")]
    with (out / "log").open("w") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(f"{job['variant']} failed, see {out / 'log'}", flush=True)
        return None
    return json.loads((out / "row.json").read_text())


def main(arguments: list[str]) -> None:
    """Run what is missing."""
    asked = options(
        arguments, plan=str(Path(__file__).with_suffix(".yaml").with_stem("ablations")), core_minutes="4", seeds="0,1", only="",
        core=max(os.sched_getaffinity(0)), code="",
    )  # fmt: skip
    plan = yaml.safe_load(Path(asked["plan"]).read_text())
    seeds = [int(s) for s in asked["seeds"].split(",")]
    jobs = planned(plan, [n for n in asked["only"].split(",") if n], seeds, float(asked["core_minutes"]))
    with tempfile.TemporaryDirectory(prefix="ablations-") as temporary:
        code = Path(asked["code"] or Path(temporary) / "code").resolve()
        if not code.is_dir():
            snapshot(code)
        commit = (code / COMMIT).read_text()
        for job in jobs:
            if identity(job) in {identity(row) for row in read_rows()}:
                continue
            started = time.perf_counter()
            row = run_job(job, code, asked["core"])
            if row is None:
                continue
            write_json_atomically(ROWS, [*read_rows(), {**row, "commit": commit}])
            print(f"{job['variant']} seed {job['seed']}: {time.perf_counter() - started:.0f} s, {row['match']}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
