"""Arrhenius posterior and conductivity."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K as K
from sse_diffusion.verification.transport.arrhenius import ArrheniusConfig, fit_arrhenius
from sse_diffusion.verification.transport.conductivity import conductivity, conductivity_factor, haven_ratio, mean_of
from sse_diffusion.verification.transport.diffusivity import interval

FAST = ArrheniusConfig(draws=3000)
E, D0 = 0.25, 1e-3


def true(T: float) -> float:
    return D0 * math.exp(-E / (K * T))


def run(T: float, relative: float, rng: np.random.Generator, bend: float = 0.0) -> Quantity:
    """One measurement: the estimate is chi2-distributed about the truth."""
    nu = 2.0 / relative**2
    value = true(T) * math.exp(bend * (1 / (K * T) - 14) ** 2) * rng.chisquare(nu) / nu
    return Quantity(value, value * relative, "cm^2/s", provenance={"temperature_K": T})


def bound(T: float, value: float) -> Quantity:
    return Quantity(value, math.nan, "cm^2/s", Status.UPPER_BOUND, "no jump", {"temperature_K": T})


def test_intervals_cover():
    hit_E = hit_D = flagged = 0
    for k in range(40):
        rng = np.random.default_rng(k)
        fit = fit_arrhenius([run(T, 0.15, rng) for T in (600, 800, 1000) for _ in range(2)], FAST)
        low, high = fit.activation_energy_eV.provenance["interval_95"]
        hit_E += low < E < high
        low, high = fit.diffusivity(300.0).provenance["interval_95"]
        hit_D += low < true(300) < high
        flagged += fit.non_arrhenius
    assert hit_E >= 35 and hit_D >= 35 and flagged <= 5


def test_precise_points_give_the_line_back():
    rng = np.random.default_rng(0)
    fit = fit_arrhenius([run(T, 0.01, rng) for T in (500, 700, 900)], ArrheniusConfig(scatter=0.01))
    assert fit.activation_energy_eV.value == pytest.approx(E, abs=0.01)
    assert fit.log10_D0.value == pytest.approx(math.log10(D0), abs=0.1)
    assert fit.diffusivity(300).value == pytest.approx(true(300), rel=0.3) and fit.diffusivity(300).provenance["extrapolated"]
    assert not fit.diffusivity(600).provenance["extrapolated"] and fit.diffusivity(1200).provenance["extrapolated"]


def test_replicas_that_differ_widen_the_interval():
    def width(shift: float) -> float:
        rng = np.random.default_rng(1)
        points = [run(T, 0.05, rng) for T in (600, 800, 1000) for _ in range(2)]
        points = [
            Quantity(q.value * math.exp(shift * (-1) ** i), q.uncertainty, q.unit, provenance=q.provenance)
            for i, q in enumerate(points)
        ]
        return fit_arrhenius(points, FAST).activation_energy_eV.uncertainty

    assert width(0.4) > 1.5 * width(0.0)


def test_curvature_is_flagged():
    rng = np.random.default_rng(0)
    fit = fit_arrhenius([run(T, 0.05, rng, bend=0.03) for T in (500, 600, 800, 1000) for _ in range(2)], FAST)
    assert fit.non_arrhenius and fit.status is Status.UNCONVERGED and "bends" in fit.reason
    assert fit.curvature[0] == pytest.approx(0.06, rel=0.4)
    assert fit.diffusivity(300).status is Status.UNCONVERGED


def test_upper_bounds_are_censored_points():
    rng = np.random.default_rng(0)
    points = [run(T, 0.3, rng) for T in (800, 1000)]
    free = fit_arrhenius(points, FAST)
    loose, tight = (fit_arrhenius([*points, bound(500, factor * true(500))], FAST) for factor in (100.0, 0.3))
    assert loose.activation_energy_eV.value == pytest.approx(free.activation_energy_eV.value, abs=0.03)
    assert tight.activation_energy_eV.value > free.activation_energy_eV.value + 0.02
    assert tight.diffusivity(500).provenance["interval_95"][0] < 0.3 * true(500)
    against = fit_arrhenius([*points, bound(900, 1e-3 * true(900))], FAST)
    assert against.status is Status.FAILED and "contradict" in against.reason


def test_no_activation_energy_below_zero():
    """Three noisy runs of one diffusivity allow slopes of both signs; a crystal has only one."""
    level = [Quantity(1e-6, 5e-7, "cm^2/s", provenance={"temperature_K": T}) for T in (600, 800, 1000)]
    draws = fit_arrhenius(level, FAST).draws_E_eV
    assert draws.min() >= 0 and draws.max() > 0.1


def test_one_temperature_is_not_enough():
    rng = np.random.default_rng(0)
    fit = fit_arrhenius([run(800, 0.1, rng), run(800, 0.1, rng), bound(600, 1e-8), Quantity.failed("melted")])
    assert fit.status is Status.FAILED and "1 temperatures" in fit.reason
    assert fit.conductivity(300, 0.02, 1).status is Status.FAILED


def test_conductivity_against_a_hand_calculation():
    """n = 2e22/cm^3, D = 1e-8 cm^2/s, 300 K: n e^2 D / kT = 2e22 * (1.602e-19)^2 * 1e-8 / 4.142e-21 = 1.239e-3 S/cm."""
    q = Quantity(1e-8, 1e-9, "cm^2/s", provenance={"interval_95": (8e-9, 1.2e-8)})
    sigma = conductivity(q, 0.02, 1, 300.0)
    assert sigma.value == pytest.approx(1.2394e-3, rel=1e-3) and sigma.unit == "S/cm"
    assert sigma.uncertainty == pytest.approx(1.2394e-4, rel=1e-3)
    assert sigma.provenance["interval_95"][1] == pytest.approx(1.2 * 1.2394e-3, rel=1e-3)
    assert conductivity_factor(0.02, 2, 300.0) == pytest.approx(4 * conductivity_factor(0.02, 1, 300.0))


def test_mean_of_replicas_and_haven_ratio():
    good, other = Quantity(2.0, 0.2, "cm^2/s"), Quantity(4.0, 0.4, "cm^2/s")
    mean = mean_of([good, other], [1.0, 3.0])
    assert mean.ok and mean.value == pytest.approx(3.5) and mean.uncertainty == pytest.approx(math.hypot(0.05, 0.3))
    mixed = mean_of([good, bound(600, 1.0)], [1.0, 1.0])
    assert mixed.status is Status.UNCONVERGED and mixed.value == 2.0 and "no jump" in mixed.reason
    assert mean_of([bound(600, 1.0), bound(600, 3.0)], [1.0, 1.0]).status is Status.UPPER_BOUND
    assert mean_of([Quantity.failed("melted")], [1.0]).reason == "melted"
    assert haven_ratio(bound(600, 1.0), good).status is Status.FAILED
    ratio = haven_ratio(good, Quantity(4.0, 0.8, "cm^2/s"))
    assert (
        ratio.value == pytest.approx(0.5, rel=0.1)
        and ratio.provenance["interval_95"][0] < 0.5 < ratio.provenance["interval_95"][1]
    )


def test_haven_interval_is_that_of_the_noisier_diffusivity():
    """With an exact tracer diffusivity the interval of D / D_J is that of 1 / D_J."""
    collective = Quantity(2.0, 0.8, "cm^2/s")
    low, high = interval(collective.value, collective.uncertainty)
    ratio = haven_ratio(Quantity(1.0, 1e-4, "cm^2/s"), collective)
    assert ratio.provenance["interval_95"] == pytest.approx((1.0 / high, 1.0 / low), rel=0.05)


def test_a_subdiffusive_run_limits_the_fit_and_is_not_fitted():
    """What fills a cage at once is no diffusion: at 500 K it would make the barrier half of what the hot runs say."""
    rng = np.random.default_rng(0)
    hot = [run(t, 0.1, rng) for t in (800, 800, 700, 700, 600, 600)]
    high = math.exp(math.log(run(500, 0.01, rng).value) + 3.0)
    caged = Quantity(high, 0.2 * high, "cm^2/s", Status.UNCONVERGED, "t^0.5", {
        "temperature_K": 500.0, "interval_95": (0.7 * high, 1.6 * high), "subdiffusive": True,
    })  # fmt: skip
    alone, both = fit_arrhenius(hot, FAST), fit_arrhenius([*hot, caged], FAST)
    fitted = fit_arrhenius([*hot, replace(caged, provenance={**caged.provenance, "subdiffusive": False})], FAST)
    assert both.temperatures_K == (600.0, 700.0, 800.0) and both.provenance["upper_bounds"] == 1
    assert both.activation_energy_eV.value == pytest.approx(alone.activation_energy_eV.value, abs=0.02)
    assert fitted.activation_energy_eV.value < 0.7 * alone.activation_energy_eV.value
    tight = replace(caged, provenance={**caged.provenance, "interval_95": (0.0, 0.6 * true(500))})
    assert fit_arrhenius([*hot, tight], FAST).activation_energy_eV.value > alone.activation_energy_eV.value
