"""KCl asked for under pressure turns from B1 to B2 where the force field's enthalpies cross; permuted pressures destroy it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from scipy.optimize import brentq

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K, eV_PER_A3_PER_GPa
from sse_diffusion.design.tilted_population import TiltConfig, tilted_population
from sse_diffusion.testing.rigid_ions import RigidIons
from sse_diffusion.verification.relax import RelaxConfig, relax

B1, B2 = 225, 221
BAR_GPa = 0.5
IONS = RigidIons()
CROSSING_GPa = IONS.crossing_pressure_GPa()  # from lattice sums in closed form
RELAX = RelaxConfig(fmax_eV_per_A=0.05)
OFFSETS_GPa = np.array([-1.5, -0.5, -0.1, 0.1, 0.5, 1.5])


def crystal(name: str, a: float) -> Structure:
    return AseAtomsAdaptor.get_structure(bulk("KCl", name, a=a))


def proposals(rock_salts: int) -> list[Candidate]:
    """Rock salt again and again, zincblende twice, the CsCl structure once."""
    crystals = [crystal("rocksalt", a) for a in np.linspace(6.0, 6.4, rock_salts)]
    crystals += [crystal("zincblende", 6.8), crystal("cesiumchloride", 3.8), crystal("zincblende", 6.9)]
    return [Candidate(f"kcl-{i}", s) for i, s in enumerate(crystals)]


def log_odds(pressure: float, candidates: list[Candidate], folder, alpha: float = 0.0, atoms: float = 40.0) -> float:
    """log of the weight of B2 over that of B1 at 300 K."""
    config = TiltConfig(proposal_power=alpha, atoms=atoms, relax=RELAX)
    weight = tilted_population(candidates, IONS, 300.0, pressure, config, folder, progress=False).by_space_group()
    return math.log(weight[B2] / weight[B1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Relaxations that the tests share."""
    return tmp_path_factory.mktemp("relaxations")


@pytest.fixture(scope="module")
def answers(folder) -> np.ndarray:
    """Log odds of B2 at each asked pressure."""
    return np.array([log_odds(p, proposals(6), folder) for p in CROSSING_GPa + OFFSETS_GPa])


def test_the_majority_turns_where_the_enthalpies_cross(answers):
    assert 2.0 < CROSSING_GPa < 3.0
    assert ((answers > 0) == (OFFSETS_GPa > 0)).all()  # within 0.1 GPa, the bar is 0.5
    flip = np.interp(0.0, answers, OFFSETS_GPa)
    assert abs(flip) < 0.02


def test_the_odds_follow_the_difference_of_volumes(answers):
    """d(log odds)/dP = N dV / kT: the weights hold P V with the right sign and size."""
    volumes = [
        relax(s, IONS, RelaxConfig(fmax_eV_per_A=0.005, pressure_GPa=CROSSING_GPa)).volume_A3_per_atom
        for s in (crystal("rocksalt", 6.1), crystal("cesiumchloride", 3.7))
    ]
    expected = 40 * (volumes[0] - volumes[1]) * eV_PER_A3_PER_GPa / (BOLTZMANN_eV_PER_K * 300.0)
    assert (answers[3] - answers[2]) / 0.2 == pytest.approx(expected, rel=0.03)


def test_permuted_pressures_destroy_it(answers):
    rng = np.random.default_rng(0)
    expected = OFFSETS_GPa > 0
    orders = [rng.permutation(len(answers)) for _ in range(500)]
    agreement = np.array([((answers[o] > 0) == expected).mean() for o in orders])
    assert ((answers > 0) == expected).mean() == 1.0
    assert abs(agreement.mean() - 0.5) < 0.03 and (agreement == 1.0).mean() < 0.1  # 3! 3! / 6! = 0.05 by chance


def test_only_a_prior_feels_how_often_a_structure_was_proposed(folder):
    few, many, pressure = proposals(2), proposals(12), CROSSING_GPa + 0.1
    assert log_odds(pressure, many, folder) == pytest.approx(log_odds(pressure, few, folder), abs=0.02)
    with_prior = [log_odds(pressure, each, folder, alpha=1.0) for each in (few, many)]
    assert with_prior[0] - with_prior[1] == pytest.approx(math.log(6.0), abs=0.02)


@pytest.mark.slow
def test_kcl_of_the_diffusion_model_under_chgnet(tmp_path):
    """The shipped model's proposals, asked without a pressure, and CHGNet."""
    from sse_diffusion.core.checkpoint import WEIGHTS, checkpoint_dir
    from sse_diffusion.diffusion.generate import sample_candidates
    from sse_diffusion.diffusion.sample import checkpoint_specs
    from sse_diffusion.thermo.request import parse_request
    from sse_diffusion.verification.potential import load_potential

    if not (checkpoint_dir("mp_base") / WEIGHTS).is_file():
        pytest.skip("the shipped checkpoint is not here")
    chgnet = load_potential({"name": "chgnet"})
    request = parse_request({"formula": "KCl", "z": [1, 4]}, checkpoint_specs("mp_base"))
    candidates = sample_candidates("mp_base", request, 64, 0, progress=False)

    def gap(pressure: float) -> float:
        protocol = RelaxConfig(fmax_eV_per_A=0.005, max_steps=500, pressure_GPa=pressure)
        found = [relax(s, chgnet, protocol) for s in (crystal("rocksalt", 6.3), crystal("cesiumchloride", 3.7))]
        one, two = (r.energy_eV_per_atom.value + pressure * eV_PER_A3_PER_GPa * r.volume_A3_per_atom for r in found)
        return one - two

    crossing = brentq(gap, 0.0, 6.0, xtol=0.02)
    for pressure, majority in ((crossing - BAR_GPa, B1), (crossing + BAR_GPa, B2)):
        population = tilted_population(candidates, chgnet, 300.0, pressure, TiltConfig(relax=RELAX), tmp_path, progress=False)
        assert max(population.by_space_group().items(), key=lambda item: item[1])[0] == majority
