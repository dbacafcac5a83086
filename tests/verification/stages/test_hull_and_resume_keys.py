"""The hull stage's limit, and what makes a stored result another question's."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.thermo.hull import ReferenceHull, ReferencePhase
from sse_diffusion.verification.potential import PotentialInfo
from sse_diffusion.verification.stage import FunnelContext, Member
from sse_diffusion.verification.stages.energies import HullStage, HullStageConfig, RelaxStage
from sse_diffusion.verification.stages.screens import UniqueStage

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


def test_who_is_first_among_equals_depends_on_all_crystals(tmp_path):
    stage, here = UniqueStage("unique"), context(tmp_path)
    alone, others = [member()], [member(a=5.3), member()]
    assert stage.depends_on(alone, here) != stage.depends_on(others, here)
