"""Feynman-Kac weights: unbiased resampling, limits, and the thermodynamics of two harmonic phases in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K, eV_PER_A3_PER_GPa
from sse_diffusion.testing.two_phases import TwoPhases, annealed, guided_diffusion
from sse_diffusion.thermo.tilt import FeynmanKac, effective_sample_size, log_mean_exp, normalised_weights, systematic_resample

POPULATIONS = {100.0: 0.3368, 300.0: 0.0475, 600.0: 0.0272}
"""Of the deep, stiff phase: gap 30 meV, stiffness ratio 4, six modes."""
# ratio Z1 / Z2 is that of the displacements only: both phases have the same volume term
SITES_ONLY = TwoPhases(300.0, volumes=(20.0, 20.0))


def test_resampling_is_unbiased_and_even():
    log_weights = torch.log(torch.tensor([[0.05, 0.31, 0.0, 0.44, 0.2], [1.0, 1.0, 1.0, 1.0, 1.0]]))
    u = (torch.arange(4000) + 0.5) / 4000
    ancestors = torch.stack([systematic_resample(log_weights, x.expand(2)) for x in u])
    counts = torch.nn.functional.one_hot(ancestors, 5).sum(2).double()
    expected = 5 * normalised_weights(log_weights.double())
    assert torch.allclose(counts.mean(0), expected, atol=2e-3)
    assert ((counts >= expected.floor() - 1e-9) & (counts <= expected.ceil() + 1e-9))[:, 0].all()
    assert (counts[:, 1] == 1).all()  # equal weights: everyone goes on once
    assert (ancestors.diff(dim=-1) >= 0).all()


def test_effective_sample_size_limits():
    n = 64
    assert effective_sample_size(torch.full((n,), -700.0)) == pytest.approx(n)
    one = torch.full((2, n), -math.inf)
    one[0, 3] = 12.0
    assert effective_sample_size(one).tolist() == pytest.approx([1.0, 0.0])
    half = torch.cat([torch.zeros(n // 2), torch.full((n // 2,), -math.inf)])
    assert effective_sample_size(half) == pytest.approx(n / 2)
    # lognormal weights of spread s: n exp(-s^2) in the limit
    spread = 0.7 * torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert effective_sample_size(spread) / len(spread) == pytest.approx(math.exp(-0.49), rel=0.01)


def test_huge_logarithms_are_no_problem():
    log_weights = torch.tensor([1e4, 1e4 + math.log(3.0), -1e6], dtype=torch.float64)
    assert log_mean_exp(log_weights) == pytest.approx(1e4 + math.log(4.0 / 3.0))
    assert normalised_weights(log_weights).tolist() == pytest.approx([0.25, 0.75, 0.0])


def test_impossible_particles_are_dropped_and_a_dead_population_does_not_spoil_the_others():
    weights = FeynmanKac(2, 4, threshold=1.0)
    energies = torch.tensor([[0.0, math.inf, math.nan, 0.0], [math.inf] * 4])
    assert weights.reweight(energies).tolist() == pytest.approx([2.0, 0.0])
    ancestors = weights.resample(torch.tensor([0.3, 0.3]))
    assert set(ancestors[0].tolist()) == {0, 3} and ancestors[1].tolist() == [0, 1, 2, 3]
    assert weights.log_evidence.tolist() == pytest.approx([math.log(0.5), -math.inf])
    assert torch.isfinite(weights.weights).all()


def test_guesses_along_the_way_do_not_change_the_answer():
    # no moves: whatever was guessed before, the weights are exp(-u) of the end, with and without resampling
    x = torch.linspace(-2, 2, 2000, dtype=torch.float64)[None]
    for threshold in (0.0, 1.0):
        weights, here = FeynmanKac(1, x.shape[1], threshold), x
        for guess in (3.0 * here, -(here**2), 0.5 * here):
            weights.reweight(guess)
        weights.reweight(here**2)
        if threshold:
            here = here.gather(1, weights.resample(torch.tensor([0.5])))
        exact = torch.softmax(-(x**2), -1)
        assert weights.average(here**2).item() == pytest.approx((exact * x**2).sum().item(), rel=1e-3)
        assert weights.log_evidence.item() == pytest.approx(log_mean_exp(-(x**2)).item(), abs=1e-9)


def test_resampling_on_the_way_keeps_the_path_of_each_particle():
    generator = torch.Generator().manual_seed(3)
    x, weights = torch.randn(1, 50_000, generator=generator, dtype=torch.float64), FeynmanKac(1, 50_000, threshold=1.0)
    for reduced in (lambda z: 0.7 * z, lambda z: -0.2 * z**2, lambda z: 0.5 * z**2 - z):
        weights.reweight(reduced(x))
        x = x.gather(1, weights.resample(torch.rand(1, generator=generator)))
    # N(0, 1) exp(-z^2 / 2 + z) is N(1/2, 1/2) times exp(1/4) / sqrt(2)
    assert weights.average(x).item() == pytest.approx(0.5, abs=0.02)
    assert weights.average((x - 0.5) ** 2).item() == pytest.approx(0.5, abs=0.03)
    assert weights.log_evidence.item() == pytest.approx(0.25 - 0.5 * math.log(2.0), abs=0.02)


def test_a_guided_step_is_corrected_by_its_density_ratio():
    drift = 0.8
    x = drift + torch.randn(1, 50_000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    weights = FeynmanKac(1, 50_000)
    weights.reweight(torch.zeros_like(x), log_ratio=-(x**2) / 2 + (x - drift) ** 2 / 2)
    assert weights.average(x).item() == pytest.approx(0.0, abs=0.03) and x.mean() > 0.7
    assert weights.log_evidence.item() == pytest.approx(0.0, abs=0.02)


def test_bad_settings_are_refused():
    for arguments in ((0, 4), (1, 1), (1, 4, 1.5)):
        with pytest.raises(ConfigError, match="particles"):
            FeynmanKac(*arguments)


@pytest.mark.parametrize("temperature", POPULATIONS)
def test_two_polymorphs_populate_as_the_closed_form_says(temperature, record_property):
    # the generator draws each site half the time, both as wide as the soft phase is by heat
    model = replace(SITES_ONLY, temperature=temperature, spread=BOLTZMANN_eV_PER_K * temperature)
    assert model.population() == pytest.approx(POPULATIONS[temperature], abs=6e-5)
    x, weights = annealed(model, 40_000)
    found = weights.average((model.phase(x) == 0).double()).item()
    plain, _ = annealed(model, 4_000, weighted=False)
    uncorrected = (model.phase(plain) == 0).double().mean().item()
    print(
        f"{temperature:g} K: p1 {found:.4f} with weights, {uncorrected:.4f} by the gradient alone, exact {model.population():.4f}"
    )
    record_property("p1", found)
    assert found == pytest.approx(POPULATIONS[temperature], rel=0.02)
    assert abs(uncorrected / POPULATIONS[temperature] - 1.0) > 0.3  # the gradient alone never learns the populations
    assert weights.effective_sizes[-1] > 1000


@pytest.mark.slow
@pytest.mark.parametrize("temperature", POPULATIONS)
def test_guided_reverse_diffusion_populates_as_the_closed_form_says(temperature):
    model = replace(SITES_ONLY, temperature=temperature)
    x, weights = guided_diffusion(model, 16, 16_000)
    found = weights.average((model.phase(x) == 0).double())
    plain, _ = guided_diffusion(model, 1, 20_000, weighted=False)
    uncorrected = (model.phase(plain) == 0).double().mean().item()
    error = (found.std() / 4).item()
    print(f"{temperature:g} K: p1 {found.mean():.4f} +- {error:.4f} with weights, {uncorrected:.4f} by guidance alone")
    assert found.mean().item() == pytest.approx(POPULATIONS[temperature], rel=0.02)
    assert abs(uncorrected / POPULATIONS[temperature] - 1.0) > 0.3


def test_mean_volume_is_the_pressure_derivative_of_the_free_energy():
    model = TwoPhases(300.0, 1.8)
    step, evidence = 0.3, {}
    for pressure in (1.8 - step, 1.8, 1.8 + step):
        x, weights = annealed(replace(model, pressure=pressure), 10_000)
        evidence[pressure] = weights.log_evidence.item()
        if pressure == 1.8:
            volume = weights.average(x[..., -1]).item()
            assert evidence[pressure] == pytest.approx(torch.logsumexp(model.log_z(), 0).item(), abs=0.03)
    by_weights = -model.thermal * (evidence[1.8 + step] - evidence[1.8 - step]) / (2 * step * eV_PER_A3_PER_GPa)
    exact = [torch.logsumexp(replace(model, pressure=1.8 + d).log_z(), 0).item() for d in (-1e-3, 1e-3)]
    closed = -model.thermal * (exact[1] - exact[0]) / (2e-3 * eV_PER_A3_PER_GPa)
    print(f"<V> {volume:.3f}, dG/dP of the weights {by_weights:.3f}, closed form {closed:.3f} A^3")
    assert volume == pytest.approx(closed, rel=0.02) and by_weights == pytest.approx(volume, rel=0.02)


def test_mean_energy_is_the_derivative_of_beta_f():
    model, evidence = TwoPhases(300.0), {}
    for temperature in (280.0, 300.0, 320.0):
        x, weights = annealed(replace(model, temperature=temperature), 20_000)
        evidence[temperature] = weights.log_evidence.item()
        if temperature == 300.0:
            energy = weights.average(model.energy(x)).item()
    beta = {t: 1.0 / (BOLTZMANN_eV_PER_K * t) for t in evidence}
    by_weights = -(evidence[280.0] - evidence[320.0]) / (beta[280.0] - beta[320.0])
    closed = 3.5 * model.thermal + (1.0 - model.population()) * model.gap
    print(f"<E> {energy:.5f}, d(beta F)/d(beta) of the weights {by_weights:.5f}, closed form {closed:.5f} eV")
    assert energy == pytest.approx(closed, rel=0.02) and by_weights == pytest.approx(energy, rel=0.02)


def test_clausius_clapeyron_slope():
    model, coexistence = TwoPhases(300.0), {}
    for temperature in (250.0, 350.0):
        odds = {}
        for pressure in (1.5, 2.7):
            x, weights = annealed(replace(model, temperature=temperature, pressure=pressure), 10_000)
            share = weights.average((model.phase(x) == 0).double()).item()
            odds[pressure] = math.log(share / (1 - share))
        # the log odds are linear in P (equal compressibility)
        coexistence[temperature] = 1.5 - odds[1.5] * 1.2 / (odds[2.7] - odds[1.5])
    slope = (coexistence[350.0] - coexistence[250.0]) / 100.0
    entropy = 3 * BOLTZMANN_eV_PER_K * math.log(4.0)  # of phase 2 over phase 1
    exact = entropy / ((model.volumes[1] - model.volumes[0]) * eV_PER_A3_PER_GPa)
    print(f"dP/dT {slope:.5f}, dS/dV {exact:.5f} GPa/K; coexistence {coexistence}")
    assert slope == pytest.approx(exact, rel=0.05)
