"""Dendrite criteria: the published stability diagram, scaling laws, the caution in every result."""

from __future__ import annotations

import math

import pytest

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.verification.mechanics.dendrites import (
    LITHIUM,
    griffith_overpotential,
    monroe_newman,
    volume_per_ion_ratio,
)

LONG_nm = 1e9  # no surface tension


def chi(ratio, volume_ratio, wavelength_nm=LONG_nm):
    return monroe_newman(Quantity(ratio * LITHIUM.shear_modulus_GPa), 0.33, volume_ratio, wavelength_nm=wavelength_nm)


@pytest.mark.parametrize(
    ("ratio", "volume_ratio", "verdict"),
    [
        (0.01, 0.1, "stable"),  # soft, small ion: density-driven
        (20.0, 0.1, "unstable"),  # stiff ceramic, small ion
        (20.0, 3.0, "stable"),  # stiff, large ion: pressure-driven, Monroe and Newman's case
        (0.5, 3.0, "unstable"),  # soft polymer, large ion
        (0.5, 1.0, "unstable"),  # equal volumes: deviatoric stress alone
        (20.0, 1.0, "unstable"),
    ],
)
def test_quadrants_of_the_published_stability_diagram(ratio, volume_ratio, verdict):
    assert chi(ratio, volume_ratio).provenance["verdict"] == verdict


def test_critical_shear_ratio():
    # Published boundaries at nu = 0.33: 0.76 at v = 0 (softer is stable); 1.68 for a large ion (stiffer is stable).
    assert chi(0.74, 0.0).value < 0 < chi(0.78, 0.0).value
    assert chi(1.72, 1e4).value < 0 < chi(1.64, 1e4).value


@pytest.mark.parametrize(
    ("shear_GPa", "poisson", "deviatoric", "hydrostatic"),
    # Navier's equations of the two half-spaces solved symbolically: tau_s - tau_e and p_e + p_s per k A, GPa.
    [(60.0, 0.26, 5.18285, 75.70204), (1.0, 0.33, 0.98630, -4.31242), (3.4, 0.45, 1.39634, 0.28692)],
)
def test_terms_equal_the_elastic_fields(shear_GPa, poisson, deviatoric, hydrostatic):
    wavelength_nm, v = 20 * math.pi, 0.3  # k = 0.1 / nm
    surface = 0.556 * 0.1
    expected = 13.0 * 0.1 * (0.5 * (1 + v) * (deviatoric - surface) + 0.5 * (1 - v) * hydrostatic)
    result = monroe_newman(Quantity(shear_GPa), poisson, v, wavelength_nm=wavelength_nm)
    assert result.value == pytest.approx(expected, rel=1e-4) and result.unit == "kJ/(mol nm)"


def test_surface_tension_stabilises_short_waves():
    assert chi(0.5, 3.0, wavelength_nm=0.5).value < 0 < chi(0.5, 3.0, wavelength_nm=1000).value


def test_griffith_scales_as_the_square_root():
    llzo = Quantity(150.0, 10.0, "GPa")
    base = griffith_overpotential(llzo, 0.26, 1.0, 1.0)
    assert base.unit == "V" and 0.01 < base.value < 0.1
    assert griffith_overpotential(llzo, 0.26, 1.0, 4.0).value == pytest.approx(base.value / 2)
    assert griffith_overpotential(llzo, 0.26, 4.0, 1.0).value == pytest.approx(base.value * 2)
    assert base.uncertainty / base.value == pytest.approx(0.5 * 10 / 150)


def test_results_say_that_llzo_shorts():
    failed = Quantity.failed("Born-unstable", "GPa")
    for result in (chi(20, 0.1), griffith_overpotential(Quantity(150.0), 0.26, 1.0, 1.0), monroe_newman(failed, 0.3, 0.1)):
        assert "shorts" in result.provenance["caution"]
    assert monroe_newman(failed, 0.3, 0.1).status is Status.FAILED
    assert griffith_overpotential(failed, 0.3, 1.0, 1.0).reason.endswith("Born-unstable")


def test_nonsense_is_refused():
    with pytest.raises(DataError):
        monroe_newman(Quantity(10.0), 0.5, 0.1)
    with pytest.raises(DataError):
        griffith_overpotential(Quantity(10.0), 0.3, 1.0, 0.0)


def test_volume_per_ion():
    assert volume_per_ion_ratio(2 * 21.6, 2) == pytest.approx(1.0, abs=0.01)
