"""Gibbs energy above the hull of a whole table at a new state point: milliseconds, and how far from exact hulls.

    python benchmarks/hull_speed.py [structures=../shared/data/structures/mp_structures.parquet] \
        [energies=../shared/data/energies/mp_formation_energies.csv.xz] [crystals=2500] [states=30] [repeats=41] \
        [measured=../shared/data/hull/freed_experimental_thermo_compounds.json.gz]

The build is timed without a cache. Errors: ``crystals`` random crystals at ``states`` random state points (300-2000 K, 0-10 GPa),
each against its exact hull by linear programming. ``measured`` (JSON: formula -> temperature -> Gibbs energy of formation, eV per
formula; empty: none) says how good the Gibbs energies themselves are. One core.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from typing import Any

import numpy as np
from measure import one_core, options, write

from sse_diffusion.thermo.gibbs import MAX_TEMPERATURE_K, MIN_TEMPERATURE_K, MAX_PRESSURE_GPa
from sse_diffusion.thermo.gibbs_hull import GibbsHull, GibbsHullConfig
from sse_diffusion.thermo.hull_grid import HullGrid
from sse_diffusion.thermo.phases import PhaseTable
from sse_diffusion.thermo.windows import stability_windows


def state_points(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform over the range of validity."""
    return rng.uniform(MIN_TEMPERATURE_K, MAX_TEMPERATURE_K, count), rng.uniform(0.0, MAX_PRESSURE_GPa, count)


def milliseconds(call: Any, repeats: int) -> float:
    """Median time of a call with new arguments each time."""
    times = []
    for repeat in range(repeats):
        arguments = state_points(np.random.default_rng(repeat), 1)
        start = time.perf_counter()
        call(*arguments)
        times.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(times)), 2)


def heights_over(grid: HullGrid, rows: np.ndarray) -> np.ndarray:
    """(rows, states) exact heights of phases over the hull that they are part of."""
    heights = grid.energies[:, rows].T.copy()
    usable = np.flatnonzero(np.isfinite(heights).all(1))
    fractions = grid.table.fractions[rows[usable]]
    for system in grid.systems(fractions):
        energies = grid.solve(system, fractions)[0].energies
        heights[usable[system.members]] -= energies.reshape(len(system.members), -1)
    return heights


def errors(hull: GibbsHull, crystals: int, states: int) -> dict[str, float]:
    """Deviation from exact hulls, meV/atom."""
    rng = np.random.default_rng(2)
    pick = np.sort(rng.choice(len(hull.rows), min(crystals, len(hull.rows)), replace=False))
    temperatures, pressures = state_points(rng, states)
    exact = heights_over(HullGrid.at(hull.table, temperatures, pressures), hull.rows[pick])
    found = np.stack([hull.above_hull(t, p)[pick] for t, p in zip(temperatures, pressures, strict=True)], axis=1)
    off = 1e3 * np.abs(found - exact)[np.isfinite(exact)]
    quantiles = {f"error_q{100 * q:g}_meV_per_atom": round(float(np.quantile(off, q)), 4) for q in (0.99, 0.999)}
    largest = round(float(off.max()), 2)
    return {
        "compared": off.size,
        **quantiles,
        "error_max_meV_per_atom": largest,
        "exact_share": round(float((off < 1e-3).mean()), 4),
    }


def against_measurement(table: PhaseTable, path: str) -> dict[str, float]:
    """Gibbs energies of formation of measured compounds (lowest phase in the table) minus the measurement, eV/atom.

    Compounds of three or more elements only: measured tables hold many gaseous molecules of two (ThSe, CrO, HI, ...). The change
    from 300 K tests the temperature dependence alone, without the error of the static formation energy.
    """
    from pymatgen.core import Composition

    if not path:
        return {}
    with gzip.open(path) as handle:
        data = {Composition(formula): values for formula, values in json.load(handle).items()}
    rows: dict[str, list[int]] = {}
    for row in np.flatnonzero((table.measured < 0) & ~table.unmeasured):
        rows.setdefault(content_of(table.elements, table.fractions[row]), []).append(row)
    temperatures = (300, 600, 1000, 1500)
    ours = table.formation_gibbs(np.array(temperatures, dtype=float), np.zeros(4))
    off = np.full((4, len(data)), np.nan)
    for place, (composition, values) in enumerate(data.items()):
        fractions = [composition.get_atomic_fraction(symbol) for symbol in table.elements]
        found = rows.get(content_of(table.elements, np.array(fractions)), []) if len(composition) > 2 else []
        for state, temperature in enumerate(temperatures):
            if found and str(temperature) in values:
                off[state, place] = ours[state, found].min() - values[str(temperature)] / composition.num_atoms
    result: dict[str, float] = {}
    for state, temperature in enumerate(temperatures):
        result[f"compounds_measured_at_{temperature}_K"] = int(np.isfinite(off[state]).sum())
        result[f"gibbs_off_mean_at_{temperature}_K"] = round(float(np.nanmean(off[state])), 4)
        result[f"gibbs_off_median_abs_at_{temperature}_K"] = round(float(np.nanmedian(np.abs(off[state]))), 4)
        change = round(float(np.nanmedian(np.abs(off[state] - off[0]))), 4)
        result[f"change_from_300_K_off_median_abs_at_{temperature}_K"] = change
    return result


def content_of(elements: tuple[str, ...], fractions: np.ndarray) -> str:
    """A composition as text, to look it up by."""
    return " ".join(f"{elements[i]}{fractions[i]:.5f}" for i in np.flatnonzero(fractions > 0))


def main(arguments: list[str]) -> None:
    """Measure and write results/hull_speed.json."""
    import pandas as pd

    folder = "../shared/data/"
    settings = options(
        arguments,
        structures=folder + "structures/mp_structures.parquet",
        energies=folder + "energies/mp_formation_energies.csv.xz",
        crystals=2500,
        states=30,
        repeats=41,
        measured=folder + "hull/freed_experimental_thermo_compounds.json.gz",
    )
    one_core()
    start = time.perf_counter()
    table = PhaseTable.from_files(settings["structures"], settings["energies"])
    read = time.perf_counter() - start
    frame = pd.read_parquet(settings["structures"], columns=["material_id", "e_above_hull", "energy_source"])
    start = time.perf_counter()
    hull = GibbsHull.build(table, frame["material_id"].tolist(), GibbsHullConfig(cache_dir=None))
    built = time.perf_counter() - start
    hull.above_hull(300.0, 0.0)
    static = 1e3 * (heights_over(HullGrid.static(table), hull.rows)[:, 0] - frame["e_above_hull"].to_numpy())
    same_date = static[(frame["energy_source"] == "mp20").to_numpy()]
    start = time.perf_counter()
    windows = stability_windows(HullGrid.static(table), hull.rows, ["Li"] * len(hull.rows))
    windows_seconds = time.perf_counter() - start
    record = {
        "crystals": len(hull.rows),
        "phases": len(table),
        "phases_with_estimated_volume": int(table.volume_estimated.sum()),
        "mixtures": len(hull.mixtures.crystal),
        "one_state_point_ms": milliseconds(lambda t, p: hull.above_hull(t[0], p[0]), settings["repeats"]),
        "own_state_points_ms": milliseconds(
            lambda t, p: hull.above_hull(np.repeat(t, len(hull.rows)), np.repeat(p, len(hull.rows))), settings["repeats"]
        ),
        "read_table_s": round(read, 1),
        "build_s": round(built, 1),
        "windows_of_all_s": round(windows_seconds, 1),
        "windows_found": int(np.isfinite(windows.reduction_limit_V).sum()),
        "no_answer": int(np.isnan(hull.above_hull(300.0, 0.0)).sum()),
        **errors(hull, settings["crystals"], settings["states"]),
        **against_measurement(table, settings["measured"]),
        "static_vs_mp_mean_meV_per_atom": round(float(same_date.mean()), 2),
        "static_vs_mp_mean_abs_meV_per_atom": round(float(np.abs(same_date).mean()), 2),
        "static_vs_mp_within_1meV": round(float((np.abs(same_date) < 1.0).mean()), 4),
    }
    write("hull_speed", record, speed=False)


if __name__ == "__main__":
    main(sys.argv[1:])
