"""Padding a list of crystals and taking it apart again loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sse_diffusion.core.orbit_batch import MASKED_SPECIES, MASKED_WYCKOFF, OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table


@pytest.fixture
def crystals() -> list[Orbits]:
    rng, table, made = np.random.default_rng(0), wyckoff_table(), []
    for group, m in ((225, 2), (62, 5), (1, 3)):
        w = rng.choice(list(table.positions(group)), m)
        made.append(Orbits(group, rng.normal(size=6), rng.integers(1, 94, m), w, rng.random((m, 3)) * table.free[w]))
    return made


def test_round_trip(crystals: list[Orbits]) -> None:
    for before, after in zip(crystals, OrbitBatch.from_orbits(crystals).to_orbits(), strict=True):
        assert before.group == after.group
        np.testing.assert_array_equal(before.species, after.species)
        np.testing.assert_array_equal(before.wyckoff, after.wyckoff)
        np.testing.assert_allclose(before.free, after.free, atol=1e-6)
        np.testing.assert_allclose(before.cell, after.cell, atol=1e-6)


def test_padding_is_masked(crystals: list[Orbits]) -> None:
    batch = OrbitBatch.from_orbits(crystals)
    assert batch.mask.sum(-1).tolist() == [2, 5, 3]
    assert (batch.species[~batch.mask] == MASKED_SPECIES).all()
    assert (batch.wyckoff[~batch.mask] == MASKED_WYCKOFF).all()
    assert batch.free[~batch.mask].abs().max() == 0


def test_select_takes_the_conditions_along(crystals: list[Orbits]) -> None:
    batch = OrbitBatch.from_orbits(crystals, {"gap": torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])})
    for rows in (torch.tensor([2, 0]), torch.tensor([True, False, True])):
        part = batch.select(rows)
        assert len(part) == 2 and set(part.group.tolist()) == {225, 1}
        assert torch.equal(part.conditions["gap"], batch.conditions["gap"][rows])


def test_a_moved_coordinate_comes_back_into_the_cell_and_fixed_ones_stay_zero(crystals: list[Orbits]) -> None:
    batch = OrbitBatch.from_orbits(crystals)
    for orbits in batch.with_(free=batch.free + 3.25).to_orbits():
        assert ((orbits.free >= 0) & (orbits.free < 1)).all()
        assert (orbits.free[~wyckoff_table().free[orbits.wyckoff]] == 0).all()
