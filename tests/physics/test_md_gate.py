"""Physics of the MD gate on potentials whose answers are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.results import Status
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K
from sse_diffusion.verification.md_gate import MDGateConfig, md_gate
from sse_diffusion.verification.msd import SlopeWindow, count_hops, diffusivity, msd_per_atom
from sse_diffusion.verification.potential import Evaluation, PotentialInfo

SPRING_eV_PER_A2 = 4.0
ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.13), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


class Washboard(Calculator):
    """Cl on springs to their sites; Li in V = (A/2) sum_c (1 - cos(2 pi (x - x0)_c / a)): minima every ``a`` A, barrier A."""

    implemented_properties = ["energy", "forces", "stress"]

    def __init__(self, barrier_eV: float, period_A: float = 2.565) -> None:
        super().__init__()
        self.barrier, self.period, self.sites = barrier_eV, period_A, None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.sites is None:
            self.sites = np.round(atoms.positions / self.period) * self.period
        u = atoms.positions - self.sites
        ion = (atoms.numbers == 3)[:, None]
        k = 2 * np.pi / self.period
        energy = np.where(ion, 0.5 * self.barrier * (1 - np.cos(k * u)), 0.5 * SPRING_eV_PER_A2 * u**2).sum()
        forces = np.where(ion, -0.5 * self.barrier * k * np.sin(k * u), -SPRING_eV_PER_A2 * u)
        self.results = {"energy": float(energy), "forces": forces, "stress": np.zeros(6)}


class WashboardPotential:
    """The washboard behind the Potential contract."""

    info = PotentialInfo("washboard", "1", "MIT", "toy", "toy", frozenset({"Li", "Cl"}), "constant")

    def __init__(self, barrier_eV: float) -> None:
        self.barrier_eV, self.calculators = barrier_eV, {}

    def evaluate(self, atoms):
        evaluations = []
        for each in atoms:
            calculator = self.calculators.setdefault(len(each), self.calculator())
            calculator.calculate(each)
            found = calculator.results
            evaluations.append(Evaluation(found["energy"], found["forces"], np.zeros((3, 3))))
        return evaluations

    def calculator(self):
        return Washboard(self.barrier_eV)


# ions of the toy do not repel each other, so they may meet: the guard on distances is off
FAST = {"drop_ps": 0.4, "keep_ps": 2.0, "min_distance_A": 0.0}


@pytest.mark.parametrize(("barrier_eV", "mobile"), [(0.15, True), (2.0, False)])
def test_low_barrier_conducts_high_barrier_does_not(tmp_path, barrier_eV, mobile):
    result = md_gate(ROCK_SALT, "Li", WashboardPotential(barrier_eV), MDGateConfig(**FAST), tmp_path)
    assert result.mobile is mobile and result.status is Status.OK
    assert 50 <= result.n_atoms <= 64
    assert (result.hops > 0) is mobile
    if mobile:
        assert result.diffusivity.ok and result.diffusivity.value > result.diffusivity.uncertainty > 0
    else:
        assert result.diffusivity.status is Status.UPPER_BOUND and "hops" in result.reason


def test_thermostat_gives_the_canonical_temperature_and_amplitude(tmp_path):
    """Equipartition: <T> is the target, and the framework's MSD plateau is 2 * 3 kT / K.

    The oscillators never meet, so a global thermostat fails here (velocity rescaling gives a seventh of the amplitude).
    """
    config = MDGateConfig(drop_ps=1, keep_ps=6, min_distance_A=0, seed=3)
    result = md_gate(ROCK_SALT, "Li", WashboardPotential(2.0), config, tmp_path)
    assert result.temperature_mean_K == pytest.approx(1000, rel=0.05)
    plateau = np.mean(result.msd_framework_A2[len(result.msd_framework_A2) // 4 :])
    assert plateau == pytest.approx(2 * 3 * BOLTZMANN_eV_PER_K * 1000 / SPRING_eV_PER_A2, rel=0.1)


def test_diffusivity_of_a_random_walk():
    """Brownian ions of known D: the estimate agrees within three of its own error bars, and the bar is of the right size."""
    rng, dt_ps, d_A2_per_ps = np.random.default_rng(0), 0.02, 1.5
    estimates = []
    for _ in range(40):
        steps = rng.normal(scale=np.sqrt(2 * d_A2_per_ps * dt_ps), size=(100, 24, 3))
        quantity = diffusivity(msd_per_atom(np.cumsum(steps, axis=0)), dt_ps, SlopeWindow())
        estimates.append((quantity.value, quantity.uncertainty))
    values, bars = np.array(estimates).T
    assert values.mean() == pytest.approx(d_A2_per_ps * 1e-4, rel=0.06)
    assert bars.mean() == pytest.approx(values.std(), rel=0.4)


def test_hops_ignore_vibration_and_count_jumps():
    t = np.arange(200)
    vibration = np.stack([1.5 * np.sin(2 * np.pi * t / 10), 0 * t, 0 * t], axis=1)
    jump = vibration + np.where(t > 100, 3.0, 0.0)[:, None] * np.array([0, 1.0, 0])
    to_and_fro = vibration + np.where((t > 80) & (t < 140), 3.0, 0.0)[:, None] * np.array([0, 1.0, 0])
    assert count_hops(np.stack([vibration, jump, to_and_fro], axis=1), window=10).tolist() == [0, 1, 2]
