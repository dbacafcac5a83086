"""Gradient-boosted trees (LightGBM) that train from a config and travel in a safetensors file: no pickle, no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sse_diffusion.core.errors import CheckpointError

if TYPE_CHECKING:
    from lightgbm import Booster

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TreesConfig:
    """Choices of one ensemble; names as in LightGBM.

    Attributes:
        num_iterations: trees.
        learning_rate: of each.
        num_leaves: of each.
        min_data_in_leaf: fewest rows in a leaf.
        feature_fraction, bagging_fraction: share of columns and rows that a tree sees.
        lambda_l2: shrinks leaves.
        max_bin: bins per column; 63 trains three times as fast as 255, at the same error here.
    """

    num_iterations: int = 400
    learning_rate: float = 0.07
    num_leaves: int = 31
    min_data_in_leaf: int = 8
    feature_fraction: float = 0.2
    bagging_fraction: float = 0.8
    lambda_l2: float = 1.0
    max_bin: int = 63


def fit_trees(features: Array, labels: Array, config: TreesConfig, seed: int, threads: int = 1) -> Booster:
    """Least-squares fit to ``labels`` (n,) from ``features`` (n, d); NaN features are missing. The same on every run."""
    import lightgbm

    fixed = {"objective": "regression", "bagging_freq": 1, "verbose": -1, "deterministic": True, "force_row_wise": True}
    options = {**fixed, **asdict(config), "seed": seed, "num_threads": threads}
    data = lightgbm.Dataset(features, labels, params={"max_bin": config.max_bin, "verbose": -1})
    return lightgbm.train(options, data)


def trees_to_tensors(ensembles: Mapping[str, Booster]) -> dict[str, Tensor]:
    """LightGBM's text format as bytes, by name."""
    return {name: torch.frombuffer(bytearray(e.model_to_string().encode()), dtype=torch.uint8) for name, e in ensembles.items()}


def trees_from_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Booster]:
    """Inverse of :func:`trees_to_tensors`.

    Raises:
        CheckpointError: bytes that are no LightGBM model.
    """
    import lightgbm

    try:
        return {name: lightgbm.Booster(model_str=bytes(t.numpy().tobytes()).decode()) for name, t in tensors.items()}
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the checkpoint holds no readable trees: {error}", "copy or train the checkpoint again") from error
