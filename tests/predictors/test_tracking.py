"""W&B is offline by default, leaves a run folder, and can be switched off."""

from __future__ import annotations

from pathlib import Path

import pytest

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.predictors.tracking import track


def test_disabled_leaves_nothing(tmp_path: Path) -> None:
    with track(tmp_path / "run", {"a": 1}, "disabled") as tracker:
        tracker.log({"x": 1})
    assert not (tmp_path / "run").exists()


def test_unknown_mode(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'offline'"), track(tmp_path, {}, "ofline"):
        pass


@pytest.mark.slow
def test_offline_writes_a_run(tmp_path: Path) -> None:
    with track(tmp_path / "run", {"a": 1}) as tracker:
        tracker.log({"scores": {"mae": 1.0}})
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
