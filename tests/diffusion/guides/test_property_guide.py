"""The property head as a guide: probabilities of intervals, stable in the tails, of what is hidden from the head."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.condition_tensors import OPEN_END
from sse_diffusion.diffusion.guides.guide import Guide, Seen
from sse_diffusion.diffusion.guides.property_guide import POINT_WIDTH, PropertyGuide, log_interval_probability
from sse_diffusion.diffusion.model import CrystalModel

GIBBS, GAP = "gibbs_above_hull_eV_per_atom", "band_gap_eV"


def log_p(lo: float, hi: float, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    return log_interval_probability(torch.tensor([[[lo, hi]]]), torch.tensor([[mean]]), torch.tensor([[std]]))[0, 0]


@pytest.mark.parametrize(("lo", "hi"), [(-1.0, 1.0), (0.2, 0.3), (3.0, 5.0), (-5.0, -4.5), (-OPEN_END, 0.5), (1.0, OPEN_END)])
def test_as_scipy_says(lo: float, hi: float) -> None:
    mean, std = 0.25, 0.5
    ends = (-math.inf if lo == -OPEN_END else lo, math.inf if hi == OPEN_END else hi)
    a, b = ((x - mean) / std for x in ends)
    a, b = (-b, -a) if a + b > 0 else (a, b)  # scipy's own cdf is exact in the lower tail
    assert log_p(lo, hi, mean, std).item() == pytest.approx(math.log(norm.cdf(b) - norm.cdf(a)), abs=1e-5)


def test_a_point_is_a_narrow_interval() -> None:
    assert log_p(1.0, 1.0).item() == pytest.approx(norm.logpdf(1.0) + math.log(POINT_WIDTH), abs=1e-2)


@pytest.mark.parametrize("far", [40.0, -40.0, 3000.0])
def test_far_away_value_and_gradient_are_those_of_the_tail(far: float) -> None:
    """log Phi(-x) ~ -x^2 / 2 - log x: finite, and pulling towards the interval."""
    mean = torch.tensor([[far]], requires_grad=True)
    value = log_interval_probability(torch.tensor([[[-1.0, 1.0]]]), mean, torch.ones(1, 1)).sum()
    (slope,) = torch.autograd.grad(value, mean)
    gap = abs(far) - 1.0
    assert value.item() == pytest.approx(-0.5 * gap**2 - math.log(gap) - 0.5 * math.log(2 * math.pi), rel=1e-3)
    assert slope.item() == pytest.approx(-math.copysign(gap + 1 / gap, far), rel=1e-3)


def test_what_is_not_asked_weighs_nothing_and_has_no_gradient() -> None:
    mean = torch.tensor([[3.0]], requires_grad=True)
    value = log_interval_probability(torch.tensor([[[math.nan, math.nan]]]), mean, torch.ones(1, 1)).sum()
    (slope,) = torch.autograd.grad(value, mean)
    assert value.item() == 0.0 and slope.item() == 0.0


def crystals(model: CrystalModel, n: int = 3, **asked: torch.Tensor) -> OrbitBatch:
    table = wyckoff_table()
    general = table.positions(19)[-1]
    generator = torch.Generator().manual_seed(3)
    return OrbitBatch(
        group=torch.full((n,), 19), cell=torch.tensor([[0.0, 0, 0, 0.05, 0.02, 1.9]]).repeat(n, 1),
        species=torch.tensor([[3, 16]]).repeat(n, 1) + torch.arange(n)[:, None], wyckoff=torch.full((n, 2), general),
        free=torch.rand(n, 2, 3, generator=generator), mask=torch.ones(n, 2, dtype=torch.bool),
        conditions={**model.null_conditions(n), **asked},
    )  # fmt: skip


def test_what_is_asked_is_hidden_from_the_head_and_the_rest_is_not(judging: CrystalModel) -> None:
    guide = PropertyGuide(judging, [GIBBS], {"discrete": 1.0})
    assert isinstance(guide, Guide) and guide.stages == {"discrete"}
    asked = {GIBBS: torch.tensor([[-6.0, 0.5]] * 3), "temperature_K": torch.full((3, 2), -0.5)}
    batch = crystals(judging, **asked)
    with torch.no_grad():
        column = judging.denoiser.property_names.index(GIBBS)
        hidden = judging.denoiser.discrete(crystals(judging, temperature_K=asked["temperature_K"])).properties
        told = judging.denoiser.discrete(batch).properties
        assert not torch.allclose(hidden.mean, told.mean, atol=1e-4)
        z = (0.5 - hidden.mean[:, column]) / hidden.log_std[:, column].exp()
        torch.testing.assert_close(
            guide.log_likelihood(Seen("discrete", batch)), torch.special.log_ndtr(z.double()), atol=1e-5, rtol=1e-5
        )
        hot = crystals(judging, **{**asked, "temperature_K": torch.full((3, 2), 1.5)})
        assert not torch.allclose(
            guide.log_likelihood(Seen("discrete", hot)), guide.log_likelihood(Seen("discrete", batch)), atol=1e-4
        )


def test_the_final_word_replaces_the_first(judging: CrystalModel) -> None:
    """What is said at both stages adds up to the judgement of the finished crystal, which sees coordinates and cell."""
    batch = crystals(judging, **{GIBBS: torch.tensor([[-6.0, 0.5]] * 3)})
    moved = batch.with_(free=(batch.free + 0.2) % 1.0, cell=batch.cell + torch.tensor([0.0, 0, 0, 0, 0, 0.1]))
    both = PropertyGuide(judging, [GIBBS], {"discrete": 3.0, "final": 2.0})
    alone = PropertyGuide(judging, [GIBBS], {"final": 2.0})
    with torch.no_grad():
        total = both.log_likelihood(Seen("discrete", batch)) + both.log_likelihood(Seen("final", batch))
        torch.testing.assert_close(total, alone.log_likelihood(Seen("final", batch)))
        assert not torch.allclose(total, alone.log_likelihood(Seen("final", moved)), atol=1e-5)


def test_strength_and_independent_fields(judging: CrystalModel) -> None:
    asked = {GIBBS: torch.tensor([[-6.0, 0.5]] * 3), GAP: torch.tensor([[0.3, 1.0]] * 3)}
    seen = Seen("discrete", crystals(judging, **asked))
    with torch.no_grad():
        both, twice = (PropertyGuide(judging, [GIBBS, GAP], {"discrete": s}).log_likelihood(seen) for s in (1.0, 2.0))
        torch.testing.assert_close(twice, 2 * both)
        none = PropertyGuide(judging, [GIBBS, GAP], {"discrete": 1.0}).log_likelihood(Seen("discrete", crystals(judging)))
        assert torch.equal(none, torch.zeros(3, dtype=torch.float64))
