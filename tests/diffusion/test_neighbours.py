"""The enumeration of lattice translations against all of them, and cells on which nothing can be found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sse_diffusion.diffusion.neighbours import MAX_TRANSLATIONS, ramp, starts, translations_within

CUTOFF = 4.5


def cells(n: int, seed: int) -> torch.Tensor:
    """Metrics of random triclinic cells, some flat."""
    generator = torch.Generator().manual_seed(seed)
    lattice = torch.diag_embed(2.5 + 4 * torch.rand(n, 3, generator=generator)) + 1.2 * torch.randn(n, 3, 3, generator=generator)
    return lattice @ lattice.mT


def brute_force(difference: np.ndarray, metric: np.ndarray) -> list[float]:
    """Squared distances below the cutoff over a cube of translations around the shortest difference."""
    reduced = difference - np.round(difference)
    shifts = np.array(list(itertools.product(range(-MAX_TRANSLATIONS, MAX_TRANSLATIONS + 1), repeat=3)))
    d = reduced + shifts
    r2 = np.einsum("ni,ij,nj->n", d, metric, d)
    return sorted(r2[r2 < CUTOFF**2].tolist())


def test_every_translation_within_the_cutoff_is_found_once() -> None:
    metric, generator = cells(12, 0), torch.Generator().manual_seed(1)
    crystal = torch.arange(12).repeat_interleave(5)
    difference = 3 * torch.randn(60, 3, generator=generator)
    near = translations_within(difference, crystal, metric, CUTOFF)
    for pair in range(60):
        expected = brute_force(difference[pair].double().numpy(), metric[crystal[pair]].double().numpy())
        assert sorted(near.r2[near.pair == pair].tolist()) == pytest.approx(expected, abs=1e-3)
    # what is returned as the difference is a translation of what was given, at the distance that is returned
    shift = near.difference - difference[near.pair]
    assert torch.allclose(shift, shift.round(), atol=1e-4)
    r2 = torch.einsum("ei,eij,ej->e", near.difference, metric[crystal[near.pair]], near.difference)
    torch.testing.assert_close(r2, near.r2, atol=1e-3, rtol=1e-4)


def test_flat_and_broken_cells_do_no_harm() -> None:
    """A cell without volume, one that is not finite, and one much larger than the cutoff."""
    metric = torch.stack([torch.ones(3, 3), torch.full((3, 3), torch.nan), 1e8 * torch.eye(3), 16.0 * torch.eye(3)])
    near = translations_within(torch.full((4, 3), 0.4), torch.arange(4), metric, CUTOFF)
    assert not (near.pair == 1).any() and not (near.pair == 2).any()
    assert (near.pair == 0).sum() <= (2 * MAX_TRANSLATIONS + 1) ** 3
    assert len(brute_force(np.full(3, 0.4), 16.0 * np.eye(3))) == int((near.pair == 3).sum()) > 0


def test_no_pairs_have_no_neighbours() -> None:
    near = translations_within(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), torch.eye(3)[None], CUTOFF)
    assert near.difference.shape == (0, 3)


def test_ramps_count_within_their_owner() -> None:
    counts = torch.tensor([2, 0, 3])
    assert ramp(counts).tolist() == [0, 1, 0, 1, 2] == ramp(counts, torch.repeat_interleave(counts)).tolist()
    assert starts(counts).tolist() == [0, 2, 2]
