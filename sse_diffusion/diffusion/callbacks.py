"""Training callbacks: a checkpoint every few minutes, and a look at what the model samples."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException


class LastCheckpoint(pl.Callback):
    """Keeps ``last.ckpt`` current: every ``minutes``, when the run ends, and when it is interrupted.

    Args:
        path: file to write; it appears whole or not at all.
        minutes: interval.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.interval = path, 60.0 * minutes
        self.saved_at = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Number logged metrics by optimiser step; Lightning's own count is off by one after some resumptions."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count whole optimiser steps only: a batch that was interrupted, and gradients that were being accumulated, are lost."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        unfinished = progress["current"]["processed"] % trainer.accumulate_grad_batches
        for counts in (progress["current"], progress["total"]):
            counts["processed"] -= unfinished
            counts["completed"] -= unfinished
            counts["ready"] = counts["started"] = counts["processed"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when the interval has passed."""
        due = time.monotonic() - self.saved_at > self.interval
        if trainer.strategy.broadcast(due):
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the final state."""
        self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save on Ctrl-C and when the job is told to end (SIGTERM); other errors leave the last good state in place."""
        if trainer.global_step > 0 and isinstance(exception, KeyboardInterrupt | SIGTERMException):
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
