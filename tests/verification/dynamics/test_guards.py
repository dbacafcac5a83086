"""What stops a run and what does not, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.verification.dynamics.guards import GuardConfig, frame_problem, framework_problem

GRID = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3) * 3.0
CELL = np.eye(3) * 6.0


@pytest.mark.parametrize(("scale", "word"), [(1.0, ""), (0.8, "volume"), (1.3, "volume")])
def test_a_cell_that_collapses_is_stopped_like_one_that_evaporates(scale, word):
    found = frame_problem(GuardConfig(), GRID * scale, CELL * scale, CELL, 300.0, 300.0)
    assert word in found and bool(found) is bool(word)


def test_a_crystal_that_drifts_as_a_whole_has_not_melted():
    masses, framework = np.full(8, 35.5), np.arange(8) < 6
    assert framework_problem(GuardConfig(), GRID, GRID + 9.0, masses, framework) == ""
    melted = GRID + 5.0 * np.random.default_rng(0).normal(size=GRID.shape)
    assert "not intact" in framework_problem(GuardConfig(), GRID, melted, masses, framework)
