"""A domain distance grows away from the data, ignores members of the same group, and survives a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.core.errors import DataError
from sse_diffusion.predictors.domain import DomainDistance


@pytest.fixture
def cloud() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 6)) * np.array([1, 10, 0.1, 1, 1, 1])


def test_distance_grows_and_flags_the_far(cloud: np.ndarray) -> None:
    domain = DomainDistance.fit(cloud)
    ray = np.outer(np.linspace(0, 6, 8), cloud.std(0))
    distance = domain.distance(ray)
    assert np.all(np.diff(distance) > 0)
    assert not domain.outside(ray[:1])[0]
    assert domain.outside(ray[-1:])[0]
    assert domain.percentile(distance)[-1] == 100.0


def test_training_percentiles_are_uniform_for_new_rows_of_the_same_kind(cloud: np.ndarray) -> None:
    domain = DomainDistance.fit(cloud[:200])
    ranks = domain.percentile(domain.distance(cloud[200:]))
    assert 35 < np.median(ranks) < 65


def test_members_of_the_own_group_do_not_count(cloud: np.ndarray) -> None:
    twins = np.repeat(cloud[:60], 5, axis=0)
    alone = DomainDistance.fit(twins)
    grouped = DomainDistance.fit(twins, groups=np.repeat(np.arange(60), 5))
    assert alone.reference.max() < grouped.reference.min()


def test_unit_of_a_feature_does_not_matter_and_missing_is_the_median(cloud: np.ndarray) -> None:
    row = cloud[:1] + 0.3
    units = np.array([1e3, 1, 1, 1, 1, 1e-3])
    assert DomainDistance.fit(cloud * units).distance(row * units) == pytest.approx(
        DomainDistance.fit(cloud).distance(row), rel=1e-4
    )
    missing, filled = row.copy(), row.copy()
    missing[0, 2], filled[0, 2] = np.nan, np.median(cloud[:, 2])
    domain = DomainDistance.fit(cloud)
    assert domain.distance(missing) == pytest.approx(domain.distance(filled))


def test_tensors_round_trip(cloud: np.ndarray) -> None:
    domain = DomainDistance.fit(cloud, k=3, limit=90.0)
    again = DomainDistance.from_tensors(domain.tensors())
    assert np.array_equal(again.distance(cloud + 1), domain.distance(cloud + 1))
    assert (again.k, again.limit) == (3, 90.0)


def test_a_single_group_is_refused(cloud: np.ndarray) -> None:
    with pytest.raises(DataError, match="domain"):
        DomainDistance.fit(cloud, groups=np.zeros(300, dtype=np.int64))
