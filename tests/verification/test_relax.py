"""Relaxation: physics, caps, reasons."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.io.ase import AseAtomsAdaptor

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Status
from sse_diffusion.core.units import eV_PER_A3_PER_GPa
from sse_diffusion.verification.engines.adapter import PotentialCalculator
from sse_diffusion.verification.engines.known_answer import salt
from sse_diffusion.verification.potential import Evaluation, EvaluationError, PotentialInfo, load_potential
from sse_diffusion.verification.relax import RelaxConfig, relax, relax_together


@pytest.fixture(scope="module")
def emt():
    return load_potential({"name": "ase", "calculator": "ase.calculators.emt:EMT"})


@pytest.fixture(scope="module")
def chgnet():
    return load_potential({"name": "chgnet"})


def copper(a=3.9):
    atoms = bulk("Cu", a=a, cubic=True)
    atoms.rattle(0.05, seed=0)
    return AseAtomsAdaptor.get_structure(atoms)


def test_copper_relaxes_to_its_minimum(emt):
    result = relax(copper(), emt, RelaxConfig(fmax_eV_per_A=0.005))
    assert result.converged and result.energy_eV_per_atom.reason == ""
    assert (4 * result.volume_A3_per_atom) ** (1 / 3) == pytest.approx(3.588, abs=0.01)  # EMT's lattice constant
    assert result.fmax_eV_per_A <= 0.005 and result.steps > 0
    assert result.structure.composition == copper().composition


def test_pressure_shrinks_the_cell_by_the_bulk_modulus(emt):
    free = relax(copper(3.6), emt, RelaxConfig(fmax_eV_per_A=0.002))
    squeezed = relax(copper(3.6), emt, RelaxConfig(fmax_eV_per_A=0.002, pressure_GPa=2.0))
    # The relaxed stress balances the pressure: sigma = -P on the diagonal (ASE's sign: compression is negative).
    stress = emt.evaluate([AseAtomsAdaptor.get_atoms(squeezed.structure)])[0].stress_eV_per_A3
    assert np.allclose(np.diag(stress), -2.0 * eV_PER_A3_PER_GPa, atol=5e-4)
    assert squeezed.volume_A3_per_atom < free.volume_A3_per_atom


def test_fixed_cell_keeps_the_cell(emt):
    result = relax(copper(), emt, RelaxConfig(cell="fixed"))
    assert np.allclose(result.structure.lattice.matrix, copper().lattice.matrix)
    assert result.energy_eV_per_atom.value > relax(copper(), emt).energy_eV_per_atom.value


def test_caps_say_why(emt):
    steps = relax(copper(), emt, RelaxConfig(max_steps=2, fmax_eV_per_A=1e-6))
    assert steps.energy_eV_per_atom.status is Status.UNCONVERGED and "2 steps" in steps.energy_eV_per_atom.reason
    seconds = relax(copper(), emt, RelaxConfig(max_seconds=1e-9, fmax_eV_per_A=1e-6))
    assert seconds.energy_eV_per_atom.status is Status.UNCONVERGED and "s spent" in seconds.energy_eV_per_atom.reason


def test_bad_structure_fails_with_a_reason(chgnet):
    collapsed = AseAtomsAdaptor.get_structure(bulk("LiF", "rocksalt", a=1.2))
    result = relax(collapsed, chgnet)
    assert result.energy_eV_per_atom.status is Status.FAILED and "collapsed" in result.energy_eV_per_atom.reason
    assert result.structure == collapsed
    assert result.to_dict()["energy_eV_per_atom"]["value"] is None


def test_lif_with_chgnet_agrees_with_the_reference_protocol(chgnet):
    result = relax(AseAtomsAdaptor.get_structure(salt("LiF")), chgnet, RelaxConfig(max_steps=150))
    assert result.converged
    assert result.energy_eV_per_atom.value == pytest.approx(-5.0503, abs=5e-4)
    assert result.volume_A3_per_atom == pytest.approx(8.51, abs=0.1)


def test_config_refuses_nonsense():
    for values in ({"cell": "loose"}, {"fmax_eV_per_A": 0.0}, {"max_steps": -1}):
        with pytest.raises(ConfigError):
            RelaxConfig(**values)


def test_symmetry_is_kept_on_request(emt):
    from ase.spacegroup.symmetrize import check_symmetry

    # Tetragonally strained copper: 0.02 A of noise is within a loose tolerance, and then cannot grow.
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.set_cell(atoms.cell.array @ np.diag([1, 1, 1.03]), scale_atoms=True)
    structure = AseAtomsAdaptor.get_structure(atoms)
    kept = relax(structure, emt, RelaxConfig(keep_symmetry=True, fmax_eV_per_A=0.01))
    assert kept.converged and "symmetry kept" in kept.energy_eV_per_atom.provenance["protocol"]
    number = check_symmetry(AseAtomsAdaptor.get_atoms(kept.structure), 1e-4).number
    assert number in (139, 225) and kept.structure.lattice.a == pytest.approx(kept.structure.lattice.b, abs=1e-9)
    with pytest.raises(ConfigError, match="symprec"):
        RelaxConfig(symprec_A=0.0)


class Counted:
    """An engine that remembers how many structures it was asked about in each call."""

    def __init__(self, engine):
        self.engine, self.info, self.calls = engine, engine.info, []

    def evaluate(self, atoms):
        self.calls.append(len(atoms))
        return self.engine.evaluate(atoms)

    def calculator(self):
        raise AssertionError("in company the engine is asked for all at once")


def test_in_company_each_walks_its_own_path(emt):
    structures = [copper(a) for a in (3.5, 3.6, 3.7, 3.8, 3.9)]
    config = RelaxConfig(fmax_eV_per_A=0.01)
    alone = [relax(structure, emt, config) for structure in structures]
    engine = Counted(emt)
    found = dict(relax_together(iter(structures), engine, config, together=3))
    assert sorted(found) == [0, 1, 2, 3, 4]
    for i, one in enumerate(alone):
        assert found[i].energy_eV_per_atom.value == one.energy_eV_per_atom.value and found[i].steps == one.steps
        assert np.array_equal(found[i].structure.frac_coords, one.structure.frac_coords)
    # Every state is evaluated once, three at a time until the last ones are alone: the places are filled again.
    assert sum(engine.calls) == sum(one.steps + 1 for one in alone)
    assert engine.calls[0] == 3 and engine.calls == sorted(engine.calls, reverse=True)


def test_structures_in_company_are_taken_when_there_is_a_place(emt):
    taken = []

    def source():
        for a in (3.5, 3.6, 3.7, 3.8):
            taken.append(a)
            yield copper(a)

    ended = 0
    for _ in relax_together(source(), emt, RelaxConfig(fmax_eV_per_A=0.05), together=2):
        ended += 1
        assert len(taken) <= ended + 2
    assert ended == 4


def test_a_bad_structure_fails_alone_in_company(chgnet):
    collapsed = AseAtomsAdaptor.get_structure(bulk("LiF", "rocksalt", a=1.2))
    good = AseAtomsAdaptor.get_structure(salt("LiF"))
    found = dict(relax_together([good, collapsed, good], chgnet, RelaxConfig(max_steps=5), together=3))
    assert found[1].energy_eV_per_atom.status is Status.FAILED and "collapsed" in found[1].energy_eV_per_atom.reason
    assert found[0].energy_eV_per_atom.value == pytest.approx(found[2].energy_eV_per_atom.value, abs=1e-6)
    assert found[0].energy_eV_per_atom.value == pytest.approx(-5.05, abs=0.01)


def test_time_in_company_is_shared(emt, monkeypatch):
    engine = Counted(emt)
    monkeypatch.setattr(engine, "evaluate", lambda atoms: time.sleep(0.2) or emt.evaluate(atoms))
    start = time.perf_counter()
    found = dict(relax_together([copper(), copper()], engine, RelaxConfig(max_steps=1, fmax_eV_per_A=1e-9), together=2))
    assert 2 * 0.2 <= found[0].seconds + found[1].seconds <= time.perf_counter() - start  # two calls for both


class Toy:
    """An engine that is one function of the atoms."""

    info = PotentialInfo("toy", "1", "MIT", "toy", "toy", frozenset({"Cu"}), "constant")

    def __init__(self, function):
        self.function = function

    def evaluate(self, atoms):
        return [self.function(one) for one in atoms]

    def calculator(self):
        return PotentialCalculator(self)


def springs(atoms):
    """Every atom is drawn to the origin; no stress."""
    return Evaluation(0.5 * float((atoms.positions**2).sum()), -atoms.positions, np.zeros((3, 3)))


def test_time_in_company_is_shared_by_atoms(emt, monkeypatch):
    engine = Counted(emt)
    monkeypatch.setattr(engine, "evaluate", lambda atoms: time.sleep(0.3) or emt.evaluate(atoms))
    config = RelaxConfig(max_steps=0, fmax_eV_per_A=1e-9)
    found = dict(relax_together([copper(), copper().make_supercell([2, 2, 1])], engine, config, together=2))
    assert found[1].seconds > 2 * found[0].seconds, "16 atoms beside 4"


def test_alone_the_engine_gives_its_own_calculator():
    """Which may keep a neighbour list while the atoms move."""
    from ase.calculators.emt import EMT

    engine = Toy(lambda atoms: pytest.fail("asked past its calculator"))
    engine.calculator = EMT
    assert relax(copper(), engine, RelaxConfig(max_steps=3)).steps == 3


def test_the_time_of_all_steps_counts():
    slow = Toy(lambda atoms: time.sleep(0.02) or springs(atoms))
    result = relax(copper(), slow, RelaxConfig(cell="fixed", fmax_eV_per_A=1e-9, max_seconds=0.1, max_steps=50))
    assert "s spent" in result.energy_eV_per_atom.reason and 0 < result.steps < 6
    assert result.seconds >= 0.02 * (result.steps + 1)


def test_a_cell_that_flies_apart_is_failed():
    gas = Toy(lambda atoms: Evaluation(-0.1 * atoms.get_volume(), np.zeros((len(atoms), 3)), -0.1 * np.eye(3)))
    result = relax(copper(), gas, RelaxConfig(max_steps=500))
    assert result.energy_eV_per_atom.status is Status.FAILED and "4 times its volume" in result.energy_eV_per_atom.reason
    assert 4.0 < result.structure.volume / copper().volume < 6.0


@pytest.mark.parametrize(
    "error", [EvaluationError("no"), ValueError("no"), np.linalg.LinAlgError("no"), FloatingPointError("no")], ids=repr
)
def test_a_step_that_cannot_be_evaluated_leaves_the_state_before_it(error):
    seen = []

    def breaking(atoms):
        if len(seen) == 2:
            raise error
        seen.append(atoms.get_scaled_positions())
        return springs(atoms)

    result = relax(copper(), Toy(breaking), RelaxConfig(cell="fixed"))
    assert result.energy_eV_per_atom.status is Status.FAILED and result.energy_eV_per_atom.reason == "step 1: no"
    assert result.steps == 1 and np.allclose(result.structure.frac_coords % 1.0, seen[1] % 1.0)
