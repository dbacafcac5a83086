"""Checkpoint folders: whole or refused with advice, and never a pickle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sse_diffusion.core.checkpoint import CONFIG, WEIGHTS, checkpoint_dir, load_checkpoint, read_config, save_checkpoint
from sse_diffusion.core.errors import CheckpointError, OutputError

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b.c": torch.tensor([1, 2])}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_checkpoint(folder, "toy", 2, {"width": 3, "names": {"b", "a"}}, TENSORS)
    return folder


def refused(folder: str | Path, kind: str = "toy", version: int = 2) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, kind, version)
    assert caught.value.hint  # every refusal says what to do
    return caught.value


def test_round_trip_without_pickle(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a checkpoint must not be unpickled")

    monkeypatch.setattr(torch, "load", forbidden)
    monkeypatch.setattr(pickle, "load", forbidden)
    monkeypatch.setattr(pickle, "loads", forbidden)
    checkpoint = load_checkpoint(stored, "toy", 2)
    assert checkpoint.config["width"] == 3 and checkpoint.config["names"] == ["a", "b"] and len(checkpoint.sha256) == 64
    assert all(torch.equal(TENSORS[k], checkpoint.tensors[k]) for k in TENSORS)
    assert sorted(p.name for p in stored.iterdir()) == sorted([CONFIG, WEIGHTS])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_weights(stored: Path, share: float) -> None:
    data = (stored / WEIGHTS).read_bytes()
    (stored / WEIGHTS).write_bytes(data[: int(len(data) * share)])
    error = refused(stored)
    assert "truncated" in error.message and WEIGHTS in error.message and "copy" in error.hint


def test_missing_weights(stored: Path) -> None:
    (stored / WEIGHTS).unlink()
    assert WEIGHTS in refused(stored).message


def test_a_torch_pickle_in_place_of_the_weights_is_refused(stored: Path) -> None:
    torch.save(TENSORS, stored / WEIGHTS)
    assert WEIGHTS in refused(stored).message


def test_missing_or_damaged_config(stored: Path) -> None:
    (stored / CONFIG).write_text((stored / CONFIG).read_text()[:20])
    assert "not readable JSON" in refused(stored).message
    (stored / CONFIG).unlink()
    assert "no checkpoint" in refused(stored).message


def test_a_config_that_is_no_mapping_is_refused(stored: Path) -> None:
    (stored / CONFIG).write_text("[1, 2]")
    assert CONFIG in refused(stored).message
    (stored / CONFIG).write_bytes(b"\xff\xfe\x00{")
    assert CONFIG in refused(stored).message


def test_wrong_kind(stored: Path) -> None:
    error = refused(stored, kind="crystal_model")
    assert "'toy'" in error.message and "'crystal_model'" in error.message


def test_newer_version(stored: Path) -> None:
    error = refused(stored, version=1)
    assert "version 2" in error.message and "upgrade" in error.hint
    assert read_config(stored, "toy", 3)["version"] == 2


def test_unknown_name_lists_the_shipped_ones(monkeypatch: pytest.MonkeyPatch, stored: Path) -> None:
    monkeypatch.setattr("sse_diffusion.core.checkpoint.checkpoints_root", lambda: stored.parent)
    assert checkpoint_dir("model") == stored
    assert "did you mean 'model'" in refused("modle").hint


def test_the_shipped_checkpoints_have_readable_configs() -> None:
    from sse_diffusion.core.checkpoint import checkpoints_root

    configs = list(checkpoints_root().glob(f"*/{CONFIG}"))
    assert configs and all(json.loads(path.read_text())["kind"] for path in configs)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_checkpoint(tmp_path / "file" / "model", "toy", 1, {}, TENSORS)
