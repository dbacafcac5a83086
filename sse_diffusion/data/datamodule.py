"""Lightning data module: any data config -> parsed orbits -> dynamic, size-bucketed batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.data.buckets import BucketStream, Views
from sse_diffusion.data.dataset import OrbitDataset, build_dataset, cache_file
from sse_diffusion.data.sources import load_source
from sse_diffusion.data.views import with_p1_views

VALIDATION_EPOCH = 2**31
"""Epoch whose drawn conditions validation uses: always the same, and no epoch of training."""


class Encoder(Protocol):
    """Makes the condition tensors of a data set, one row per crystal (the model knows how)."""

    def fixed(self) -> dict[str, Tensor]:
        """Those that stay."""

    def drawn(self, epoch: int) -> dict[str, Tensor]:
        """Those that are drawn anew for every epoch, the same for the same number."""


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How batches are made.

    Attributes:
        max_tokens: size budget of the batch of one optimiser step, which all processes and accumulated parts share
            (see :func:`sse_diffusion.data.buckets.padded_cost`).
        max_orbits: crystals with more orbits are left out of training (counted in the log).
        p1_share: share of the crystals that an epoch shows as their P1 view (:mod:`sse_diffusion.data.views`), drawn anew for
            every epoch; views with more than ``max_orbits`` atoms are not shown.
        seed: of the shuffling.
        workers: processes for parsing.
        cache_dir: where parsed tables are kept; ``null`` keeps none.
    """

    max_tokens: int = 2048
    max_orbits: int = 64
    p1_share: float = 0.0
    seed: int = 0
    workers: int = 2
    cache_dir: str | None = ".cache/sse_diffusion"

    def __post_init__(self) -> None:
        if not 0.0 <= self.p1_share <= 1.0:
            raise ConfigError(f"loader.p1_share={self.p1_share} is no share", "give a number between 0 and 1")


class _Split(Subset):
    """A subset that keeps the data set's one-gather batching and adds conditions that were drawn for this epoch."""

    def __init__(self, dataset: OrbitDataset, rows: np.ndarray, encoder: Encoder | None, n_crystals: int) -> None:
        super().__init__(dataset, rows.tolist())
        self.encoder, self.n_crystals = encoder, n_crystals
        self.drawn: dict[str, Tensor] = {}

    def draw(self, epoch: int) -> None:
        """Enter an epoch."""
        self.drawn = {} if self.encoder is None else self.encoder.drawn(epoch)

    def __getitems__(self, indices: list[int]) -> Any:
        rows = [self.indices[i] for i in indices]
        batch = self.dataset.__getitems__(rows)
        crystals = torch.tensor(rows) % self.n_crystals  # views of a crystal share its state point
        return batch.with_(conditions={**batch.conditions, **{k: v[crystals] for k, v in self.drawn.items()}})


def _identity(batch: Any) -> Any:
    return batch


class CrystalDataModule(pl.LightningDataModule):
    """Train and validation loaders over a data config.

    Args:
        source: a data config (kind, path, labels, ...), see :mod:`sse_diffusion.data.sources`.
        config: batching.
        encode: gives the encoder of a data set.
    """

    def __init__(
        self, source: Mapping[str, Any], config: LoaderConfig, encode: Callable[[OrbitDataset], Encoder] | None = None
    ) -> None:
        super().__init__()
        self.source, self.config, self.encode = source, config, encode
        self._encoder: Encoder | None = None
        self._dataset: OrbitDataset | None = None
        self._with_views: OrbitDataset | None = None

    @property
    def dataset(self) -> OrbitDataset:
        """All parsed crystals; read and parsed at first use."""
        if self._dataset is None:
            report = load_source(self.source)
            self.report = report
            self._dataset = build_dataset(report.rows, self.config.cache_dir, self.config.workers)
        return self._dataset

    @property
    def encoder(self) -> Encoder | None:
        """What makes the conditions; the data set has them from the first use on."""
        if self._encoder is None and self.encode is not None:
            self._encoder = self.encode(self.dataset)
            self.dataset.set_conditions(self._encoder.fixed())
        return self._encoder

    def indices(self, split: str) -> np.ndarray:
        """Rows of a split that are small enough; rows without a split count as ``train``.

        Raises:
            DataError: the split is empty.
        """
        of_split = np.array([(s or "train") == split for s in self.dataset.splits])
        rows = np.flatnonzero(of_split & (self.dataset.n_orbits <= self.config.max_orbits))
        if len(rows) == 0:
            raise DataError(f"the data set has no {split!r} rows", "check the split column, or data.splits")
        return rows

    @property
    def with_views(self) -> OrbitDataset:
        """:attr:`dataset`, followed by the P1 view of every crystal; made at first use."""
        if self._with_views is None:
            self._with_views = with_p1_views(self.dataset, cache_file(self.dataset.rows, self.config.cache_dir, "p1-views"))
        return self._with_views

    def shown(self, split: str) -> tuple[OrbitDataset, np.ndarray, np.ndarray | None]:
        """What an epoch draws from: a data set, its rows, and the row of each crystal's P1 view (``None``: no views)."""
        rows, _ = self.indices(split), self.encoder
        if self.config.p1_share == 0.0:
            return self.dataset, rows, None
        views = rows + len(self.dataset)
        fits = self.with_views.n_orbits[views] <= self.config.max_orbits
        return self.with_views, rows, np.where(fits, views, rows)

    def fit_rows(self) -> tuple[OrbitDataset, np.ndarray]:
        """All training crystals in every view that is shown, for statistics of the training set."""
        dataset, rows, views = self.shown("train")
        if views is None:
            return dataset, rows
        return dataset, views if self.config.p1_share == 1.0 else np.union1d(rows, views)

    def train_dataloader(self) -> DataLoader:
        """Endless stream of batches that continues where the trainer's step counter stands.

        Every process gets every batch whole; which rows it computes is the objective's affair (a gather costs a hundredth
        of a step, and weights and noise need the whole batch).
        """
        dataset, rows, views = self.shown("train")
        start, repeat = (self.trainer.global_step, self.trainer.accumulate_grad_batches) if self.trainer else (0, 1)
        other = None if views is None else Views(dataset.n_orbits[views], self.config.p1_share)
        split = self._split(dataset, rows if views is None else np.concatenate([rows, views]))
        stream = BucketStream(dataset.n_orbits[rows], self.config.max_tokens, self.config.seed, start, repeat, other, split.draw)
        return DataLoader(split, batch_sampler=stream, collate_fn=_identity)

    def _split(self, dataset: OrbitDataset, rows: np.ndarray) -> _Split:
        return _Split(dataset, rows, self.encoder, len(self.dataset))

    def val_dataloader(self) -> DataLoader:
        """One ordered pass over the validation rows; as P1 views only where training shows nothing else."""
        dataset, rows = self.dataset, self.indices("val")
        if self.config.p1_share == 1.0:
            dataset, _, views = self.shown("val")
            rows = rows if views is None else views
        split = self._split(dataset, rows)
        split.draw(VALIDATION_EPOCH)
        stream = BucketStream(dataset.n_orbits[rows], self.config.max_tokens, seed=0)
        return DataLoader(split, batch_sampler=stream.epoch(0), collate_fn=_identity)
