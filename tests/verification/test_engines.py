"""Engines: contract, known answers, equality with the stock CHGNet calculator, clear refusals."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from ase.build import bulk

from sse_diffusion.core.errors import ConfigError, EngineError
from sse_diffusion.testing.potential import PotentialConformance
from sse_diffusion.verification.engines import known_answer
from sse_diffusion.verification.engines.chgnet import ChgnetConfig, ChgnetEngine, KNOWN_ENERGIES_eV_PER_ATOM, verify
from sse_diffusion.verification.engines.named import NAMED
from sse_diffusion.verification.potential import EvaluationError, Potential, load_potential
from sse_diffusion.verification.single_point import static_energies


@pytest.fixture(scope="module")
def engine() -> ChgnetEngine:
    return load_potential({"name": "chgnet"})


class TestChgnet(PotentialConformance):
    known_eV_per_atom = KNOWN_ENERGIES_eV_PER_ATOM["0.3.0"]
    nve_steps = 40

    def make_potential(self) -> Potential:
        return load_potential({"name": "chgnet"})


@pytest.mark.slow
class TestSevenNet(PotentialConformance):
    known_eV_per_atom = NAMED["sevennet"].shipped["7net-0"].known_eV_per_atom
    # Single precision: the last digits of a total energy of 50 eV, and of its differences.
    energy_tolerance_eV_per_atom = 5e-5

    def make_potential(self) -> Potential:
        pytest.importorskip("sevenn")
        return load_potential({"name": "sevennet"})


class TestEmt(PotentialConformance):
    force_tolerance_eV_per_A = 1e-3

    def make_potential(self) -> Potential:
        return load_potential({"name": "ase", "calculator": "ase.calculators.emt:EMT"})

    def make_atoms(self):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.symbols[0] = "Au"
        atoms.rattle(0.1, seed=2)
        return atoms


def test_fused_gradient_equals_stock_calculator(engine):
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator

    with contextlib.redirect_stdout(io.StringIO()):
        stock = CHGNetCalculator(model=CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")
    for formula in known_answer.SALTS:
        atoms = known_answer.salt(formula)
        atoms.rattle(0.1, seed=1)
        fused = engine.evaluate([atoms])[0]
        atoms.calc = stock
        assert np.abs(atoms.get_forces() - fused.forces_eV_per_A).max() < 3e-5
        assert np.abs(stock.results["stress"] - fused.stress_eV_per_A3).max() < 1e-6
        assert abs(atoms.get_potential_energy() - fused.energy_eV) / len(atoms) < 1e-6


def test_batched_equals_one_by_one(engine):
    cells = [known_answer.salt(f) for f in known_answer.SALTS]
    batched = ChgnetEngine(ChgnetConfig(batch_atoms=30), model=engine.model).evaluate(cells)
    for one, many in zip(engine.evaluate(cells), batched, strict=True):
        assert many.energy_eV == pytest.approx(one.energy_eV, abs=1e-4)
        assert np.allclose(many.forces_eV_per_A, one.forces_eV_per_A, atol=1e-5)
        assert np.allclose(many.stress_eV_per_A3, one.stress_eV_per_A3, atol=1e-6)


def test_perturbed_weights_are_refused():
    damaged = ChgnetEngine()
    next(iter(damaged.model.mlp.parameters())).data.mul_(1.05)
    with pytest.raises(EngineError, match="known-answer"):
        verify(damaged)


def test_info_is_complete(engine):
    info = engine.info.to_dict()
    assert all(info.values())
    assert info["licence"] == "BSD-3-Clause-LBNL" and "MP2020" in info["energy_scheme"]


def test_chgnet_refuses_what_it_cannot_evaluate(engine):
    collapsed = bulk("LiF", "rocksalt", a=1.2)
    lonely = bulk("LiF", "rocksalt", a=40.0)
    not_periodic = known_answer.salt("LiF")
    not_periodic.pbc = (True, True, False)
    curium = bulk("Cm", "fcc", a=5)
    cases = ((collapsed, "collapsed"), (lonely, "no neighbour"), (not_periodic, "periodic"), (curium, "Cm"))
    for atoms, word in cases:
        with pytest.raises(EvaluationError, match=word):
            engine.evaluate([atoms])


def test_static_energies_report_failures_in_place(engine):
    from pymatgen.io.ase import AseAtomsAdaptor

    cells = [known_answer.salt("LiF"), bulk("LiF", "rocksalt", a=1.2), known_answer.salt("LiCl")]
    energies = static_energies([AseAtomsAdaptor.get_structure(c) for c in cells], engine, progress=False)
    assert [q.ok for q in energies] == [True, False, True]
    assert energies[0].value == pytest.approx(-5.0469, abs=1e-3) and "collapsed" in energies[1].reason
    (alone,) = static_energies([AseAtomsAdaptor.get_structure(cells[0])], engine, progress=False)
    assert alone.value == pytest.approx(energies[0].value, abs=1e-5)


def test_ase_engine_known_answer_compared_only_when_given():
    values = {"name": "ase", "calculator": "ase.calculators.lj:LennardJones", "kwargs": {"rc": 6.0}}
    assert "LennardJones" in load_potential(values).info.energy_scheme
    with pytest.raises(EngineError, match="known-answer"):
        load_potential({**values, "reference_eV_per_atom": {"LiF": -5.05}})
    with pytest.raises(ConfigError, match="LiX"):
        load_potential({**values, "reference_eV_per_atom": {"LiX": -5.05}})


@pytest.mark.parametrize(
    ("cfg", "error", "word"),
    [
        ({}, ConfigError, "no name"),
        ({"name": "chgnat"}, ConfigError, "chgnet"),
        ({"name": "chgnet", "model": "0.4"}, ConfigError, "0.4"),
        ({"name": "chgnet", "modle": "0.3.0"}, ConfigError, "model"),
        ({"name": "ase", "calculator": "no.such.module:Thing"}, EngineError, "install"),
        ({"name": "ase", "calculator": "ase.calculators.emt:Nope"}, EngineError, "Nope"),
        ({"name": "ase", "calculator": "ase.calculators.mixing:SumCalculator", "kwargs": {"calcs": []}}, EngineError, "kwargs"),
    ],
)
def test_wrong_engine_configs_say_what_to_do(cfg, error, word):
    with pytest.raises(error, match=word):
        load_potential(cfg)


def test_unreadable_weights(tmp_path):
    broken = tmp_path / "weights.pth.tar"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(EngineError, match="cannot be read"):
        load_potential({"name": "chgnet", "model": str(broken)})


@pytest.mark.slow
def test_sevennet_is_on_a_scale_of_its_own():
    pytest.importorskip("sevenn")
    info = load_potential({"name": "sevennet"}).info
    assert info.energy_scheme == "7net-0/MP-raw" and info.licence == "MIT" and {"Li", "S"} <= info.elements
    from sse_diffusion.thermo.hull import EnergySchemeError, ReferenceHull, ReferencePhase

    chgnet_scheme = "CHGNet-0.3.0/MP2020"
    hull = ReferenceHull([ReferencePhase(f, -1.9, 12.0, source="x", energy_scheme=chgnet_scheme) for f in ("Li", "F")])
    with pytest.raises(EnergySchemeError):
        hull.energy_above_hull("LiF", -4.83, info.energy_scheme)


@pytest.mark.parametrize("name", ["mace", "mattersim", "orb", "matgl"])
def test_named_engines_say_what_to_fetch(name, tmp_path):
    with pytest.raises(ConfigError, match="nothing is downloaded") as no_weights:
        load_potential({"name": name})
    assert f"pip install {NAMED[name].package}" in str(no_weights.value)
    weights = tmp_path / "weights.model"
    weights.write_bytes(b"not weights")
    with pytest.raises(ConfigError, match="known answers"):
        load_potential({"name": name, "model": str(weights)})
    with pytest.raises(EngineError, match=r"pip install|get weights"):
        load_potential({"name": name, "model": str(weights), "reference_eV_per_atom": {"LiF": -4.8}})


def test_kept_list_gives_the_forces_of_a_fresh_one(engine):
    from sse_diffusion.verification.engines.chgnet_graph import KeptGraph

    atoms = known_answer.salt("Li2S")
    kept = engine.new_list(skin_A=0.6)
    assert isinstance(kept, KeptGraph)
    rng = np.random.default_rng(3)
    for step in range(12):
        atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.002, size=(3, 3))), scale_atoms=True)
        if step == 6:
            atoms.wrap()
        moving, fresh = engine.evaluate_moving(atoms, kept), engine.evaluate([atoms])[0]
        assert np.abs(moving.forces_eV_per_A - fresh.forces_eV_per_A).max() < 3e-5
        assert moving.energy_eV == pytest.approx(fresh.energy_eV, abs=1e-4)
    assert 1 < kept.builds < 12
    swapped = known_answer.salt("Li2O")
    assert engine.evaluate_moving(swapped, kept).energy_eV == pytest.approx(engine.evaluate([swapped])[0].energy_eV, abs=1e-4)
