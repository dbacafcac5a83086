"""A pool of processes on this machine that survives the loss of any of them.

Not ``concurrent.futures``: its pool is broken as a whole when one process is killed (by the kernel for memory, by a user, by a
fault in a compiled library). Here each process has a pipe of its own, whose end tells of its death; the candidate that it held
is tried again, the others are not touched. Processes are spawned, so no state is inherited by accident, and they write their
results
themselves: what was finished is not lost with either side.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from sse_diffusion.core.errors import ConfigError, EngineError, SSEError
from sse_diffusion.verification.executors.task import Job, Task, perform, pickled, read_result, received
from sse_diffusion.verification.stage import StageResult

logger = logging.getLogger(__name__)

PATIENCE_s = 5.0
"""What an idle process gets to leave by itself."""


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """Settings of the pool.

    Attributes:
        workers: processes with one torch thread each; ``None``: one per core that this process may use.
        retries: how often a candidate is tried again after its process was lost.
    """

    workers: int | None = None
    retries: int = 2

    def __post_init__(self) -> None:
        """Refuse numbers without meaning (ConfigError)."""
        if (self.workers is not None and self.workers < 1) or self.retries < 0:
            raise ConfigError(f"executor with workers={self.workers}, retries={self.retries}", "give workers >= 1, retries >= 0")


@dataclass
class _Worker:
    """A process, our end of its pipe, and what it is doing."""

    process: Any
    pipe: Connection
    job: int = -1
    ready: bool = True
    task: Task | None = None


@dataclass
class _Round:
    """State of one call of :meth:`LocalExecutor.run`."""

    number: int
    blob: bytes
    tasks: Iterator[Task]
    again: deque[Task] = field(default_factory=deque)
    losses: Counter[str] = field(default_factory=Counter)
    failed_starts: int = 0

    def next(self) -> Task | None:
        """The next task to hand out: those that were lost first."""
        return self.again.popleft() if self.again else next(self.tasks, None)


class LocalExecutor:
    """See :class:`~sse_diffusion.verification.executors.task.Executor`."""

    config_class = LocalConfig

    def __init__(self, config: LocalConfig | None = None) -> None:
        """No process is started before the first task."""
        self.config = config or LocalConfig()
        self.workers = self.config.workers or usable_cores()
        self.preparing_s = 0.0
        self._pool: list[_Worker] = []
        self._numbers = itertools.count()

    def run(self, job: Job, tasks: Iterator[Task]) -> Iterator[tuple[Task, StageResult | str]]:
        """Each task with its result as it is finished, or with the reason why its workers were lost."""
        self.preparing_s = 0.0
        this = _Round(next(self._numbers), pickled(job), tasks)
        finished = False
        try:
            while busy := self._busy(this):
                for pipe in wait(list(busy)):
                    worker = busy[pipe]  # type: ignore[index]
                    task, answer = worker.task, self._listen(worker, job, this)
                    if task is not None and answer is not None:
                        yield task, answer
            finished = True
        finally:
            if not finished:  # an error, or nobody listens any more: no worker may go on with a stale task
                self.close()

    def close(self) -> None:
        """End all processes; what they were computing is computed again another time."""
        for worker in self._pool:
            if worker.task is not None:
                worker.process.kill()
            worker.pipe.close()  # an idle one leaves by itself
        for worker in self._pool:
            worker.process.join(PATIENCE_s)
            worker.process.kill()
            worker.process.join()
        self._pool = []

    def _busy(self, this: _Round) -> dict[Connection, _Worker]:
        """Hand out what can be handed out; the workers that have something to do, by their pipes."""
        self._hand_out(this)
        return {worker.pipe: worker for worker in self._pool if worker.task is not None}

    def _hand_out(self, this: _Round) -> None:
        """Give every idle worker a task; start workers while there are tasks for them."""
        for worker in [w for w in self._pool if w.task is None]:
            if not self._give(worker, this):
                return
        while len(self._pool) < self.workers:
            task = this.next()
            if task is None:
                return
            self._pool.append(self._start())
            this.again.appendleft(task)
            self._give(self._pool[-1], this)

    def _give(self, worker: _Worker, this: _Round) -> bool:
        """Send the next task, with the stage when the worker does not have it; false when there is no task left."""
        task = this.next()
        if task is None:
            return False
        worker.task, worker.ready = task, worker.job == this.number
        blob = None if worker.ready else this.blob
        worker.job = this.number
        try:
            worker.pipe.send((blob, task))
        except (BrokenPipeError, ConnectionResetError):
            logger.debug("a worker was gone before its task reached it")  # its pipe reports that in the next round
        return True

    def _listen(self, worker: _Worker, job: Job, this: _Round) -> StageResult | str | None:
        """What one message means for the worker's task; ``None`` when there is nothing to tell yet."""
        task = worker.task
        assert task is not None
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, ConnectionResetError, OSError):
            return self._lost(worker, task, this)
        if kind == "ready":
            worker.ready, this.failed_starts = True, 0
            seconds, info = content
            self.preparing_s += seconds
            job.context.engine_info = info or job.context.engine_info
            return None
        worker.task = None
        if kind == "error":
            raise _rebuilt(content)
        return content

    def _lost(self, worker: _Worker, task: Task, this: _Round) -> StageResult | str | None:
        """A process ended by itself: keep what it had written, try its task again, or give it up."""
        worker.process.join()
        worker.pipe.close()
        self._pool.remove(worker)
        how = _ending(worker.process.exitcode)
        logger.warning("a worker was lost with %s (%s)", task.id, how)
        stored = read_result(task.path, task.key)
        if stored is not None:
            return stored
        if not worker.ready:
            self._did_not_start(worker, task, this)
            return None
        this.losses[task.id] += 1
        if this.losses[task.id] > self.config.retries:
            return f"its worker process was lost {this.losses[task.id]} times ({how}); a later run tries again"
        this.again.append(task)
        return None

    def _did_not_start(self, worker: _Worker, task: Task, this: _Round) -> None:
        """A process ended before it took its first task: no fault of the candidate, and no reason to go on for ever."""
        this.failed_starts += 1
        this.again.appendleft(task)
        if this.failed_starts > self.config.retries + self.workers:
            raise EngineError(
                f"worker processes end before they start ({_ending(worker.process.exitcode)})",
                'see the traceback above; a script that calls this needs if __name__ == "__main__": around it; '
                "verification/executor=serial does without workers",
            )

    def _start(self) -> _Worker:
        """A new process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,), daemon=True, name="funnel worker")
        process.start()
        theirs.close()
        return _Worker(process, ours)


def work(pipe: Connection) -> None:
    """Body of a worker process: tasks in, results out, until the pipe or the parent is gone."""
    from sse_diffusion.core.threads import set_threads

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _be_quiet()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_threads(1)
    job: Job | None = None
    while True:
        try:
            blob, task = pipe.recv()
        except EOFError:
            return
        try:
            if blob is not None:
                job = received(blob, job)
                pipe.send(("ready", (job.prepare(), job.context.engine_info)))
            assert job is not None
            pipe.send(("done", perform(job, task)))
        except SSEError as error:
            pipe.send(("error", (type(error), error.message, error.hint)))


def _be_quiet() -> None:
    """No progress bars (several processes would write over each other) and no warnings of libraries, as in the parent."""
    from tqdm import tqdm

    tqdm.display = lambda *_, **__: None
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)


def _end_with_parent() -> None:
    """Leave at once when the parent is gone, so that no orphan computes what a new run computes as well."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _rebuilt(content: tuple[type[SSEError], str, str]) -> SSEError:
    """The error of a worker."""
    kind, message, hint = content
    return kind(message, hint)


def _ending(exitcode: int | None) -> str:
    """How a process ended, in words."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"{name}: killed, or out of memory" if name == "SIGKILL" else name
    return f"exit code {exitcode}"


def usable_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have no affinity
    return len(affinity(0)) if affinity else os.cpu_count() or 1
