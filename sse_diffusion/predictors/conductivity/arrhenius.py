"""How a conductivity depends on temperature and pressure: log10(sigma T) = A - (E_a + P dV) / (k T ln 10).

With A written at 300 K the law is A300 - E_a tau(T) - P dV t(T), where t = 1 / (k T ln 10) and tau = t - t(300 K): straight in
1/T, so sigma rises with temperature wherever E_a + P dV > k T, and falls with pressure.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BOLTZMANN_eV_per_K = 8.617333262e-5
REFERENCE_K = 300.0
GPa_A3_in_eV = 6.241509e-3
"""1 GPa x 1 A^3 in eV."""
ACTIVATION_RANGE_eV = (0.1, 1.5)
"""Activation energies are kept in here: at 0.1 eV sigma (not only sigma T) still rises with temperature up to 1,160 K."""
KEYES_FACTOR = 4.0


def inverse_temperature(temperature_K: Array | float) -> Array:
    """t = 1 / (k T ln 10) in 1/eV."""
    return 1.0 / (BOLTZMANN_eV_per_K * math.log(10.0) * np.asarray(temperature_K, dtype=float))


def reduced_inverse_temperature(temperature_K: Array | float) -> Array:
    """tau = t(T) - t(300 K) in 1/eV: how many decades one eV of activation energy costs against 300 K."""
    return inverse_temperature(temperature_K) - inverse_temperature(REFERENCE_K)


def activation_of_prefactor(at_300K: Array, prefactor: float) -> Array:
    """E_a in eV (n,) of materials whose lines log10(sigma T) over 1/T all begin at ``prefactor`` and pass ``at_300K`` (n,)."""
    return (prefactor - at_300K) / inverse_temperature(REFERENCE_K)


def activation_volume_A3(activation_eV: Array, bulk_modulus_GPa: Array) -> Array:
    """Keyes's relation dV = 4 kappa E_a (J. Chem. Phys. 29, 467 (1958)): an estimate to a factor of two, never negative.

    For E_a = 0.3 eV and K = 50 GPa it gives 3.8 A^3 (2.3 cm^3/mol): 0.2 decades at 300 K and 500 MPa.
    """
    return KEYES_FACTOR * activation_eV / (np.maximum(bulk_modulus_GPa, 1.0) * GPa_A3_in_eV)


def log10_sigma(
    at_300K: Array, activation_eV: Array, temperature_K: Array, pressure_GPa: Array | float = 0.0, volume_A3: Array | float = 0.0
) -> Array:
    """log10 of sigma in S/cm.

    Args:
        at_300K: log10(sigma T) in S K/cm at 300 K and no pressure, (n,).
        activation_eV: E_a, (n,).
        temperature_K: (n,).
        pressure_GPa: P.
        volume_A3: activation volume dV.
    """
    cost = np.asarray(pressure_GPa) * np.asarray(volume_A3) * GPa_A3_in_eV * inverse_temperature(temperature_K)
    return at_300K - activation_eV * reduced_inverse_temperature(temperature_K) - cost - np.log10(temperature_K)
