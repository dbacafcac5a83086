"""Stages that cost a second look: mechanics and two-engine disagreement."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.io.ase import AseAtomsAdaptor

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.verification.potential import Evaluation, EvaluationError, PotentialInfo, load_potential
from sse_diffusion.verification.stage import FunnelContext, Member
from sse_diffusion.verification.stages.disagreement import DisagreementConfig, DisagreementStage, disagreement
from sse_diffusion.verification.stages.mechanics import MechanicsStage

EMT = {"name": "ase", "calculator": "ase.calculators.emt:EMT"}
LJ = {"name": "ase", "calculator": "ase.calculators.lj:LennardJones", "kwargs": {"rc": 6.0, "sigma": 2.3, "epsilon": 0.3}}


def run(stage, structure, tmp_path, **state):
    context = FunnelContext(out_dir=tmp_path, potential_loader=lambda: load_potential(EMT), engine_id="emt", **state)
    member = Member(Candidate(id="a", structure=structure), structure)
    stage.prepare([member], [member], context)
    return stage.evaluate(member, context)


def test_mechanics_stage(tmp_path):
    good = run(MechanicsStage("mechanics"), AseAtomsAdaptor.get_structure(bulk("Cu")), tmp_path)
    assert good.passed and good.values["born_stable"] and 100 < good.values["bulk_modulus_GPa"] < 200
    bad = run(MechanicsStage("mechanics"), AseAtomsAdaptor.get_structure(bulk("Cu", "bcc", a=2.87)), tmp_path)
    assert not bad.passed and "Born-unstable" in bad.reason
    pressed = run(MechanicsStage("mechanics"), AseAtomsAdaptor.get_structure(bulk("Cu")), tmp_path, pressure_GPa=10.0)
    assert pressed.values["bulk_modulus_GPa"] > good.values["bulk_modulus_GPa"] + 20, "dK/dP of a metal is about 5"


def test_another_ion_is_another_result(tmp_path):
    """Dendrite criteria are of lithium; the crystal's own ion wins over the run's."""
    copper, context = AseAtomsAdaptor.get_structure(bulk("Cu")), FunnelContext(out_dir=tmp_path)
    members = [Member(Candidate(id="a", structure=copper, info={"mobile_ion": ion}), copper) for ion in ("Li", "Na")]
    keys = [MechanicsStage("mechanics").depends_on_member(member, context) for member in members]
    assert keys[0] != keys[1]


def test_an_engine_agrees_with_itself_and_not_with_another():
    copper = AseAtomsAdaptor.get_structure(bulk("Cu"))
    emt, other = load_potential(EMT), load_potential(LJ)
    assert disagreement(copper.make_supercell(2, in_place=False), emt, emt)["force_rms"].value < 1e-9
    assert disagreement(copper.make_supercell(2, in_place=False), emt, other)["force_rms"].value > 0.01


class Springs:
    """k/2 u^2 about the sites of a crystal, on an energy scale of its own."""

    def __init__(self, sites, k, zero=0.0):
        self.sites, self.k, self.zero = sites, k, zero
        self.info = PotentialInfo(f"springs {k}", "1", "MIT", "toy", "toy", frozenset(), "constant")

    def evaluate(self, atoms):
        away = [a.positions - self.sites for a in atoms]
        return [Evaluation(float(self.k / 2 * (u**2).sum() + self.zero * len(u)), -self.k * u, np.zeros((3, 3))) for u in away]


def test_disagreement_of_two_springs_in_closed_form():
    """Displacements of 0.1 A: forces differ by 2 eV/A^2 * 0.1 A, energies by 3 * 0.01 eV per atom; zeros do not count."""
    copper = AseAtomsAdaptor.get_structure(bulk("Cu", cubic=True).repeat(3))
    weak, strong = Springs(copper.cart_coords, 2.0), Springs(copper.cart_coords, 4.0, zero=-3.0)
    found = disagreement(copper, weak, strong, rattle_A=0.1, n_rattled=4)
    assert found["force_rms"].value == pytest.approx(0.2, rel=0.05)
    assert found["energy_rms"].value == pytest.approx(0.03, rel=0.1)


def test_a_second_engine_that_refuses_is_a_reason(tmp_path):
    class Refuses(Springs):
        def evaluate(self, atoms):
            raise EvaluationError("copper is unknown here")

    copper = AseAtomsAdaptor.get_structure(bulk("Cu"))
    stage = DisagreementStage("disagreement", DisagreementConfig(second_engine=LJ, max_force_rms_eV_per_A=1.0))
    context = FunnelContext(out_dir=tmp_path, potential_loader=lambda: load_potential(EMT), engine_id="emt")
    member = Member(Candidate(id="a", structure=copper), copper)
    stage.prepare([member], [member], context)
    stage._second = Refuses(copper.cart_coords, 1.0)
    outcome = stage.evaluate(member, context)
    assert not outcome.passed and outcome.reason == "copper is unknown here"


def test_disagreement_stage_stops_above_its_limit(tmp_path):
    copper = AseAtomsAdaptor.get_structure(bulk("Cu").repeat(2))
    config = DisagreementConfig(second_engine=LJ, max_force_rms_eV_per_A=1e-6)
    outcome = run(DisagreementStage("disagreement", config), copper, tmp_path)
    assert not outcome.passed and "differ" in outcome.reason
    assert outcome.values["disagreement_force_eV_per_A"] == pytest.approx(
        disagreement(copper, load_potential(EMT), load_potential(LJ))["force_rms"].value
    )
