"""Shares of a batch: their mean is the batch, for every loss and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.objective import FIELDS, Objective, ObjectiveConfig
from sse_diffusion.diffusion.share import Share

N = 7


@pytest.fixture(scope="module")
def batch(random_model: CrystalModel) -> OrbitBatch:
    """Crystals of different size, some without free coordinates: their losses have different weights."""
    rng, table, crystals = np.random.default_rng(0), wyckoff_table(), []
    for k in range(N):
        letters = list(table.positions(225))[:2] if k in (0, 3, 4) else [table.positions(62)[-1]] * (1 + k // 2)
        w = np.array(letters)
        cell = np.array([0, 0, 0, 0, 0, np.log(table.multiplicity[w].sum() * 18.0) / 3])
        free = rng.random((len(w), 3)) * table.free[w]
        crystals.append(Orbits(int(table.group[w[0]]), cell, rng.integers(3, 60, len(w)), w, free))
    return OrbitBatch.from_orbits(crystals, random_model.null_conditions(N))


def gradient(model: CrystalModel, batch: OrbitBatch, part: int, parts: int) -> tuple[dict[str, float], torch.Tensor]:
    model.zero_grad()
    losses = Objective(ObjectiveConfig())(model, batch, 0, 5, part, parts)
    losses.total.backward()
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return {k: v.item() for k, v in losses.fields.items()}, flat


@pytest.mark.parametrize("parts", [2, 3, N, N + 2])
def test_the_mean_over_shares_is_the_loss_and_gradient_of_the_batch(random_model, batch: OrbitBatch, parts: int) -> None:
    """Also with more shares than crystals: the superfluous ones weigh nothing."""
    fields, whole = gradient(random_model, batch, 0, 1)
    shares = [gradient(random_model, batch, part, parts) for part in range(parts)]
    for name in FIELDS:
        assert np.mean([f[name] for f, _ in shares]) == pytest.approx(fields[name], rel=1e-4, abs=1e-6), name
    mean = torch.stack([g for _, g in shares]).mean(0)
    assert (mean - whole).norm() < 1e-4 * whole.norm()
    assert (shares[0][1] - whole).norm() > 1e-2 * whole.norm()  # a share is not the whole


def test_rows_partition_the_batch() -> None:
    for parts in (1, 2, 5):
        rows = torch.cat([torch.arange(N)[Share(N, part, parts).rows] for part in range(parts)])
        assert sorted(rows.tolist()) == list(range(N))


def test_every_parameter_takes_part_in_every_step(random_model: CrystalModel, batch: OrbitBatch) -> None:
    """Plain DDP needs that, also for a batch whose conditions are all unknown and a share that weighs nothing."""
    for part, parts in ((0, 1), (N, N + 1)):
        random_model.zero_grad()
        Objective(ObjectiveConfig())(random_model, batch, 0, 5, part, parts).total.backward()
        assert [name for name, p in random_model.named_parameters() if p.grad is None] == []
