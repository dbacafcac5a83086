"""Conditions added to a trained model, and the head that estimates conditions from the noisy crystal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.denoiser import DenoiserConfig, Properties
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.objective import Objective, ObjectiveConfig, _property_loss, property_labels
from sse_diffusion.diffusion.share import Share
from sse_diffusion.thermo.conditions import ConditionSpec, load_condition_specs

NEW = {**load_condition_specs(["density_g_cm3", "temperature_K"]), "phase": ConditionSpec(
    name="phase", kind="categorical", choices=("a", "b"), label="phase"
)}  # fmt: skip


@pytest.fixture(scope="module")
def base() -> CrystalModel:
    generator = torch.Generator().manual_seed(0)
    config = DenoiserConfig(width=32, depth=2, heads=4, pair_width=16, n_radial=12, max_orbits=10)
    model = CrystalModel(config, load_condition_specs(["band_gap_eV", "mobile_ion"]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(parameter.shape[-1], 16) ** 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def batch(base: CrystalModel) -> OrbitBatch:
    """Two salts of the rock-salt type, and a triclinic crystal."""
    a, b = list(wyckoff_table().positions(225))[:2]
    salts = [
        Orbits(225, np.array([0, 0, 0, 0, 0, 1.7]), np.array(z), np.array([a, b]), np.zeros((2, 3))) for z in ([3, 17], [11, 9])
    ]
    general = wyckoff_table().positions(1)[0]
    triclinic = Orbits(
        1, np.array([0, 0, 0, 0, 0, 1.4]), np.array([19, 8]), np.array([general] * 2), np.array([[0.1] * 3, [0.6] * 3])
    )
    return OrbitBatch.from_orbits([*salts, triclinic], base.null_conditions(3))


@pytest.fixture(scope="module")
def grown(base: CrystalModel) -> CrystalModel:
    return base.with_conditions(NEW).eval()


def with_new(batch: OrbitBatch, value: float) -> OrbitBatch:
    n = len(batch)
    extra = {name: torch.full((n, 2), value) for name in ("density_g_cm3", "temperature_K")}
    return batch.with_(conditions={**batch.conditions, **extra, "phase": torch.ones(n, dtype=torch.int64)})


def test_new_fields_are_silent_until_they_are_trained(base: CrystalModel, grown: CrystalModel, batch: OrbitBatch) -> None:
    with torch.no_grad():
        before = base.denoiser.discrete(batch)
        for value in (0.7, float("nan")):
            after = grown.denoiser.discrete(with_new(batch, value))
            assert torch.equal(before.species, after.species) and torch.equal(before.wyckoff, after.wyckoff)
    assert torch.equal(base.denoiser.size_logits(batch.conditions), grown.denoiser.size_logits(with_new(batch, 0.7).conditions))


def test_new_fields_learn_from_the_first_step(grown: CrystalModel, batch: OrbitBatch) -> None:
    grown.denoiser.discrete(with_new(batch, 0.7)).group.logsumexp(-1).sum().backward()
    for name in ("density_g_cm3", "temperature_K"):
        assert grown.denoiser.conditions.fields[name].net[-1].weight.grad.abs().max() > 0
    assert grown.denoiser.conditions.fields["phase"].table.weight.grad.abs().max() > 0
    grown.zero_grad()


def test_known_conditions_keep_their_scale_and_state_points_are_not_estimated(base: CrystalModel, grown: CrystalModel) -> None:
    assert list(grown.specs)[: len(base.specs)] == list(base.specs)
    assert "density_g_cm3" in grown.denoiser.property_names and "temperature_K" not in grown.denoiser.property_names
    assert not base.denoiser.property_names


def test_a_grown_model_survives_its_checkpoint(grown: CrystalModel) -> None:
    again = CrystalModel.from_config(grown.config())
    again.load_state_dict(grown.state_dict())
    assert again.denoiser.property_names == grown.denoiser.property_names
    assert again.with_conditions(NEW).denoiser.property_out is not None


def test_the_head_is_asked_only_for_what_the_network_was_not_shown(grown: CrystalModel, batch: OrbitBatch) -> None:
    shown = with_new(batch, 0.5)
    known = ConditionSpec(**{**vars(NEW["density_g_cm3"]), "dropout": 0.0})
    never = ConditionSpec(**{**vars(NEW["density_g_cm3"]), "dropout": 1.0})
    losses = {}
    for name, spec in (("given", known), ("hidden", never)):
        grown.specs["density_g_cm3"] = spec
        other = {
            n: torch.full_like(v, torch.nan) for n, v in shown.conditions.items() if v.dtype == torch.float32 and v.shape[1] == 2
        }
        only = shown.with_(conditions={**shown.conditions, **other, "density_g_cm3": torch.full((len(batch), 2), 0.5)})
        with torch.no_grad():
            losses[name] = Objective(ObjectiveConfig(few_conditions=0.0))(grown, only, 0, 0).fields["noisy_properties"]
    assert losses["given"] == 0.0 and losses["hidden"] != 0.0


def test_the_loss_of_the_head_is_a_gaussian_likelihood(grown: CrystalModel, batch: OrbitBatch) -> None:
    labels = torch.tensor([[0.3, torch.nan], [torch.nan, torch.nan], [-1.0, 2.0]])
    estimate = Properties(
        torch.tensor([[0.0, 5.0], [9.0, 9.0], [-0.5, 1.0]]), torch.tensor([[0.1, 0.0], [0.0, 0.0], [-0.7, 0.5]])
    )
    normal = torch.distributions.Normal(estimate.mean, estimate.log_std.exp())
    nll = -normal.log_prob(labels.nan_to_num()) - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    wanted = (nll[0, 0] + nll[2].mean()) / 2  # a mean over labels, then over the crystals that have any
    assert _property_loss("x", estimate, labels, Share(3))["x"] == pytest.approx(wanted.item(), rel=1e-5)
    assert property_labels(grown, with_new(batch, 0.5)).shape == (len(batch), len(grown.denoiser.property_names))
