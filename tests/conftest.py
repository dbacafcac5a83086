"""Shared fixtures. Runs before any test module: one thread per process, and runtime shape checks on tensor functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if TYPE_CHECKING:
    from omegaconf import DictConfig

SHAPE_CHECKED = ["sse_diffusion.core", "sse_diffusion.diffusion"]
"""Rooms whose annotated tensor shapes are checked at every call while the tests run (jaxtyping + beartype)."""


def pytest_configure(config: pytest.Config) -> None:
    """Install the shape-checking import hook before the package is imported; nothing happens without beartype."""
    if find_spec("beartype") and find_spec("jaxtyping"):
        from jaxtyping import install_import_hook

        install_import_hook(SHAPE_CHECKED, "beartype.beartype")
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def repo_root() -> Path:
    """Root of the source checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    """A folder for the results of one test; it does not exist yet, as on a first run."""
    return tmp_path / "out"


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run the test inside an empty folder, so that relative paths land there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """``composed("train", "trainer=cpu")``: the configuration a verb would get from these overrides."""

    def _compose(verb: str, *overrides: str) -> DictConfig:
        from sse_diffusion.core.compose import compose

        return compose(verb, overrides)

    return _compose
