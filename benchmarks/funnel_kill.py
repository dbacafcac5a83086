"""A hundred candidates through the funnel with two workers killed on the way, against the undisturbed run in one process.

python benchmarks/funnel_kill.py out=benchmarks/results/funnel_kill.json                 # CHGNet, relaxation and hull
python benchmarks/funnel_kill.py engine=ase n=100                                        # Lennard-Jones, seconds
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.provenance import git_commit, package_versions
from sse_diffusion.core.threads import set_threads
from sse_diffusion.verification.executors.local import LocalConfig, LocalExecutor
from sse_diffusion.verification.executors.task import Executor
from sse_diffusion.verification.funnel import FunnelConfig, FunnelReport, build_stages, run_funnel
from sse_diffusion.verification.stage import FunnelContext
from sse_diffusion.verification.verify import engine_and_hull

ENGINES: dict[str, dict[str, Any]] = {
    "chgnet": {"name": "chgnet", "model": "0.3.0"},
    "ase": {"name": "ase", "calculator": "ase.calculators.lj:LennardJones", "kwargs": {"sigma": 2.3, "epsilon": 0.05, "rc": 6.0}},
}
SALTS = (("Li", "F"), ("Li", "Cl"), ("Li", "Br"), ("Li", "I"), ("Na", "F"), ("Na", "Cl"), ("Na", "Br"), ("K", "F"), ("Mg", "O"))
STAGES = {"relax": {"protocol": {"max_steps": 4, "max_seconds": 600.0}}}


def candidates(number: int) -> list[Candidate]:
    """Distorted rock salts of two to eight atoms."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(number):
        symbols = SALTS[index % len(SALTS)]
        crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(rng.uniform(4.2, 6.2)), symbols, [[0, 0, 0], [0.5] * 3])
        crystal = crystal if index % 4 == 0 else crystal.get_primitive_structure()
        crystal.translate_sites([0], rng.uniform(-0.04, 0.04, 3))
        made.append(Candidate(f"c{index:03d}", crystal, info={"mobile_ion": symbols[0]}))
    return made


def run(folder: Path, crystals: list[Candidate], engine: str, executor: Executor | None) -> tuple[FunnelReport, float]:
    """One funnel: structure, composition, static, relax, hull."""
    order = ("structure", "composition", "static", "relax", "hull")
    context = FunnelContext(out_dir=folder, **engine_and_hull(ENGINES[engine], "chgnet-0.3.0"))
    started = time.monotonic()
    report = run_funnel(crystals, build_stages(FunnelConfig(order=order, stages=STAGES)), context, executor=executor)
    return report, time.monotonic() - started


def kill(folder: Path, stage: str, after: tuple[int, ...], killed: list[dict[str, int]]) -> None:
    """SIGKILL one busy worker each time so many results of a stage are there."""
    for count in after:
        while (done := len(list((folder / "stages" / stage).glob("*.json")))) < count:
            time.sleep(0.001)
        time.sleep(0.05)  # into the next candidate
        victim = multiprocessing.active_children()[0]
        os.kill(int(victim.pid or 0), signal.SIGKILL)
        killed.append({"pid": int(victim.pid or 0), "results_then": done})


def plain_values(report: FunnelReport) -> dict[str, Any]:
    """What must not depend on where and how often it was computed."""
    return {
        m.id: ({k: v for k, v in m.values.items() if "seconds" not in k}, m.structure.as_dict(), m.stopped_at, m.reason)
        for m in report.members
    }


def main(arguments: list[str]) -> None:
    """Both runs, compared."""
    options = {"engine": "chgnet", "n": "100", "workers": "2", "out": "benchmarks/results/funnel_kill.json"}
    options |= dict(a.split("=", 1) for a in arguments)
    set_threads(1)
    crystals, folder = candidates(int(options["n"])), Path(tempfile.mkdtemp())
    calm, calm_s = run(folder / "calm", crystals, options["engine"], None)
    killed: list[dict[str, int]] = []
    hunter = threading.Thread(target=kill, args=(folder / "pool", "relax", (20, 60), killed))
    hunter.start()
    pool, pool_s = run(folder / "pool", crystals, options["engine"], LocalExecutor(LocalConfig(workers=int(options["workers"]))))
    hunter.join()
    files = {s: len(list((folder / "pool" / "stages" / s).iterdir())) for s in pool.stage_names}
    first, second = plain_values(calm), plain_values(pool)
    record = {
        "protocol": f"structure, composition, static, relax ({STAGES['relax']['protocol']}), hull; values and structures "
        "compared exactly with an undisturbed run in one process",
        "engine": options["engine"],
        "candidates": len(crystals),
        "workers": int(options["workers"]),
        "workers_killed": killed,
        "rows": len(pool.members),
        "distinct_rows": len({m.id for m in pool.members}),
        "result_files": files,
        "same_values": sum(first[i] == second[i] for i in first),
        "passed": sum(m.alive for m in pool.members),
        "seconds_undisturbed_one_process": round(calm_s, 1),
        "seconds_with_kills": round(pool_s, 1),
        "commit": git_commit(),
        "versions": package_versions(),
    }
    write_json_atomically(Path(options["out"]), record)
    shutil.rmtree(folder)
    print({k: v for k, v in record.items() if k != "versions"})


if __name__ == "__main__":
    main(sys.argv[1:])
