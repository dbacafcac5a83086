"""The funnel's dear stages as tasks of a Ray cluster that exists already.

Each task asks for the resources of its stage. Ray starts a task again when its worker or node is lost; a task that finds its
result written returns it. The run folder must be on a file system that all nodes see: results and trajectories lie there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sse_diffusion.core.errors import ConfigError, EngineError, SSEError
from sse_diffusion.verification.executors.task import Job, Task, perform, pickled, read_result, received
from sse_diffusion.verification.stage import StageResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Settings.

    Attributes:
        address: of the cluster; ``auto``: the one this machine belongs to; ``local``: start one here (for trying out).
        workers: tasks in flight; ``None``: the cluster's CPUs over ``num_cpus``.
        retries: how often Ray starts a task again after its worker or node was lost.
        num_cpus, num_gpus, memory_GB: resources of one task.
        stages: stage name -> any of these three, for that stage alone.
    """

    address: str = "auto"
    workers: int | None = None
    retries: int = 2
    num_cpus: float = 1
    num_gpus: float = 0
    memory_GB: float | None = None
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def resources(self, stage: str) -> dict[str, Any]:
        """Options of Ray for a task of that stage.

        Raises:
            ConfigError: a stage asks for something unknown.
        """
        own = dict(self.stages.get(stage) or {})
        if unknown := own.keys() - {"num_cpus", "num_gpus", "memory_GB"}:
            raise ConfigError(f"executor.stages.{stage} asks for {', '.join(unknown)}", "known: num_cpus, num_gpus, memory_GB")
        values = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "memory_GB": self.memory_GB} | own
        memory = values.pop("memory_GB")
        return {**values, **({"memory": int(memory * 1e9)} if memory else {}), "max_retries": self.retries}


class RayExecutor:
    """See :class:`~sse_diffusion.verification.executors.task.Executor`."""

    config_class = RayConfig

    def __init__(self, config: RayConfig | None = None) -> None:
        """Join the cluster.

        Raises:
            EngineError: Ray is not installed, or there is no cluster.
        """
        self.config = config or RayConfig()
        self._ray = _ray()
        self._own = False
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=self.config.address, log_to_driver=False, logging_level=logging.WARNING)
            except (ConnectionError, RuntimeError, ValueError) as error:
                hint = "start one with `ray start --head`, give verification.executor.address, or use verification/executor=local"
                raise EngineError(f"no Ray cluster at {self.config.address}: {error}", hint) from error
            self._own = True
        cpus = self._ray.cluster_resources().get("CPU", 1.0)
        self.workers = self.config.workers or max(2, int(cpus / max(self.config.num_cpus, 0.01)))
        self.preparing_s = 0.0

    def run(self, job: Job, tasks: Iterator[Task]) -> Iterator[tuple[Task, StageResult | str]]:
        """Each task with its result as it is finished, or with the reason why its workers were lost."""
        ray = self._ray
        self.preparing_s = 0.0
        remote = ray.remote(**self.config.resources(job.stage.name))(remote_task)
        blob = ray.put(pickled(job))
        flying: dict[Any, Task] = {}
        try:
            while True:
                while len(flying) < self.workers and (task := next(tasks, None)) is not None:
                    flying[remote.remote(blob, task)] = task
                if not flying:
                    return
                done, _ = ray.wait(list(flying), num_returns=1)
                task = flying.pop(done[0])
                yield task, self._answer(done[0], task, job)
        finally:
            for reference in flying:
                ray.cancel(reference, force=True)

    def _answer(self, reference: Any, task: Task, job: Job) -> StageResult | str:
        """Result of a finished task."""
        try:
            result, seconds, info, error = self._ray.get(reference)
        except (self._ray.exceptions.RayError, RuntimeError) as lost:
            stored = read_result(task.path, task.key)
            text = str(lost).splitlines()[0]
            return stored or f"its workers were lost {self.config.retries + 1} times ({type(lost).__name__}: {text[:200]})"
        if error is not None:
            kind, message, hint = error
            raise kind(message, hint)
        self.preparing_s += seconds
        job.context.engine_info = info or job.context.engine_info
        return result

    def close(self) -> None:
        """Leave the cluster when this object joined it."""
        if self._own:
            self._ray.shutdown()
            self._own = False


_jobs: dict[str, Job] = {}


def remote_task(blob: bytes, task: Task) -> tuple[StageResult | None, float, Any, tuple[type[SSEError], str, str] | None]:
    """Body of a task: (result, seconds of preparing, engine, error of the run); the job stays in the process for the next one."""
    import hashlib

    from sse_diffusion.core.threads import set_threads

    name, seconds = hashlib.sha256(blob).hexdigest(), 0.0
    try:
        if name not in _jobs:
            set_threads(1)
            before = next(iter(_jobs.values()), None)
            _jobs.clear()
            job = received(blob, before)
            seconds = job.prepare()
            _jobs[name] = job
        return perform(_jobs[name], task), seconds, _jobs[name].context.engine_info, None
    except SSEError as error:
        return None, seconds, None, (type(error), error.message, error.hint)


def _ray() -> Any:
    """The library."""
    try:
        import ray
    except ImportError as error:
        raise EngineError("verification/executor=ray needs Ray", "pip install 'sse-diffusion[ray]'") from error
    return ray
