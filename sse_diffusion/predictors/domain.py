"""How far a crystal lies from the training data of a predictor: one number, and where it ranks among known materials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]

CLIP = 8.0
"""Standardised features are cut here: one absurd descriptor should not decide alone."""
BLOCK = 512
"""Rows compared at once, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class DomainDistance:
    """Mean distance to the k nearest training rows in standardised features, per feature: d = mean_k |x - x_k| / sqrt(F).

    The percentile of a distance is its rank among the distances of training rows to the training rows *of other groups*: 50 is
    as far away as a typical new material of the training set was when it came, above ``limit`` (95) is outside.
    How fast errors grow with it: docs/predictors.md.

    Attributes:
        centre, scale: (F,) of the features.
        rows: (n, F) standardised training rows, at most ``max_rows``.
        reference: (m,) sorted distances of training rows to other groups.
        k: neighbours.
        limit: percentile above which a row is outside the domain.
    """

    centre: Array
    scale: Array
    rows: NDArray[np.float32]
    reference: Array
    k: int = 5
    limit: float = 95.0

    @classmethod
    def fit(
        cls,
        features: Array,
        groups: NDArray[np.int64] | None = None,
        k: int = 5,
        limit: float = 95.0,
        max_rows: int = 4000,
        seed: int = 0,
    ) -> Self:
        """Learn the training rows.

        Args:
            features: (n, F); NaN (missing) counts as the median of the column.
            groups: (n,) rows that belong together (of one paper, one chemical system); by default every row stands alone.
            k, limit: see the class.
            max_rows: a random subset of this many rows is kept.
            seed: of the subset.

        Raises:
            DataError: fewer groups than two, or no features.
        """
        values = np.asarray(features, dtype=float)
        group = np.arange(len(values)) if groups is None else np.asarray(groups)
        if values.ndim != 2 or values.shape[1] == 0 or len(np.unique(group)) < 2:
            raise DataError(
                f"a domain cannot be learnt from features of shape {values.shape}", "give rows of at least two groups"
            )
        known = ~np.isnan(values).all(0)
        centre = np.zeros(values.shape[1])
        centre[known] = np.nanmedian(values[:, known], axis=0)
        filled = np.where(np.isnan(values), centre, values)
        scale = filled.std(0)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(values))[:max_rows])
        fitted = cls(centre, np.where(scale > 1e-9, scale, 1.0), np.empty((0, 0), np.float32), np.empty(0), k, limit)
        rows = fitted._standard(values[chosen])
        return cls(centre, fitted.scale, rows, np.sort(_nearest(rows, rows, k, group[chosen], group[chosen])), k, limit)

    def distance(self, features: Array) -> Array:
        """Distances (n,) of rows of features (n, F); NaN counts as the training median."""
        return _nearest(self._standard(np.asarray(features, dtype=float)), self.rows, self.k)

    def percentile(self, distance: Array) -> Array:
        """Share (n,) in percent of the training rows that were closer to the other groups than ``distance`` (n,) is."""
        return 100.0 * np.searchsorted(self.reference, distance, side="left") / len(self.reference)

    def outside(self, features: Array) -> NDArray[np.bool_]:
        """(n,) True beyond ``limit``."""
        return self.percentile(self.distance(features)) > self.limit

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint: names begin with ``domain.``."""
        import torch

        arrays = {"centre": self.centre, "scale": self.scale, "rows": self.rows, "reference": self.reference}
        settings = np.array([self.k, self.limit])
        return {
            f"domain.{name}": torch.from_numpy(np.ascontiguousarray(a)) for name, a in {**arrays, "settings": settings}.items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Inverse of :meth:`tensors`; other names are ignored."""
        centre, scale, rows, reference, settings = (
            tensors[f"domain.{name}"].numpy() for name in ("centre", "scale", "rows", "reference", "settings")
        )
        return cls(centre, scale, rows, reference, int(settings[0]), float(settings[1]))

    def _standard(self, values: Array) -> NDArray[np.float32]:
        filled = np.where(np.isnan(values), self.centre, values)
        return np.clip((filled - self.centre) / self.scale, -CLIP, CLIP).astype(np.float32)


def _nearest(
    rows: NDArray[np.float32],
    known: NDArray[np.float32],
    k: int,
    groups: NDArray[np.int64] | None = None,
    known_groups: NDArray[np.int64] | None = None,
) -> Array:
    """Mean distance (n,) to the k nearest ``known`` rows of other groups."""
    squares = (known**2).sum(1)
    result = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        squared = np.maximum((block**2).sum(1)[:, None] + squares - 2.0 * block @ known.T, 0.0)
        if groups is not None and known_groups is not None:
            squared[groups[start : start + BLOCK, None] == known_groups] = np.inf
        nearest = np.sort(np.partition(squared, min(k, squared.shape[1]) - 1, axis=1)[:, :k], axis=1)
        finite = np.isfinite(nearest)
        result[start : start + BLOCK] = np.sqrt(np.where(finite, nearest, 0.0)).sum(1) / np.maximum(finite.sum(1), 1)
    return result / np.sqrt(max(rows.shape[1], 1))
