"""Trees survive a checkpoint unchanged, train alike twice, and damaged ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.predictors.boosted_trees import TreesConfig, fit_trees, trees_from_tensors, trees_to_tensors

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(300, 4))
LABELS = FEATURES[:, 0] ** 2 + 0.5 * FEATURES[:, 1]
CONFIG = TreesConfig(num_iterations=60, feature_fraction=1.0)


def test_trees_learn_repeat_themselves_and_round_trip() -> None:
    trees = fit_trees(FEATURES, LABELS, CONFIG, seed=3)
    predicted = trees.predict(FEATURES)
    assert np.corrcoef(predicted, LABELS)[0, 1] > 0.95
    again = trees_from_tensors(trees_to_tensors({"a": fit_trees(FEATURES, LABELS, CONFIG, seed=3)}))["a"]
    assert np.array_equal(again.predict(FEATURES), predicted)
    assert not np.array_equal(fit_trees(FEATURES, LABELS, CONFIG, seed=4).predict(FEATURES), predicted)


def test_missing_features_are_allowed() -> None:
    features = np.where(RNG.random(FEATURES.shape) < 0.2, np.nan, FEATURES)
    assert np.isfinite(fit_trees(features, LABELS, CONFIG, seed=0).predict(features)).all()


def test_bytes_that_are_no_trees_are_refused() -> None:
    with pytest.raises(CheckpointError, match="no readable trees"):
        trees_from_tensors({"a": torch.arange(40, dtype=torch.uint8)})
    with pytest.raises(CheckpointError):
        trees_from_tensors({"a": torch.full((4,), 255, dtype=torch.uint8)})
