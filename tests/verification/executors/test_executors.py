"""Workers may be lost, results may not: killed processes, deadly candidates, errors that belong to the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.errors import ConfigError, EngineError, OutputError
from sse_diffusion.verification.executors.local import LocalConfig, LocalExecutor
from sse_diffusion.verification.executors.task import build_executor
from sse_diffusion.verification.funnel import FunnelConfig, build_stages, run_funnel
from sse_diffusion.verification.stage import FunnelContext
from sse_diffusion.verification.verify import engine_and_hull

LJ = {
    "name": "ase", "calculator": "ase.calculators.lj:LennardJones",
    "kwargs": {"sigma": 2.3, "epsilon": 0.05, "rc": 6.0, "smooth": True},
}  # fmt: skip
ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.1), ["Li", "Cl"], [[0, 0, 0], [0.5] * 3]).get_primitive_structure()


def crystals(count: int) -> list[Candidate]:
    """Distorted rock salt, each another crystal."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        structure = ROCK_SALT.copy()
        structure.scale_lattice(structure.volume * rng.uniform(0.9, 1.1))
        structure.translate_sites([1], rng.uniform(-0.05, 0.05, 3))
        made.append(Candidate(f"c{number:03d}", structure))
    return made


def run(folder: Path, candidates, executor=None, engine=LJ, steps: int = 3, together: int = 1):
    """Structure check and a short relaxation."""
    protocol = {"max_steps": steps, "max_seconds": 600}
    stages = build_stages(
        FunnelConfig(order=("structure", "relax"), stages={"relax": {"protocol": protocol, "together": together}})
    )
    context = FunnelContext(out_dir=folder, **engine_and_hull(engine, "none"))
    return run_funnel(candidates, stages, context, executor=executor)


def values(report) -> dict[str, dict]:
    """What must not depend on where it was computed."""
    return {m.id: {k: v for k, v in m.values.items() if "seconds" not in k} for m in report.members}


def kill_workers(folder: Path, after: tuple[int, ...]) -> threading.Thread:
    """A thread that kills one worker each time so many results are there."""

    def hunt() -> None:
        for count in after:
            while len(list((folder / "stages" / "relax").glob("*.json"))) < count:
                time.sleep(0.001)
            time.sleep(0.03)  # into the next one
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    thread = threading.Thread(target=hunt)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_hundred_candidates_and_two_killed_workers(tmp_path, caplog):
    candidates = crystals(100)
    undisturbed = run(tmp_path / "serial", candidates)
    hunter = kill_workers(tmp_path / "pool", (10, 40))
    report = run(tmp_path / "pool", candidates, LocalExecutor(LocalConfig(workers=2)))
    hunter.join()
    assert sum("(SIGKILL: killed" in r.message for r in caplog.records) == 2, "the kills must have hit"
    assert [m.id for m in report.members] == [c.id for c in candidates]
    assert values(report) == values(undisturbed) and all(m.alive for m in report.members)
    assert len(list((tmp_path / "pool" / "stages" / "relax").iterdir())) == 100


def with_sodium() -> list[Candidate]:
    """Three crystals, the second with sodium."""
    salt = ROCK_SALT.copy()
    salt.replace(0, "Na")
    return [Candidate("a", ROCK_SALT), Candidate("salt", salt), Candidate("b", ROCK_SALT)]


@pytest.mark.slow
def test_a_lost_candidate_is_tried_again(tmp_path, deadly):
    report = run(tmp_path / "out", with_sodium(), LocalExecutor(LocalConfig(workers=2, retries=2)), deadly(2))
    assert all(m.alive and m.values["energy_eV_per_atom"] for m in report.members)
    assert len(list((tmp_path / "log").iterdir())) == 2


@pytest.mark.slow
def test_a_deadly_candidate_gets_a_reason_and_the_others_go_on(tmp_path, deadly):
    report = run(tmp_path / "out", with_sodium(), LocalExecutor(LocalConfig(workers=2, retries=1)), deadly(99))
    lost = report.members[1]
    assert lost.stopped_at == "relax" and "lost 2 times (SIGKILL" in lost.reason
    assert [m.alive for m in report.members] == [True, False, True]
    assert not (tmp_path / "out" / "stages" / "relax" / "salt.json").exists(), "a later run tries again"


@pytest.mark.slow
def test_what_every_candidate_needs_is_one_error(tmp_path):
    broken = {**LJ, "calculator": "ase.calculators.lj:Nothing"}
    with pytest.raises(EngineError, match="has no 'Nothing'"):
        run(tmp_path, crystals(3), LocalExecutor(LocalConfig(workers=2)), broken)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_run(tmp_path, monkeypatch):
    (tmp_path / "ase.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match=r"end before they start \(exit code 7\)"):
        run(tmp_path / "out", crystals(3), LocalExecutor(LocalConfig(workers=2, retries=0)))


def test_what_cannot_be_sent_says_so(tmp_path):
    stages = build_stages(FunnelConfig(order=("relax",)))
    context = FunnelContext(out_dir=tmp_path, potential_loader=lambda: None)
    with pytest.raises(ConfigError, match="cannot be sent to another process"):
        run_funnel(crystals(2), stages, context, executor=LocalExecutor(LocalConfig(workers=2)))


def test_two_runs_on_one_folder_are_refused(tmp_path):
    stages = build_stages(FunnelConfig(order=("structure",)))
    context = FunnelContext(out_dir=tmp_path)

    def meanwhile(_: object) -> None:
        run_funnel(crystals(1), stages, context)

    with pytest.raises(OutputError, match="another process is at work"):
        run_funnel(crystals(1), stages, context, after_stage=meanwhile)
    assert run_funnel(crystals(1), stages, context).members[0].alive, "the folder is free again"


def test_names_and_settings_of_executors():
    assert build_executor("local").workers >= 1 and build_executor({"name": "local", "workers": 3}).workers == 3
    with pytest.raises(ConfigError, match="did you mean 'serial'"):
        build_executor("serail")
    with pytest.raises(ConfigError, match="unknown key 'worker'"):
        build_executor({"name": "local", "worker": 3})
    with pytest.raises(ConfigError, match="workers=0"):
        build_executor({"name": "local", "workers": 0})


def test_relaxing_together_gives_the_same_and_keeps_the_keys(tmp_path):
    alone = run(tmp_path / "run", crystals(7))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "stages" / "relax").iterdir()}
    together = run(tmp_path / "other", crystals(7), together=3)
    again = run(tmp_path / "run", crystals(7), together=3)
    assert values(together) == values(alone) == values(again)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_when_company_fails_each_is_computed_alone(tmp_path, monkeypatch):
    from sse_diffusion.verification.stages import energies

    def broken(structures, potential, config, together):
        for number, one in energies_relax(structures, potential, config, together):
            if together > 1 and number == 2:
                raise RuntimeError("the device went away")
            yield number, one

    energies_relax = energies.relax_together
    alone = run(tmp_path / "alone", crystals(7))
    monkeypatch.setattr(energies, "relax_together", broken)
    assert values(run(tmp_path / "broken", crystals(7), together=3)) == values(alone)


def test_relaxing_none_together_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"together is 0"):
        run(tmp_path, crystals(1), together=0)
