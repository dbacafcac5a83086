"""Standardisation inverts, outliers are what the rules say, limits are read as limits, noise is recovered from repeats."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.hygiene import Standardiser, find_repeats, iqr_outliers, read_limits, z_score_outliers


def test_standardiser_inverts_and_survives_gaps_and_constants() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal([5.0, -2.0, 7.0], [3.0, 0.1, 0.0], size=(500, 3))
    values[::7, 1] = np.nan
    standard = Standardiser.fit(values)
    z = standard.apply(values)
    assert np.allclose(np.nanmean(z, 0), 0, atol=1e-9) and np.allclose(np.nanstd(z[:, :2], 0), 1) and standard.scale[2] == 1
    assert np.allclose(standard.invert(z), values, equal_nan=True)
    assert Standardiser.fit(np.full((4, 1), np.nan)).scale.tolist() == [1.0]
    with pytest.raises(DataError):
        Standardiser.fit(np.zeros((0, 2)))


def test_outliers_by_both_rules() -> None:
    values = np.concatenate([np.linspace(-1, 1, 101), [9.0, np.nan]])
    assert np.flatnonzero(z_score_outliers(values)).tolist() == [101]
    assert np.flatnonzero(iqr_outliers(values)).tolist() == [101]
    edge = np.concatenate([np.linspace(-1, 1, 101), [2.45]])  # inside mean + 4 sd, outside Q3 + 1.5 IQR (about 2.06)
    assert iqr_outliers(edge).sum() == 1 and z_score_outliers(edge, 4.0).sum() == 0
    assert not iqr_outliers(np.full(3, np.nan)).any()


def test_limits_are_read_from_text_and_floor() -> None:
    values, limited = read_limits(["<1E-10", " 2e-4", 3e-11, "n/a", None, "< what"], floor=1e-10)
    assert np.allclose(values[:3], [1e-10, 2e-4, 3e-11]) and np.isnan(values[3:]).all()
    assert limited.tolist() == [True, False, True, False, False, False]


def test_noise_is_recovered_from_repeats_and_its_interval_covers_it() -> None:
    rng = np.random.default_rng(1)
    keys = [f"k{i % 200}" for i in range(600)] + [None, None]
    labels = np.array([float(i % 200) for i in range(600)] + [0.0, 99.0]) + rng.normal(0, 0.4, 602)
    found = find_repeats(keys, labels, tolerance=1.5)
    assert (found.n_keys, found.n_rows) == (200, 600)
    assert found.noise == pytest.approx(0.4, abs=0.03) and found.noise_interval[0] < 0.4 < found.noise_interval[1]
    assert found.mean_difference == pytest.approx(0.4 * 2 / np.sqrt(np.pi), abs=0.04)
    assert all(c.spread > 1.5 for c in found.conflicts)
    assert [c.spread for c in found.conflicts] == sorted((c.spread for c in found.conflicts), reverse=True)


def test_a_conflict_names_its_rows_and_unknown_labels_do_not_count() -> None:
    found = find_repeats(["a", "b", "a", "b", "b"], np.array([1.0, 2.0, 3.0, 2.1, np.nan]), tolerance=0.5)
    assert [(c.key, c.rows, c.spread) for c in found.conflicts] == [("a", (0, 2), 2.0)]
    assert (found.n_keys, found.n_rows) == (2, 4)
    nothing = find_repeats(["a", "b"], np.array([1.0, 2.0]), tolerance=0.5)
    assert nothing.n_keys == 0 and np.isnan(nothing.noise)
