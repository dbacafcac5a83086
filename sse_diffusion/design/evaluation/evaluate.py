"""The verb ``evaluate``: one command line for every task, one ``metrics.json`` per run."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sse_diffusion.core.errors import ConfigError, OutputError, did_you_mean
from sse_diffusion.verification.metrics.record import summary

if TYPE_CHECKING:
    from omegaconf import DictConfig

TASKS: dict[str, str] = {
    "csp": "sse_diffusion.design.evaluation.csp:evaluate_csp",
    "dng": "sse_diffusion.design.evaluation.dng:evaluate_dng",
    "conditions": "sse_diffusion.design.evaluation.conditions:evaluate_conditions",
    "crystals": "sse_diffusion.design.evaluation.crystals:evaluate_crystals",
    "predictor": "sse_diffusion.design.evaluation.predictor:evaluate_predictor",
}
"""Task -> function ``(config) -> None`` that writes into ``config.out``; imported when it is asked for."""


def run_evaluate(config: DictConfig) -> str:
    """Run one task.

    Returns:
        Every number with its interval, count and protocol, for the command line to print.

    Raises:
        ConfigError: unknown task, or what the task raises.
        OutputError: ``config.out`` cannot be made.
    """
    task = str(config.task)
    if task not in TASKS:
        raise ConfigError(f"unknown task {task!r}", did_you_mean(task, TASKS))
    out = Path(str(config.out)).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}", "choose another folder with out=...") from error
    module, _, name = TASKS[task].partition(":")
    getattr(import_module(module), name)(config)
    return f"{summary(out)}\nresults: {out}{os.sep}"
