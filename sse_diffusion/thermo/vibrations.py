"""Vibrational free energies in closed form: Debye solid, and harmonic modes of known frequencies.

Both fulfil :class:`sse_diffusion.thermo.gibbs.FreeEnergy` (free energy and energy per atom, zero-point motion included), so
either can stand in for the descriptor where a crystal's vibrations are known.

    Debye      F = 9/8 k theta + k T [3 ln(1 - e^-x) - D(x)],   U = 9/8 k theta + 3 k T D(x),   x = theta / T
               D(x) = 3 / x^3 * integral_0^x t^3 / (e^t - 1) dt,   C_V = 3 k [4 D(x) - 3 x / (e^x - 1)]
    harmonic   F = sum_q w_q [ e/2 + k T ln(1 - e^(-e/kT)) ],   U = sum_q w_q e [1/2 + 1/(e^(e/kT) - 1)],   e = h nu_q

(Ashcroft and Mermin, Solid State Physics, ch. 23; Blanco et al., Comput. Phys. Commun. 158, 57 (2004) for theta from moduli.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K

PLANCK_eV_PER_THz = 4.135667696e-3
"""Planck constant, eV per THz (CODATA 2018)."""
K_PER_MODE = 47.99243073
"""h / k_B, K per THz."""
NEGLIGIBLE = 40.0
"""The Debye integrand beyond t = 40 adds less than 1e-12."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def debye_function(x: float) -> float:
    """D(x) of the module's equation: 1 at x = 0, pi^4 / (5 x^3) for large x; relative error below 1e-12 for x <= 40."""
    if x < 1e-8:
        return 1.0
    top = min(x, NEGLIGIBLE)
    t = 0.5 * top * (_NODES + 1.0)
    return float(3.0 / x**3 * 0.5 * top * (_WEIGHTS * t**3 / np.expm1(t)).sum())


@dataclass(frozen=True)
class DebyeModel:
    """Debye solid, three modes per atom.

    Attributes:
        temperature_K: the Debye temperature theta.

    Raises:
        DataError: theta is not positive.
    """

    temperature_K: float

    def __post_init__(self) -> None:
        if not (self.temperature_K > 0 and math.isfinite(self.temperature_K)):
            raise DataError(f"a Debye temperature of {self.temperature_K} K", "give a positive temperature in K")

    @classmethod
    def from_moduli(cls, bulk_GPa: float, shear_GPa: float, density_g_per_cm3: float, volume_A3_per_atom: float) -> DebyeModel:
        """Debye temperature from elastic moduli by the mean sound velocity (Anderson, J. Phys. Chem. Solids 24, 909 (1963)).

            theta = h/k (3 / 4 pi V)^(1/3) v_m,   3 / v_m^3 = 2 / v_t^3 + 1 / v_l^3,   v_t^2 = G / rho,   v_l^2 = (K + 4G/3) / rho

        Raises:
            DataError: a modulus, the density or the volume is not positive.
        """
        if not min(bulk_GPa, shear_GPa, density_g_per_cm3, volume_A3_per_atom) > 0:
            raise DataError(
                "a Debye temperature needs positive moduli, density and volume", "use the descriptor for this crystal"
            )
        transverse = math.sqrt(shear_GPa / density_g_per_cm3)  # sqrt(GPa cm^3 / g) is km/s
        longitudinal = math.sqrt((bulk_GPa + 4.0 * shear_GPa / 3.0) / density_g_per_cm3)
        mean = (3.0 / (2.0 / transverse**3 + 1.0 / longitudinal**3)) ** (1.0 / 3.0)
        highest_THz = (3.0 / (4.0 * math.pi * volume_A3_per_atom)) ** (1.0 / 3.0) * mean * 10.0  # km/s per Angstrom is 10 THz
        return cls(K_PER_MODE * highest_THz)

    def free_energy_eV_per_atom(self, temperature_K: float) -> float:
        """F_vib(T); the zero-point energy 9/8 k theta at T = 0."""
        zero_point = 1.125 * BOLTZMANN_eV_PER_K * self.temperature_K
        if temperature_K <= 0:
            return zero_point
        x = self.temperature_K / temperature_K
        return zero_point + BOLTZMANN_eV_PER_K * temperature_K * (3.0 * math.log(-math.expm1(-x)) - debye_function(x))

    def energy_eV_per_atom(self, temperature_K: float) -> float:
        """U_vib(T)."""
        zero_point = 1.125 * BOLTZMANN_eV_PER_K * self.temperature_K
        if temperature_K <= 0:
            return zero_point
        return zero_point + 3.0 * BOLTZMANN_eV_PER_K * temperature_K * debye_function(self.temperature_K / temperature_K)

    def heat_capacity_eV_per_K_atom(self, temperature_K: float) -> float:
        """C_V(T); 3 k_B at high temperature."""
        x = self.temperature_K / temperature_K
        boson = x * math.exp(-x) / -math.expm1(-x)  # x / (e^x - 1) without overflow
        return 3.0 * BOLTZMANN_eV_PER_K * (4.0 * debye_function(x) - 3.0 * boson)


@dataclass(frozen=True, eq=False)
class HarmonicModes:
    """Modes of known frequency, e.g. a phonon calculation on a mesh of wave vectors.

    Attributes:
        frequencies_THz: (q,) real, positive; leave out the three acoustic zeros at the zone centre.
        weights: (q,) modes per atom that each frequency stands for; they add up to 3.

    Raises:
        DataError: a frequency is not positive (the structure is not a minimum), or the weights do not add up to 3.
    """

    frequencies_THz: Float[np.ndarray, " q"]
    weights: Float[np.ndarray, " q"]

    def __post_init__(self) -> None:
        if not (self.frequencies_THz > 0).all():
            lowest = float(self.frequencies_THz.min())
            raise DataError(
                f"a mode of {lowest:g} THz: not a minimum of the energy", "relax the structure, or drop acoustic zeros"
            )
        if abs(float(self.weights.sum()) - 3.0) > 1e-3:
            raise DataError(f"mode weights add up to {self.weights.sum():g}, not 3 per atom", "weights = 3 / number of modes")

    def free_energy_eV_per_atom(self, temperature_K: float) -> float:
        """F_vib(T)."""
        energy = PLANCK_eV_PER_THz * self.frequencies_THz
        thermal = BOLTZMANN_eV_PER_K * temperature_K
        entropic = thermal * np.log(-np.expm1(-energy / thermal)) if temperature_K > 0 else 0.0
        return float((self.weights * (0.5 * energy + entropic)).sum())

    def energy_eV_per_atom(self, temperature_K: float) -> float:
        """U_vib(T)."""
        energy = PLANCK_eV_PER_THz * self.frequencies_THz
        occupied = np.exp(-energy / (BOLTZMANN_eV_PER_K * temperature_K)) if temperature_K > 0 else np.zeros_like(energy)
        return float((self.weights * energy * (0.5 + occupied / (1.0 - occupied))).sum())
