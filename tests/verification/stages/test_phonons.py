"""The phonon stage with a toy force field (effective-medium theory)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.thermo.gibbs import formation_gibbs_eV_per_atom
from sse_diffusion.verification.phonons import PhononConfig, phonons
from sse_diffusion.verification.potential import load_potential
from sse_diffusion.verification.stage import FunnelContext, Member, StageOutcome
from sse_diffusion.verification.stages.phonons import PhononStage, PhononStageConfig, beyond_descriptor

pytest.importorskip("phonopy")

EMT = {"name": "ase", "calculator": "ase.calculators.emt:EMT"}
QUICK: dict[str, Any] = {"min_length_A": 7.0, "mesh_length_A": 20.0, "fmax_eV_per_A": 0.02}


def at(pressure_GPa: float, out: Path) -> FunnelContext:
    loader = {"potential_loader": lambda: load_potential(EMT), "engine_id": "emt"}
    return FunnelContext(out_dir=out, temperature_K=600.0, pressure_GPa=pressure_GPa, **loader)  # type: ignore[arg-type]


def run(structure: Structure, out: Path, pressure_GPa: float = 0.0) -> StageOutcome:
    context = at(pressure_GPa, out)
    stage, member = PhononStage("phonons", PhononStageConfig(protocol=QUICK)), Member(Candidate("a", structure), structure)
    stage.prepare([member], [member], context)
    return stage.evaluate(member, context)


def test_fcc_copper_is_dynamically_stable_and_bcc_copper_is_not(tmp_path: Path) -> None:
    good = run(AseAtomsAdaptor.get_structure(bulk("Cu")), tmp_path)
    assert good.passed and good.values["phonon_stable"] is True and math.isfinite(good.values["phonon_lowest_THz"])
    assert good.values["phonon_minus_descriptor_eV_per_atom"] is None, "elements have no descriptor"
    bad = run(AseAtomsAdaptor.get_structure(bulk("Cu", "bcc", a=2.87)), tmp_path)
    assert not bad.passed and "imaginary" in bad.reason and bad.values["phonon_lowest_THz"] < -0.3


def test_the_column_is_what_phonons_change_in_the_gibbs_energy(tmp_path: Path) -> None:
    alloy = Structure(Lattice.cubic(3.75), ["Au", "Cu", "Cu", "Cu"], [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    outcome = run(alloy, tmp_path)
    found = phonons(alloy, load_potential(EMT), PhononConfig(**QUICK))
    assert found.structure is not None and found.modes is not None
    at = (found.structure.composition, -0.05, found.structure.volume / 4, 600.0)
    difference = formation_gibbs_eV_per_atom(*at, vibrations=found.modes) - formation_gibbs_eV_per_atom(*at)
    assert outcome.values["phonon_minus_descriptor_eV_per_atom"] == pytest.approx(difference, abs=1e-6)
    assert beyond_descriptor(found, 200.0) is None, "nor has what is colder than it was fitted to"
    assert outcome.values["vibrational_free_energy_eV_per_atom"] < -0.1  # classical at 600 K: well below zero


def test_phonons_are_those_at_the_pressure_asked_for(tmp_path: Path) -> None:
    copper = AseAtomsAdaptor.get_structure(bulk("Cu"))
    free, pressed = (run(copper, tmp_path, p).values["vibrational_free_energy_eV_per_atom"] for p in (0.0, 10.0))
    assert pressed > free + 0.01  # stiffer
    stage = PhononStage("phonons")
    assert stage.depends_on([], at(0.0, tmp_path)) != stage.depends_on([], at(10.0, tmp_path))
    hotter = at(0.0, tmp_path)
    hotter.temperature_K = 700.0
    assert stage.depends_on([], at(0.0, tmp_path)) != stage.depends_on([], hotter)
