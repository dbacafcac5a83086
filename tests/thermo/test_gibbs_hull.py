"""dG_hull(T, P) of many crystals: hand-made cases, exactness against linear programs, slopes, cache, reasons."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.units import eV_PER_A3_PER_GPa
from sse_diffusion.thermo import hull_grid
from sse_diffusion.thermo.gibbs_hull import GibbsHull, GibbsHullConfig
from sse_diffusion.thermo.hull import EnergySchemeError
from sse_diffusion.thermo.hull_grid import HullGrid, exact_above_hull
from sse_diffusion.thermo.phases import PhaseTable

# formula, formation energy (eV/atom), volume (A^3/atom): invented. Dense polymorphs win under pressure, gases when hot.
ROWS = [
    ("Li", 0.0, 20.2), ("S", 0.0, 25.0), ("O", 0.0, 11.0), ("P", 0.0, 22.0), ("C", 0.0, 9.0), ("Xe", 0.0, 40.0),
    ("Li2S", -1.50, 15.5), ("Li2S", -1.47, 13.9), ("Li2O", -2.07, 8.2), ("Li2O2", -1.65, 8.0), ("Li3PO4", -2.76, 10.2),
    ("Li3PS4", -0.95, 19.5), ("Li4P2O7", -2.71, 10.9), ("LiPO3", -2.60, 12.0), ("P2O5", -2.25, 15.0), ("P2S5", -0.40, 24.0),
    ("Li2CO3", -2.06, 9.8), ("CO2", -1.40, 16.0), ("Li2SO4", -2.10, 12.3), ("SO2", -1.10, 20.0), ("Li3PS3O", -1.35, 16.5),
    ("Li6PS5O", -1.30, 15.5), ("XeO3", 0.3, 15.0), ("LiC6", -0.02, 8.6), ("Li2S2", -1.00, 18.0),
]  # fmt: skip
COARSE = GibbsHullConfig(cache_dir=None)


def make(rows=ROWS, **more):
    formulas, energies, volumes = zip(*rows, strict=True)
    return PhaseTable.from_formulas([f"{f}-{i}" for i, f in enumerate(formulas)], formulas, energies, volumes, "toy", **more)


@pytest.fixture(scope="module")
def table():
    return make()


@pytest.fixture(scope="module")
def hull(table):
    return GibbsHull.build(table, [*table.ids, "nobody"], COARSE)


def exact(table, temperatures, pressures):
    """Heights of every phase over the hull that it is part of."""
    grid = HullGrid.at(table, temperatures, pressures)
    heights = grid.energies.T.copy()
    usable = np.flatnonzero(~table.unmeasured)
    for system in grid.systems(table.fractions[usable]):
        members = usable[system.members]
        solution, _ = grid.solve(system, table.fractions[usable])
        heights[members] -= solution.energies.reshape(len(members), -1)
    return heights


def test_equals_exact_hulls_at_random_state_points(table, hull):
    rng = np.random.default_rng(0)
    temperatures, pressures = rng.uniform(300, 2000, 60), rng.uniform(0, 10, 60)
    errors = np.stack([hull.above_hull(t, p)[:-1] for t, p in zip(temperatures, pressures, strict=True)], axis=1)
    errors -= exact(table, temperatures, pressures)
    errors = errors[~table.unmeasured]
    assert (errors < 1e-9).all()  # a missed mixture can only hide part of the height
    assert np.quantile(-errors, 0.99) < 2e-3
    grid_t, grid_p = COARSE.states()
    on_grid = np.stack([hull.above_hull(t, p)[:-1] for t, p in zip(grid_t, grid_p, strict=True)], axis=1)
    assert on_grid[~table.unmeasured] == pytest.approx(exact(table, grid_t, grid_p)[~table.unmeasured], abs=1e-9)


def test_pressure_turns_a_polymorph_where_the_enthalpies_cross(table, hull):
    # Li2S: 0.03 eV/atom against 1.6 A^3/atom, and the descriptor's a T of both volumes
    open_, dense = table.ids.index("Li2S-6"), table.ids.index("Li2S-7")
    difference = 0.03 + 300.0 * (table.slope[dense] - table.slope[open_])
    crossing = difference / (1.6 * eV_PER_A3_PER_GPa)
    assert 1.0 < crossing < 9.0
    below, above = hull.above_hull(300.0, crossing - 0.5), hull.above_hull(300.0, crossing + 0.5)
    assert below[open_] < below[dense] and above[open_] > above[dense]
    assert above[open_] == pytest.approx(0.5 * 1.6 * eV_PER_A3_PER_GPa, abs=1e-9)
    assert hull.decomposition(open_, 300.0, crossing + 0.5) == {"Li2S-7": pytest.approx(1.0)}


def test_heat_decomposes_what_gives_off_gas(table, hull):
    carbonate = table.ids.index("Li2CO3-16")
    heights = [hull.above_hull(t, 0.0)[carbonate] for t in (300.0, 1000.0, 2000.0)]
    assert heights[0] == 0.0 and heights[2] > 0.0
    assert hull.decomposition(carbonate, 2000.0, 0.0) == {"Li2O-8": pytest.approx(0.5), "CO2-17": pytest.approx(0.5)}


def test_own_state_point_for_each_crystal(table, hull):
    rng = np.random.default_rng(1)
    temperatures, pressures = rng.uniform(300, 2000, len(hull.rows)), rng.uniform(0, 10, len(hull.rows))
    together = hull.above_hull(temperatures, pressures)
    for crystal in range(len(table)):
        alone = hull.above_hull(temperatures[crystal], pressures[crystal])[crystal]
        assert together[crystal] == pytest.approx(alone, abs=1e-12, nan_ok=True)


def test_slopes_are_the_derivatives(hull):
    by_t, by_p = hull.slopes(873.0, 3.3)
    numeric_t = (hull.above_hull(873.1, 3.3) - hull.above_hull(872.9, 3.3)) / 0.2
    numeric_p = (hull.above_hull(873.0, 3.301) - hull.above_hull(873.0, 3.299)) / 0.002
    assert by_t == pytest.approx(numeric_t, abs=1e-8, nan_ok=True) and by_p == pytest.approx(numeric_p, abs=1e-8, nan_ok=True)
    assert np.abs(by_t[np.isfinite(by_t)]).max() > 1e-5 and np.abs(by_p[np.isfinite(by_p)]).max() > 1e-3


def test_no_answer_comes_with_a_reason(table, hull):
    values = hull.above_hull(300.0, 0.0)
    silent = [table.ids.index("Xe-5"), table.ids.index("XeO3-22"), len(table)]
    assert np.flatnonzero(np.isnan(values)).tolist() == silent
    assert "Xe" in hull.reason(silent[1]) and "not in the phase table" in hull.reason(silent[2]) and hull.reason(0) == ""
    assert hull.decomposition(silent[2], 300.0, 0.0) == {}


@pytest.mark.parametrize(("temperature", "pressure"), [(250.0, 0.0), (2500.0, 0.0), (300.0, 11.0), (300.0, -1.0)])
def test_state_points_out_of_range_are_refused(hull, temperature, pressure):
    with pytest.raises(ConfigError):
        hull.above_hull(temperature, pressure)
    with pytest.raises(ConfigError):
        hull.above_hull(np.full(len(hull.rows), temperature), pressure)
    with pytest.raises(ConfigError):
        GibbsHullConfig(temperatures_K=(temperature,), pressures_GPa=(pressure,))


def test_estimated_phases_are_flagged():
    rows = [*ROWS[:8], ("Li3PS4", -1.20, np.nan), ("Li7PS6", -1.25, 17.0), ("P2S5", -0.40, 24.0)]
    phases = make(rows)
    hull = GibbsHull.build(phases, phases.ids, COARSE)
    flagged = {phases.ids[i] for i in np.flatnonzero(hull.uses_estimates(300.0, 0.0))}
    assert flagged == {"Li3PS4-8", "Li7PS6-9"}  # Li7PS6 lies above Li3PS4 + 2 Li2S
    assert set(hull.decomposition(9, 300.0, 0.0)) == {"Li3PS4-8", "Li2S-6"}


def test_finished_parts_are_read_back_and_damaged_ones_computed_again(table, tmp_path, monkeypatch):
    config = GibbsHullConfig(cache_dir=str(tmp_path), systems_per_part=4)
    first = GibbsHull.build(table, table.ids, config)
    parts = sorted(tmp_path.glob("hull-*.npz"))
    assert len(parts) > 2
    parts[0].write_bytes(b"half a file")
    solved = []
    whole = HullGrid.mixtures
    monkeypatch.setattr(HullGrid, "mixtures", lambda self, system, fractions: solved.append(1) or whole(self, system, fractions))
    again = GibbsHull.build(table, table.ids, config)
    assert len(solved) == 4  # only the damaged part
    assert again.above_hull(777.0, 4.0) == pytest.approx(first.above_hull(777.0, 4.0), nan_ok=True)
    other = make([*ROWS[:-1], ("Li2S2", -1.01, 18.0)])
    GibbsHull.build(other, other.ids, config)
    assert len(list(tmp_path.glob("hull-*.npz"))) > len(parts)  # other content, other files


def test_any_crystal_can_be_placed_exactly(table):
    candidates = PhaseTable.from_formulas(
        ["stable", "high", "unknown", "rare"], ["Li3PS4", "Li7PS6", "NaCl", "XeO2"], [-1.2, -0.9, -2.0, 0.2], [19, 17, 22, 20],
        "toy", complete=False,
    )  # fmt: skip
    heights, reasons = exact_above_hull(table, candidates, np.array([300.0, 900.0]), np.array([0.0, 2.0]))
    assert (heights[0] < 0).all() and (heights[1] > 0).all() and np.isnan(heights[2:]).all()
    assert reasons[:2] == ["", ""] and "Cl, Na" in reasons[2] and "Xe" in reasons[3]
    other = PhaseTable.from_formulas(["x"], ["Li2S"], [-1.5], [15.0], "another", complete=False)
    with pytest.raises(EnergySchemeError, match="another"):
        exact_above_hull(table, other, np.array([300.0]), np.array([0.0]))


def test_static_hull_by_hand():
    rows = [
        ("Li", 0.0, 20.0),
        ("Cl", 0.0, 30.0),
        ("S", 0.0, 25.0),
        ("LiCl", -2.0, 17.0),
        ("Li2S", -1.5, 15.5),
        ("Li3SCl", -1.6, 16.0),
    ]
    grid = HullGrid.static(make(rows))
    (system,) = grid.systems(grid.table.fractions[[5]])
    solution, _ = grid.solve(system, grid.table.fractions[[5]])
    assert solution.energies[0] == pytest.approx(-(0.6 * 1.5 + 0.4 * 2.0))  # Li2S + LiCl
    assert hull_grid.FORMAT >= 1
