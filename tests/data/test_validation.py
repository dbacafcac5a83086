"""The vectorised distance check agrees with an exhaustive search over images, for thick and for thin cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice

from sse_diffusion.data.readers.raw import lattice_from_parameters
from sse_diffusion.data.validation import ABSURD_VOLUME, DUPLICATE_SITES, TOO_LARGE, ValidationConfig, validate_crystals

ANY_VOLUME = ValidationConfig(min_volume_A3_per_atom=0.0, max_volume_A3_per_atom=1e9)


def exhaustive_shortest(frac: np.ndarray, lattice: np.ndarray) -> float:
    """Shortest distance over images -6..6, self-images included."""
    grid = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3, indexing="ij"), -1).reshape(-1, 3)
    delta = (frac[None] - frac[:, None])[:, :, None] + grid
    length = np.linalg.norm(delta @ lattice, axis=-1)
    return float(length[length > 1e-9].min())


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), skew=st.floats(0.0, 1.0), size=st.floats(0.8, 5.0))
def test_distance_check_agrees_with_exhaustive_search(seed: int, skew: float, size: float) -> None:
    rng = np.random.default_rng(seed)
    lattice = size * (np.eye(3) + skew * rng.uniform(-1, 1, (3, 3)))
    spacing = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    if spacing.min() < 0.25:  # beyond the images of the reference search
        return
    frac = rng.uniform(-1, 2, (3, 3))
    shortest = exhaustive_shortest(frac, lattice)
    if abs(shortest - 0.5) < 1e-6:
        return
    (finding,) = validate_crystals([np.array([3, 8, 17])], [frac], lattice[None], ANY_VOLUME)
    assert (finding is not None and finding.reason == DUPLICATE_SITES) == (shortest < 0.5)


def test_a_short_lattice_vector_is_a_duplicate_of_the_site_itself() -> None:
    lattice = np.diag([0.4, 5.0, 5.0])[None]
    (finding,) = validate_crystals([np.array([3])], [np.zeros((1, 3))], lattice)
    assert finding is not None and finding.reason == DUPLICATE_SITES and "own periodic image" in finding.detail


@pytest.mark.parametrize(("edge", "bad"), [(1.5, True), (1.6, False), (4.6, False), (4.7, True)])
def test_volume_limits(edge: float, bad: bool) -> None:
    (finding,) = validate_crystals([np.array([3])], [np.zeros((1, 3))], edge * np.eye(3)[None])
    assert (finding is not None and finding.reason == ABSURD_VOLUME) == bad


def test_findings_keep_the_order_of_crystals_of_mixed_size() -> None:
    good, twin = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([[0.0, 0, 0], [0.999, 0, 0]])
    species = [np.array([3, 9]), np.array([3]), np.array([3, 9]), np.array([3, 9, 9])]
    frac = [good, np.zeros((1, 3)), twin, np.zeros((3, 3))]
    found = validate_crystals(species, frac, np.stack([3.5 * np.eye(3)] * 4), ValidationConfig(max_sites=2))
    assert [f.reason if f else None for f in found] == [None, None, DUPLICATE_SITES, TOO_LARGE]
    assert "sites 0 and 1" in found[2].detail  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(2, 20)] * 3), st.tuples(*[st.floats(60, 119)] * 3))
def test_lattice_from_parameters_reproduces_the_parameters(lengths: tuple[float, ...], angles: tuple[float, ...]) -> None:
    lattice = lattice_from_parameters(np.array([[*lengths, *angles]]))[0]
    if np.isnan(lattice).any():  # three wide angles that close no cell
        return
    assert Lattice(lattice).parameters == pytest.approx((*lengths, *angles), rel=1e-6)
    assert np.linalg.det(lattice) > 0
