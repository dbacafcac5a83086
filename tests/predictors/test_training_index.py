"""Compositions of a checkpoint's training rows are recognised whatever their scale, and others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.checkpoint import checkpoints_root
from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.predictors.training_index import FILE, TrainingIndex


def test_recognised_whatever_the_scale(tmp_path: Path) -> None:
    TrainingIndex.of_formulas(["Li3N", "LiF", "FLi"]).save(tmp_path)
    index = TrainingIndex.load(tmp_path)
    assert index is not None
    assert len(index) == 2
    crystal = Structure(Lattice.cubic(4), ["Li", "F", "Li", "F"], [[0] * 3, [0.5] * 3, [0.5, 0, 0], [0, 0, 0.5]])
    asked = [Composition("Li6N2"), Composition("Li2N"), crystal, Composition({"Li": 0.5, "F": 0.5})]
    assert index.holds(asked).tolist() == [True, False, True, True]
    assert TrainingIndex.load(tmp_path / "nowhere") is None


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / FILE, np.zeros(3))
    with pytest.raises(CheckpointError, match="no hashes"):
        TrainingIndex.load(tmp_path)
    (tmp_path / FILE).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="cannot be read"):
        TrainingIndex.load(tmp_path)


@pytest.mark.parametrize("name", ["band_gap_composition", "formation_energy", "mechanics", "stability_composition"])
def test_shipped_checkpoints_know_what_they_saw(name: str) -> None:
    index = TrainingIndex.load(checkpoints_root() / name)
    assert index is not None
    assert index.holds([Composition("NaCl"), Composition("Li7Na3Ca2S7F2")]).tolist() == [True, False]
