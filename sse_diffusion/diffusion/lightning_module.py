"""Lightning module: optimisation, averaged weights and per-field logging around the objective."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.objective import Losses, Objective, ObjectiveConfig
from sse_diffusion.diffusion.optimiser import OptimiserConfig, make_optimiser, rate_at

VALIDATION_SEED = 1_000_003


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
        """The optimiser and its schedule, step by step."""
        config = self.optimiser_config
        optimiser = make_optimiser(self.model, config)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, config))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm. Lightning refuses to for fused optimisers, which unscale fp16 gradients themselves; there are none."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)

    def transfer_batch_to_device(self, batch: OrbitBatch, device: torch.device, dataloader_idx: int) -> OrbitBatch:
        """Batches are dataclasses of tensors."""
        return batch.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember how much was seen."""
        checkpoint["crystals_seen"] = self.crystals_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it."""
        self.crystals_seen = checkpoint.get("crystals_seen", 0)
