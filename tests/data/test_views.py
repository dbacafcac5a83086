"""P1 views: the same crystal without symmetry, shown as often as asked."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from moyopy import is_niggli_reduced

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.lattice import lattice_to_log
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.buckets import BucketStream, Views, padded_cost
from sse_diffusion.data.datamodule import CrystalDataModule, LoaderConfig
from sse_diffusion.data.dataset import FlatOrbits, OrbitDataset
from sse_diffusion.data.orbits import parse_orbits
from sse_diffusion.data.rows import CrystalRow
from sse_diffusion.data.views import p1_view, with_p1_views


def at(group: int, **positions: int) -> Orbits:
    """A crystal with species on named Wyckoff positions (``w8a=12``), somewhat distorted where the group allows it."""
    table, rng = wyckoff_table(), np.random.default_rng(group)
    named = {table.label(p): p for p in table.positions(group)}
    w = np.array([named[label.removeprefix("w")] for label in positions])
    cell = np.zeros(6)
    cell[0] = -np.log(3) / 4 if 143 <= group <= 194 else 0.0
    cell[4] = 0.0 if group > 194 else 0.1
    cell[5] = np.log(table.multiplicity[w].sum() * 15.0) / 3
    return Orbits(group, cell, np.array(list(positions.values())), w, rng.random((len(w), 3)) * table.free[w])


SPINEL = at(227, w8a=12, w16d=13, w32e=8)
CRYSTALS = [SPINEL, at(166, w3a=3, w6c=16), at(62, w4c=15, w8d=8), at(71, w2a=11, w8l=9), at(2, w1a=3, w2i=17), at(1, w1a=8)]


@pytest.mark.parametrize("crystal", CRYSTALS, ids=lambda c: str(c.group))
def test_a_view_is_the_same_crystal(crystal: Orbits) -> None:
    """Distances between all pairs of atoms within 6 A, with their species, are a complete enough fingerprint."""
    view, one = p1_view(crystal), crystal.to_structure()
    other = view.to_structure()
    assert view.group == 1 and view.free.shape == (crystal.n_primitive, 3) and ((view.free >= 0) & (view.free < 1)).all()
    assert view.n_primitive == len(view.species) == crystal.n_primitive
    assert other.volume == pytest.approx(one.volume) and other.composition == one.composition
    pairs = []
    for s in (one, other):
        centre, neighbour, _, distance = s.get_neighbor_list(6.0)
        z = np.array(s.atomic_numbers)
        pairs.append(sorted(zip(z[centre].tolist(), z[neighbour].tolist(), np.round(distance, 6).tolist(), strict=True)))
    assert pairs[0] == pairs[1] and len(pairs[0]) > 0


def test_a_view_has_the_cell_that_a_parsed_crystal_of_group_1_has() -> None:
    """So views and crystals of the data that have no symmetry speak of the cell in the same way."""
    rng = np.random.default_rng(3)
    lattice = np.array([[4.0, 0.1, 0.2], [0.3, 5.0, 0.1], [3.9, 0.4, 6.0]])  # far from reduced
    parsed = parse_orbits(np.array([3, 8, 16]), rng.random((3, 3)), lattice)
    assert parsed.group == 1
    np.testing.assert_allclose(p1_view(parsed).cell, parsed.cell, atol=1e-6)
    assert not np.allclose(lattice_to_log(torch.from_numpy(lattice)).numpy(), parsed.cell, atol=1e-3)
    for crystal in CRYSTALS:
        lengths = np.linalg.norm(p1_view(crystal).lattice(), axis=1)
        assert (np.diff(lengths) > -1e-6).all() and is_niggli_reduced(p1_view(crystal).lattice().tolist()), crystal.group


@pytest.fixture
def dataset() -> OrbitDataset:
    rows = [CrystalRow(str(i), c.species, c.free, np.eye(3), {}) for i, c in enumerate(CRYSTALS)]
    dataset = OrbitDataset(FlatOrbits.from_list(CRYSTALS), rows)
    dataset.set_conditions({"gap": torch.arange(6.0)[:, None]})
    return dataset


def test_both_views_carry_the_labels_of_the_crystal(dataset: OrbitDataset, tmp_path: Path) -> None:
    both = with_p1_views(dataset, tmp_path / "views.npz")
    assert len(both) == 12 and both.ids == [*dataset.ids, *dataset.ids]
    assert torch.equal(both.conditions["gap"][:6], both.conditions["gap"][6:])
    for i, crystal in enumerate(CRYSTALS):
        assert np.array_equal(both.orbits(i).wyckoff, crystal.wyckoff)
        assert both.orbits(i + 6).group == 1 and len(both.orbits(i + 6).species) == crystal.n_primitive
    again = with_p1_views(dataset, tmp_path / "views.npz")  # from the file
    assert all(np.array_equal(getattr(again.flat, k), getattr(both.flat, k)) for k in vars(both.flat))
    (tmp_path / "views.npz").write_bytes(b"broken")
    assert np.array_equal(with_p1_views(dataset, tmp_path / "views.npz").flat.free, both.flat.free)


SIZES = np.random.default_rng(0).integers(1, 10, 2000)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_an_epoch_shows_every_crystal_once_in_one_of_its_views(share: float) -> None:
    stream = BucketStream(SIZES, 512, views=Views(3 * SIZES, share))
    sizes = np.concatenate([SIZES, 3 * SIZES])
    for number in (0, 1):
        drawn = np.concatenate(stream.epoch(number))
        assert Counter((drawn % 2000).tolist()) == Counter(range(2000))
        assert (drawn >= 2000).mean() == pytest.approx(share, abs=0.03)
        for batch in stream.epoch(number):  # one view in a batch is as good as another: only the size counts
            assert len(batch) == 1 or padded_cost(len(batch), int(sizes[batch].max())) <= 512
    if share == 0.3:
        first, second = (set(np.concatenate(stream.epoch(k)).tolist()) for k in (0, 1))
        assert 0.2 < len(first - second) / 2000 < 0.6  # drawn anew: 2 x 0.3 x 0.7 = 42 % change


def test_without_views_the_stream_is_what_it_was() -> None:
    assert BucketStream(SIZES, 512, views=Views(3 * SIZES, 0.0)).epoch(3) == BucketStream(SIZES, 512).epoch(3)


@pytest.mark.parametrize("start", [1, 9, 700])
def test_a_stream_with_views_is_seekable(start: int) -> None:
    views = Views(3 * SIZES, 0.5)
    whole = list(islice(iter(BucketStream(SIZES, 512, views=views)), start + 5))
    assert list(islice(iter(BucketStream(SIZES, 512, start=start, views=views)), 5)) == whole[start:]


def module(dataset: OrbitDataset, share: float, max_orbits: int = 64) -> CrystalDataModule:
    data = CrystalDataModule({}, LoaderConfig(max_tokens=2000, p1_share=share, max_orbits=max_orbits, cache_dir=None))
    data._dataset = dataset
    dataset.splits = ["train"] * 4 + ["val"] * 2
    return data


def epoch(loader: object) -> list[tuple[float, int, int]]:
    """(label, group, orbits) of every crystal of one epoch."""
    stream = loader.batch_sampler  # type: ignore[attr-defined]
    n = len(stream.epoch(0)) if isinstance(stream, BucketStream) else len(stream)
    seen = []
    for batch in islice(iter(loader), n):  # type: ignore[call-overload]
        gap = batch.conditions["gap"][:, 0].tolist()
        seen += list(zip(gap, batch.group.tolist(), batch.mask.sum(1).tolist(), strict=True))
    return sorted(seen)


def test_training_and_validation_rows_by_share(dataset: OrbitDataset) -> None:
    own = [(float(i), c.group, len(c.species)) for i, c in enumerate(CRYSTALS)]
    p1 = [(float(i), 1, c.n_primitive) for i, c in enumerate(CRYSTALS)]
    none, half, whole = (module(dataset, share) for share in (0.0, 0.5, 1.0))
    assert epoch(none.train_dataloader()) == own[:4] and epoch(none.val_dataloader()) == own[4:]
    assert set(epoch(half.train_dataloader())) <= {*own[:4], *p1[:4]} and epoch(half.val_dataloader()) == own[4:]
    assert epoch(whole.train_dataloader()) == p1[:4] and epoch(whole.val_dataloader()) == p1[4:]


def test_views_that_are_too_large_are_not_shown(dataset: OrbitDataset) -> None:
    """Spinel has 3 orbits and 14 atoms in the primitive cell."""
    seen = epoch(module(dataset, 1.0, max_orbits=10).train_dataloader())
    assert seen[0] == (0.0, 227, 3) and seen[1][1] == 1


def test_statistics_are_those_of_what_is_shown(dataset: OrbitDataset) -> None:
    for share, groups in ((0.0, [227, 166, 62, 71]), (0.5, [227, 166, 62, 71, 1, 1, 1, 1]), (1.0, [1, 1, 1, 1])):
        data, rows = module(dataset, share).fit_rows()
        assert data.flat.group[rows].tolist() == groups


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ConfigError, match="no share"):
        LoaderConfig(p1_share=share)
