"""The predictor keeps the contract, with structures and with compositions, and says when it does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.core.results import Status
from sse_diffusion.predictors.conductivity.predictor import ConductivityPredictor
from sse_diffusion.predictors.conductivity.tables import ConductivityRow
from sse_diffusion.testing.predictor import PredictorContract


def perovskite(anion: str, a: float = 4.0) -> Structure:
    """LiTiX3 with a half empty lithium site."""
    sites = [{"Li": 0.5}, "Ti", anion, anion, anion]
    return Structure(Lattice.cubic(a), sites, [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


class TestContract(PredictorContract):
    """On the toy world."""

    @pytest.fixture(autouse=True)
    def _trained(self, checkpoint: Path) -> None:
        self.folder = checkpoint

    def make(self) -> ConductivityPredictor:
        return ConductivityPredictor.load(self.folder)

    def crystals(self) -> list[Structure]:
        return [perovskite("O"), perovskite("S", 5.0), perovskite("O", 4.1)]


def test_a_composition_is_enough_and_a_structure_says_more(predictor: ConductivityPredictor, rows: list[ConductivityRow]) -> None:
    composition, structure = predictor.predict([perovskite("O").composition, perovskite("O")])
    assert composition.ok
    assert structure.ok
    assert predictor.predict([rows[0].composition * 3])[0].value == pytest.approx(
        predictor.predict([rows[0].composition])[0].value
    )


def test_foreign_chemistry_is_flagged_and_wide(predictor: ConductivityPredictor) -> None:
    inside, uranium, sodium = predictor.predict([Composition("LiTiO3"), Composition("LiUO3"), Composition("NaTiO3")])
    assert inside.status is Status.OK
    for answer, word in ((uranium, "U in 0"), (sodium, "no lithium")):
        assert answer.status is Status.UNCONVERGED
        assert word in answer.reason
        assert answer.uncertainty > 1.5 * inside.uncertainty
        low, high = answer.provenance["interval_95"]
        assert high - low > 4


def test_training_rows_are_recognised(predictor: ConductivityPredictor, rows: list[ConductivityRow]) -> None:
    new = ConductivityRow("x", Composition("Li9Ti2O8"), doi="10.9/new")
    material, paper = predictor.trained_on([rows[0], new])
    assert material.tolist() == [True, False]
    assert paper.tolist() == [True, False]


def test_many_compositions_per_second(predictor: ConductivityPredictor) -> None:
    """2,000 per second is the bar on a free core; a tenth of it must hold on a crowded one."""
    import time

    compositions = [Composition({"Li": 1 + i / 500, "Ti": 1, "O": 3}) for i in range(1000)]
    predictor.predict(compositions[:10])
    start = time.process_time()
    answers = predictor.predict(compositions)
    assert len(answers) / (time.process_time() - start) > 200
    assert np.isfinite([answer.value for answer in answers]).all()


def test_checkpoints_from_before_the_common_prefactor_load(checkpoint: Path, tmp_path: Path, rows: list[ConductivityRow]) -> None:
    import json
    import shutil

    old = tmp_path / "old"
    shutil.copytree(checkpoint, old)
    config = json.loads((old / "config.json").read_text())
    kept = {name: config["stack"][name] for name in ("share", "scale_68", "scale_95")}
    (old / "config.json").write_text(json.dumps({**config, "stack": kept}))
    now, then = ConductivityPredictor.load(checkpoint), ConductivityPredictor.load(old)
    cold = [row for row in rows if row.temperature_K == 300.0][:5]
    assert [q.value for q in then.quantities(cold)] == pytest.approx([q.value for q in now.quantities(cold)], abs=1e-3)
    activation = np.array([[q.provenance["activation_eV"] for q in p.quantities(cold)] for p in (now, then)])
    assert np.abs(activation[0] - activation[1]).max() > 1e-3


def test_damaged_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    import json
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "inputs": ["other"]}))
    with pytest.raises(CheckpointError, match="other inputs"):
        ConductivityPredictor.load(copy)
    (copy / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "stack"}))
    with pytest.raises(CheckpointError, match="incomplete"):
        ConductivityPredictor.load(copy)
