"""The conductivity head as a guide: closed form, gradient, steering, its own trunk only, and who judges when."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import pytest
import torch
from scipy.stats import norm

from sse_diffusion.core.errors import CheckpointError, ConfigError
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.diffusion.conductivity_head import ConductivityHead, ConductivityHeadConfig
from sse_diffusion.diffusion.guidance import guided_continuous
from sse_diffusion.diffusion.guides import choose
from sse_diffusion.diffusion.guides.choose import choose_guides
from sse_diffusion.diffusion.guides.conductivity_guide import CONDUCTIVITY, ConductivityGuide
from sse_diffusion.diffusion.guides.guide import Seen, Stage
from sse_diffusion.diffusion.guides.predictor_guide import PredictorGuide
from sse_diffusion.diffusion.guides.property_guide import crystal_token
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig, sampler
from sse_diffusion.testing.batches import crystals
from sse_diffusion.thermo.conditions import load_judged_specs
from sse_diffusion.thermo.request import Interval

SPEC = load_judged_specs()[CONDUCTIVITY]
FAST, SLOW = Interval(1e-4, math.inf), Interval(0.0, 1e-9)
STATE = (300.0, 1e-4)


@pytest.fixture(scope="module")
def head() -> ConductivityHead:
    """Random weights, larger than fresh ones; it answers -7 +- 2, more or less."""
    torch.manual_seed(3)
    made = ConductivityHead(ConductivityHeadConfig(width=32, hidden=16, center=-7.0, scale=2.0)).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.mul_(3.0)
    return made


def guide(
    model: CrystalModel, head: ConductivityHead, asked: Interval, stage: Stage = "continuous", temperature_K: float = 300.0
) -> ConductivityGuide:
    return ConductivityGuide(model, head, SPEC, asked, {stage: 1.0}, temperature_K)


def noisy(model: CrystalModel, *formulas: str) -> tuple[OrbitBatch, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Crystals in P1, their standardised cells and times."""
    batch = crystals(model, *formulas)
    x = model.cell_noise.standardise(batch.cell, batch.group, model.atoms(batch))
    return batch, x, torch.linspace(0.3, 0.6, len(batch)), torch.linspace(0.5, 0.2, len(batch))


@pytest.mark.parametrize("asked", [FAST, SLOW, Interval(1e-8, 1e-6)])
@pytest.mark.parametrize("temperature_K", [300.0, 500.0])
def test_closed_form(judging: CrystalModel, head: ConductivityHead, asked: Interval, temperature_K: float) -> None:
    """The interval's probability at the temperature asked for, times that of the domain."""
    batch = crystals(judging, "Li2O", "LiCl")
    with torch.no_grad():
        said = head(judging.denoiser.crystal(batch))
        found = guide(judging, head, asked, "discrete", temperature_K).log_likelihood(Seen("discrete", batch))
    tau = (1 / temperature_K - 1 / 300.0) / (8.617333262e-5 * math.log(10.0))
    mean = said.mean.double().numpy() - 0.4 * tau - math.log10(temperature_K / 300.0)
    lo, hi = (math.log10(end) if end > 0 else -math.inf for end in (asked.lo, asked.hi))
    probability = norm.cdf((hi - mean) / said.std.numpy()) - norm.cdf((lo - mean) / said.std.numpy())
    assert found.exp().tolist() == pytest.approx((probability * said.domain.sigmoid().numpy()).tolist(), rel=2e-4)


def test_the_change_is_the_derivative_of_the_likelihood(judging: CrystalModel, head: ConductivityHead) -> None:
    """Finite differences through neighbours, cell and head; sign and scale as the corruptions define them."""
    model, wish = judging, guide(judging, head, FAST)
    batch, x, t, t_cell = noisy(model, "LiCl", "Li2O")
    with torch.no_grad():
        plain = guided_continuous(model, batch, x, t, t_cell, 1.0)
        guided = guided_continuous(model, batch, x, t, t_cell, 1.0, [wish], 1e9)

        def likelihood(free: torch.Tensor, x_cell: torch.Tensor) -> torch.Tensor:
            cell = model.cell_noise.restore(x_cell, batch.group, model.atoms(batch))
            return wish.log_likelihood(Seen("continuous", batch.with_(free=free, cell=cell), x_cell, t, t_cell))

        step = 5e-4  # neighbours leave the cutoff with a slope, not smoothly
        sigma, scale = model.coordinate_noise.sigma(t), model.coordinate_noise.norm(t)
        for axis in range(3):
            shift = torch.zeros_like(batch.free)
            shift[:, 1, axis] = step
            slope = ((likelihood(batch.free + shift, x) - likelihood(batch.free - shift, x)) / (2 * step)).float()
            change = (guided.free - plain.free)[:, 1, axis] * scale / sigma
            torch.testing.assert_close(change, slope, atol=0.03 * slope.abs().max().item() + 2e-3, rtol=0.05)
        signal, spread = model.cell_noise.signal_and_noise(t_cell)
        shift = torch.zeros_like(x)
        shift[:, 5] = step
        slope = ((likelihood(batch.free, x + shift) - likelihood(batch.free, x - shift)) / (2 * step)).float()
        change = -(guided.cell - plain.cell)[:, 5] * (signal / spread)[:, 0]
        torch.testing.assert_close(change, slope, atol=0.03 * slope.abs().max().item() + 2e-3, rtol=0.05)
    assert (guided.free - plain.free).abs().max() > 1e-4 and (guided.cell - plain.cell).abs().max() > 1e-4


def test_asking_for_more_moves_the_judged_value_up(judging: CrystalModel, head: ConductivityHead) -> None:
    """Sampled with the same streams: fast above nothing asked, slow below."""
    batch, config = crystals(judging, *["Li2O", "LiCl", "Li3N", "Li2S"] * 6), SamplerConfig(steps=12, gradient_clip=10.0)

    def judged(asked: Interval | None) -> float:
        guides = [] if asked is None else [ConductivityGuide(judging, head, SPEC, asked, {"continuous": 20.0}, 300.0)]
        with torch.no_grad():
            made = sampler("euler_ancestral")(judging, batch, config, 0, torch.arange(len(batch)), guides=guides)
            return float(head(crystal_token(judging, Seen("final", made))).mean.mean())

    assert judged(FAST) > judged(None) + 0.02 > judged(SLOW) + 0.04


def test_the_trunk_says_what_it_said(judging: CrystalModel, head: ConductivityHead, tmp_path: Path) -> None:
    """Bit for bit, with the head saved, loaded and at work."""
    batch, x, t, t_cell = noisy(judging, "Li2O", "LiCl")

    def outputs() -> list[torch.Tensor]:
        with torch.no_grad():
            early, late = judging.denoiser.discrete(batch), judging.denoiser.continuous(batch, x, t, t_cell)
        return [early.group, early.wyckoff, early.species, late.free, late.cell, *vars(early.properties).values()]

    before = outputs()
    head.save(tmp_path, judging, "mine")
    loaded = ConductivityHead.load(tmp_path, judging)
    with torch.no_grad():
        guided_continuous(judging, batch, x, t, t_cell, 1.0, [guide(judging, loaded, FAST)])
        tokens = judging.denoiser.crystal(batch, x, t, t_cell), judging.denoiser.crystal(batch)
        for mine, its in zip(tokens, (judging.denoiser.continuous(batch, x, t, t_cell), judging.denoiser.discrete(batch))):
            assert torch.equal(judging.denoiser.properties(mine).mean, its.properties.mean)
        for mine, its in zip(vars(head(tokens[0])).values(), vars(loaded(tokens[0])).values(), strict=True):
            assert torch.equal(mine, its)
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(), strict=True))


def test_another_trunk_is_refused(judging: CrystalModel, head: ConductivityHead, tmp_path: Path) -> None:
    head.save(tmp_path, judging, "mine")
    with torch.no_grad():
        judging.denoiser.norm.bias[0] += 1e-6
    try:
        with pytest.raises(CheckpointError, match="features of mine, these are other weights"):
            ConductivityHead.load(tmp_path, judging)
    finally:
        with torch.no_grad():
            judging.denoiser.norm.bias[0] -= 1e-6


def test_who_judges(judging: CrystalModel, head: ConductivityHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head.save(tmp_path, judging, "mine")
    monkeypatch.setattr(choose, "load_predictor", functools.cache(choose.load_predictor))

    def stages(**settings: object) -> dict[type, set[str]]:
        config = SamplerConfig(**{"conductivity_head": str(tmp_path), **settings})  # type: ignore[arg-type]
        return {type(g): set(g.stages) for g in choose_guides(judging, {CONDUCTIVITY: FAST}, config, (), STATE)}

    assert stages(gradient_strength=1.0) == {ConductivityGuide: {"continuous"}}
    assert stages(particles=4) == {PredictorGuide: {"discrete"}}
    both = stages(particles=4, gradient_strength=1.0)
    assert both == {PredictorGuide: {"discrete"}, ConductivityGuide: {"continuous"}}
    alone = stages(particles=4, finish_particles=True, conductivity_judges=("head",))
    assert alone == {ConductivityGuide: {"discrete", "final"}}
    together = stages(particles=4, conductivity_judges=("composition", "head"))
    assert together == {PredictorGuide: {"discrete"}, ConductivityGuide: {"discrete"}}
    assert stages(particles=4, conductivity_head=None) == {PredictorGuide: {"discrete"}}
    with pytest.raises(ConfigError, match="among several particles"):
        stages(gradient_strength=1.0, conductivity_head=None)
    with pytest.raises(ConfigError, match="nobody is called 'haed'"):
        stages(particles=4, conductivity_judges=("haed",))
    for nobody in ({"conductivity_judges": ()}, {"conductivity_judges": ("head",), "conductivity_head": None}):
        with pytest.raises(ConfigError, match="nobody judges"):
            stages(particles=4, **nobody)
    for name, value in (("gradient_strength", -1.0), ("gradient_clip", -1.0), ("particle_strength", float("inf"))):
        with pytest.raises(ConfigError, match=name):
            stages(particles=4, **{name: value})
    with pytest.raises(ConfigError, match=r"knows Li only, ask\.mobile_ion is Na"):
        config = SamplerConfig(conductivity_head=str(tmp_path), gradient_strength=1.0)
        choose_guides(judging, {CONDUCTIVITY: FAST, "mobile_ion": "Na"}, config, (), STATE)
