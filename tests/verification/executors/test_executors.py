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
from sse_diffusion.verification.executors.local import LocalConfig, LocalExecutor, _Worker
from sse_diffusion.verification.executors.task import Job, Task, build_executor, perform, perform_all
from sse_diffusion.verification.funnel import FunnelConfig, build_stages, run_funnel
from sse_diffusion.verification.stage import BaseStage, FunnelContext, Member, StageOutcome
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


def test_the_engine_is_asked_for_several_at_once(tmp_path, monkeypatch):
    from sse_diffusion.verification.engines.ase_any import AseEngine

    sizes, evaluate = [], AseEngine.evaluate
    monkeypatch.setattr(AseEngine, "evaluate", lambda self, atoms: sizes.append(len(atoms)) or evaluate(self, atoms))
    run(tmp_path, crystals(4), together=3)
    assert max(sizes) == 3


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


def tasks(folder: Path, count: int, key: str = "key") -> list[Task]:
    """One per crystal."""
    return [Task(Member(c, c.structure), key, folder / f"{c.id}.json") for c in crystals(count)]


class Ended:
    """A process that was killed, or will be when it is asked."""

    exitcode = -signal.SIGKILL

    def join(self, timeout=None):
        """It has ended."""

    kill = join


def structure_job(folder: Path) -> Job:
    """A stage without an engine."""
    return Job(build_stages(FunnelConfig(order=("structure",)))[0], FunnelContext(out_dir=folder))


@pytest.fixture
def in_threads(monkeypatch):
    """Workers as threads: ``in_threads(job, "d", "w")`` for one that is killed at work, then one that does it. ``c``: killed
    after writing its result, before telling so; ``e``: cannot load what it needs."""

    def use(job: Job, *fates: str) -> list[str]:
        left = list(fates)

        def work(fate, pipe):
            while True:
                try:
                    _, task = pipe.recv()
                except EOFError:
                    return
                pipe.send(("error", (EngineError, "no weights", "")) if fate == "e" else ("ready", (0.0, None)))
                if fate in "cw":
                    result = perform(job, task)
                if fate != "w":
                    return pipe.close()
                pipe.send(("done", result))

        def start(self):
            ours, theirs = multiprocessing.Pipe()
            threading.Thread(target=work, args=(left.pop(0), theirs), daemon=True).start()
            return _Worker(Ended(), ours)

        monkeypatch.setattr(LocalExecutor, "_start", start)
        return left

    return use


def test_what_a_lost_worker_had_written_is_taken(tmp_path, in_threads):
    """Killed between the file and the message: the result is there, and nobody computes it again."""
    job, (task,) = structure_job(tmp_path), tasks(tmp_path, 1)
    left = in_threads(job, "c", "w")
    [(done, result)] = LocalExecutor(LocalConfig(workers=1, retries=1)).run(job, iter([task]))
    assert done is task and result.passed and result.values["structurally_valid"] and left == ["w"]


@pytest.mark.parametrize("deaths", [0, 1, 2, 3])
def test_a_lost_task_is_tried_again_as_often_as_asked(tmp_path, in_threads, deaths):
    job, three = structure_job(tmp_path), tasks(tmp_path, 3)
    in_threads(job, *["d"] * deaths, "w")
    found = {task.id: result for task, result in LocalExecutor(LocalConfig(workers=1, retries=2)).run(job, iter(three))}
    assert sorted(found) == ["c000", "c001", "c002"]
    lost = [result for result in found.values() if isinstance(result, str)]
    assert len(lost) == (deaths > 2) and all("lost 3 times (SIGKILL" in reason for reason in lost)


def test_an_error_or_a_reader_that_leaves_ends_the_workers(tmp_path, in_threads):
    job, executor = structure_job(tmp_path), LocalExecutor(LocalConfig(workers=1))
    in_threads(job, "e", "w")
    with pytest.raises(EngineError, match="no weights"):
        list(executor.run(job, iter(tasks(tmp_path, 2))))
    assert executor._pool == []
    given = executor.run(job, iter(tasks(tmp_path, 3)))
    next(given)
    given.close()
    assert executor._pool == []


class Trouble(BaseStage):
    """Passes every candidate, or raises an error; remembers whom it saw."""

    together = 1

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("trouble")
        self.error, self.seen = error, []

    def evaluate(self, member, context):
        self.seen.append(member.id)
        if self.error is not None:
            raise self.error
        return StageOutcome(True, {"number": np.float64(1.5), "nothing": float("nan")})


def test_a_result_that_another_worker_wrote_is_read(tmp_path):
    job, (task,), (other,) = Job(Trouble(), FunnelContext(out_dir=tmp_path)), tasks(tmp_path, 1), tasks(tmp_path, 1, "other key")
    first = perform(job, task)
    assert perform(job, task) == first and job.stage.seen == ["c000"]
    assert perform(job, other).key == "other key" and job.stage.seen == ["c000"] * 2
    assert first.values == {"number": 1.5, "nothing": None}, "as it will be read from the file"


def test_what_a_candidate_does_is_its_reason_and_a_full_disk_is_nobodys(tmp_path):
    context, (task,) = FunnelContext(out_dir=tmp_path), tasks(tmp_path, 1)
    for error, reason in (
        (EngineError("too near"), "too near"),
        (ZeroDivisionError("no volume"), "ZeroDivisionError: no volume"),
    ):
        result = perform(Job(Trouble(error), context), task)
        assert not result.passed and result.reason == reason
        task.path.unlink()
    with pytest.raises(OutputError, match="full"):
        perform(Job(Trouble(OutputError("the disk is full")), context), task)
    assert not task.path.exists()


def test_a_full_disk_ends_company_too(tmp_path):
    class Company(Trouble):
        together = 2

        def evaluate_together(self, members, context):
            yield next(members), StageOutcome(True), 2.5
            raise OutputError("the disk is full")

    job = Job(Company(), FunnelContext(out_dir=tmp_path))
    given = perform_all(job, iter(tasks(tmp_path, 3)))
    assert next(given)[1].seconds == 2.5
    with pytest.raises(OutputError, match="full"):
        next(given)
    assert job.stage.seen == [], "nobody is computed one by one"


def test_company_gives_each_result_once(tmp_path):
    class Company(Trouble):
        together = 2

        def evaluate_together(self, members, context):
            for member in members:
                yield member, self.evaluate(member, context), 0.0

    job = Job(Company(), FunnelContext(out_dir=tmp_path))
    assert [task.id for task, _ in perform_all(job, iter(tasks(tmp_path, 3)))] == job.stage.seen == ["c000", "c001", "c002"]
