"""Vibrational free energies: limits in closed form, thermodynamic identities, and use in a Gibbs energy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pymatgen.core import Composition

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K as K_B
from sse_diffusion.thermo.gibbs import formation_gibbs_eV_per_atom
from sse_diffusion.thermo.vibrations import DebyeModel, HarmonicModes, PLANCK_eV_PER_THz, debye_function

LiCl = DebyeModel(422.0)


def test_debye_function_limits():
    assert debye_function(0.0) == 1.0
    assert debye_function(1e-3) == pytest.approx(1.0 - 3e-3 / 8.0, abs=1e-7)  # series 1 - 3x/8 + x^2/20
    assert debye_function(1.0) == pytest.approx(0.6744155640778147, rel=1e-12)  # Abramowitz and Stegun, table 27.1
    assert debye_function(200.0) == pytest.approx(math.pi**4 / 5.0 / 200.0**3, rel=1e-10)


def test_zero_point_and_classical_limit():
    assert LiCl.free_energy_eV_per_atom(0.0) == LiCl.energy_eV_per_atom(0.0) == pytest.approx(9 / 8 * K_B * 422.0)
    hot = 1e5
    assert LiCl.energy_eV_per_atom(hot) == pytest.approx(3 * K_B * hot, rel=1e-5)
    # classical oscillators with mean ln(omega) of the Debye spectrum: F = 3 kT (ln(theta/T) - 1/3)
    assert LiCl.free_energy_eV_per_atom(hot) == pytest.approx(3 * K_B * hot * (math.log(422.0 / hot) - 1 / 3), rel=1e-4)
    assert LiCl.heat_capacity_eV_per_K_atom(hot) == pytest.approx(3 * K_B, rel=1e-5)


@pytest.mark.parametrize("temperature", [20.0, 150.0, 422.0, 1500.0])
@pytest.mark.parametrize("model", [LiCl, HarmonicModes(np.array([2.0, 5.0, 9.0]), np.ones(3))], ids=["debye", "harmonic"])
def test_energy_and_heat_capacity_are_derivatives_of_the_free_energy(model, temperature):
    step = 1e-3 * temperature
    below, here, above = (model.free_energy_eV_per_atom(temperature + i * step) for i in (-1, 0, 1))
    entropy = -(above - below) / (2 * step)
    assert here + temperature * entropy == pytest.approx(model.energy_eV_per_atom(temperature), rel=1e-5)
    if model is LiCl:
        second = -temperature * (above - 2 * here + below) / step**2
        assert second == pytest.approx(model.heat_capacity_eV_per_K_atom(temperature), rel=1e-4)


def test_low_temperature_law():
    # C_V = 12 pi^4 / 5 k (T / theta)^3
    assert LiCl.heat_capacity_eV_per_K_atom(4.22) == pytest.approx(12 * math.pi**4 / 5 * K_B * 1e-6, rel=1e-9)


def test_debye_temperature_of_aluminium_from_its_moduli():
    # v_t = 3.1032, v_l = 6.4022, v_m = 3.4873 km/s, 8.481 THz; heat capacities give 428 K at low temperature, 390 K at 298 K
    assert DebyeModel.from_moduli(76.0, 26.0, 2.70, 16.6).temperature_K == pytest.approx(407.0, abs=0.5)


def test_one_mode_by_hand():
    modes = HarmonicModes(np.array([5.0]), np.array([3.0]))
    quantum = 5.0 * PLANCK_eV_PER_THz
    assert modes.free_energy_eV_per_atom(0.0) == pytest.approx(1.5 * quantum)
    thermal = K_B * 300.0
    expected = 3 * (quantum / 2 + thermal * math.log(1 - math.exp(-quantum / thermal)))
    assert modes.free_energy_eV_per_atom(300.0) == pytest.approx(expected)


def test_bad_vibrations_are_refused():
    with pytest.raises(DataError, match="not a minimum"):
        HarmonicModes(np.array([-1.0, 5.0]), np.full(2, 1.5))
    with pytest.raises(DataError, match="add up to 1"):
        HarmonicModes(np.array([5.0]), np.array([1.0]))
    for bad in (0.0, -3.0, math.nan):
        with pytest.raises(DataError):
            DebyeModel(bad)
    with pytest.raises(DataError, match="positive"):
        DebyeModel.from_moduli(50.0, 0.0, 2.0, 15.0)


def test_gibbs_energy_with_vibrations_is_near_the_descriptor_and_the_measurement():
    # LiCl: theta = 422 K, formation enthalpy -408.3 kJ/mol, Gibbs energy of formation -384.0 kJ/mol at 298 K (NIST-JANAF)
    enthalpy, composition = -408.3 / 96.485 / 2, Composition("LiCl")
    measured = -384.0 / 96.485 / 2
    by_debye = formation_gibbs_eV_per_atom(composition, enthalpy, 17.1, 300.0, vibrations=LiCl)
    by_descriptor = formation_gibbs_eV_per_atom(composition, enthalpy, 17.1, 300.0)
    assert by_debye == pytest.approx(measured, abs=0.02)
    assert by_descriptor == pytest.approx(measured, abs=0.05) and by_debye != by_descriptor
