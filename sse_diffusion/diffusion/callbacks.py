"""Training callbacks: a checkpoint every few minutes, and a look at what the model samples."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException


class LastCheckpoint(pl.Callback):
    """Keeps ``last.ckpt`` current: every ``minutes``, when the run ends, and when it is interrupted.

    Several processes decide together, once a step, so that none of them waits for another in a different collective call: one
    that is told to end (Ctrl-C, SIGTERM) takes all of them along after the step, with the state saved.

    Args:
        path: file to write; it appears whole or not at all.
        minutes: interval.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.interval = path, 60.0 * minutes
        self.saved_at = time.monotonic()
        self._told: int = 0
        self._ending: int = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember signals instead of acting at once; Lightning puts the earlier handlers back when the run ends."""
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._remember)

    def _remember(self, number: int, frame: object) -> None:
        self._told = number

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Number logged metrics by optimiser step; Lightning's own count is off by one after some resumptions."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        if self._ending:
            raise KeyboardInterrupt if self._ending == signal.SIGINT else SIGTERMException

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count whole optimiser steps only: a batch that was interrupted, and gradients that were being accumulated, are lost."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        unfinished = progress["current"]["processed"] % trainer.accumulate_grad_batches
        for counts in (progress["current"], progress["total"]):
            counts["processed"] -= unfinished
            counts["completed"] -= unfinished
            counts["ready"] = counts["started"] = counts["processed"]

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count batches in the accumulated parts of this run: the earlier one may have had another number per step."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done = checkpoint["global_step"] * trainer.accumulate_grad_batches
        for counts in (progress["current"], progress["total"]):
            counts.update(dict.fromkeys(("ready", "started", "processed", "completed"), done))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when the interval has passed."""
        due = time.monotonic() - self.saved_at > self.interval
        if trainer.world_size > 1:
            wishes = torch.tensor([int(due), self._told], device=trainer.strategy.root_device)
            due, self._ending = trainer.strategy.reduce(wishes, reduce_op="max").tolist()
        if due:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the final state."""
        self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save on Ctrl-C and when the job is told to end (SIGTERM); other errors leave the last good state in place."""
        agreed = trainer.world_size == 1 or self._ending
        if agreed and trainer.global_step > 0 and isinstance(exception, KeyboardInterrupt | SIGTERMException):
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        partial = self.path.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self.path)
        self.saved_at = time.monotonic()


class SampleLook(pl.Callback):
    """Samples crystals every so many steps and logs validity, histograms and a picture.

    Args:
        every_steps: optimiser steps between looks.
        n: crystals.
        steps: continuous sampling steps.
    """

    def __init__(self, every_steps: int, n: int, steps: int) -> None:
        self.every_steps, self.n, self.steps = every_steps, n, steps
        self._last = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Sample with the averaged weights when due."""
        step = trainer.global_step
        if step == self._last or step % self.every_steps or not trainer.is_global_zero:
            return
        self._last = step
        from sse_diffusion.diffusion.sample_look import look

        metrics, media = look(pl_module.ema.module, n=self.n, steps=self.steps)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step)
            if hasattr(logger.experiment, "log_artifact"):
                media.log_to(logger.experiment, step)
