"""Where a crystal stands among a table's phases: exact against the hull of the whole table, with the signs of T and P."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.units import eV_PER_A3_PER_GPa
from sse_diffusion.thermo.competition import Competition, Standing, load_phase_table
from sse_diffusion.thermo.gibbs_hull import GibbsHull, GibbsHullConfig
from sse_diffusion.thermo.phases import PhaseTable

# formula, formation energy (eV/atom), volume (A^3/atom): near measured enthalpies of formation, rounded. Two polymorphs of silica
# (quartz, stishovite), and salts whose gases leave when it is hot.
ROWS = [
    ("Li", 0.0, 20.2), ("O", 0.0, 11.0), ("C", 0.0, 9.0), ("N", 0.0, 14.0), ("S", 0.0, 25.0), ("Al", 0.0, 16.5),
    ("Si", 0.0, 20.4), ("Ca", 0.0, 42.0), ("Xe", 0.0, 40.0), ("Li2O", -2.07, 8.2), ("Al2O3", -3.47, 8.7), ("SiO2", -3.15, 12.6),
    ("SiO2", -2.99, 7.8), ("CaO", -3.29, 13.9), ("Li2CO3", -2.10, 9.8), ("CaCO3", -2.50, 12.3), ("CO2", -1.36, 16.0),
    ("Al2(SO4)3", -2.10, 13.0), ("CaSO4", -2.48, 12.8), ("SO2", -1.03, 20.0), ("Li3N", -0.43, 11.2), ("AlN", -1.65, 10.5),
    ("XeO3", 0.3, 15.0),
]  # fmt: skip
FORMULAS, ENERGY, VOLUME = zip(*ROWS, strict=True)
STATES = [(300.0, 0.0), (650.0, 2.5), (1500.0, 0.0), (2000.0, 10.0)]


@pytest.fixture(scope="module")
def table() -> PhaseTable:
    return PhaseTable.from_formulas([f"{f}-{i}" for i, f in enumerate(FORMULAS)], FORMULAS, ENERGY, VOLUME, "toy")


def atoms(*formulas: str) -> np.ndarray:
    counts = np.zeros((len(formulas), 95))
    for row, formula in enumerate(formulas):
        for element, amount in Composition(formula).items():
            counts[row, element.Z] = amount
    return counts


def standing(table: PhaseTable, t: float, p: float, *formulas: str, volume: list[float] | None = None) -> Standing:
    return Competition(table, t, p).standing(atoms(*formulas), None if volume is None else np.array(volume))


@pytest.mark.parametrize(("t", "p"), STATES)
def test_equals_the_hull_of_the_table_given_true_energy_and_volume(table: PhaseTable, t: float, p: float) -> None:
    """All phases of the table, gases and elements among them, at state points of the grid: to 0.01 meV/atom."""
    hull = GibbsHull.build(table, table.ids, GibbsHullConfig(temperatures_K=(t,), pressures_GPa=(p,), cache_dir=None))
    truth = hull.above_hull(t, p)[: len(ROWS)]
    here = standing(table, t, p, *FORMULAS, volume=list(VOLUME))
    found = here.gibbs_above_hull(np.array(ENERGY))
    assert np.array_equal(np.isnan(found), np.isnan(truth)) and np.isnan(truth).sum() == 2
    known = ~np.isnan(truth)
    assert found[known] == pytest.approx(truth[known], abs=1e-5)
    assert (here.shift_std == 0.0).all()
    assert [f for f, gas in zip(FORMULAS, here.is_gas, strict=True) if gas] == ["CO2", "SO2"]


def test_heat_costs_what_holds_a_gas_and_spares_oxides(table: PhaseTable) -> None:
    """Change of dG_hull from 300 to 1500 K, whatever the energy: carbonates, sulfates and nitrides lose, oxides do not."""
    names = ("CaCO3", "Al2(SO4)3", "Li3N", "CaO", "Al2O3", "Li2O")
    volume = [VOLUME[FORMULAS.index(name)] for name in names]
    cold, hot = (standing(table, t, 1e-4, *names, volume=volume).shift for t in (300.0, 1500.0))
    carbonate, sulfate, nitride, *oxides = hot - cold
    assert min(carbonate, sulfate, nitride) > 0.05
    assert np.abs(oxides).max() < 0.02


def test_pressure_favours_the_denser_polymorph_by_its_volume(table: PhaseTable) -> None:
    """d(dG_hull)/dP of quartz against stishovite is their difference in volume."""
    loose, dense = (np.array([standing(table, 300.0, p, "SiO2", volume=[v]).shift[0] for p in (1.0, 3.0)]) for v in (12.6, 7.8))
    assert (loose - dense)[1] - (loose - dense)[0] == pytest.approx(2.0 * 4.8 * eV_PER_A3_PER_GPa, rel=1e-6)
    assert (loose - dense)[0] > 0.0


def test_an_energy_moves_dG_hull_one_to_one_and_not_the_shift(table: PhaseTable) -> None:
    here = standing(table, 900.0, 1.0, "Li2CO3", "CO2", volume=[9.8, 16.0])
    low, high = here.gibbs_above_hull(np.array([-2.1, -1.5])), here.gibbs_above_hull(np.array([-2.0, -1.0]))
    assert high - low == pytest.approx([0.1, 0.0], abs=1e-12)  # a gas has a measured value


def test_an_estimated_volume_widens(table: PhaseTable) -> None:
    cold, hot, pressed = (standing(table, t, p, "CaSiO3").shift_std[0] for t, p in ((300.0, 0.0), (1500.0, 0.0), (300.0, 8.0)))
    assert 0.0 < cold < hot < 0.03 and 0.02 < pressed < 0.08


def test_no_answer_has_a_reason(table: PhaseTable) -> None:
    here = standing(table, 300.0, 0.0, "XeO2", "LiW", "CaO", "Li2XeO4")
    assert np.isnan(here.shift).tolist() == [True, True, False, True]
    unmeasured = "no measured Gibbs energy for the element Xe"
    assert here.unknown == (unmeasured, "no reference phase for W", "", unmeasured)
    nothing = Competition(table, 300.0, 0.0).standing(np.zeros((1, 95)))
    assert np.isnan(nothing.shift[0]) and nothing.unknown[0]


def test_scale_and_company_do_not_matter(table: PhaseTable) -> None:
    alone = standing(table, 1000.0, 2.0, "Li2SiO3").shift[0]
    among = standing(table, 1000.0, 2.0, "CaO", "Li4Si2O6", "AlN").shift[1]
    assert among == pytest.approx(alone, abs=1e-9)


@pytest.mark.parametrize(("t", "p"), [(250.0, 0.0), (300.0, 11.0)])
def test_state_points_out_of_range_are_refused(table: PhaseTable, t: float, p: float) -> None:
    with pytest.raises(ConfigError):
        Competition(table, t, p)


def hull_csv(path: Path) -> Path:
    lines = ["formula,energy_eV_per_atom,volume_A3_per_atom,source,energy_scheme,converged"]
    lines += [f"{f},{e - 2.0},{v},computed,toy,True" for f, e, v in ROWS]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_is_parsed_once_and_a_damaged_cache_again(tmp_path: Path) -> None:
    source, cache = hull_csv(tmp_path / "hull.csv"), tmp_path / "cache"
    first = load_phase_table(str(source), str(cache))
    (kept,) = cache.glob("*.npz")
    for damage in (False, True):
        if damage:
            kept.write_bytes(kept.read_bytes()[:100])
        load_phase_table.cache_clear()
        again = load_phase_table(str(source), str(cache))
        assert again.content_hash == first.content_hash and again.energy_scheme == "toy" and again.ids == first.ids
    with pytest.raises(DataError, match="mp"):
        load_phase_table("mpp", None)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    load_phase_table.cache_clear()
    table = load_phase_table(str(hull_csv(tmp_path / "hull.csv")), str(tmp_path / "file"))
    assert len(table) == len(ROWS) and "not kept" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("state", [(300.0, 1.01325e-4), (1500.0, 1.01325e-4), (1000.0, 5.0)])
def test_equals_the_hull_of_the_materials_project(state: tuple[float, float]) -> None:
    """A thousand of its crystals with their own energy and volume: within 2 meV/atom at any state point of the hull's grid."""
    try:
        table = load_phase_table("mp", None)
    except DataError:
        pytest.skip("no Materials Project table here")
    rows = np.random.default_rng(0).choice(np.flatnonzero(~table.volume_estimated), 1000, replace=False)
    grid = GibbsHullConfig(temperatures_K=(state[0],), pressures_GPa=(state[1],), cache_dir=None)
    truth = GibbsHull.build(table, [table.ids[row] for row in rows], grid).above_hull(*state)
    counts = atoms(
        *(" ".join(f"{s}{x:.8f}" for s, x in zip(table.elements, table.fractions[r], strict=True) if x > 0) for r in rows)
    )
    found = Competition(table, *state).standing(counts, table.volume[rows]).gibbs_above_hull(table.formation_energy[rows])
    assert np.array_equal(np.isnan(found), np.isnan(truth)) and np.isfinite(found).sum() > 950
    assert np.nanmax(np.abs(np.maximum(found, 0.0) - truth)) < 2e-3
