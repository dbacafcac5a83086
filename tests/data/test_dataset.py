"""The parsed data set: batches agree with single crystals, the cache is exact and survives damage."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from sse_diffusion.core.errors import DataError
from sse_diffusion.data import dataset as module
from sse_diffusion.data.dataset import OrbitDataset, build_dataset
from sse_diffusion.data.rows import CrystalRow

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def salt(name: str, cation: int, anion: int, a: float, split: str = "train") -> CrystalRow:
    """Rock salt, conventional cell."""
    frac = np.concatenate([FCC, (FCC + 0.5) % 1.0])
    return CrystalRow(name, np.repeat([cation, anion], 4), frac, np.eye(3) * a, {"gap": a}, split)


def broken(name: str) -> CrystalRow:
    return CrystalRow(name, np.array([11, 17]), np.zeros((2, 3)), np.eye(3) * 4.0)


def triclinic(name: str) -> CrystalRow:
    rng = np.random.default_rng(1)
    return CrystalRow(name, np.array([3, 8, 16, 17]), rng.random((4, 3)), np.array([[5, 0, 0], [0.7, 5.5, 0], [-0.4, 0.9, 6.1]]))


@pytest.fixture
def rows() -> list[CrystalRow]:
    return [salt("NaCl", 11, 17, 5.64), broken("bad"), triclinic("P1"), salt("LiF", 3, 9, 4.03, "val")]


def equal(a: OrbitDataset, b: OrbitDataset) -> bool:
    return all(np.array_equal(getattr(a.flat, k), getattr(b.flat, k)) for k in vars(a.flat)) and a.ids == b.ids


def test_rows_without_orbits_are_listed_not_lost(rows: list[CrystalRow]) -> None:
    data = build_dataset(rows, None, 1)
    assert data.ids == ["NaCl", "P1", "LiF"] and data.splits == ["train", None, "val"]
    assert [(r.id, r.row) for r in data.rejected] == [("bad", 1)] and "no symmetry" in data.rejected[0].detail
    assert data.n_orbits.tolist() == [2, 4, 2] and data.n_conventional.tolist() == [8, 4, 8]
    assert [labels.get("gap") for labels in data.labels] == [5.64, None, 4.03]


def test_nothing_usable_raises(rows: list[CrystalRow]) -> None:
    with pytest.raises(DataError, match="none of the crystals"):
        build_dataset([rows[1]], None, 1)


def test_a_batch_holds_what_the_single_crystals_hold(rows: list[CrystalRow]) -> None:
    data = build_dataset(rows, None, 1)
    data.set_conditions({"gap": torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])})
    batch = data.__getitems__([2, 1])
    assert batch.conditions["gap"][:, 0].tolist() == [2.0, 1.0]
    for made, index in zip(batch.to_orbits(), (2, 1), strict=True):
        one, graph = data.orbits(index), data[index]
        assert made.group == one.group == int(graph.group) and graph.id == data.ids[index]
        np.testing.assert_array_equal(made.wyckoff, one.wyckoff)
        np.testing.assert_array_equal(made.species, graph.species.numpy())
        np.testing.assert_allclose(made.free, one.free, atol=1e-6)
        np.testing.assert_allclose(made.cell, graph.cell[0].numpy(), atol=1e-6)


def test_conditions_of_another_length_are_refused(rows: list[CrystalRow]) -> None:
    with pytest.raises(DataError, match="has 2 rows, the data set 3"):
        build_dataset(rows, None, 1).set_conditions({"gap": torch.zeros(2, 2)})


def test_the_cache_gives_the_same_without_parsing(rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_dataset(rows, tmp_path, 1)
    monkeypatch.setattr(module, "_parse_all", lambda *a: pytest.fail("parsed although the cache is there"))
    second = build_dataset(rows, tmp_path, 1)
    assert equal(first, second)
    assert [vars(r) for r in first.rejected] == [vars(r) for r in second.rejected]
    assert second.labels == first.labels  # labels come from the table, not from the cache


def test_the_cache_follows_the_structures_not_the_labels(rows: list[CrystalRow], tmp_path: Path) -> None:
    build_dataset(rows, tmp_path, 1)
    relabelled = [CrystalRow(r.id, r.species, r.frac, r.lattice, {"gap": 9.0}, r.split) for r in rows]
    assert build_dataset(relabelled, tmp_path, 1).labels[0] == {"gap": 9.0}
    assert len(list(tmp_path.iterdir())) == 1
    build_dataset([salt("NaCl", 11, 17, 5.65), *rows[1:]], tmp_path, 1)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_a_damaged_cache_is_rebuilt(rows, tmp_path: Path, share: float, caplog: pytest.LogCaptureFixture) -> None:
    first = build_dataset(rows, tmp_path, 1)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with caplog.at_level(logging.WARNING, logger="sse_diffusion"):
        assert equal(first, build_dataset(rows, tmp_path, 1))
    assert "damaged" in caplog.text
    assert equal(first, build_dataset(rows, tmp_path, 1)) and len(list(tmp_path.iterdir())) == 1


def test_a_cache_with_flipped_bytes_is_rebuilt(rows: list[CrystalRow], tmp_path: Path) -> None:
    first = build_dataset(rows, tmp_path, 1)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(bytes(data))
    assert equal(first, build_dataset(rows, tmp_path, 1))
