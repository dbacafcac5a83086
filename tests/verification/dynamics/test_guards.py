"""What stops a run and what does not, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.verification.dynamics.guards import GuardConfig, frame_problem, framework_problem, framework_shift

GRID = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3) * 3.0
CELL = np.eye(3) * 6.0


@pytest.mark.parametrize(("scale", "word"), [(1.0, ""), (0.8, "volume"), (1.3, "volume")])
def test_a_cell_that_collapses_is_stopped_like_one_that_evaporates(scale, word):
    found = frame_problem(GuardConfig(), GRID * scale, CELL * scale, CELL, 300.0, 300.0)
    assert word in found and bool(found) is bool(word)


MASSES, KINDS, FRAMEWORK = np.full(8, 35.5), np.array(["Cl"] * 6 + ["Li"] * 2), np.arange(8) < 6


def test_a_crystal_that_drifts_as_a_whole_has_not_melted():
    assert framework_shift(GRID, GRID + 9.0, CELL, MASSES, KINDS, FRAMEWORK) == pytest.approx(0.0, abs=1e-12)


def test_the_distance_from_the_places_is_in_squared_spacings():
    moved = GRID.copy()
    moved[:3] += [0.6, 0, 0]
    moved[3:6] -= [0.6, 0, 0]  # the centre of mass stays
    expected = 0.36 / (216 / 6) ** (2 / 3)
    assert framework_shift(GRID, moved, CELL, MASSES, KINDS, FRAMEWORK) == pytest.approx(expected)
    assert framework_shift(2 * GRID, 2 * moved, 2 * CELL, MASSES, KINDS, FRAMEWORK) == pytest.approx(expected)


def test_atoms_of_an_element_that_change_places_have_not_melted_and_others_have():
    turned = GRID.copy()
    turned[[0, 1, 2]] = turned[[1, 2, 0]]  # as a PS4 group that turns by a third
    turned[3] += [6.0, 0, -6.0]  # and one that went through the boundary
    turned[4] -= [6.0, 0, -6.0]
    assert framework_shift(GRID, turned, CELL, MASSES, KINDS, FRAMEWORK) == pytest.approx(0.0, abs=1e-12)
    kinds = np.array(["Cl", "S", "S", "Cl", "Cl", "Cl", "Li", "Li"])
    assert framework_shift(GRID, turned, CELL, MASSES, kinds, FRAMEWORK) > 0.05


def test_a_liquid_is_told_from_a_hot_crystal():
    rng = np.random.default_rng(0)
    sites = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) * 3.0
    cell, one = np.eye(3) * 12.0, np.ones(64, dtype=bool)
    facts = cell, np.full(64, 32.0), np.full(64, "S"), one
    hot = [framework_shift(sites, sites + 0.5 * rng.normal(size=sites.shape), *facts) for _ in range(20)]
    liquid = [framework_shift(sites, 12.0 * rng.random(sites.shape), *facts) for _ in range(20)]
    limit = GuardConfig().framework_shift
    assert max(hot) < 0.15 < limit < min(liquid)
    assert framework_problem(limit, max(hot)) == "" and "not intact" in framework_problem(limit, min(liquid))
