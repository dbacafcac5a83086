"""The hull stage's limit, and what makes a stored result another question's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.thermo.chemistry import Chemistry
from sse_diffusion.thermo.hull import ReferenceHull, ReferencePhase
from sse_diffusion.verification.potential import PotentialInfo, load_potential
from sse_diffusion.verification.stage import FunnelContext, Member
from sse_diffusion.verification.stages.dynamics import MDGateStage, TransportStage
from sse_diffusion.verification.stages.energies import HullStage, HullStageConfig, RelaxStage, RelaxStageConfig
from sse_diffusion.verification.stages.mechanics import MechanicsStage
from sse_diffusion.verification.stages.screens import ConstraintsStage, NovelStage, UniqueStage

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.13), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


class Engine:
    info = PotentialInfo("toy", "1", "MIT", "toy", "toy", frozenset(), "linear")


def context(folder, **state):
    phases = [ReferencePhase(f, e, 20.0, "computed", "toy") for f, e in (("Li", 0.0), ("Cl2", 0.0), ("LiCl", -2.0))]
    loaders = {"potential_loader": Engine, "engine_id": "toy", "hull_loader": lambda: ReferenceHull(phases), "hull_id": "toy"}
    return FunnelContext(out_dir=folder, **loaders, **state)


def member(energy=-2.0, a=5.13):
    crystal = SALT.copy()
    crystal.scale_lattice(a**3)
    return Member(Candidate("salt", crystal), crystal, values={"energy_eV_per_atom": energy})


@pytest.mark.parametrize(("energy", "passes"), [(-1.97, True), (-1.9, False)])
def test_what_lies_above_the_limit_stops(tmp_path, energy, passes):
    stage = HullStage("hull", HullStageConfig(max_e_above_hull_eV_per_atom=0.05))
    outcome = stage.evaluate(member(energy), context(tmp_path))
    assert outcome.passed is passes and outcome.values["e_above_hull_eV_per_atom"] == pytest.approx(energy + 2.0)


def test_another_state_point_is_another_result(tmp_path):
    states = [context(tmp_path, temperature_K=t, pressure_GPa=p) for t, p in ((300.0, 0.0), (600.0, 0.0), (300.0, 5.0))]
    assert len({str(HullStage("hull").depends_on([], state)) for state in states}) == 3
    assert len({str(RelaxStage("relax").depends_on([], state)) for state in states}) == 2, "static: the pressure alone"
    moduli = [MechanicsStage("mechanics").depends_on([], replace(states[0], **c)) for c in ({}, {"engine_id": "b"})]
    assert len({str(key) for key in (*moduli, MechanicsStage("mechanics").depends_on([], states[2]))}) == 3


def test_who_is_first_among_equals_depends_on_all_crystals(tmp_path):
    stage, here = UniqueStage("unique"), context(tmp_path)
    alone, others = [member()], [member(a=5.3), member()]
    assert stage.depends_on(alone, here) != stage.depends_on(others, here)


def test_other_constraints_are_another_result(tmp_path):
    groups = [frozenset(numbers) for numbers in ((1, 9), (9, 1))]
    assert str(groups[0]) != str(groups[1]) and groups[0] == groups[1], "equal sets may be written in another order"
    asked = [None, Chemistry(require=frozenset({"Li"})), *(Chemistry(space_group=numbers) for numbers in groups)]
    keys = [str(ConstraintsStage("constraints").depends_on([], context(tmp_path, chemistry=one))) for one in asked]
    assert keys[2] == keys[3] and len(set(keys)) == 3


def test_another_reference_set_is_another_novelty(tmp_path):
    sets = [context(tmp_path, reference=object(), reference_id=name) for name in ("a", "b")]
    assert len({str(NovelStage("novel").depends_on([], one)) for one in [context(tmp_path), *sets]}) == 3


@pytest.mark.parametrize("stage", [MDGateStage("md_gate"), TransportStage("transport")])
def test_another_ion_is_another_run(tmp_path, stage):
    lithium, chlorine = member(), member()
    chlorine.candidate.info["mobile_ion"] = "Cl"
    here = context(tmp_path, mobile_ion="Li")
    assert stage.depends_on_member(lithium, here) != stage.depends_on_member(chlorine, here)


@pytest.mark.parametrize("asked", [True, False])
def test_crystals_are_relaxed_under_the_pressure_asked_for(tmp_path, asked):
    copper = AseAtomsAdaptor.get_structure(bulk("Cu", a=3.6))
    emt = load_potential({"name": "ase", "calculator": "ase.calculators.emt:EMT"})
    volumes = []
    for pressure in (0.0, 20.0):
        here = context(tmp_path, pressure_GPa=pressure)
        here.potential_loader = lambda: emt
        stage = RelaxStage("relax", RelaxStageConfig(at_request_pressure=asked))
        stage.prepare([], [], here)
        outcome = stage.evaluate(Member(Candidate("copper", copper), copper), here)
        volumes.append(outcome.structure.volume)
        assert outcome.values["volume_relaxed_A3_per_atom"] == pytest.approx(volumes[-1]), "later stages work on this crystal"
    assert (volumes[1] < 0.95 * volumes[0]) == asked
