"""Dendrite criteria: the published stability diagram, scaling laws, the caution in every result."""

from __future__ import annotations

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
        (0.01, 0.1, "unstable"),  # soft polymer
        (20.0, 0.1, "stable"),  # stiff, small ion volume: pressure-driven
        (20.0, 3.0, "unstable"),  # stiff ceramic, large ion volume
        (0.5, 3.0, "stable"),  # soft, large ion volume: density-driven
    ],
)
def test_four_quadrants_of_the_stability_diagram(ratio, volume_ratio, verdict):
    assert chi(ratio, volume_ratio).provenance["verdict"] == verdict


def test_critical_shear_ratio():
    # Between 0.6 and 0.8 of lithium's shear modulus at v = 0; near 2 in the limit of a large ion volume.
    assert chi(0.6, 0.0).value < 0 < chi(0.8, 0.0).value
    assert chi(1.5, 1e3).value > 0 > chi(3.0, 1e3).value


def test_surface_tension_stabilises_short_waves():
    assert chi(0.01, 0.1, wavelength_nm=0.5).value > 0 > chi(0.01, 0.1, wavelength_nm=1000).value


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
