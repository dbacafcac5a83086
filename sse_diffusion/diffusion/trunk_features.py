"""Crystal tokens of a frozen denoiser under the corruptions of training, computed once: small heads are trained on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.data.buckets import BucketStream
from sse_diffusion.data.datamodule import VALIDATION_EPOCH, CrystalDataModule
from sse_diffusion.diffusion.guides.guide import Seen, Stage
from sse_diffusion.diffusion.guides.property_guide import crystal_token
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.noise_levels import LEVELS, at_level
from sse_diffusion.diffusion.objective import Objective


class TrunkFeatures:
    """The crystal tokens of some crystals of a data set.

    Args:
        model: frozen.
        data: with ``encode`` set to an encoder of the model's conditions.
        rows: (n,) of the data set.
        progress: show progress bars.
    """

    def __init__(self, model: CrystalModel, data: CrystalDataModule, rows: Int[np.ndarray, " n"], progress: bool = True) -> None:
        self.model, self.data, self.rows, self.progress = model, data, np.asarray(rows), progress
        assert data.encoder is not None  # gives the data set its conditions
        self.encoder = data.encoder

    @torch.no_grad()
    def in_training(self, objective: Objective, draws: int, seed: int) -> Float[Tensor, "k n s d"]:
        """Tokens at the discrete and the continuous stage (s = 2) with conditions, masks and noise drawn ``draws`` times."""
        tokens = torch.empty(draws, len(self.rows), 2, self.model.denoiser.config.width)
        for draw in tqdm(range(draws), desc="trunk features", unit="draw", disable=not self.progress):
            for number, (places, batch) in enumerate(self._batches(draw)):
                shown = objective.corrupt(self.model, batch, seed, draw * 10_000 + number)
                noisy = Seen("continuous", shown.noisy, shown.x_cell, shown.t, shown.t_cell)
                pair = crystal_token(self.model, Seen("discrete", shown.masked.batch)), crystal_token(self.model, noisy)
                tokens[draw, places] = torch.stack(pair, dim=1)
        return tokens

    def at_levels(self, seed: int) -> dict[Stage, dict[float, Float[Tensor, "n d"]]]:
        """:meth:`at_level` of all :data:`~sse_diffusion.diffusion.noise_levels.LEVELS`."""
        return {stage: {level: self.at_level(stage, level, seed) for level in levels} for stage, levels in LEVELS.items()}

    @torch.no_grad()
    def at_level(self, stage: Stage, level: float, seed: int) -> Float[Tensor, "n d"]:
        """Tokens at one level of masking or noise; nothing is asked but the state point of validation."""
        tokens = torch.empty(len(self.rows), self.model.denoiser.config.width)
        states = [name for name, spec in self.model.specs.items() if spec.of_state_point]
        for number, (places, batch) in enumerate(self._batches(VALIDATION_EPOCH)):
            state = {name: batch.conditions[name] for name in states}
            batch = batch.with_(conditions={**self.model.null_conditions(len(batch)), **state})
            tokens[places] = crystal_token(self.model, at_level(self.model, batch, stage, level, seed + number))
        return tokens

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, OrbitBatch]]:
        """Every crystal once, with the conditions of an epoch, and its place among the rows."""
        dataset, drawn = self.data.dataset, self.encoder.drawn(epoch)
        stream = BucketStream(dataset.n_orbits[self.rows], self.data.config.max_tokens, self.data.config.seed)
        for chosen in stream.epoch(epoch):
            rows = self.rows[chosen]
            batch = dataset.__getitems__(rows.tolist())
            state = {name: value[torch.from_numpy(rows)] for name, value in drawn.items()}
            yield torch.tensor(chosen), batch.with_(conditions={**batch.conditions, **state})
