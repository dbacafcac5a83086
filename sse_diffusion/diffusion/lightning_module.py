"""Lightning module: optimiser, schedule, averaged weights and per-field logging around the objective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.objective import Losses, Objective, ObjectiveConfig

VALIDATION_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW with warm-up, a constant stretch and a cosine decay (WSD).

    Attributes:
        learning_rate: at the plateau.
        weight_decay: on matrices.
        warmup_steps: linear warm-up.
        decay_fraction: last share of the steps over which the rate falls to ``final_fraction``.
        total_steps: length of the schedule.
        final_fraction: of the learning rate, at the end.
        betas: of Adam.
        ema_decay: of the averaged weights, per step.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 500
    decay_fraction: float = 0.5
    total_steps: int = 10_000
    final_fraction: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    ema_decay: float = 0.999


def rate_at(step: int, config: OptimiserConfig) -> float:
    """Learning rate at a step, as a fraction of the plateau."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    decay_steps = max(1, int(config.total_steps * config.decay_fraction))
    progress = min(1.0, max(0.0, (step - (config.total_steps - decay_steps)) / decay_steps))
    return config.final_fraction + (1 - config.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


class DiffusionModule(pl.LightningModule):
    """Trains a :class:`CrystalModel`; ``ema`` holds the weights that are evaluated and shipped."""

    def __init__(self, model: CrystalModel, objective: ObjectiveConfig, optimiser: OptimiserConfig, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(optimiser.ema_decay))
        self.ema.requires_grad_(False)  # or DDP would communicate gradients for it
        self.objective = Objective(objective)
        self.optimiser_config = optimiser
        self.seed = seed
        self.crystals_seen = 0
        self._shares: Any = 0.0

    def training_step(self, batch: OrbitBatch, batch_idx: int) -> Tensor:
        """This process's share of the loss of one step's batch; the random numbers depend on seed and step only."""
        accumulate, world = self.trainer.accumulate_grad_batches, self.trainer.world_size
        micro = batch_idx % accumulate
        losses = self.objective(
            self.model, batch, self.seed, self.global_step, micro * world + self.global_rank, accumulate * world
        )
        self.crystals_seen += len(batch) if micro == 0 else 0
        self._log("train", losses, len(batch), micro)
        return losses.total

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the weights after each optimiser step."""
        if self.trainer.global_step > int(self.ema.n_averaged):
            self.ema.update_parameters(self.model)

    def validation_step(self, batch: OrbitBatch, batch_idx: int) -> None:
        """Same losses with the averaged weights and fixed noise, so that epochs compare."""
        part, parts = self.global_rank, self.trainer.world_size
        losses = self.objective(self.ema.module, batch, VALIDATION_SEED, batch_idx, part, parts)
        self._log("val", losses, len(batch))

    def _log(self, stage: str, losses: Losses, size: int, micro: int = 0) -> None:
        """Log the losses of the whole batch: the mean over processes and over the parts accumulated so far."""
        shares = torch.stack([losses.total, *losses.fields.values()]).detach()
        self._shares = self.trainer.strategy.reduce(shares, reduce_op="mean") + (self._shares if micro else 0.0)
        mean = self._shares / (micro + 1)
        values = dict(zip([f"{stage}/{name}" for name in ("loss", *losses.fields)], mean, strict=True))
        self.log_dict(values, batch_size=size, on_step=stage == "train", on_epoch=stage == "val")
        if stage == "train":
            self.log("train/loss_bar", mean[0], prog_bar=True, logger=False, batch_size=size)

    def configure_optimizers(self) -> Any:
        """AdamW; weight decay on matrices only."""
        config = self.optimiser_config
        matrices = [p for p in self.model.parameters() if p.dim() >= 2]
        vectors = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=tuple(config.betas))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, config))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: OrbitBatch, device: torch.device, dataloader_idx: int) -> OrbitBatch:
        """Batches are dataclasses of tensors."""
        return batch.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember how much was seen."""
        checkpoint["crystals_seen"] = self.crystals_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it."""
        self.crystals_seen = checkpoint.get("crystals_seen", 0)
