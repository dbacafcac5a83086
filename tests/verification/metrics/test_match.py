"""Matching: the field's matcher, what counts as no match, caps, and processes that die."""

from __future__ import annotations

import math
import os
import time

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.verification.metrics import match
from sse_diffusion.verification.metrics.match import in_parallel, is_matchable, rms_distance, rms_distances


def rocksalt(a: float = 5.64, anion: str = "Cl") -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Na", anion], [[0, 0, 0], [0.5] * 3])


def moved(structure: Structure, shift_A: float) -> Structure:
    """The first atom displaced along x."""
    other = structure.copy()
    other.translate_sites([0], [shift_A, 0, 0], frac_coords=False)
    return other


def test_rmse_is_the_displacement_in_units_of_the_spacing() -> None:
    """One of N atoms moved by d: after removal of the mean, rms = d sqrt((1/N)(1 - 1/N)) / (V/N)^(1/3)."""
    truth = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3])
    expected = 0.3 * math.sqrt(0.5 * 0.5) / (64 / 2) ** (1 / 3)
    assert rms_distance(truth, moved(truth, 0.3)) == pytest.approx(expected, rel=1e-3)


def test_cell_choice_volume_and_order_do_not_matter() -> None:
    truth = rocksalt()
    bigger = rocksalt(6.5).get_primitive_structure()
    supercell = truth.copy()
    supercell.make_supercell([1, 1, 2])
    assert rms_distance(truth, bigger) == pytest.approx(0.0, abs=1e-6)
    assert rms_distance(truth, supercell) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "other", [None, rocksalt(anion="Br"), Structure(Lattice.cubic(3.0), ["Na"], [[0, 0, 0]]),
              Structure.from_spacegroup("R-3m", Lattice.hexagonal(3.0, 30.0), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.03]])],
    ids=["missing", "other element", "other ratio", "other structure"],
)  # fmt: skip
def test_no_match(other: Structure | None) -> None:
    assert math.isnan(rms_distance(rocksalt(), other)) and math.isnan(rms_distance(other, rocksalt()))


def test_agrees_with_the_published_matcher_on_random_crystals() -> None:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    rng, outcomes = np.random.default_rng(0), []
    for noise in np.linspace(0.02, 0.5, 12):
        truth = Structure(Lattice.cubic(4.8), ["Na", "Na", "Cl", "Cl", "O", "O"], rng.random((6, 3)))
        other = Structure(Lattice.cubic(5.0), truth.species, truth.frac_coords + rng.normal(0, noise, (6, 3)))
        published = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3).get_rms_dist(other, truth)
        ours = rms_distance(truth, other)
        outcomes.append(published is not None)
        assert math.isnan(ours) if published is None else ours == pytest.approx(published[0])
    assert 0 < sum(outcomes) < 12, "both outcomes must occur for the comparison to mean anything"


@pytest.mark.parametrize(
    "lattice",
    [np.diag([0.3, 0.3, 0.3]), np.diag([1.0, 1.0, 400.0]), np.diag([300.0, 300.0, 0.01]), np.full((3, 3), np.nan)],
    ids=["tiny", "needle", "sheet", "nan"],
)
def test_runaway_cells_are_not_matched(lattice: np.ndarray) -> None:
    structure = Structure(Lattice(lattice), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
    assert not is_matchable(structure) and math.isnan(rms_distance(rocksalt(), structure))


def test_a_skewed_setting_of_a_good_cell_is_matched() -> None:
    truth = rocksalt().get_primitive_structure()
    skewed = truth.copy()
    skewed.make_supercell([[1, 9, 0], [0, 1, 0], [0, 0, 1]])
    assert is_matchable(skewed) and rms_distance(truth, skewed) == pytest.approx(0.0, abs=1e-6)


class _Slow:
    """A matcher that never returns by itself."""

    def get_rms_dist(self, *_: object) -> None:
        while True:
            sum(range(1000))


def test_a_pair_has_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "field_matcher", _Slow)
    started = time.process_time()
    assert math.isnan(rms_distance(rocksalt(), rocksalt(), cpu_seconds=0.1))
    assert time.process_time() - started < 1.0


class _Failing:
    def get_rms_dist(self, *_: object) -> None:
        raise ValueError("no mapping")


def test_a_failing_matcher_is_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "field_matcher", _Failing)
    assert math.isnan(rms_distance(rocksalt(), rocksalt()))


def test_pairs_keep_their_order_in_processes() -> None:
    truths = [rocksalt()] * 20
    proposals = [rocksalt() if i % 3 else None for i in range(20)]
    alone, pooled = rms_distances(truths, proposals, 1, ""), rms_distances(truths, proposals, 2, "")
    assert np.array_equal(np.isnan(pooled), np.arange(20) % 3 == 0) and np.array_equal(alone, pooled, equal_nan=True)


def _square_unless_seven(x: int) -> int:
    if x == 7:
        os._exit(1)  # as the kernel does to a process that eats all memory
    return x * x


def test_a_dying_process_loses_one_item_only() -> None:
    found = in_parallel(_square_unless_seven, range(40), workers=2, lost=-1)
    assert found == [-1 if x == 7 else x * x for x in range(40)]


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        rms_distances([rocksalt()], [])
