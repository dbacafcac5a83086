"""Condition tensors: one row per crystal, nulls for what is unknown, intervals that hold their label."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.dataset import FlatOrbits, OrbitDataset
from sse_diffusion.data.rows import CrystalRow
from sse_diffusion.diffusion.condition_tensors import OPEN_END, drop_conditions, encode, null_like, widen_intervals
from sse_diffusion.diffusion.encode_dataset import encode_dataset
from sse_diffusion.thermo.conditions import load_condition_specs
from sse_diffusion.thermo.request import Interval

SPECS = load_condition_specs()


@pytest.fixture
def dataset() -> OrbitDataset:
    """LiCl with a gap, NaCl with NaN, ZnS without labels; all rock salt."""
    a, b = list(wyckoff_table().positions(225))[:2]
    cell = np.array([0, 0, 0, 0, 0, 1.7])
    crystals = [Orbits(225, cell, np.array(z), np.array([a, b]), np.zeros((2, 3))) for z in ([3, 17], [11, 17], [30, 16])]
    labels = [{"band_gap_eV": 6.0}, {"band_gap_eV": math.nan}, {}]
    rows = [CrystalRow(str(i), np.zeros(2), np.zeros((2, 3)), np.eye(3), label) for i, label in enumerate(labels)]
    return OrbitDataset(FlatOrbits.from_list(crystals), rows)


def test_labels_and_nulls(dataset: OrbitDataset) -> None:
    made = encode_dataset(dataset, SPECS)
    assert set(made) == set(SPECS) and all(len(v) == 3 for v in made.values())
    gap = made["band_gap_eV"]
    assert gap[0].tolist() == pytest.approx([SPECS["band_gap_eV"].standardise(6.0)] * 2)
    assert gap[1:].isnan().all()
    assert made["energy_above_hull_eV_per_atom"].isnan().all()


def test_what_the_structure_says(dataset: OrbitDataset) -> None:
    made = encode_dataset(dataset, SPECS)
    choices = SPECS["mobile_ion"].choices
    assert [choices[i] for i in made["mobile_ion"]] == ["Li", "Na", "none"]
    assert [row.nonzero().flatten().tolist() for row in made["elements"]] == [[3, 17], [11, 17], [16, 30]]


def test_open_and_far_ends_are_clipped() -> None:
    spec = SPECS["band_gap_eV"]
    values = encode(spec, [Interval(1.0, math.inf), Interval(-math.inf, 1e6), None, 2.0])
    assert values[0, 1] == OPEN_END and values[1].tolist() == [-OPEN_END, OPEN_END]
    assert values[2].isnan().all() and values[3, 0] == values[3, 1]


def test_widened_intervals_hold_the_label_and_are_never_open_on_both_sides() -> None:
    value = torch.linspace(-2, 2, 4000)[:, None].expand(-1, 2).contiguous()
    wide = widen_intervals(value, torch.rand(4000, 4, generator=torch.Generator().manual_seed(0)).clamp(1e-6, 1 - 1e-6))
    assert (wide[:, 0] <= value[:, 0]).all() and (wide[:, 1] >= value[:, 1]).all()
    point, is_open = wide[:, 0] == wide[:, 1], wide.abs() == OPEN_END
    assert point.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert is_open.all(-1).float().mean() < 0.02  # only where the other end happened to reach the clip
    assert is_open.any(-1).float().mean().item() == pytest.approx(0.4, abs=0.05)


def test_widening_keeps_an_unknown_label_unknown() -> None:
    wide = widen_intervals(torch.full((500, 2), math.nan), torch.rand(500, 4, generator=torch.Generator().manual_seed(0)))
    assert wide.isnan().any(-1).all()  # one NaN is enough for the null embedding


def test_dropout_hits_each_field_with_its_own_probability() -> None:
    n = 20_000
    values = {"a": torch.zeros(n, 2), "b": torch.zeros(n, dtype=torch.int64), "c": torch.ones(n, 95)}
    u = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    dropped = drop_conditions(values, {"a": 0.2, "b": 0.5, "c": 0.0}, u)
    gone = dropped["a"].isnan().all(1), dropped["b"] == -1
    assert gone[0].float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert gone[1].float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (gone[0] & gone[1]).float().mean().item() == pytest.approx(0.1, abs=0.02)  # independent
    assert torch.equal(dropped["c"], values["c"])
    nulls = null_like(values)
    assert nulls["a"].isnan().all() and (nulls["b"] == -1).all() and (nulls["c"] == 0).all()
