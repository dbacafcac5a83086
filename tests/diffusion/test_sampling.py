"""Sampling: seeds, batches, guidance, and exactness on a case with a known score."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from sse_diffusion.core.errors import ChemistryError, ConfigError
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.symmetry import find_symmetry
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.generate import sample_batch, sample_candidates
from sse_diffusion.diffusion.guidance import guided_discrete
from sse_diffusion.diffusion.heun import heun
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.predictor_corrector import predictor_corrector
from sse_diffusion.diffusion.samplers import SamplerConfig, euler_ancestral, sampler
from sse_diffusion.testing.sampler import SamplerConformance
from sse_diffusion.thermo.request import Chemistry, Interval, Request

ASK = Request(
    {"energy_above_hull_eV_per_atom": Interval(-math.inf, 0.05), "mobile_ion": "Li"},
    Chemistry(require=frozenset({"Li"}), n_atoms=(2, 16)),
)


def same(a: Orbits, b: Orbits) -> bool:
    return a.group == b.group and np.array_equal(a.wyckoff, b.wyckoff) and np.array_equal(a.species, b.species)


def test_crystal_i_does_not_depend_on_its_batch(random_model: CrystalModel) -> None:
    config = SamplerConfig(steps=1, types=None)  # random weights amplify rounding from step to step
    together, s = sample_batch(random_model, ASK, torch.arange(8), 5, config)
    apart, t = sample_batch(random_model, ASK, torch.tensor([6, 2]), 5, config)
    for crystal, other in ((together[6], apart[0]), (together[2], apart[1])):
        assert same(crystal, other)
        difference = crystal.free - other.free
        assert np.abs(difference - np.round(difference)).max() < 1e-5
        np.testing.assert_allclose(crystal.cell, other.cell, atol=1e-5)
    torch.testing.assert_close(s[[6, 2]], t, atol=1e-4, rtol=1e-4)


def test_another_seed_gives_other_crystals(random_model: CrystalModel) -> None:
    config = SamplerConfig(steps=2)
    a, _ = sample_batch(random_model, ASK, torch.arange(6), 0, config)
    b, _ = sample_batch(random_model, ASK, torch.arange(6), 1, config)
    assert not all(same(x, y) for x, y in zip(a, b, strict=True))


def test_guidance_of_one_is_the_conditional_model_and_zero_the_unconditional(random_model: CrystalModel) -> None:
    table = wyckoff_table()
    crystal = Orbits(62, np.zeros(6), np.array([0, 8]), np.array([table.positions(62)[2]] * 2), np.zeros((2, 3)))
    nulls = random_model.null_conditions(1)
    asked = {**nulls, "band_gap_eV": torch.tensor([[1.0, 1.0]])}
    batch = OrbitBatch.from_orbits([crystal], asked)
    with torch.no_grad():
        conditional, null = random_model.denoiser.discrete(batch), random_model.denoiser.discrete(batch.with_(conditions=nulls))
        assert not torch.allclose(conditional.species, null.species)
        for weight, expected in ((0.0, null), (1.0, conditional)):
            torch.testing.assert_close(
                guided_discrete(random_model, batch, weight).species, expected.species, atol=1e-5, rtol=1e-4
            )
        doubled = guided_discrete(random_model, batch, 2.0).species[..., 1:]
        torch.testing.assert_close(doubled, (2 * conditional.species - null.species)[..., 1:], atol=1e-4, rtol=1e-3)


class TestEulerAncestral(SamplerConformance):
    """From the probability-flow ODE to the fully ancestral sampler."""

    sampler = staticmethod(euler_ancestral)
    configs = tuple(SamplerConfig(steps=64, churn=churn) for churn in (0.0, 0.5, 1.0))


class TestHeun(SamplerConformance):
    """Second order: a quarter of the evaluations suffices."""

    sampler = staticmethod(heun)
    configs = (SamplerConfig(steps=16), SamplerConfig(steps=17))


class TestPredictorCorrector(SamplerConformance):
    """Exact in the long run."""

    sampler = staticmethod(predictor_corrector)
    configs = (SamplerConfig(steps=500),)


@pytest.mark.parametrize("name", ["euler_ancestral", "heun", "predictor_corrector"])
def test_no_sampler_evaluates_the_network_more_often_than_it_says(name: str, random_model: CrystalModel) -> None:
    batch = OrbitBatch.from_orbits(
        [Orbits(1, np.array([0, 0, 0, 0, 0, 1.2]), np.array([3]), np.array([wyckoff_table().positions(1)[0]]), np.zeros((1, 3)))],
        random_model.null_conditions(1),
    )
    evaluate, calls = random_model.denoiser.continuous, []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return evaluate(*arguments)

    random_model.denoiser.__dict__["continuous"] = counted
    try:
        for steps in (1, 2, 8, 9):
            calls.clear()
            sampler(name)(random_model, batch, SamplerConfig(steps=steps), 0, torch.arange(1))
            assert 0 < len(calls) <= steps
    finally:
        del random_model.denoiser.__dict__["continuous"]


def test_space_group_of_the_sample_is_the_one_drawn(random_model: CrystalModel) -> None:
    """Symmetry by construction: spglib finds the drawn group or one of its order."""
    crystals, _ = sample_batch(random_model, Request({}, Chemistry(n_atoms=(1, 6))), torch.arange(40), 0, SamplerConfig(steps=4))
    table, compared = wyckoff_table(), 0
    for crystal in crystals:
        found = find_symmetry(crystal.to_structure(), 1e-3).number
        if found == 0:
            continue  # an untrained model may put atoms on top of each other: no symmetry can be found there
        order = {g: table.multiplicity[table.positions(g)[-1]] // table.centring[g] for g in (found, crystal.group)}
        assert order[found] >= order[crystal.group]
        compared += 1
    assert compared >= 3


def test_unknown_sampler_suggests_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="euler_ancestral"):
        sampler("euler_ancestrall")


def test_a_sampler_by_import_path() -> None:
    assert sampler("sse_diffusion.diffusion.samplers:euler_ancestral") is euler_ancestral
    with pytest.raises(ConfigError, match="my_module:my_function"):
        sampler("no_such_module:sampler")


def test_crystals_that_could_be_completed_are_returned(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One dead end among many must not lose the others; nothing at all is an error."""
    from sse_diffusion.diffusion import generate

    run = generate.Task.run
    monkeypatch.setattr(generate.Task, "run", lambda self, *a: {i: m for i, m in run(self, *a).items() if i != 1})
    with caplog.at_level("WARNING"):
        found = sample_candidates(
            "mp_base", Request({}, Chemistry(n_atoms=(1, 8))), 3, config=SamplerConfig(steps=2, refine_steps=1)
        )
    assert [c.info["index"] for c in found] == [0, 2] and "1 of 3 crystals could not meet" in caplog.text
    monkeypatch.setattr(generate.Task, "run", lambda self, *a: {})
    with pytest.raises(ChemistryError, match="3 of 3 crystals"):
        sample_candidates("mp_base", Request({}, Chemistry(n_atoms=(1, 8))), 3, config=SamplerConfig(steps=2))
