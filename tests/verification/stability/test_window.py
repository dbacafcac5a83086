"""Windows of crystals with their own energy: closed forms, agreement with pymatgen, half reactions, refusals."""

from __future__ import annotations

import math

import pytest
from pymatgen.core import Composition, Element

from sse_diffusion.core.results import Status
from sse_diffusion.thermo.hull import EnergySchemeError, ReferenceHull, ReferencePhase
from sse_diffusion.verification.stability.products import decomposition_words
from sse_diffusion.verification.stability.subject import Subject
from sse_diffusion.verification.stability.window import electrochemical_window


def test_a_salt_oxidises_to_its_halogen_at_its_formation_energy(hull, subject):
    window = electrochemical_window(hull, subject("LiCl"), "Li")
    assert window.oxidation.value == pytest.approx(2 * 2.1) and window.reduction.value == 0.0
    assert window.oxidation_reaction == "LiCl -> 0.5 Cl2 + Li" and "Li metal is deposited" in window.reduction_reaction


def test_limits_are_those_of_pymatgen_and_carry_the_estimated_phase(hull, subject):
    window = electrochemical_window(hull, subject("Li3PS4"), "Li")
    diagram = hull.phase_diagram(["Li", "P", "S"])
    profile = sorted(diagram.get_element_profile(Element("Li"), Composition("Li3PS4")), key=lambda p: -p["chempot"])
    reference = diagram.el_refs[Element("Li")].energy_per_atom
    reduction = next(reference - p["chempot"] for p in profile if p["evolution"] <= 1e-6)
    oxidation = next(reference - p["chempot"] for p in profile if p["evolution"] < -1e-6)
    assert window.reduction.value == pytest.approx(reduction, abs=1e-4)
    assert window.oxidation.value == pytest.approx(oxidation, abs=1e-4)
    # Li3PS4 -> 1.5 S + 0.5 P2S5 + 3 Li: 3.5 of 7 atoms per 3 ions are the estimate's
    assert window.oxidation_reaction == "Li3PS4 -> 1.5 S + 0.5 P2S5 (estimated) + 3 Li"
    assert window.oxidation.uncertainty == pytest.approx(3.5 / 3 * 0.02, rel=1e-3)
    assert window.oxidation.provenance["estimated_phases"] == ["P2S5"] and window.reduction.uncertainty == 0.0


def test_above_the_hull_the_window_is_that_of_the_products_and_below_it_is_wider(hull, subject):
    stable, poor = (electrochemical_window(hull, subject("Li3PS4", e), "Li") for e in (-1.1, -1.0))
    assert poor.oxidation.value == pytest.approx(stable.oxidation.value)
    better = electrochemical_window(hull, subject("Li3PS4", -1.2), "Li")
    assert better.oxidation.value > stable.oxidation.value + 0.1 and better.reduction.value < stable.reduction.value - 0.1


def test_without_an_answer_there_is_a_reason(hull, subject):
    sodium = electrochemical_window(hull, subject("LiCl"), "Na")
    assert sodium.reduction.status is Status.FAILED and "no reference energy for Na" in sodium.reduction.reason
    none = electrochemical_window(hull, subject("P2S5"), "none")
    assert math.isnan(none.oxidation.value) and "no mobile ion" in none.oxidation.reason
    empty = electrochemical_window(hull, subject("P2S5"), "Li")
    assert empty.reduction.ok and "no oxidation limit" in empty.oxidation.reason
    with pytest.raises(EnergySchemeError):
        electrochemical_window(hull, Subject("LiCl", -3.0, "other"), "Li")


def test_a_limit_that_no_phase_bounds_is_not_believed():
    rows = [ReferencePhase(f, e, 15.0, "computed", "toy") for f, e in (("Li", 0.0), ("Cl2", 0.0), ("LiCl", -5.0))]
    window = electrochemical_window(ReferenceHull(rows), Subject("LiCl", -5.0, "toy"), "Li")
    assert "a phase is missing" in window.oxidation.reason


def test_error_of_a_limit_is_per_charge():
    """MgCl2 -> Cl2 + Mg: two atoms of chlorine, 0.02 eV each, for two charges."""
    rows = [("Mg", 0.0, 0.0), ("Cl2", 0.0, 0.02), ("MgCl2", -2.0, 0.0)]
    phases = [ReferencePhase(f, e, 15.0, "estimated" if sd else "computed", "toy", True, f, sd) for f, e, sd in rows]
    window = electrochemical_window(ReferenceHull(phases), Subject("MgCl2", -2.0, "toy"), "Mg")
    assert window.oxidation.value == pytest.approx(3 * 2.0 / 2) and window.oxidation.uncertainty == pytest.approx(0.02, rel=1e-3)


def test_decomposition_in_words(hull, subject):
    assert decomposition_words(hull, subject("LiCl")) == "on the hull, at the energy of LiCl"
    assert decomposition_words(hull, subject("LiCl", -2.0)) == "turns into another LiCl, 100 meV/atom"
    better = decomposition_words(hull, subject("LiCl", -2.15))
    assert better == "stable, 50 meV/atom below LiCl"
    argyrodite = subject("Li6PS5Cl", (8 * -1.1 + 3 * -1.5 + 2 * -2.1) / 13 + 0.012)
    assert decomposition_words(hull, argyrodite) == "decomposes to Li2S + Li3PS4 + LiCl, 12 meV/atom"
    assert decomposition_words(hull, Subject("NaCl", -3.0, "toy")).startswith("unknown: no reference energy for Na")
