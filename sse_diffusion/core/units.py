"""Physical constants and conversions; every other module takes them from here (CODATA 2018)."""

from __future__ import annotations

BOLTZMANN_eV_PER_K = 8.617333262e-5
"""Boltzmann constant, eV/K."""

GPa_PER_eV_PER_A3 = 160.21766208
"""1 eV/Angstrom^3 in GPa."""

eV_PER_A3_PER_GPa = 1.0 / GPa_PER_eV_PER_A3
"""1 GPa in eV/Angstrom^3."""

ELEMENTARY_CHARGE_C = 1.602176634e-19
"""Elementary charge, coulomb."""

CM2_PER_S_PER_A2_PER_PS = 1.0e-4
"""1 Angstrom^2/ps in cm^2/s."""

AMU_PER_A3_IN_G_PER_CM3 = 1.66053906660
"""1 atomic mass unit per Angstrom^3 in g/cm^3."""

AMBIENT_PRESSURE_GPa = 1.01325e-4
"""One standard atmosphere."""
