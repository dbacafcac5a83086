"""Griffith's limit by hand, the charge of the metal's ion, and errors that follow the moduli."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sse_diffusion.core.results import Quantity
from sse_diffusion.verification.mechanics.dendrites import LITHIUM, griffith_overpotential, monroe_newman


def test_griffith_against_a_hand_calculation():
    """sqrt(2 * 150 GPa * 1 J/m^2 / ((1 - 0.26^2) pi 1 um)) = 320 MPa; times 13 cm^3/mol over 96485 C/mol: 43.1 mV."""
    found = griffith_overpotential(Quantity(150.0), 0.26, 1.0, 1.0)
    assert found.provenance["pressure_GPa"] == pytest.approx(0.3200, rel=1e-3) and found.value == pytest.approx(0.04312, rel=1e-3)


def test_an_ion_of_two_charges_halves_the_voltages():
    magnesium = replace(LITHIUM, charge=2)
    assert griffith_overpotential(Quantity(150.0), 0.26, 1.0, 1.0, metal=magnesium).value == pytest.approx(0.04312 / 2, rel=1e-3)
    single, double = (monroe_newman(Quantity(20.0), 0.3, 0.1, metal=metal).value for metal in (LITHIUM, magnesium))
    assert double == pytest.approx(single / 2)


def test_the_error_of_chi_is_what_the_modulus_leaves_open():
    low, middle, high = (monroe_newman(Quantity(g, 0.1), 0.3, 0.1) for g in (19.9, 20.0, 20.1))
    assert middle.uncertainty == pytest.approx(abs(high.value - low.value) / 2, rel=1e-3) and math.isfinite(middle.uncertainty)
