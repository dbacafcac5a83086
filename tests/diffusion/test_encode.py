"""Condition tensors: one row per crystal, nulls for what is unknown, intervals that hold their label."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.units import AMBIENT_PRESSURE_GPa, eV_PER_A3_PER_GPa
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.dataset import FlatOrbits, OrbitDataset
from sse_diffusion.data.rows import CrystalRow
from sse_diffusion.diffusion.condition_tensors import OPEN_END, drop_conditions, encode, null_like, widen_intervals
from sse_diffusion.diffusion.encode_dataset import ConditionEncoder, densities_g_cm3, require_phases
from sse_diffusion.thermo.conditions import load_condition_specs
from sse_diffusion.thermo.labels import PhaseLabels, PhasesConfig
from sse_diffusion.thermo.request import Interval

OF_TABLE = ("formation_energy_eV_per_atom", "energy_above_hull_eV_per_atom", "band_gap_eV", "elements", "mobile_ion")
SPECS = load_condition_specs([*OF_TABLE, "density_g_cm3"])
STATE = load_condition_specs(["temperature_K", "pressure_GPa", "gibbs_above_hull_eV_per_atom", "oxidation_limit_V"])


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
    made = ConditionEncoder(dataset, SPECS).fixed()
    assert set(made) == set(SPECS) and all(len(v) == 3 for v in made.values())
    gap = made["band_gap_eV"]
    assert gap[0].tolist() == pytest.approx([SPECS["band_gap_eV"].standardise(6.0)] * 2)
    assert gap[1:].isnan().all()
    assert made["energy_above_hull_eV_per_atom"].isnan().all()


def test_what_the_structure_says(dataset: OrbitDataset) -> None:
    made = ConditionEncoder(dataset, SPECS).fixed()
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


def test_density_is_that_of_the_cell(dataset: OrbitDataset) -> None:
    structure = dataset.orbits(0).to_structure()
    assert densities_g_cm3(dataset)[0] == pytest.approx(float(structure.density), rel=1e-6)


def test_conditions_of_a_state_point_need_phases(dataset: OrbitDataset) -> None:
    with pytest.raises(ConfigError, match="no phases to compete with") as caught:
        require_phases(STATE, None)
    assert "thermo/phases@phases=mp" in str(caught.value.hint)
    unlabelled = ConditionEncoder(dataset, STATE)
    assert all(v.isnan().all() for v in {**unlabelled.fixed(), **unlabelled.drawn(0)}.values())


def test_state_points_are_drawn_per_crystal_and_epoch_and_labelled_there(dataset: OrbitDataset, tmp_path: Path) -> None:
    """NaCl decomposes nowhere; LiCl is 0.1 eV/atom above a polymorph whose larger volume makes it worse under pressure."""
    frame = pd.DataFrame(
        {
            "material_id": ["0", "1", "good", "Li", "Na", "Cl"],
            "formula": ["LiCl", "NaCl", "LiCl", "Li", "Na", "Cl"],
            "formation_energy_per_atom": [-1.9, -2.1, -2.0, 0.0, 0.0, 0.0],
            "nsites": 1, "a": 1.0, "b": 1.0, "c": [17.0, 22.0, 20.0, 21.0, 37.0, 30.0],
            "alpha": 90.0, "beta": 90.0, "gamma": 90.0,
        }
    )  # fmt: skip
    frame.to_csv(tmp_path / "phases.csv", index=False)
    encoder = ConditionEncoder(dataset, STATE, PhasesConfig(structures=str(tmp_path / "phases.csv"), cache_dir=None), seed=3)
    first, again, other = encoder.drawn(0), encoder.drawn(0), encoder.drawn(1)
    assert all(torch.equal(first[k].nan_to_num(), again[k].nan_to_num()) for k in first)
    assert not torch.equal(first["pressure_GPa"], other["pressure_GPa"])
    spec = STATE["gibbs_above_hull_eV_per_atom"]
    for epoch in range(8):
        drawn = encoder.drawn(epoch)
        pressure = STATE["pressure_GPa"].unstandardise(float(drawn["pressure_GPa"][0, 0]))
        temperature = STATE["temperature_K"].unstandardise(float(drawn["temperature_K"][0, 0]))
        gain = g_delta(temperature, np.array([17.0, 20.0]))  # the formation energies are 0.1 apart
        wanted = max(0.1 + gain[0] - gain[1] - 3.0 * pressure * eV_PER_A3_PER_GPa, 0.0)
        found = spec.unstandardise(float(drawn["gibbs_above_hull_eV_per_atom"][0, 0]))
        assert found == pytest.approx(wanted, abs=2e-4)
        assert spec.unstandardise(float(drawn["gibbs_above_hull_eV_per_atom"][1, 0])) == pytest.approx(0.0, abs=1e-6)
        assert drawn["gibbs_above_hull_eV_per_atom"][2].isnan().all()  # ZnS is not among the phases
    limit = encoder.fixed()["oxidation_limit_V"]
    assert STATE["oxidation_limit_V"].unstandardise(float(limit[1, 0])) == pytest.approx(4.2, abs=1e-3)  # 2 x 2.1 eV, NaCl
    assert limit[2].isnan().all()


def g_delta(temperature_K: float, volume: np.ndarray) -> np.ndarray:
    """Volume-dependent part of Bartel's descriptor for LiCl, eV/atom."""
    mass = 6.94 * 35.45 / (6.94 + 35.45)
    return (-2.48e-4 * np.log(volume) - 8.94e-5 * mass / volume) * temperature_K


def test_state_points_cover_the_range_with_a_room_and_an_ambient_share() -> None:
    labels = PhaseLabels(SimpleNamespace(rows=np.zeros(20000)), {}, PhasesConfig(structures=""))  # type: ignore[arg-type]
    temperature, pressure = labels.state_points(0, 0)
    assert (
        temperature.min() == 300.0
        and temperature.max() <= 2000.0
        and (temperature == 300.0).mean() == pytest.approx(0.3, abs=0.02)
    )
    assert (pressure == AMBIENT_PRESSURE_GPa).mean() == pytest.approx(0.4, abs=0.02) and pressure.max() <= 10.0
    hot = temperature[temperature > 300.0]
    assert np.median(np.log(hot)) == pytest.approx(np.log(300.0 * 2000.0) / 2, abs=0.03)
