"""Labels, fit and scores of the conductivity head, and a training run from end to end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Composition

from sse_diffusion.core.atomic_files import read_json
from sse_diffusion.core.compose import compose
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.task import prepare_task
from sse_diffusion.diffusion.conductivity_head import ConductivityHead, ConductivityHeadConfig, JudgedConductivity, fingerprint
from sse_diffusion.diffusion.conductivity_head_scores import auc, score
from sse_diffusion.diffusion.conductivity_head_training import FitConfig, fit, train_conductivity_head
from sse_diffusion.diffusion.conductivity_labels import REPEAT_SD, ConductivityLabels, label_compositions
from sse_diffusion.diffusion.model import CrystalModel, load_model, save_model
from sse_diffusion.predictors.conductivity.tables import ConductivityRow


class Teacher:
    """-7 +- 1.5 of everything; of what holds xenon it knows nothing."""

    name, unit = "log10_conductivity", "log10(S/cm)"

    def predict(self, structures: Sequence[Composition]) -> list[Quantity]:
        outside = (Status.UNCONVERGED, "outside the training domain")
        given = {"activation_eV": 0.25}
        return [Quantity(-7.0, 1.5, self.unit, *(outside if "Xe" in c else ()), provenance=given) for c in structures]


def measured(formula: str, value: float, celsius: float = 25.0, limit: bool = False) -> ConductivityRow:
    return ConductivityRow("", Composition(formula), temperature_K=273.15 + celsius, log10_sigma=value, limit=limit)


def test_measurements_replace_the_teacher_where_they_can() -> None:
    rows = [
        measured("Li6PS5Cl", -2.0), measured("Li12P2S10Cl2", -3.0), measured("Li6PS5Cl", 0.0, celsius=200.0),
        measured("Li2O", -12.0), measured("LiF", -8.0), measured("LiF", -9.0, limit=True), measured("LiXe", -5.0),
    ]  # fmt: skip
    found = label_compositions([Composition(f) for f in ("Li6PS5Cl", "Li2O", "LiF", "LiXe", "LiXeF", "LiCl")], Teacher(), rows)
    assert found.value.tolist() == [-2.5, -7.0, -7.0, -5.0, -7.0, -7.0]
    assert found.sd.tolist() == pytest.approx([math.hypot(REPEAT_SD, 0.5), 1.5, 1.5, REPEAT_SD, 1.5, 1.5])
    assert found.known.tolist() == [True, True, True, True, False, True]
    assert found.in_domain.tolist() == [True, True, True, False, False, True]
    assert np.isnan(found.measured).tolist() == [False, True, True, False, True, True]


def made_labels(n: int, seed: int = 0) -> tuple[torch.Tensor, ConductivityLabels]:
    """Tokens whose first entry is log10 sigma (less 7) and whose second tells the domain; labels are known to 0.8 decades."""
    rng = np.random.default_rng(seed)
    truth, inside = rng.normal(size=n), rng.random(n) < 0.6
    tokens = torch.from_numpy(rng.normal(size=(4, n, 2, 8))).float()
    tokens[..., 0] = torch.from_numpy(truth).float()[:, None]
    tokens[..., 1] = torch.from_numpy(np.where(inside, 2.0, -2.0)).float()[:, None]
    value, sd = np.where(inside, truth - 7.0, 40.0), np.full(n, 0.8)
    return tokens, ConductivityLabels(value, sd, inside, value, sd, np.full(n, np.nan), 0.3 - 0.05 * (value + 7.0))


def test_fit_learns_the_labels_their_width_and_the_domain() -> None:
    tokens, labels = made_labels(400)
    config = FitConfig(hidden=32, epochs=40, batch_size=256, learning_rate=0.01, dropout=0.0, weight_decay=0.01)
    head = fit(tokens, labels, np.ones(400, dtype=bool), config, seed=0, progress=False)
    fresh, truth = made_labels(300, seed=1)
    said = head(fresh[0, :, 0])
    inside = truth.in_domain
    assert np.abs(said.mean.numpy() - truth.value)[inside].mean() < 0.2
    assert said.std.numpy()[inside].mean() == pytest.approx(0.8, abs=0.12)  # what the label itself leaves open
    scores = score({"discrete": {0.0: said}}, truth)["discrete"]["0.0"]
    assert scores["domain_auc"] > 0.99 and scores["teacher"]["r2"] > 0.9 and scores["measured"]["n"] == 0
    assert scores["teacher"]["coverage_68"] == pytest.approx(0.68, abs=0.06) and head.config.activation_slope_eV == pytest.approx(
        -0.05
    )
    some = fit(tokens, labels, labels.in_domain, config, seed=0, progress=False)
    assert some.config.center == pytest.approx(labels.value[labels.in_domain].mean())


def test_scores_by_hand() -> None:
    said = JudgedConductivity(torch.tensor([-5.0, -8.0, 0.0]), torch.ones(3), torch.tensor([1.0, 2.0, 0.0]))
    value, sd = np.array([-6.0, -8.0, 3.0]), np.array([0.0, 1.0, 1.0])
    inside, known = np.array([True, True, False]), np.array([-5.5, np.nan, np.nan])
    labels = ConductivityLabels(value, sd, inside, value, sd, known, np.full(3, 0.3))
    found = score({"discrete": {0.0: said}}, labels)["discrete"]["0.0"]
    assert found["domain_auc"] == 1.0 and found["teacher"]["mae"] == 0.5 and found["teacher"]["r2"] == 0.5
    assert found["teacher"]["coverage_95"] == pytest.approx((1.0 + 0.95) / 2, abs=1e-3)  # 1 decade off; a unit Gaussian's 95 %
    assert found["measured"] | {"r2": None} == {
        "n": 1, "r2": None, "mae": 0.5, "std": 1.0, "coverage_68": 1.0, "coverage_95": 1.0, "teacher_mae": 0.5,
    }  # fmt: skip
    assert auc(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, True, False, True])) == 0.75


def test_temperature_follows_the_arrhenius_law() -> None:
    """E_a from sigma T at two temperatures; it is a line in log10 sigma(300 K), and so is the width's factor."""
    head = ConductivityHead(ConductivityHeadConfig(width=4, center=-7.0, activation_eV=0.4, activation_slope_eV=-0.03))
    said = JudgedConductivity(torch.tensor([-7.0, -5.0]), torch.ones(2), torch.zeros(2))
    assert torch.equal(head.at(said, 300.0).mean, said.mean) and torch.equal(head.at(said, 300.0).std, said.std)
    hot = head.at(said, 400.0)
    slope = (hot.mean - said.mean + math.log10(400 / 300)) / (1 / 300 - 1 / 400) * 8.617333262e-5 * math.log(10)
    assert slope.tolist() == pytest.approx([0.4, 0.34], rel=1e-5)
    assert float(hot.std[0]) == pytest.approx(float(hot.mean[1] - hot.mean[0]) / 2.0, rel=1e-5)


@pytest.mark.slow
def test_training_leaves_the_trunk_alone(random_model: CrystalModel, tmp_path: Path) -> None:
    """`sse train experiment=predictor_conductivity_head` on the embedded prototypes with a small trunk of random weights."""
    save_model(random_model, tmp_path / "trunk")
    trunk = (tmp_path / "trunk" / "weights.safetensors").read_bytes()
    chosen = {"trunk": tmp_path / "trunk", "out": tmp_path / "head", "draws": 1, "n_folds": 2, "wandb": "disabled"}
    overrides = [f"{k}={v}" for k, v in chosen.items()]
    config = compose("experiment/predictor_conductivity_head", ["trained_with=['data=prototypes']", "measured=[]", *overrides])
    task, settings = prepare_task(config)
    assert task is train_conductivity_head
    metrics = train_conductivity_head(settings)
    assert (tmp_path / "trunk" / "weights.safetensors").read_bytes() == trunk
    model, _ = load_model(tmp_path / "trunk")
    head = ConductivityHead.load(tmp_path / "head", model)
    assert read_json(tmp_path / "head" / "config.json")["trunk"]["state_sha256"] == fingerprint(model)
    assert metrics["val"]["discrete"]["0.0"]["teacher"]["n"] > 3 and not head.training
    assert metrics["cross_validation"]["continuous"]["0.9"]["teacher"]["n"] > metrics["val"]["continuous"]["0.9"]["teacher"]["n"]
