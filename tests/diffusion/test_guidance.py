"""Classifier-free guidance with one weight per field: which questions are asked, and how the answers are summed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.decode import decode, draw_size
from sse_diffusion.diffusion.denoiser import DenoiserConfig
from sse_diffusion.diffusion.generate import condition_tensors, predict_structures, sample_batch
from sse_diffusion.diffusion.guidance import (
    Weights,
    check_weights,
    guided_continuous,
    guided_discrete,
    guided_size,
    n_evaluations,
    terms,
)
from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig, euler_ancestral
from sse_diffusion.thermo.conditions import ConditionSpec
from sse_diffusion.thermo.request import Chemistry, Interval, Request

GAP, FORMATION = "band_gap_eV", "formation_energy_eV_per_atom"
TEMPERATURE = "temperature_K"


@pytest.fixture(scope="module")
def model() -> CrystalModel:
    specs = (
        ConditionSpec(name=GAP, unit="eV", kind="continuous", label="gap"),
        ConditionSpec(name=FORMATION, unit="eV/atom", kind="continuous", label="formation"),
        ConditionSpec(name=TEMPERATURE, unit="K", kind="continuous", mean=900.0, std=500.0, label="state:temperature_K"),
        ConditionSpec(name="mobile_ion", kind="categorical", choices=("Li", "none"), label="structure:mobile_ion"),
    )
    generator = torch.Generator().manual_seed(2)
    model = CrystalModel(DenoiserConfig(width=32, depth=2, heads=4, pair_width=16, n_radial=8), {s.name: s for s in specs})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter.shape[-1]) ** 0.5)
    return model.eval()


def asked_batch(model: CrystalModel, *fields: str, n: int = 2) -> OrbitBatch:
    """Two perovskite-like crystals with half of their elements masked, asked with some fields."""
    table = wyckoff_table()
    sites = [table.positions(221)[k] for k in (0, 1, 2)]
    answers = {
        GAP: torch.tensor([[0.0, 0.0]]), FORMATION: torch.tensor([[-6.0, -0.5]]), TEMPERATURE: torch.tensor([[-1.2, -1.2]]),
        "mobile_ion": torch.tensor([0]),
    }  # fmt: skip
    given = {k: answers[k].repeat(n, *[1] * (answers[k].dim() - 1)) for k in fields}
    return OrbitBatch(
        group=torch.full((n,), 221), cell=torch.tensor([[0.0, 0, 0, 0, 0, 1.4]]).repeat(n, 1),
        species=torch.tensor([[3, 0, 8]]).repeat(n, 1), wyckoff=torch.tensor([sites]).repeat(n, 1),
        free=torch.zeros(n, 3, 3), mask=torch.ones(n, 3, dtype=torch.bool), conditions={**model.null_conditions(n), **given},
    )  # fmt: skip


def outputs(model: CrystalModel, batch: OrbitBatch, weights: Weights = 1.0) -> tuple[torch.Tensor, ...]:
    """Size, group, position, species, cell: everything that guidance mixes."""
    n = len(batch)
    with torch.no_grad():
        logits = guided_discrete(model, batch, weights)
        moved = guided_continuous(model, batch, 0.3 * torch.ones(n, 6), torch.full((n,), 0.5), torch.full((n,), 0.5), weights)
        return guided_size(model, batch.conditions, weights), logits.group, logits.wyckoff, logits.species, moved.cell


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (1.0, {"abc": 1.0}),
        (2.0, {"abc": 2.0, "": -1.0}),
        (0.0, {"": 1.0}),
        ({"a": 3.0}, {"abc": 1.0, "a": 2.0, "": -2.0}),
        ({"a": 0.5}, {"abc": 0.5, "bc": 0.5}),
        ({"a": 0.0}, {"bc": 1.0}),
        ({"a": 3.0, "b": 1.5, "default": 0.0}, {"ab": 1.5, "a": 1.5, "": -2.0}),
        ({"a": -1.0}, {"bc": 1.0, "a": -1.0, "": 1.0}),
        ({"z": 5.0}, {"abc": 1.0}),
    ],
    ids=str,
)
def test_terms(weights: Weights, expected: Mapping[str, float]) -> None:
    """Every field carries its weight in all, and the coefficients add up to one."""
    found = terms("abc", weights)
    assert {"".join(sorted(k)): v for k, v in found.items()} == pytest.approx(expected)
    assert sum(found.values()) == pytest.approx(1.0)
    by_name = weights if isinstance(weights, Mapping) else {"default": weights}
    for name in "abc":
        assert sum(c for fields, c in found.items() if name in fields) == pytest.approx(
            by_name.get(name, by_name.get("default", 1))
        )


def test_one_weight_is_the_old_formula_and_one_is_a_single_evaluation(model: CrystalModel) -> None:
    batch = asked_batch(model, GAP, "mobile_ion")
    asked, null = outputs(model, batch), outputs(model, batch.with_(conditions=model.null_conditions(2)))
    for got, f, f0 in zip(outputs(model, batch, 2.5), asked, null, strict=True):
        finite = torch.isfinite(f)
        torch.testing.assert_close(got[finite], (f0 + 2.5 * (f - f0))[finite], atol=1e-4, rtol=1e-4)
        assert torch.equal(finite, torch.isfinite(got))
    calls = counted(model, batch, 1.0), counted(model, batch, {GAP: 1.0, "default": 1.0}), counted(model, batch, 2.0)
    assert calls == (2, 2, 4)  # rows of the two crystals


def counted(model: CrystalModel, batch: OrbitBatch, weights: Weights) -> int:
    """Rows that the network is given for one guided output, in a single call."""
    rows: list[int] = []
    evaluate = model.denoiser.discrete
    model.denoiser.__dict__["discrete"] = lambda b: rows.append(len(b)) or evaluate(b)
    try:
        guided_discrete(model, batch, weights)
    finally:
        del model.denoiser.__dict__["discrete"]
    assert len(rows) == 1
    return rows[0]


def test_weights_by_field_mix_linearly(model: CrystalModel) -> None:
    """F = F_all + 2 (F_gap - F_0), with every group asked only its own fields; and nothing jumps at a weight of one."""
    batch = asked_batch(model, GAP, FORMATION, "mobile_ion")
    every, gap, null = (outputs(model, asked_batch(model, *f)) for f in ((GAP, FORMATION, "mobile_ion"), (GAP,), ()))
    for got, f, g, f0 in zip(outputs(model, batch, {GAP: 3.0}), every, gap, null, strict=True):
        finite = torch.isfinite(f)
        torch.testing.assert_close(got[finite], (f + 2.0 * (g - f0))[finite], atol=2e-4, rtol=1e-4)
    for got, f in zip(outputs(model, batch, {GAP: 1.0 + 1e-6}), every, strict=True):
        torch.testing.assert_close(got, f, atol=1e-4, rtol=1e-4)
    assert counted(model, batch, {GAP: 3.0}) == 6 and n_evaluations({GAP: 3.0}) == 3
    assert n_evaluations(1.0) == 1 and n_evaluations(4.0) == 2 and n_evaluations({GAP: 3.0, FORMATION: 2.0}) == 4


def test_state_point_and_composition_accompany_the_null(model: CrystalModel) -> None:
    """dG_hull means nothing without them: weight 0 asks nothing but the temperature and the composition."""
    batch = asked_batch(model, GAP, TEMPERATURE)
    composition = torch.zeros(2, 95)
    composition[:, [3, 8]] = torch.tensor([2.0, 1.0])
    batch = batch.with_(conditions={**batch.conditions, "composition": composition})
    alone = asked_batch(model, TEMPERATURE)
    alone = alone.with_(conditions={**alone.conditions, "composition": composition})
    for got, expected in zip(outputs(model, batch, 0.0), outputs(model, alone), strict=True):
        torch.testing.assert_close(got, expected)
    blind = outputs(model, batch.with_(conditions=model.null_conditions(2)))
    assert not torch.allclose(outputs(model, batch, 0.0)[0], blind[0], atol=1e-3)
    asked = outputs(model, batch)
    for got, f, f0 in zip(outputs(model, batch, 2.0), asked, outputs(model, alone), strict=True):
        finite = torch.isfinite(f)
        torch.testing.assert_close(got[finite], (2 * f - f0)[finite], atol=1e-4, rtol=1e-4)


def test_a_field_that_nobody_asks_costs_nothing(model: CrystalModel) -> None:
    assert counted(model, asked_batch(model, "mobile_ion"), {GAP: 3.0}) == 2
    assert counted(model, asked_batch(model, GAP), {GAP: 3.0}) == 4  # asked for exactly 0: no null


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"band_gap": 2.0}, "did you mean 'band_gap_eV'"),
        ({TEMPERATURE: 2.0}, "state point"),
        ({GAP: "3"}, "'3'"),
        (math.nan, "nan"),
    ],
)
def test_weights_that_mean_nothing_are_refused(model: CrystalModel, weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_weights(weights, model.specs)


def test_the_sampler_refuses_them(model: CrystalModel) -> None:
    for wrong in (SamplerConfig(guidance={"bandgap": 2.0}), SamplerConfig(guidance_continuous={"bandgap": 2.0})):
        with pytest.raises(ConfigError, match="band_gap_eV"):
            sample_batch(model, Request({}, Chemistry()), torch.arange(1), 0, wrong)


COMPOSITIONS = ({11: 1, 17: 1}, {22: 1, 8: 2}, {3: 2, 16: 1})


@pytest.mark.parametrize("formula", [False, True], ids=["de novo", "structure prediction"])
def test_without_guidance_the_sampler_is_the_plain_pipeline(formula: bool, random_model: CrystalModel) -> None:
    """Bit for bit what the parts make of the same streams."""
    config, seed, compared = SamplerConfig(steps=3, types=None), 4, 0
    request = Request({} if formula else {GAP: Interval(1.0, 2.0)}, Chemistry())
    for i, composition in enumerate(COMPOSITIONS):
        index = torch.tensor([i])
        chemistry = HardChemistry.for_compositions({i: composition}) if formula else HardChemistry.from_chemistry(Chemistry())
        conditions = condition_tensors(random_model, request.conditions, chemistry, index)
        size = draw_size(random_model, conditions, chemistry, seed, index)
        decoded = decode(random_model, conditions, chemistry, seed, index, size)
        if not decoded.complete.all():
            continue  # drawn again from another stream
        with torch.no_grad():
            plain = euler_ancestral(random_model, decoded.batch, config, seed, index).to_orbits()[0]
        made = predict_structures(random_model, [composition], seed, index, config) if formula else None
        (crystal,) = made or sample_batch(random_model, request, index, seed, config)[0]
        assert crystal is not None and crystal.group == plain.group
        for field in ("species", "wyckoff", "free", "cell"):
            assert np.array_equal(getattr(crystal, field), getattr(plain, field)), field
        compared += 1
    assert compared >= 2
