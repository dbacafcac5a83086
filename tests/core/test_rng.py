"""Stateless random numbers: addressed, not consumed; and random enough."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from sse_diffusion.core.rng import normal, uniform

SEED = st.integers(0, 2**62)


@settings(max_examples=50, deadline=None)
@given(seed=SEED, stream=st.integers(0, 2**40), start=st.integers(0, 10**9), n=st.integers(1, 40))
def test_a_draw_depends_on_its_address_only(seed: int, stream: int, start: int, n: int) -> None:
    index = torch.arange(start, start + n)
    together = uniform(seed, index, stream, (3,))
    shuffled = uniform(seed, index.flip(0), stream, (3,)).flip(0)
    assert torch.equal(together, shuffled)
    assert torch.equal(together[-1:], uniform(seed, index[-1:], stream, (3,)))
    assert ((together > 0) & (together < 1)).all()


@settings(max_examples=50, deadline=None)
@given(seed=SEED, stream=st.integers(0, 2**40))
def test_a_longer_draw_starts_with_the_shorter_one(seed: int, stream: int) -> None:
    """Padding a batch with more orbits must not change the noise of the others."""
    index = torch.arange(5)
    assert torch.equal(uniform(seed, index, stream, (9, 3))[:, :4], uniform(seed, index, stream, (4, 3)))


@pytest.mark.parametrize("what", ["index", "stream", "seed", "component"])
def test_neighbouring_addresses_are_independent_and_uniform(what: str) -> None:
    n, one = 20_000, torch.zeros(1, dtype=torch.int64)
    draws = {
        "index": lambda: uniform(0, torch.arange(n), 1, ()),
        "stream": lambda: torch.cat([uniform(0, one, s, ()) for s in range(800)]),
        "seed": lambda: torch.cat([uniform(s, one, 1, ()) for s in range(800)]),
        "component": lambda: uniform(0, one, 1, (n,)),
    }[what]().flatten().numpy()  # fmt: skip
    assert kstest(draws, "uniform").pvalue > 1e-3
    assert len(np.unique(draws)) == len(draws)
    for lag in (1, 2, 7):
        correlation = np.corrcoef(draws[:-lag], draws[lag:])[0, 1]
        assert abs(correlation) < 4 / math.sqrt(len(draws))


def test_normals_are_normal() -> None:
    z = normal(7, torch.arange(5000), 3, (4,))
    assert z.dtype == torch.float32 and z.shape == (5000, 4)
    assert kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(z.T.numpy()) - np.eye(4)).max() < 0.06
