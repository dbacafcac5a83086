"""The forward processes: exact scores, priors at t = 1, targets of unit variance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from sse_diffusion.core.lattice import cell_fixed_value, cell_free, lattice_to_log, log_to_lattice
from sse_diffusion.core.rng import categorical, normal, uniform
from sse_diffusion.diffusion.corruption.cell import CellNoise, cell_statistics
from sse_diffusion.diffusion.corruption.coordinates import CoordinateNoise, CoordinateNoiseConfig, wrapped_score


def density(x: float, sigma: float) -> float:
    """Wrapped normal by its Fourier series: an independent formula."""
    return 1.0 + 2.0 * sum(math.exp(-2 * (math.pi * k * sigma) ** 2) * math.cos(2 * math.pi * k * x) for k in range(1, 200))


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("multiple", [0.3, 1.0, -2.5, 4.0])
def test_score_is_the_derivative_of_the_log_density(sigma: float, multiple: float) -> None:
    x, h = multiple * sigma, 1e-5
    expected = (math.log(density(x + h, sigma)) - math.log(density(x - h, sigma))) / (2 * h)
    got = wrapped_score(torch.tensor([x], dtype=torch.float64), torch.tensor([sigma], dtype=torch.float64)).item()
    assert got == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_target_has_unit_variance_at_every_time() -> None:
    noise = CoordinateNoise(CoordinateNoiseConfig())
    index = torch.arange(4000)
    for t in (0.05, 0.5, 0.8, 1.0):
        eps = normal(0, index, 1, (1, 3))
        _, target = noise.corrupt(torch.zeros(4000, 1, 3), torch.full((4000,), t), eps, torch.ones(4000, 1, 3, dtype=torch.bool))
        assert target.square().mean().item() == pytest.approx(1.0, abs=0.06)


def test_coordinates_are_uniform_at_the_end() -> None:
    """Prior recovered at t = 1: first Fourier coefficient below 1.5 %, whatever the clean coordinate."""
    noise = CoordinateNoise(CoordinateNoiseConfig())
    index = torch.arange(50_000)
    clean = torch.full((50_000, 1, 3), 0.3)
    noisy, _ = noise.corrupt(clean, torch.ones(50_000), normal(1, index, 1, (1, 3)), torch.ones_like(clean, dtype=torch.bool))
    coefficient = torch.exp(2j * math.pi * noisy[..., 0]).mean().abs().item()
    assert coefficient < math.exp(-2 * math.pi**2 * 0.25) + 3 / math.sqrt(50_000)
    assert noisy.min() >= 0.0 and noisy.max() < 1.0


def test_norm_table_is_the_integral() -> None:
    noise = CoordinateNoise(CoordinateNoiseConfig())
    t = 0.9
    sigma = noise.sigma(torch.tensor([t], dtype=torch.float64))

    def integrand(e: float) -> float:
        score = wrapped_score(sigma * e, sigma)
        return float((sigma * score) ** 2 * math.exp(-0.5 * e * e) / math.sqrt(2 * math.pi))

    assert noise.norm(torch.tensor([t])).item() == pytest.approx(math.sqrt(quad(integrand, -6, 6)[0]), rel=1e-2)


def test_cell_reaches_the_standard_normal_and_v_recovers_the_clean_cell() -> None:
    noise = CellNoise()
    group = torch.full((2000,), 2)
    x = normal(0, torch.arange(2000), 1, (6,)) * 0.3 + 1.0
    eps = normal(0, torch.arange(2000), 2, (6,))
    end, _ = noise.corrupt(x, torch.ones(2000), eps, group)
    torch.testing.assert_close(end, eps, atol=1e-5, rtol=0)
    t = torch.full((2000,), 0.37)
    x_t, v = noise.corrupt(x, t, eps, group)
    signal, spread = noise.signal_and_noise(t)
    torch.testing.assert_close(signal * x_t - spread * v, x, atol=1e-5, rtol=1e-5)


def test_cell_standardisation_round_trip_and_families() -> None:
    noise = CellNoise()
    rng = np.random.default_rng(0)
    group = rng.integers(1, 231, 300)
    cell = np.where(cell_free()[group], rng.normal(size=(300, 6)) * 0.2, cell_fixed_value()[group])
    atoms = rng.integers(2, 60, 300)
    noise.fit(group, cell, atoms)
    g, k, n = torch.tensor(group), torch.tensor(cell, dtype=torch.float32), torch.tensor(atoms)
    torch.testing.assert_close(noise.restore(noise.standardise(k, g, n), g, n), k, atol=1e-5, rtol=1e-5)
    mean, std = cell_statistics(group, cell, atoms)
    assert mean.shape == std.shape == (6, 6)


@pytest.mark.parametrize(
    ("parameters", "group"), [((4, 4, 4, 90, 90, 90), 225), ((4, 4, 7, 90, 90, 120), 194), ((3, 4, 5, 90, 110, 90), 14)]
)
def test_crystal_families_are_linear_in_the_log_cell(parameters: tuple[float, ...], group: int) -> None:
    from pymatgen.core import Lattice

    k = lattice_to_log(torch.tensor(Lattice.from_parameters(*parameters).matrix.copy()))
    fixed = ~torch.tensor(cell_free()[group])
    torch.testing.assert_close(k[fixed], torch.tensor(cell_fixed_value()[group])[fixed], atol=1e-6, rtol=0)
    assert Lattice(log_to_lattice(k).numpy()).parameters == pytest.approx(parameters, abs=1e-5)


def test_random_streams_do_not_depend_on_the_batch() -> None:
    whole = normal(3, torch.arange(100), 7, (5,))
    assert torch.equal(whole[40:60], normal(3, torch.arange(40, 60), 7, (5,)))
    assert torch.equal(normal(3, torch.arange(4), 7, (9, 3))[:, :5], normal(3, torch.arange(4), 7, (5, 3)))
    assert not torch.equal(whole, normal(4, torch.arange(100), 7, (5,)))
    assert not torch.equal(whole, normal(3, torch.arange(100), 8, (5,)))


def test_categorical_draws_the_probabilities_and_never_a_forbidden_choice() -> None:
    logits = torch.tensor([0.0, math.log(3.0), -math.inf, 0.0]).expand(40_000, 4)
    drawn = categorical(logits, uniform(0, torch.arange(40_000), 1, ()).view(-1))
    share = torch.bincount(drawn, minlength=4) / 40_000
    assert share[2] == 0.0
    torch.testing.assert_close(share, torch.tensor([0.2, 0.6, 0.0, 0.2]), atol=0.01, rtol=0)
    ends = torch.tensor([1e-18, 1 - 1e-16], dtype=torch.float64)
    assert categorical(torch.tensor([[-math.inf, 0.0, -math.inf]]).expand(2, 3), ends).tolist() == [1, 1]
