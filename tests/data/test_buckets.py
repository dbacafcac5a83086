"""The batch stream: everything once, within budget, seekable, repeatable."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_diffusion.data.buckets import BucketStream, padded_cost

SIZES = np.random.default_rng(0).integers(1, 30, 700)

SIZES_ST = st.lists(st.integers(1, 40), min_size=1, max_size=200).map(np.array)


@settings(max_examples=50, deadline=None)
@given(sizes=SIZES_ST, budget=st.integers(1, 2000), seed=st.integers(0, 9), number=st.integers(0, 5))
def test_an_epoch_holds_every_crystal_once_and_keeps_the_budget(sizes, budget: int, seed: int, number: int) -> None:
    batches = BucketStream(sizes, budget, seed).epoch(number)
    assert Counter(i for batch in batches for i in batch) == Counter(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or padded_cost(len(batch), int(sizes[batch].max())) <= budget


def test_batches_are_filled_and_padding_is_small() -> None:
    batches = BucketStream(SIZES, 2048).epoch(0)
    padded = sum(len(b) * SIZES[b].max() for b in batches)
    assert padded / SIZES.sum() < 1.35  # random batches of this table pad by 1.9
    assert len(batches) < 2 * sum(padded_cost(1, int(s)) for s in SIZES) / 2048


def test_epochs_and_seeds_differ() -> None:
    stream = BucketStream(SIZES, 512)
    assert stream.epoch(0) == stream.epoch(0)
    assert stream.epoch(0) != stream.epoch(1)
    assert stream.epoch(0) != BucketStream(SIZES, 512, seed=1).epoch(0)


@pytest.mark.parametrize("start", [1, 7, 150, 1000])
def test_starting_later_equals_skipping(start: int) -> None:
    assert len(BucketStream(SIZES, 512).epoch(0)) < 1000  # the last case lies beyond the first epoch
    whole = list(islice(iter(BucketStream(SIZES, 512)), start + 20))
    assert list(islice(iter(BucketStream(SIZES, 512, start=start)), 20)) == whole[start:]


@pytest.mark.parametrize("start", [0, 11, 1000])
def test_a_batch_that_is_computed_in_parts_comes_once_for_each(start: int) -> None:
    """A position in the stream counts optimiser steps, not parts."""
    whole = list(islice(iter(BucketStream(SIZES, 512, start=start)), 20))
    parts = list(islice(iter(BucketStream(SIZES, 512, start=start, repeat=3)), 60))
    assert parts == [batch for batch in whole for _ in range(3)]
