"""Dynamic batches of similar size as an endless, seekable stream: batch ``s`` is the same however often a run stopped.

One batch is one optimiser step of the whole run: processes and accumulated parts share it out by rows, so their number
changes neither the stream nor what a position in it means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

POOL_BATCHES = 32
"""Batches that are sorted by size together: larger pads less, smaller shuffles better."""


def padded_cost(n_crystals: int, n_orbits: int) -> int:
    """Cost of a padded batch in tokens; pairs make large crystals dearer than their number of orbits."""
    return n_crystals * (n_orbits + 1) * (8 + n_orbits) // 8


@dataclass(frozen=True)
class Views:
    """A second view of every crystal that an epoch shows instead of the first one, some of the time.

    Attributes:
        sizes: (n,) orbits in this view.
        share: of the crystals that are shown so.
    """

    sizes: np.ndarray
    share: float


class BucketStream(Sampler[list[int]]):
    """Endless batches of indices, grouped by number of orbits under a token budget.

    Args:
        sizes: (n,) orbits of each crystal.
        max_tokens: budget per batch (see :func:`padded_cost`).
        seed: of the shuffling.
        start: number of batches that a resumed run has consumed.
        repeat: times that each batch comes in a row, for a step that computes it in parts.
        views: of every crystal, a second one; it comes as index ``i + n``.
        on_epoch: told the number of an epoch before its first batch.
    """

    def __init__(
        self, sizes: np.ndarray, max_tokens: int, seed: int = 0, start: int = 0, repeat: int = 1, views: Views | None = None,
        on_epoch: Callable[[int], object] = lambda number: None,
    ) -> None:  # fmt: skip
        self.on_epoch = on_epoch
        self.sizes, self.max_tokens, self.seed = np.asarray(sizes), max_tokens, seed
        self.start, self.repeat, self.views = start, repeat, views

    def epoch(self, number: int) -> list[list[int]]:
        """All batches of one pass over the data; every crystal appears exactly once, in one of its views."""
        rng = np.random.default_rng((self.seed, number))
        order, sizes = rng.permutation(len(self.sizes)), self.sizes
        if self.views is not None:
            drawn = np.random.default_rng((self.seed, number, 1)).random(len(order)) < self.views.share
            order, sizes = order + len(order) * drawn, np.concatenate([self.sizes, self.views.sizes])
        mean = max(1, int(self.max_tokens / max(1.0, padded_cost(1, int(sizes[order].mean())))))
        pool = POOL_BATCHES * mean
        batches: list[list[int]] = []
        for low in range(0, len(order), pool):
            part = order[low : low + pool]
            part = part[np.argsort(sizes[part], kind="stable")]
            batches.extend(self._cut(part, sizes))
        return [batches[i] for i in rng.permutation(len(batches))]

    def _cut(self, ordered: np.ndarray, sizes: np.ndarray) -> list[list[int]]:
        batches: list[list[int]] = []
        current: list[int] = []
        for index in ordered:
            if current and padded_cost(len(current) + 1, int(sizes[index])) > self.max_tokens:
                batches.append(current)
                current = []
            current.append(int(index))
        return [*batches, current] if current else batches

    def __iter__(self) -> Iterator[list[int]]:
        skip, number = self.start, 0
        while True:
            batches = self.epoch(number)
            if skip < len(batches):
                self.on_epoch(number)
            for batch in batches[skip:]:
                for _ in range(self.repeat):
                    yield batch
            skip, number = max(0, skip - len(batches)), number + 1
