"""Gradient guidance: the chain through geometry and cell, the cut, and closed forms with exact scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.corruption.coordinates import wrapped_score
from sse_diffusion.diffusion.denoiser import ContinuousOutput, Properties
from sse_diffusion.diffusion.guidance import guided_continuous
from sse_diffusion.diffusion.guides.guide import Guide, Seen, Stage
from sse_diffusion.diffusion.guides.property_guide import PropertyGuide
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig, sampler

GIBBS = "gibbs_above_hull_eV_per_atom"
UNBOUNDED = 1e9


@dataclass
class Given:
    """A guide from a function."""

    value: Callable[[Seen], torch.Tensor]
    stages: frozenset[Stage] = frozenset({"continuous"})

    def log_likelihood(self, seen: Seen) -> torch.Tensor:
        return self.value(seen)


def noisy(model: CrystalModel, n: int = 2) -> tuple[OrbitBatch, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Orthorhombic crystals with one special and one general orbit, their standardised cells and times."""
    table = wyckoff_table()
    sites = [table.positions(62)[2], table.positions(62)[-1]]
    generator = torch.Generator().manual_seed(5)
    batch = OrbitBatch(
        group=torch.full((n,), 62), cell=torch.zeros(n, 6), species=torch.tensor([[3, 16]]).repeat(n, 1),
        wyckoff=torch.tensor([sites]).repeat(n, 1), free=torch.rand(n, 2, 3, generator=generator),
        mask=torch.ones(n, 2, dtype=torch.bool),
        conditions={**model.null_conditions(n), GIBBS: torch.tensor([[-6.0, -1.0]] * n)},
    )  # fmt: skip
    batch = batch.with_(free=batch.free * model.is_free(batch))
    x = torch.tensor([[0.0, 0, 0, 0.03, -0.02, 1.2]]).repeat(n, 1) * model.cell_noise.is_free[batch.group]
    batch = batch.with_(cell=model.cell_noise.restore(x, batch.group, model.atoms(batch)))
    return batch, x, torch.tensor([0.3, 0.6])[:n], torch.tensor([0.5, 0.2])[:n]


def test_the_change_is_the_derivative_of_the_likelihood(judging: CrystalModel) -> None:
    """Finite differences of the head through neighbours, angles and cell; sign and scale as the corruptions define them."""
    model, guide = judging, PropertyGuide(judging, [GIBBS], {"continuous": 1.0})
    batch, x, t, t_cell = noisy(model)
    with torch.no_grad():
        plain = guided_continuous(model, batch, x, t, t_cell, 1.0)
        guided = guided_continuous(model, batch, x, t, t_cell, 1.0, [guide], UNBOUNDED)

        def likelihood(free: torch.Tensor, x_cell: torch.Tensor) -> torch.Tensor:
            cell = model.cell_noise.restore(x_cell, batch.group, model.atoms(batch))
            return guide.log_likelihood(Seen("continuous", batch.with_(free=free, cell=cell), x_cell, t, t_cell))

        step = 2e-3
        sigma, scale = model.coordinate_noise.sigma(t), model.coordinate_noise.norm(t)
        for slot, axis in ((0, 0), (1, 0), (1, 1), (1, 2)):
            shift = torch.zeros_like(batch.free)
            shift[:, slot, axis] = step
            slope = (likelihood(batch.free + shift, x) - likelihood(batch.free - shift, x)) / (2 * step)
            change = (guided.free - plain.free)[:, slot, axis] * scale / sigma
            torch.testing.assert_close(change, slope.float(), atol=0.03 * slope.abs().max().item() + 2e-3, rtol=0.05)
        signal, spread = model.cell_noise.signal_and_noise(t_cell)
        for k in (3, 4, 5):
            shift = torch.zeros_like(x)
            shift[:, k] = step
            slope = (likelihood(batch.free, x + shift) - likelihood(batch.free, x - shift)) / (2 * step)
            change = -(guided.cell - plain.cell)[:, k] * (signal / spread)[:, 0]
            torch.testing.assert_close(change, slope.float(), atol=0.03 * slope.abs().max().item() + 2e-3, rtol=0.05)
    assert (guided.free - plain.free).abs().max() > 1e-4 and (guided.cell - plain.cell).abs().max() > 1e-4
    fixed = ~model.is_free(batch)
    assert torch.equal(guided.free[fixed], plain.free[fixed]) and torch.equal(guided.cell[:, :3], plain.cell[:, :3])


def test_the_change_is_cut_to_the_length_of_the_output(judging: CrystalModel) -> None:
    batch, x, t, t_cell = noisy(judging)
    steep = Given(lambda seen: 1e6 * (seen.batch.free.sum(dim=(1, 2)) + seen.batch.cell.sum(1)))
    with torch.no_grad():
        plain = guided_continuous(judging, batch, x, t, t_cell, 1.0)
        for clip in (0.0, 0.5):
            guided = guided_continuous(judging, batch, x, t, t_cell, 1.0, [steep], clip)
            for a, b in ((guided.free, plain.free), (guided.cell, plain.cell)):
                change, length = ((y).flatten(1).norm(dim=1) for y in (a - b, b))
                torch.testing.assert_close(change, clip * length, atol=1e-5, rtol=1e-4)


CENTRE, WIDTH, CELL_MEAN, CELL_WIDTH = 0.3, 0.06, 0.4, 0.5
WISH, CELL_WISH, ERROR, CELL_ERROR = 0.38, 1.2, 0.08, 0.7


def posterior(mean: float, width: float, wish: float, error: float) -> tuple[float, float]:
    """Mean and standard deviation of a Gaussian once a measurement came out as wished."""
    precision = width**-2 + error**-2
    return (mean / width**2 + wish / error**2) / precision, math.sqrt(1 / precision)


def log_wrapped(u: torch.Tensor, mean: float, width: float, sigma: torch.Tensor) -> torch.Tensor:
    """log density, up to a constant, of a wrapped normal after noise."""
    off = (u - mean - (u - mean).round()).unsqueeze(-1) + torch.arange(-4, 5)
    return torch.logsumexp(-0.5 * off**2 / (width**2 + sigma**2).unsqueeze(-1), dim=-1)


def log_normal(x: torch.Tensor, mean: float, width: float, signal: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """The same of a normal under the cell's process."""
    return -0.5 * (x - signal * mean) ** 2 / ((signal * width) ** 2 + spread**2)


def atoms_in_p1(model: CrystalModel, n: int) -> OrbitBatch:
    one = Orbits(1, np.array([0, 0, 0, 0, 0, 1.2]), np.array([3]), np.array([wyckoff_table().positions(1)[0]]), np.zeros((1, 3)))
    return OrbitBatch.from_orbits([one] * n, model.null_conditions(n))


@contextmanager
def exact_score(model: CrystalModel) -> Iterator[None]:
    """The network's outputs for Gaussian data: coordinates around CENTRE, cell around CELL_MEAN."""

    def continuous(batch: OrbitBatch, x: torch.Tensor, t: torch.Tensor, t_cell: torch.Tensor) -> ContinuousOutput:
        sigma = model.coordinate_noise.sigma(t)[:, None, None].expand_as(batch.free)
        score = wrapped_score(batch.free - CENTRE, (sigma**2 + WIDTH**2).sqrt())
        signal, spread = model.cell_noise.signal_and_noise(t_cell)
        total = (signal * CELL_WIDTH) ** 2 + spread**2
        clean = (CELL_MEAN * spread**2 + CELL_WIDTH**2 * signal * x) / total
        eps = spread * (x - signal * CELL_MEAN) / total
        free = score * sigma / model.coordinate_noise.norm(t)[:, None, None]
        return ContinuousOutput(free, signal * eps - spread * clean, Properties(*torch.zeros(2, len(t), 0)))

    model.denoiser.__dict__["continuous"] = continuous
    try:
        yield
    finally:
        del model.denoiser.__dict__["continuous"]


def exact_guide(model: CrystalModel) -> Guide:
    """log p(measured = wish | noisy), every free coordinate and the last cell component being measured with Gaussian error.

    By Bayes it is the noisy density after the measurement over that before.
    """

    def value(seen: Seen) -> torch.Tensor:
        assert seen.x_cell is not None and seen.t is not None and seen.t_cell is not None
        u, sigma = seen.batch.free, model.coordinate_noise.sigma(seen.t)[:, None, None]
        of_free = log_wrapped(u, *FREE_AFTER, sigma) - log_wrapped(u, CENTRE, WIDTH, sigma)
        x, noise = seen.x_cell[:, -1:], model.cell_noise.signal_and_noise(seen.t_cell)
        of_cell = log_normal(x, *CELL_AFTER, *noise) - log_normal(x, CELL_MEAN, CELL_WIDTH, *noise)
        return of_free.sum(dim=(1, 2)) + of_cell[:, 0]

    return Given(value)


FREE_AFTER = posterior(CENTRE, WIDTH, WISH, ERROR)
CELL_AFTER = posterior(CELL_MEAN, CELL_WIDTH, CELL_WISH, CELL_ERROR)


@pytest.mark.parametrize(("name", "steps"), [("euler_ancestral", 80), ("heun", 40)])
def test_the_guided_distribution_is_bayes(name: str, steps: int, judging: CrystalModel) -> None:
    """Gaussian data on the torus and on the line, exact score and likelihood: means and widths of the closed form."""
    batch, call = atoms_in_p1(judging, 3000), sampler(name)
    config, index = SamplerConfig(steps=steps, gradient_clip=UNBOUNDED), torch.arange(3000)
    with exact_score(judging), torch.no_grad():
        plain = call(judging, batch, config, 0, index)
        guided = call(judging, batch, config, 0, index, guides=[exact_guide(judging)])
    mean, width = FREE_AFTER
    assert guided.free.mean().item() == pytest.approx(mean, abs=0.003) != pytest.approx(plain.free.mean().item(), abs=0.02)
    assert guided.free.std().item() == pytest.approx(width, rel=0.08)
    x = judging.cell_noise.standardise(guided.cell, batch.group, judging.atoms(batch))
    mean, width = CELL_AFTER
    assert x[:, -1].mean().item() == pytest.approx(mean, abs=0.04)
    assert x[:, -1].std().item() == pytest.approx(width, rel=0.1)
    assert x[:, 0].mean().item() == pytest.approx(CELL_MEAN, abs=0.05)  # nothing was asked of the others


@pytest.mark.parametrize("name", ["euler_ancestral", "heun", "predictor_corrector"])
def test_guides_of_other_stages_leave_the_samplers_alone(name: str, judging: CrystalModel) -> None:
    batch, call, config = atoms_in_p1(judging, 4), sampler(name), SamplerConfig(steps=4)
    silent = Given(exact_guide(judging).log_likelihood, frozenset({"discrete"}))
    made = [call(judging, batch, config, 0, torch.arange(4), guides=guides) for guides in ((), (silent,))]
    assert torch.equal(made[0].free, made[1].free) and torch.equal(made[0].cell, made[1].cell)
    moved = call(judging, batch, config, 0, torch.arange(4), guides=(exact_guide(judging),))
    assert not torch.allclose(made[0].cell, moved.cell, atol=1e-4)
