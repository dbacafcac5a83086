"""Lightning module and batches of the graph network: Laplace likelihood, averaged weights, warm-up, plateau and decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from sse_diffusion.data.buckets import POOL_BATCHES, BucketStream
from sse_diffusion.predictors.ensemble import laplace_nll
from sse_diffusion.predictors.graph.graphs import CrystalGraphs, GraphBatch
from sse_diffusion.predictors.graph.network import CrystalNetwork


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Optimisation.

    Attributes:
        learning_rate, weight_decay: of AdamW, at the plateau.
        warmup_steps: linear warm-up.
        decay_fraction: last share of the steps, over which the rate falls to a hundredth along a cosine.
        max_steps: length of the schedule; a run that goes on with another length goes on with its schedule.
        ema_decay: of the averaged weights, per step.
        batch_size: crystals per step, on average: batches hold about the same number of bonds.
        precision: of Lightning's trainer; bf16-mixed is a fifth faster on CPUs that have it.
    """

    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    warmup_steps: int = 300
    decay_fraction: float = 0.6
    max_steps: int = 9000
    ema_decay: float = 0.998
    batch_size: int = 64
    precision: str = "bf16-mixed"

    def rate_at(self, step: int) -> float:
        """Learning rate at a step, as a fraction of the plateau."""
        start = self.max_steps * (1.0 - self.decay_fraction)
        progress = min(1.0, max(0.0, (step - start) / max(1.0, self.max_steps - start)))
        return min(1.0, (step + 1) / self.warmup_steps) * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Examples:
    """Graphs with standardised targets.

    Attributes:
        graphs: c crystals.
        rows: (n,) crystals that take part.
        targets: (c, t) standardised.
        censored: (c, t) True where the target is an upper limit.
    """

    graphs: CrystalGraphs
    rows: Int[np.ndarray, " n"]
    targets: Float[np.ndarray, "c t"]
    censored: Bool[np.ndarray, "c t"]

    def gather(self, positions: list[int]) -> tuple[GraphBatch, Tensor, Tensor]:
        """Graphs, targets and censoring flags of the examples at ``positions``."""
        rows = self.rows[positions]
        return self.graphs.batch(rows), torch.from_numpy(self.targets[rows]).float(), torch.from_numpy(self.censored[rows])


class BondStream(BucketStream):
    """Endless, seekable batches of about equal numbers of bonds; crystals of similar size come together."""

    def __init__(self, bonds: Int[np.ndarray, " n"], batch_size: int, seed: int = 0, start: int = 0) -> None:
        super().__init__(bonds, max_tokens=0, seed=seed, start=start)
        self.batch_size = batch_size

    def epoch(self, number: int) -> list[list[int]]:
        """All batches of one pass over the data."""
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(len(self.sizes))
        pool = self.batch_size * POOL_BATCHES
        batches: list[list[int]] = []
        for low in range(0, len(order), pool):
            part = order[low : low + pool]
            part = part[np.argsort(self.sizes[part], kind="stable")]
            number_of = max(1, round(len(part) / self.batch_size))
            total = np.cumsum(self.sizes[part])
            cuts = np.searchsorted(total, total[-1] * np.arange(1, number_of) / number_of)
            batches += [rows.tolist() for rows in np.split(part, cuts) if len(rows)]
        return [batches[i] for i in rng.permutation(len(batches))]


class _Positions(Dataset[int]):
    """0, 1, ..., n - 1: the batch is gathered at once when it is put together."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, position: int) -> int:
        return position


class GraphModule(pl.LightningModule):
    """Trains a :class:`CrystalNetwork`; ``ema`` holds the weights that are evaluated and shipped.

    Args:
        network: the network.
        config: optimisation.
        train: training examples.
        monitored: name -> examples whose error is logged; predictions are the averaged network's.
        scale: unit of the standardised targets, by name.
        seed: of the batches.
    """

    def __init__(
        self,
        network: CrystalNetwork,
        config: FitConfig,
        train: Examples,
        monitored: dict[str, Examples],
        scale: Mapping[str, float],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.fit_config, self.examples, self.monitored = network, config, train, monitored
        self.scale, self.seed = scale, seed
        self.ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self.ema.requires_grad_(False)

    def training_step(self, batch: tuple[GraphBatch, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Negative log likelihood, each term weighted by its own predicted scale.

        The weight (no gradient through it) gives every crystal the same say in the location, as an absolute error would; the
        plain likelihood neglects those that it finds hard (Seitzer et al., ICLR 2022, beta = 1).
        """
        graphs, targets, censored = batch
        mu, log_scale = self.network(graphs)
        loss = (laplace_nll(mu, log_scale, targets, censored) * log_scale.detach().exp()).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=graphs.num_graphs)
        return loss

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the weights after each optimiser step."""
        if self.trainer.global_step > int(self.ema.n_averaged):
            self.ema.update_parameters(self.network)

    def validation_step(self, batch: tuple[GraphBatch, Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Mean absolute error of the uncensored targets."""
        graphs, targets, censored = batch
        mu, _ = self.ema.module(graphs)
        error = (mu - targets).abs() * torch.tensor(list(self.scale.values()))
        part = list(self.monitored)[dataloader_idx]
        for column, target in enumerate(self.scale):
            known = error[~censored[:, column], column]
            if len(known):
                self.log(f"{part}/mae_{target}", known.mean(), batch_size=len(known), add_dataloader_idx=False)

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW; weight decay on matrices only."""
        parameters = list(self.network.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": self.fit_config.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=self.fit_config.learning_rate, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self.fit_config.rate_at)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(
        self, batch: tuple[GraphBatch, Tensor, Tensor], device: torch.device, dataloader_idx: int
    ) -> tuple[GraphBatch, Tensor, Tensor]:
        """Graphs are a dataclass of tensors."""
        graphs, targets, censored = batch
        return graphs.to(device), targets.to(device), censored.to(device)

    def train_dataloader(self) -> DataLoader:
        """Endless stream that goes on where the step counter stands."""
        bonds = self.examples.graphs.bonds[self.examples.rows]
        stream = BondStream(bonds, self.fit_config.batch_size, self.seed, self.trainer.global_step)
        return DataLoader(_Positions(len(bonds)), batch_sampler=stream, collate_fn=self.examples.gather)

    def val_dataloader(self) -> list[DataLoader]:
        """One ordered pass over each monitored set."""
        return [
            DataLoader(_Positions(len(part.rows)), batch_size=4 * self.fit_config.batch_size, collate_fn=part.gather)
            for part in self.monitored.values()
        ]
