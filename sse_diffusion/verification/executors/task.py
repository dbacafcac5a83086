"""One candidate at one stage as a unit of work: computed once, written whole, found again by whoever asks next."""

from __future__ import annotations

import itertools
import logging
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from sse_diffusion.core.atomic_files import read_json, standard_json, write_json_atomically
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import ConfigError, OutputError, SSEError, did_you_mean
from sse_diffusion.verification.stage import FunnelContext, Member, Stage, StageOutcome, StageResult

logger = logging.getLogger(__name__)

EXECUTORS: dict[str, str] = {
    "serial": "sse_diffusion.verification.executors.serial:SerialExecutor",
    "local": "sse_diffusion.verification.executors.local:LocalExecutor",
    "ray": "sse_diffusion.verification.executors.ray_cluster:RayExecutor",
}
"""Executor name -> ``module:class``; a plug-in is named by its import path."""


@dataclass(frozen=True)
class Task:
    """A candidate, the key that its result must carry, and the file that holds it."""

    member: Member
    key: str
    path: Path

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.member.id


@dataclass(frozen=True)
class Job:
    """A stage with what it needs: sent to a worker once, then its tasks one by one.

    Attributes:
        stage: the stage.
        context: of the run.
        missing: members whose result has to be computed. members: all that entered. Both empty in a worker.
    """

    stage: Stage
    context: FunnelContext
    missing: Sequence[Member] = ()
    members: Sequence[Member] = ()

    def prepare(self) -> float:
        """Load what the stage needs; the seconds that took."""
        started = time.monotonic()
        self.stage.prepare(self.missing, self.members, self.context)
        return time.monotonic() - started


class Executor(Protocol):
    """Computes tasks, in any order; takes the next one only when a place is free, so that budgets can stop the rest.

    Attributes:
        workers: how many tasks it computes at a time.
        preparing_s: computing time spent on loading engines in the last :meth:`run`.
    """

    workers: int
    preparing_s: float

    def run(self, job: Job, tasks: Iterator[Task]) -> Iterator[tuple[Task, StageResult | str]]:
        """Each task once, with its result, or with the reason in words why there is none (its workers were lost).

        Raises:
            SSEError: what every task needs cannot be loaded, or results cannot be written.
        """
        ...

    def close(self) -> None:
        """End all workers; the executor can be used again."""
        ...


def build_executor(config: Mapping[str, Any] | str) -> Executor:
    """The executor of a config group ``verification/executor``, or of its bare name.

    Raises:
        ConfigError: unknown name or key.
    """
    from sse_diffusion.verification.potential import import_target

    values = {"name": config} if isinstance(config, str) else plain(config)
    name = str(values.pop("name", "local"))
    target = EXECUTORS.get(name, name)
    if ":" not in target:
        raise ConfigError(f"unknown executor {name!r}", did_you_mean(name, EXECUTORS))
    executor_class = import_target(target)
    return executor_class(build(executor_class.config_class, values))


def pickled(job: Job) -> bytes:
    """The job as bytes, without members (a worker sees one at a time).

    Raises:
        ConfigError: the stage or a loader of the context cannot be sent to another process.
    """
    try:
        return pickle.dumps(replace(job, missing=(), members=()))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"stage {job.stage.name} cannot be sent to another process: {error}",
            "name loaders and stages by module-level functions and classes, or use verification/executor=serial",
        ) from error


def received(blob: bytes, before: Job | None) -> Job:
    """A job in a worker; engine and tables that the job ``before`` it had loaded are taken over."""
    job: Job = pickle.loads(blob)
    if before is not None:
        job.context.take_over(before.context)
    return job


def perform(job: Job, task: Task) -> StageResult:
    """The result of one task: read when another worker has written it, else computed and written.

    What is returned was read back from its JSON form, so that a first run and a resumed one work on the same digits.

    Raises:
        OutputError: the file cannot be written.
    """
    stored = read_result(task.path, task.key)
    return stored if stored is not None else _written(task, _compute(job, task))


def perform_all(job: Job, tasks: Iterator[Task]) -> Iterator[tuple[Task, StageResult]]:
    """Each task with its result: in order, or several at a time as they are finished, where the stage computes them together.

    When that fails, those in hand and the others are computed one by one, so that the one at fault keeps its reason to itself.

    Raises:
        OutputError: a file cannot be written.
    """
    in_hand: dict[str, Task] = {}

    def members() -> Iterator[Member]:
        for task in tasks:
            in_hand[task.id] = task
            yield task.member

    if job.stage.together > 1:
        try:
            for member, outcome, seconds in job.stage.evaluate_together(members(), job.context):
                task = in_hand.pop(member.id)
                yield task, _written(task, _result(job, task, outcome, seconds))
        except OutputError:
            raise
        except Exception:  # as in _compute
            logger.warning("%s: %d candidates go on one by one", job.stage.name, len(in_hand), exc_info=True)
    for task in itertools.chain(list(in_hand.values()), tasks):
        yield task, perform(job, task)


def _written(task: Task, result: StageResult) -> StageResult:
    """The result as it reads from the file that now holds it."""
    record = result.to_dict()
    write_json_atomically(task.path, record)
    return StageResult.from_dict(standard_json(record))


def _compute(job: Job, task: Task) -> StageResult:
    """One candidate; whatever goes wrong is its reason and stays with it."""
    started = time.monotonic()
    try:
        outcome = job.stage.evaluate(task.member, job.context)
    except OutputError:
        raise
    except SSEError as error:
        outcome = StageOutcome(False, {}, error.message)
    # The catch-all is the contract: a crystal made by a model can upset any library in any way, and one candidate must not end
    # a funnel of hundreds. Its reason is kept and the traceback is logged; Ctrl-C and the end of the process pass.
    except Exception as error:
        logger.warning("%s: %s failed", job.stage.name, task.id, exc_info=True)
        outcome = StageOutcome(False, {}, f"{type(error).__name__}: {str(error)[:300]}")
    return _result(job, task, outcome, time.monotonic() - started)


def _result(job: Job, task: Task, outcome: StageOutcome, seconds: float) -> StageResult:
    """An outcome with what it belongs to."""
    return StageResult(
        id=task.id,
        stage=job.stage.name,
        key=task.key,
        passed=outcome.passed,
        reason=outcome.reason,
        values=outcome.values,
        seconds=round(seconds, 4),
        structure=None if outcome.structure is None else outcome.structure.as_dict(),
    )


def read_result(path: Path, key: str) -> StageResult | None:
    """The stored result when it belongs to ``key``; ``None`` otherwise."""
    record = read_json(path)
    if not isinstance(record, dict) or record.get("key") != key:
        return None
    try:
        return StageResult.from_dict(record)
    except (KeyError, TypeError):
        return None
