"""Reactions with electrodes: hand-made reaction energies, pymatgen's kinks against the linear program, refusals."""

from __future__ import annotations

import math

import pytest
from pymatgen.analysis.interface_reactions import InterfacialReactivity
from pymatgen.core import Composition

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Status
from sse_diffusion.verification.stability import interface
from sse_diffusion.verification.stability.interface import reaction_with
from sse_diffusion.verification.stability.partners import partner_composition


def test_thiophosphate_is_reduced_by_lithium(hull, subject):
    reaction = reaction_with(hull, subject("Li3PS4"), "metal")
    assert reaction.reacts and reaction.equation == "Li3PS4 + 8 Li -> 4 Li2S + Li3P"
    by_hand = (12 * -1.5 + 4 * -0.85 - 8 * -1.1) / 16
    assert reaction.energy.value == pytest.approx(by_hand) and reaction.crystal_fraction == pytest.approx(0.5)


@pytest.mark.parametrize("formula", ["LiCl", "Li2S", "Li2O"])
def test_salts_do_not_react_with_lithium(hull, subject, formula):
    reaction = reaction_with(hull, subject(formula), "metal")
    assert not reaction.reacts and reaction.energy.value == 0.0 and reaction.equation == "" and reaction.energy.ok


@pytest.mark.parametrize(("formation", "reacts"), [(-2.575, True), (-2.674, False), (-2.8, False)])
def test_small_gains_count_and_those_below_the_tables_precision_do_not(hull, subject, formation, reacts):
    """Li3PS4 + 8 Li -> 4 Li2S + Li3P gains -0.7875 eV/atom with the table's Li3PS4, half a formation energy less below it."""
    reaction = reaction_with(hull, subject("Li3PS4", formation), "metal")
    assert reaction.reacts is reacts
    assert reaction.energy.value == pytest.approx(-0.7875 - (formation + 1.1) / 2 if reacts else 0.0)


def test_own_decomposition_is_no_reaction(hull, subject):
    assert not reaction_with(hull, subject("LiCl", -1.9), "metal").reacts


@pytest.mark.parametrize("partner", ["metal", "LCO", "S", "CoO2"])
def test_the_linear_program_finds_what_pymatgen_finds(hull, subject, partner, monkeypatch):
    crystal = subject("Li3PS4")
    usual = reaction_with(hull, crystal, partner)
    other = partner_composition(partner)
    elements = crystal.elements | other.chemical_system_set
    kinks = InterfacialReactivity(
        crystal.composition, other, hull.phase_diagram(elements), norm=True, use_hull_energy=True
    ).get_kinks()
    assert usual.energy.value == pytest.approx(min(k[2] for k in kinks), abs=1e-8)
    monkeypatch.setattr(interface, "MAX_DIAGRAM_ELEMENTS", 0)
    program = reaction_with(hull, crystal, partner)
    assert program.energy.value == pytest.approx(usual.energy.value, abs=1e-8)
    assert program.equation == usual.equation


def test_a_crystal_more_stable_than_the_table_reacts_less(hull, subject):
    weak, strong = (reaction_with(hull, subject("Li3PS4", e), "metal").energy.value for e in (-1.1, -1.2))
    assert strong == pytest.approx(weak + 0.1 / 2)


def test_a_partner_that_is_no_phase_says_what_it_stands_for(hull, subject):
    reaction = reaction_with(hull, subject("Li3PS4"), "CoO2")
    assert "Co3O4" in reaction.energy.provenance["partner_energy_of"] and reaction.reacts


def test_missing_terminal_systems_give_a_reason(hull, subject):
    reaction = reaction_with(hull, subject("Li3PS4"), "NMC811")
    assert reaction.energy.status is Status.FAILED and "Mn, Ni" in reaction.energy.reason and not reaction.reacts
    assert math.isnan(reaction.crystal_fraction)


@pytest.mark.parametrize("name", ["LC0", "Xx2", "", "metall"])
def test_unknown_partners_are_refused(name):
    with pytest.raises(ConfigError, match="reaction partner"):
        partner_composition(name)


def test_named_cathodes_are_what_they_say():
    assert partner_composition("NMC811") == Composition("Li10Ni8MnCoO20")
    assert partner_composition("metal", "Na").reduced_formula == "Na"
