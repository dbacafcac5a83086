"""Weights of distinct structures are what the formula says, whatever the proposal's frequencies; files resume; errors explain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Status
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K
from sse_diffusion.design import tilt_relaxations
from sse_diffusion.design.tilt_relaxations import kinds
from sse_diffusion.design.tilted_population import TiltConfig, tilted_population
from sse_diffusion.testing.potential import PotentialConformance
from sse_diffusion.testing.rigid_ions import CESIUM_CHLORIDE, ROCK_SALT, RigidIons
from sse_diffusion.thermo.gibbs import g_delta_eV_per_atom, reduced_mass_amu
from sse_diffusion.verification.relax import RelaxConfig

ROUGH = RelaxConfig(fmax_eV_per_A=0.1, max_steps=60)


def rock_salt(a: float, elements: tuple[str, str] = ("K", "Cl")) -> Structure:
    return AseAtomsAdaptor.get_structure(bulk("".join(elements), "rocksalt", a=a))


def cesium_chloride(a: float) -> Structure:
    return Structure(Lattice.cubic(a), ["K", "Cl"], [[0, 0, 0], [0.5] * 3])


def proposals(*structures: Structure) -> list[Candidate]:
    return [Candidate(f"c-{i:02d}", s) for i, s in enumerate(structures)]


@pytest.fixture(scope="module")
def ions() -> RigidIons:
    return RigidIons()


@pytest.fixture(scope="module")
def mixed() -> list[Candidate]:
    """Five rock salts, one of them a supercell, and one CsCl."""
    large = rock_salt(6.25)
    large.make_supercell([2, 1, 1])
    return proposals(rock_salt(6.2), cesium_chloride(3.7), rock_salt(6.3), large, rock_salt(6.35), rock_salt(6.28))


class TestRigidIons(PotentialConformance):
    """The model crystal keeps the contract of engines."""

    def make_potential(self) -> RigidIons:
        return RigidIons()

    def make_atoms(self):
        atoms = bulk("KCl", "rocksalt", a=6.2).repeat((1, 1, 2))
        atoms.rattle(0.08, seed=3)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * np.triu(np.ones((3, 3)))), scale_atoms=True)
        return atoms


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_weights_are_boltzmann_times_a_power_of_the_frequency(ions, mixed, power):
    config = TiltConfig(atoms=1.0, proposal_power=power, strength=0.5, relax=ROUGH)
    population = tilted_population(mixed, ions, 600.0, 1.0, config, progress=False)
    salt, cesium = population.members
    assert (salt.space_group, cesium.space_group) == (225, 221)
    assert (len(salt.candidates), cesium.candidates) == (5, ("c-01",))
    gap = cesium.potential.value - salt.potential.value
    expected = 5.0**power * math.exp(0.5 * gap / (BOLTZMANN_eV_PER_K * 600.0))
    assert salt.weight / cesium.weight == pytest.approx(expected, rel=1e-9)
    assert salt.weight + cesium.weight == pytest.approx(1.0)
    # Kong's size of six candidates, five of which share the weight of rock salt
    assert population.effective_sample_size == pytest.approx(1.0 / (salt.weight**2 / 5 + cesium.weight**2))
    assert population.status is Status.OK and population.by_space_group() == {225: salt.weight, 221: cesium.weight}


def test_enthalpy_holds_the_work_and_matches_the_lattice_sums(ions, mixed):
    population = tilted_population(mixed, ions, 300.0, 4.0, TiltConfig(relax=ROUGH), progress=False)
    for member in population.members:
        lattice = {225: ROCK_SALT, 221: CESIUM_CHLORIDE}[member.space_group]
        assert member.enthalpy.value == pytest.approx(ions.enthalpy_eV(lattice, 4.0) / 2, abs=1e-3)
    assert population.members[0].space_group == 221


def test_domain_size_and_temperature_sharpen_and_blur(ions, mixed):
    share = [
        tilted_population(mixed, ions, kelvin, 1.0, TiltConfig(atoms=atoms, relax=ROUGH), progress=False).members[0].weight
        for atoms, kelvin in ((1.0, 3000.0), (1.0, 300.0), (40.0, 300.0))
    ]
    assert 0.5 < share[0] < share[1] < share[2] and share[2] > 0.999


def test_chemical_potentials_decide_between_compositions():
    ions = RigidIons({"K": 1.0, "Na": 1.0, "Cl": -1.0})
    pair = proposals(rock_salt(6.28), rock_salt(6.28, ("Na", "Cl")))  # equal energies: only mu tells them apart
    with pytest.raises(ConfigError, match="different compositions"):
        tilted_population(pair, ions, progress=False)
    config = TiltConfig(atoms=2.0, chemical_potentials_eV={"K": 0.01, "Na": 0.0, "Cl": 0.0}, relax=ROUGH)
    first, second = tilted_population(pair, ions, 300.0, 0.0, config, progress=False).members
    assert "K" in first.structure.composition
    assert first.weight / second.weight == pytest.approx(math.exp(0.01 / (BOLTZMANN_eV_PER_K * 300.0)), rel=1e-3)


def test_vibrations_add_the_descriptor(ions, mixed):
    config = TiltConfig(vibrations="descriptor", relax=ROUGH)
    for member in tilted_population(mixed, ions, 900.0, 1.0, config, progress=False).members:
        delta = g_delta_eV_per_atom(member.volume_A3_per_atom, reduced_mass_amu(member.structure.composition), 900.0)
        assert member.potential.value - member.enthalpy.value == pytest.approx(delta)
    with pytest.raises(ConfigError, match="300 to 2000 K"):
        tilted_population(mixed, ions, 100.0, 1.0, config, progress=False)


def test_resampling_draws_each_structure_as_often_as_it_weighs(ions, mixed):
    population = tilted_population(mixed, ions, 1000.0, 2.0, TiltConfig(atoms=1.0, relax=ROUGH), progress=False)
    drawn = population.resample(40, seed=3)
    assert len({c.id for c in drawn}) == 40
    for member in population.members:
        count = sum(c.info["parents"] == list(member.candidates) for c in drawn)
        assert abs(count - 40 * member.weight) < 1
    assert [c.id for c in population.resample(40, seed=3)] == [c.id for c in drawn]


def test_what_cannot_be_relaxed_is_named_and_weighs_nothing(ions, mixed):
    broken = Candidate("broken", Structure(Lattice.cubic(1.5), ["K", "Cl"], [[0, 0, 0], [0.5] * 3]))
    population = tilted_population([broken, *mixed], ions, config=TiltConfig(relax=ROUGH), progress=False)
    assert population.status is Status.UNCONVERGED and "1 of 7" in population.reason
    assert "collapsed" in population.left_out["broken"]
    assert all("broken" not in m.candidates for m in population.members)
    alone = tilted_population([broken], ions, progress=False)
    assert alone.status is Status.FAILED and not alone.members and alone.effective_sample_size == 0
    with pytest.raises(ConfigError, match="cannot be drawn"):
        alone.resample(3)


def test_an_interrupted_call_goes_on_from_its_relaxations(ions, mixed, tmp_path, monkeypatch):
    config, done = TiltConfig(relax=ROUGH), []
    real = tilt_relaxations.relax

    def counted(*args):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(args)
        return real(*args)

    monkeypatch.setattr(tilt_relaxations, "relax", counted)
    with pytest.raises(KeyboardInterrupt):
        tilted_population(mixed, ions, 300.0, 1.0, config, tmp_path, progress=False)
    done.clear()
    resumed = tilted_population(mixed, ions, 300.0, 1.0, config, tmp_path, progress=False)
    assert len(done) == 1  # two kinds, one of which was finished before
    monkeypatch.setattr(tilt_relaxations, "relax", real)
    fresh = tilted_population(mixed, ions, 300.0, 1.0, config, progress=False)
    assert [m.weight for m in resumed.members] == pytest.approx([m.weight for m in fresh.members], rel=1e-9)
    assert len(list(tmp_path.glob("*.json"))) == 2
    tilted_population(mixed, ions, 300.0, 2.0, config, tmp_path, progress=False)  # another pressure is another relaxation
    assert len(list(tmp_path.glob("*.json"))) == 4


def test_kinds_tell_polymorphs_apart_at_any_volume():
    structures = [rock_salt(6.2), cesium_chloride(3.1), rock_salt(7.5), cesium_chloride(3.9)]
    assert kinds(structures) == [[0, 2], [1, 3]]
    assert kinds(structures, lambda i, j: False) == [[0], [1], [2], [3]]


@pytest.mark.parametrize("values", [{"atoms": 0}, {"strength": -1}, {"vibrations": "phonons"}, {"relax": {"cell": "fixed"}}])
def test_config_refuses_nonsense(values):
    with pytest.raises(ConfigError):
        build(TiltConfig, values)


def test_bad_state_points_and_empty_lists_are_refused(ions, mixed):
    with pytest.raises(ConfigError, match="no candidates"):
        tilted_population([], ions)
    with pytest.raises(ConfigError, match="0 K"):
        tilted_population(mixed, ions, 0.0)
