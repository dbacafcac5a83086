"""Stability windows and grand potentials: measured binaries, hand-made hulls, agreement with pymatgen, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import GrandPotentialPhaseDiagram, PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.thermo.hull_grid import HullGrid
from sse_diffusion.thermo.phases import PhaseTable
from sse_diffusion.thermo.windows import grand_potential_above_hull, stability_windows

KJ_PER_MOL_PER_eV = 96.48533
# Enthalpies of formation at 298.15 K, kJ/mol of formula: NIST-JANAF tables, 4th edition (1998); Li2S from the CRC Handbook.
# The tabulated limit of LiF is that of the FREED table (-615.9 kJ/mol); JANAF's is 6.39 V.
ENTHALPIES = {"LiF": -616.9, "LiCl": -408.3, "LiBr": -350.9, "LiI": -270.1, "Li2O": -598.7, "Li2S": -441.4, "Li3N": -164.6}
OXIDATION_V = {"LiF": 6.38, "LiCl": 4.23, "LiBr": 3.64, "LiI": 2.80, "Li2O": 3.10, "Li2S": 2.29, "Li3N": 0.57}
LPSC = [
    ("Li", 0.0), ("P", 0.0), ("S", 0.0), ("Cl", 0.0), ("LiCl", -2.1), ("Li2S", -1.5), ("Li3P", -0.85), ("LiP", -0.55),
    ("Li3PS4", -0.99), ("P2S5", -0.43), ("PCl5", -0.80), ("Li6PS5Cl", -1.17), ("S2Cl2", -0.15), ("Li7PS6", -1.05),
]  # fmt: skip


def make(rows):
    formulas, energies = zip(*rows, strict=True)
    return PhaseTable.from_formulas([f"{f}-{i}" for i, f in enumerate(formulas)], formulas, energies, [15.0] * len(rows), "toy")


def pymatgen_diagram(rows):
    return PhaseDiagram([PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in rows])


@pytest.mark.parametrize("formula", ENTHALPIES)
def test_binary_oxidation_limits_from_measured_enthalpies(formula):
    composition = Composition(formula)
    enthalpy = ENTHALPIES[formula] / KJ_PER_MOL_PER_eV / composition.num_atoms
    anion = next(el.symbol for el in composition if el.symbol != "Li")
    table = make([("Li", 0.0), (anion, 0.0), (formula, enthalpy)])
    window = stability_windows(HullGrid.static(table), np.array([2]), ["Li"])
    closed_form = -ENTHALPIES[formula] / KJ_PER_MOL_PER_eV / composition["Li"]
    assert window.oxidation_limit_V[0] == pytest.approx(closed_form, abs=1e-6)
    assert window.oxidation_limit_V[0] == pytest.approx(OXIDATION_V[formula], abs=0.02)
    assert window.reduction_limit_V[0] == 0.0 and window.reasons == ("",)


def test_peroxide_lowers_the_oxidation_limit_of_the_oxide():
    # 2 Li2O -> Li2O2 + 2 Li: V = (2 * 598.7 - 632.6) / 2 kJ/mol
    table = make([("Li", 0.0), ("O", 0.0), ("Li2O", -598.7 / 96.48533 / 3), ("Li2O2", -632.6 / 96.48533 / 4)])
    window = stability_windows(HullGrid.static(table), np.array([2, 3]), ["Li", "Li"])
    assert window.oxidation_limit_V[0] == pytest.approx((2 * 598.7 - 632.6) / 2 / 96.48533, abs=1e-6)
    assert window.reduction_limit_V[1] == pytest.approx(window.oxidation_limit_V[0])


def test_windows_equal_pymatgen_for_stable_and_metastable_phases():
    table, diagram = make(LPSC), pymatgen_diagram(LPSC)
    rows = [i for i, (f, _) in enumerate(LPSC) if "Li" in f and f != "Li"]
    windows = stability_windows(HullGrid.static(table), np.array(rows), ["Li"] * len(rows))
    assert (windows.oxidation_limit_V >= windows.reduction_limit_V - 1e-9).all()
    width = windows.oxidation_limit_V - windows.reduction_limit_V
    assert width.max() > 1.0
    for place, row in enumerate(rows):
        profile = sorted(diagram.get_element_profile(Element("Li"), Composition(LPSC[row][0])), key=lambda p: -p["chempot"])
        reduction = next(-p["chempot"] for p in profile if p["evolution"] <= 1e-6)
        oxidation = next(-p["chempot"] for p in profile if p["evolution"] < -1e-6)
        assert windows.reduction_limit_V[place] == pytest.approx(reduction, abs=1e-3), LPSC[row]
        assert windows.oxidation_limit_V[place] == pytest.approx(oxidation, abs=1e-3), LPSC[row]
    lower, upper = windows.potentials_eV()
    assert lower == pytest.approx(-windows.reduction_limit_V) and upper == pytest.approx(-windows.oxidation_limit_V)


def test_without_the_ion_there_is_a_reduction_limit_only():
    table = make(LPSC)
    window = stability_windows(HullGrid.static(table), np.array([9, -1]), ["Li", "Li"])
    assert window.reduction_limit_V[0] > 0.5 and np.isnan(window.oxidation_limit_V[0]) and "no mobile ion" in window.reasons[0]
    assert np.isnan(window.reduction_limit_V[1]) and "not in the phase table" in window.reasons[1]


def test_divalent_ions_count_two_electrons():
    table = make([("Mg", 0.0), ("O", 0.0), ("MgO", -3.1)])
    window = stability_windows(HullGrid.static(table), np.array([2]), ["Mg"])
    assert window.oxidation_limit_V[0] == pytest.approx(6.2 / 2)  # MgO -> Mg + O at 6.2 eV per Mg
    assert window.potentials_eV()[1][0] == pytest.approx(-6.2)


@pytest.mark.parametrize("volt", [0.0, 0.3, 1.4, 2.0, 2.6, 4.5])
def test_grand_potential_equals_pymatgen(volt):
    table, entries = make(LPSC), [PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in LPSC]
    heights = grand_potential_above_hull(HullGrid.static(table), np.arange(len(LPSC)), {"Li": -volt})[:, 0]
    diagram = GrandPotentialPhaseDiagram(entries, {Element("Li"): -volt})
    compared = 0
    for entry in diagram.all_entries:
        row = next(i for i, e in enumerate(entries) if e is entry.original_entry)
        composition = Composition(LPSC[row][0])
        if set(composition.chemical_system_set) == {"Li"}:
            continue
        share = 1.0 - composition.get_atomic_fraction("Li")  # pymatgen counts per atom of the closed elements
        assert heights[row] == pytest.approx(diagram.get_e_above_hull(entry) * share, abs=1e-6), LPSC[row]
        compared += 1
    assert compared > 8


def test_driving_force_grows_beyond_the_window():
    table = make(LPSC)
    grid, row = HullGrid.static(table), np.array([5])  # Li2S
    limit = stability_windows(grid, row, ["Li"]).oxidation_limit_V[0]
    force = [grand_potential_above_hull(grid, row, {"Li": -v})[0, 0] for v in (limit - 0.2, limit + 0.1, limit + 0.4)]
    assert force[0] == pytest.approx(0.0, abs=1e-9) and 0 < force[1] < force[2]


def test_limits_are_read_back_and_a_damaged_file_is_computed_again(tmp_path, monkeypatch):
    grid, rows = HullGrid.static(make(LPSC)), np.array([4, 5, 8])
    first = stability_windows(grid, rows, ["Li"] * 3, str(tmp_path))
    (path,) = tmp_path.glob("windows-*.npz")
    solved = []
    whole = HullGrid.solve
    monkeypatch.setattr(HullGrid, "solve", lambda self, system, fractions: solved.append(1) or whole(self, system, fractions))
    assert stability_windows(grid, rows, ["Li"] * 3, str(tmp_path)).reduction_limit_V == pytest.approx(first.reduction_limit_V)
    assert not solved
    path.write_bytes(b"PK half a file")
    assert stability_windows(grid, rows, ["Li"] * 3, str(tmp_path)).oxidation_limit_V == pytest.approx(first.oxidation_limit_V)
    assert solved


def test_impossible_questions_are_refused():
    table = make(LPSC)
    grid = HullGrid.static(table)
    with pytest.raises(ConfigError, match="'Na'"):
        stability_windows(grid, np.array([5]), ["Na"])
    with pytest.raises(ConfigError, match="at most 0"):
        grand_potential_above_hull(grid, np.array([5]), {"Li": 0.1})
    with pytest.raises(ConfigError, match="one state point"):
        stability_windows(HullGrid.at(table, np.array([300.0, 400.0]), np.zeros(2)), np.array([5]), ["Li"])
