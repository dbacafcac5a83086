"""Extremely randomised trees as plain arrays: fitted by scikit-learn, stored and evaluated without it (and without pickles)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.predictors.conductivity.inputs import Array

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1024
"""Rows walked down the trees at once, which bounds the memory."""
LEAF = -1


@dataclass(frozen=True, kw_only=True)
class TreesConfig:
    """Choices.

    Attributes:
        trees: how many.
        min_rows_per_leaf: of the training rows.
        feature_share: drawn at random for each split.
        seed: of the randomness.
    """

    trees: int = 150
    min_rows_per_leaf: int = 2
    feature_share: float = 0.4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Trees:
    """t trees with m nodes in all, one after the other (Geurts et al., Mach. Learn. 63, 3 (2006)).

    Attributes:
        root: (t,) first node of each tree.
        feature: (m,) column that a node splits, LEAF at a leaf.
        threshold: (m,) left when the value is at or below.
        left, right: (m,) children.
        value: (m,) mean of the training rows in the node.
    """

    root: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]

    @classmethod
    def fit(cls, table: Array, labels: Array, config: TreesConfig | None = None) -> Self:
        """Grow the trees on a table (n, F) without gaps."""
        from sklearn.ensemble import ExtraTreesRegressor

        config = config or TreesConfig()
        forest = ExtraTreesRegressor(
            config.trees,
            min_samples_leaf=config.min_rows_per_leaf,
            max_features=config.feature_share,
            random_state=config.seed,
            n_jobs=1,
        ).fit(table.astype(np.float32), labels)
        grown: list[Any] = [estimator.tree_ for estimator in forest.estimators_]
        root = np.concatenate([[0], np.cumsum([tree.node_count for tree in grown])[:-1]]).astype(np.int32)

        def joined(name: str) -> Any:
            return np.concatenate([np.asarray(getattr(tree, name)).reshape(tree.node_count) for tree in grown])

        shift = np.repeat(root, [tree.node_count for tree in grown])
        leaf = joined("children_left") < 0
        return cls(
            root,
            np.where(leaf, LEAF, joined("feature")).astype(np.int16),
            _at_or_below(joined("threshold")),
            np.where(leaf, 0, joined("children_left") + shift).astype(np.int32),
            np.where(leaf, 0, joined("children_right") + shift).astype(np.int32),
            joined("value").astype(np.float32),
        )

    def predict(self, table: Array) -> Array:
        """Mean over the trees (n,) of rows (n, F)."""
        values = table.astype(np.float32)
        parts = [self._walk(values[start : start + BLOCK]).mean(1) for start in range(0, len(values), BLOCK)]
        return np.concatenate(parts).astype(float) if parts else np.zeros(0)

    def _walk(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Leaf values (n, t)."""
        node = np.broadcast_to(self.root, (len(values), len(self.root))).copy()
        row = np.broadcast_to(np.arange(len(values))[:, None], node.shape)
        walking = np.flatnonzero(self.feature[node.ravel()] != LEAF)
        flat, rows = node.ravel(), row.ravel()
        while len(walking):
            here = flat[walking]
            x = values[rows[walking], self.feature[here]]
            flat[walking] = np.where(x <= self.threshold[here], self.left[here], self.right[here])
            walking = walking[self.feature[flat[walking]] != LEAF]
        leaves: NDArray[np.float32] = self.value[flat].reshape(node.shape)
        return leaves

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint: names begin with ``trees.``."""
        import torch

        return {f"trees.{name}": torch.from_numpy(array) for name, array in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Inverse of :meth:`tensors`; other names are ignored."""
        names = ("root", "feature", "threshold", "left", "right", "value")
        return cls(*(tensors[f"trees.{name}"].numpy() for name in names))


def _at_or_below(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Thresholds rounded down to float32: x <= t gives the same answer for every float32 x."""
    rounded = threshold.astype(np.float32)
    return np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
