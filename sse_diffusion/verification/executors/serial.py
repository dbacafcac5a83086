"""In this process: one after the other, or several at a time where the stage can."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sse_diffusion.verification.executors.task import Job, Task, perform_all
from sse_diffusion.verification.stage import StageResult


@dataclass(frozen=True, kw_only=True)
class SerialConfig:
    """Nothing to set."""


class SerialExecutor:
    """See :class:`~sse_diffusion.verification.executors.task.Executor`."""

    config_class = SerialConfig
    workers = 1

    def __init__(self, config: SerialConfig | None = None) -> None:
        """Nothing is started."""
        self.preparing_s = 0.0

    def run(self, job: Job, tasks: Iterator[Task]) -> Iterator[tuple[Task, StageResult | str]]:
        """Each task with its result."""
        self.preparing_s = job.prepare()
        yield from perform_all(job, tasks)

    def close(self) -> None:
        """Nothing to end."""
