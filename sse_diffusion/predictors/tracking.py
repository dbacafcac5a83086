"""Weights & Biases for the training of predictors: offline by default, as for the generative model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.core.task import flat

MODES = ("offline", "online", "disabled")
PROJECT = "sse-diffusion"


class Tracker(Protocol):
    """What a training run logs to."""

    def log(self, values: Mapping[str, Any]) -> None:
        """One step's numbers."""
        ...


class _Silent:
    def log(self, values: Mapping[str, Any]) -> None:
        """Nothing."""


class _Run:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, values: Mapping[str, Any]) -> None:
        """To W&B; nested names are joined by a slash."""
        self._run.log(flat(values))


@contextmanager
def track(out: str | Path, config: Mapping[str, Any], mode: str = "offline") -> Iterator[Tracker]:
    """A W&B run below ``out/wandb`` (upload later with ``wandb sync``); it is closed when the block ends.

    Args:
        out: folder of the training run; its name is the run's.
        config: choices, recorded.
        mode: of MODES.

    Raises:
        ConfigError: unknown mode.
    """
    if mode not in MODES:
        raise ConfigError(f"wandb is {mode!r}", did_you_mean(mode, MODES))
    if mode == "disabled":
        yield _Silent()
        return
    import wandb

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(silent=True, x_disable_stats=True, console="off")
    chosen: Any = mode  # checked above
    run = wandb.init(project=PROJECT, name=folder.name, dir=str(folder), config=dict(config), mode=chosen, settings=settings)
    try:
        yield _Run(run)
    finally:
        run.finish()
