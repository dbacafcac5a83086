"""The window stage in a funnel: columns, reasons, keys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.thermo.hull import ReferenceHull, ReferencePhase
from sse_diffusion.verification.funnel import FunnelConfig, build_stages, run_funnel
from sse_diffusion.verification.potential import PotentialInfo
from sse_diffusion.verification.stage import BaseStage, FunnelContext, StageOutcome
from sse_diffusion.verification.stages.window import WindowStage

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.13), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


class Given(BaseStage):
    """Stands for the relaxation."""

    energy = -2.0

    def depends_on(self, members, context):
        return self.energy

    def evaluate(self, member, context):
        return StageOutcome(True, {"energy_eV_per_atom": self.energy})


class Engine:
    info = PotentialInfo("toy", "1", "MIT", "toy", "toy", frozenset(), "linear")


def context(folder, ion="Li"):
    rows = (("Li", 0.0), ("Cl2", 0.0), ("Na", 0.0), ("NaCl", -1.8))
    phases = [ReferencePhase(formula, energy, 20.0, "computed", "toy") for formula, energy in rows]
    loaders = {"potential_loader": Engine, "engine_id": "toy", "hull_loader": lambda: ReferenceHull(phases), "hull_id": "toy"}
    return FunnelContext(out_dir=folder, mobile_ion=ion, **loaders)


def run(folder, ion="Li", partners=("metal", "NaCl", "LCO")):
    stages = [Given("given"), *build_stages(FunnelConfig(order=("window",), stages={"window": {"partners": partners}}))]
    (member,) = run_funnel([Candidate("salt", ROCK_SALT, 225)], stages, context(folder, ion)).members
    return member


def test_columns_and_reasons(tmp_path):
    member = run(tmp_path)
    values = member.values
    assert member.alive and values["oxidation_limit_V"] == pytest.approx(4.0) and values["reduction_limit_V"] == 0.0
    assert values["oxidation_reaction"] == "LiCl -> 0.5 Cl2 + Li"
    assert values["stability"] == "stable, 2000 meV/atom below Li + 0.5 Cl2"
    assert values["reaction_metal"] == "none" and values["reaction_metal_eV_per_atom"] == 0.0
    assert values["reaction_NaCl"] == "none"
    assert "no reference energy for Co, O" in values["reaction_LCO"] and values["reaction_LCO_eV_per_atom"] is None
    assert "Co, O" in member.results["window"].reason


def test_the_answer_belongs_to_an_ion(tmp_path):
    lithium, sodium = run(tmp_path), run(tmp_path, ion="Na", partners=("metal",))
    assert sodium.results["window"].key != lithium.results["window"].key
    assert sodium.values["reaction_metal"] == "LiCl + Na -> Li + NaCl" or sodium.values["reaction_metal"] == "none"
    none = run(tmp_path, ion="none", partners=("metal",))
    assert none.alive and "no mobile ion" in none.results["window"].reason and "reaction_metal" not in none.values


def test_another_energy_has_another_window(tmp_path, monkeypatch):
    before = run(tmp_path, partners=("metal",)).values["oxidation_limit_V"]
    monkeypatch.setattr(Given, "energy", -2.2)
    assert run(tmp_path, partners=("metal",)).values["oxidation_limit_V"] == pytest.approx(before + 2 * 0.2)


def test_another_hull_or_engine_has_another_window(tmp_path):
    contexts = [replace(context(tmp_path), **change) for change in ({}, {"hull_id": "b"}, {"engine_id": "b"})]
    assert len({str(WindowStage("window").depends_on([], one)) for one in contexts}) == 3


def test_a_partner_that_is_no_formula_ends_the_run_before_it_starts():
    with pytest.raises(ConfigError, match="reaction partner"):
        build_stages(FunnelConfig(order=("window",), stages={"window": {"partners": ["metl"]}}))
