"""Hulls of the complete Fe-Li-O-P and Cl-Mn-Na-O-Y entry sets of the Materials Project; skipped without the data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import GrandPotentialPhaseDiagram, PDEntry, PhaseDiagram
from pymatgen.core import Element
from pymatgen.entries.computed_entries import ComputedEntry

from sse_diffusion.thermo.hull_grid import HullGrid
from sse_diffusion.thermo.phases import PhaseTable
from sse_diffusion.thermo.windows import grand_potential_above_hull, stability_windows

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "hull"
SETS = {"Fe_Li_O_P": ("Li", 943), "Cl_Mn_Na_O_Y": ("Na", 333)}


@pytest.fixture(scope="module", params=SETS)
def case(request):
    path = FOLDER / f"{request.param}_entries.json.gz"
    if not path.is_file():
        pytest.skip(f"needs {path.name} (complete entry set of the Materials Project) in ../shared/data/hull")
    with gzip.open(path) as handle:
        records = json.load(handle)
    plain = [
        ComputedEntry.from_dict({k: v for k, v in r.items() if k != "structure"}) for r in records
    ]  # structures take seconds
    entries = [PDEntry(entry.composition, entry.energy) for entry in plain]
    volumes = [r["structure"]["lattice"]["volume"] / len(r["structure"]["sites"]) for r in records]
    diagram = PhaseDiagram(entries)
    formation = [diagram.get_form_energy_per_atom(entry) for entry in entries]
    formulas = [entry.composition.formula for entry in entries]
    ids = [str(i) for i in range(len(entries))]
    ion, count = SETS[request.param]
    assert len(entries) == count
    return entries, diagram, HullGrid.static(PhaseTable.from_formulas(ids, formulas, formation, volumes, "MP2020")), ion


def test_energy_above_hull_of_every_entry(case):
    entries, diagram, grid, _ = case
    heights = grid.energies[0].copy()
    for system in grid.systems(grid.table.fractions):
        heights[system.members] -= grid.solve(system, grid.table.fractions)[0].energies
    expected = [diagram.get_e_above_hull(entry) for entry in entries]
    assert heights[: len(entries)] == pytest.approx(expected, abs=1e-6) and max(expected) > 0.3


@pytest.mark.slow
def test_windows_of_stable_phases_and_of_every_composition(case):
    entries, diagram, grid, ion = case
    element = Element(ion)
    rows = [i for i, e in enumerate(entries) if element in e.composition and len(e.composition) > 1]
    windows = stability_windows(grid, np.array(rows), [ion] * len(rows))
    metal = diagram.el_refs[element].energy_per_atom
    seen = {}
    for place, row in enumerate(rows):
        formula = entries[row].composition.reduced_formula
        if entries[row] in diagram.stable_entries:
            limits = diagram.get_chempot_range_stability_phase(entries[row].composition, element)[element]
            assert windows.reduction_limit_V[place] == pytest.approx(metal - max(limits), abs=1e-3), formula
            assert windows.oxidation_limit_V[place] == pytest.approx(metal - min(limits), abs=1e-3), formula
        elif formula not in seen and len(seen) < 8:
            profile = sorted(diagram.get_element_profile(element, entries[row].composition), key=lambda p: -p["chempot"])
            reduction = next(metal - p["chempot"] for p in profile if p["evolution"] <= 1e-6)
            oxidation = next(metal - p["chempot"] for p in profile if p["evolution"] < -1e-6)
            seen[formula] = windows.reduction_limit_V[place], windows.oxidation_limit_V[place]
            assert seen[formula] == pytest.approx((reduction, oxidation), abs=1e-3), formula


@pytest.mark.parametrize("volt", [0.5, 2.0, 3.5])
def test_grand_potential_of_every_entry(case, volt):
    entries, diagram, grid, ion = case
    element = Element(ion)
    metal = diagram.el_refs[element].energy_per_atom
    heights = grand_potential_above_hull(grid, np.arange(len(entries)), {ion: -volt})[:, 0]
    open_diagram = GrandPotentialPhaseDiagram(entries, {element: metal - volt})
    row = {id(entry): i for i, entry in enumerate(entries)}
    for grand in open_diagram.all_entries:
        share = 1.0 - grand.original_entry.composition.get_atomic_fraction(element)
        if share > 0:
            expected = open_diagram.get_e_above_hull(grand) * share
            assert heights[row[id(grand.original_entry)]] == pytest.approx(expected, abs=1e-6)
