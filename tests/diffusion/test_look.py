"""The look at a model in training: measured crystals, a picture, and no trace left on the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.sample_look import LARGEST_CELL, closest_pair, look


def test_a_look_measures_and_leaves_the_model_alone(random_model: CrystalModel) -> None:
    before = {k: v.clone() for k, v in random_model.state_dict().items()}
    state = torch.get_rng_state()
    random_model.train()
    try:
        metrics, media = look(random_model, n=5, steps=2)
        assert random_model.training
    finally:
        random_model.eval()
    assert torch.equal(state, torch.get_rng_state())  # or a resumed run would not repeat an uninterrupted one
    assert all(torch.equal(before[k], v) for k, v in random_model.state_dict().items())
    assert 0.0 <= metrics["samples/valid"] <= 1.0 and np.isfinite(metrics["samples/surprisal"])
    assert len(media.volumes) == len(media.atoms) == 5 and media.atoms.max() <= LARGEST_CELL
    assert len(media.figure.axes) == 8


def test_closest_pair_looks_across_the_boundary_and_at_images() -> None:
    table = wyckoff_table()
    general = table.positions(1)[0]
    cell = np.array([0, 0, 0, 0, 0, np.log(5.0)])
    two = Orbits(1, cell, np.array([3, 9]), np.array([general] * 2), np.array([[0.02, 0, 0], [0.98, 0, 0]]))
    assert closest_pair(two) == pytest.approx(0.2, abs=1e-3)
    one = Orbits(1, cell, np.array([3]), np.array([general]), np.zeros((1, 3)))
    assert closest_pair(one) == pytest.approx(5.0, abs=1e-3)
