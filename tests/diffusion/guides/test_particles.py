"""Particles: exact in the limit, independent of company, hard chemistry kept, effective sample sizes reported."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.rng import categorical, uniform
from sse_diffusion.diffusion.decode import Decoded
from sse_diffusion.diffusion.generate import condition_tensors, predict_structures, sample_batch, sample_candidates
from sse_diffusion.diffusion.guides.energy_tilt import EnergyTilt
from sse_diffusion.diffusion.guides.guide import Guide, Seen, Stage
from sse_diffusion.diffusion.guides.particles import Swarm
from sse_diffusion.diffusion.guides.property_guide import PropertyGuide
from sse_diffusion.diffusion.hard_chemistry import ATTEMPT_STRIDE, HardChemistry
from sse_diffusion.diffusion.model import CrystalModel, save_model
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.request import Chemistry, Interval, Request

PRIOR = torch.tensor([0.55, 0.25, 0.15, 0.05])
LIKELIHOOD = torch.tensor([0.02, 0.1, 0.5, 0.9])
POSTERIOR = (PRIOR * LIKELIHOOD / (PRIOR * LIKELIHOOD).sum()).numpy()
POPULATIONS = 1500

GIBBS = "gibbs_above_hull_eV_per_atom"
ASK = Request(
    {GIBBS: Interval(-math.inf, -0.05), "mobile_ion": "Li", "temperature_K": Interval(300.0, 300.0)},
    Chemistry(require=frozenset({"Li"}), forbid=frozenset({"O"}), n_atoms=(2, 12)),
)
FEW = SamplerConfig(steps=1, types=None, particles=4, phases=None)


@dataclass
class Weighing:
    """A guide from a function of the batch."""

    value: Callable[[OrbitBatch], torch.Tensor]
    stages: frozenset[Stage] = frozenset({"discrete"})

    def log_likelihood(self, seen: Seen) -> torch.Tensor:
        return self.value(seen.batch)


def likelihood_of_state(batch: OrbitBatch) -> torch.Tensor:
    return LIKELIHOOD[batch.species[:, 0] - 1].log()


def states(stream: torch.Tensor) -> Decoded:
    """One atom in P1 each, its element the state, drawn from the prior."""
    n = len(stream)
    species = categorical(PRIOR.log().expand(n, -1), uniform(0, stream, 999, ())) + 1
    batch = OrbitBatch(
        group=torch.ones(n, dtype=torch.long), cell=torch.zeros(n, 6), species=species[:, None],
        wyckoff=torch.zeros(n, 1, dtype=torch.long), free=torch.zeros(n, 1, 3), mask=torch.ones(n, 1, dtype=torch.bool),
    )  # fmt: skip
    return Decoded(batch, torch.zeros(n), torch.ones(n, dtype=torch.bool))


def counts(particles: int, guides: list[Guide]) -> tuple[np.ndarray, Swarm]:
    """How often each state is kept."""
    swarm = Swarm(torch.arange(POPULATIONS), particles, 0, guides)
    for places in torch.arange(POPULATIONS * particles).split(20_011):  # batches that cut through populations
        made = states(swarm.streams[places])
        swarm.add(places, made, None, made.complete)
    for places, decoded, _ in swarm.survivors():
        swarm.finish(places, decoded.batch, decoded.surprisal)
    made = swarm.crystals()
    assert sorted(made) == list(range(POPULATIONS))
    return np.bincount([m.crystal.species[0] - 1 for m in made.values()], minlength=4), swarm


def distance(observed: np.ndarray) -> float:
    """Total variation from the posterior."""
    return float(0.5 * np.abs(observed / observed.sum() - POSTERIOR).sum())


@pytest.mark.parametrize("stage", ["discrete", "final"])
def test_frequencies_approach_the_posterior_as_particles_grow(stage: Stage) -> None:
    """1,500 populations, seed 0: the plain proposal is 0.6 away, 128 particles are within counting error."""
    guides: list[Guide] = [Weighing(likelihood_of_state, frozenset({stage}))]
    plain = np.bincount(states(torch.arange(POPULATIONS)).batch.species[:, 0] - 1, minlength=4)
    assert distance(plain) > 0.5 and chisquare(plain, POSTERIOR * POPULATIONS).pvalue < 1e-6
    far, near = (distance(counts(k, guides)[0]) for k in (2, 16))
    assert far > 2 * near
    many, _ = counts(128, guides)
    assert chisquare(many, POSTERIOR * POPULATIONS).pvalue > 0.01  # within counting error


def test_what_was_overdone_at_the_first_stage_is_taken_back_at_the_last() -> None:
    """Stages add up, through a resampling in between: twice the likelihood first, once less at the end."""

    class Wavering:
        stages: frozenset[Stage] = frozenset({"discrete", "final"})

        def log_likelihood(self, seen: Seen) -> torch.Tensor:
            truth = likelihood_of_state(seen.batch)
            return 2.0 * truth if seen.stage == "discrete" else -truth

    many, swarm = counts(128, [Wavering()])
    before, _ = swarm.kernel.effective_sizes
    assert (before < 64).float().mean() > 0.9  # most were resampled
    assert chisquare(many, POSTERIOR * POPULATIONS).pvalue > 0.01


def test_a_dead_end_is_never_kept() -> None:
    """However much the guide likes it; a population of nothing else gives no crystal."""
    swarm = Swarm(torch.arange(50), 4, 0, [Weighing(lambda batch: 50.0 * (batch.species[:, 0] == 1).double())])
    made = states(swarm.streams)
    swarm.add(torch.arange(200), made, None, made.batch.species[:, 0] > 1)
    for places, decoded, _ in swarm.survivors():
        swarm.finish(places, decoded.batch, decoded.surprisal)
    kept = swarm.crystals()
    assert 20 < len(kept) < 50 and all(m.crystal.species[0] > 1 for m in kept.values())


def test_evidence_is_the_probability_of_what_is_asked() -> None:
    _, swarm = counts(64, [Weighing(likelihood_of_state)])
    evidence = swarm.kernel.log_evidence.exp().mean().item()
    assert evidence == pytest.approx(float((PRIOR * LIKELIHOOD).sum()), rel=0.03)


def same(a: Orbits, b: Orbits) -> bool:
    return a.group == b.group and np.array_equal(a.wyckoff, b.wyckoff) and np.array_equal(a.species, b.species)


def test_crystal_i_does_not_depend_on_its_company(judging: CrystalModel) -> None:
    """The same alone, among others, and in narrow batches."""
    together, s = sample_batch(judging, ASK, torch.arange(4), 3, FEW)
    for index, config in (([3, 1], FEW), ([0, 1, 2], replace(FEW, batch_tokens=16))):
        apart, t = sample_batch(judging, ASK, torch.tensor(index), 3, config)
        assert all(same(crystal, together[i]) for i, crystal in zip(index, apart, strict=True))
        torch.testing.assert_close(t, s[index], atol=1e-4, rtol=1e-4)


def test_hard_chemistry_holds_and_what_is_asked_becomes_likelier(judging: CrystalModel) -> None:
    """The head itself is the judge here: of the mechanism, not of the property."""
    index = torch.arange(16)

    def judged(config: SamplerConfig, stage: Stage = "discrete") -> float:
        judge = PropertyGuide(judging, [GIBBS], {stage: 1.0})
        crystals, _ = sample_batch(judging, ASK, index, 0, config)
        assert all(3 in c.species and 8 not in c.species and 2 <= c.n_primitive <= 12 for c in crystals)
        chemistry = HardChemistry.from_chemistry(ASK.chemistry)
        batch = OrbitBatch.from_orbits(crystals, condition_tensors(judging, ASK.conditions, chemistry, index))
        with torch.no_grad():
            return float(judge.log_likelihood(Seen(stage, batch)).mean())

    strong = replace(FEW, particles=8, particle_strength=100.0)
    assert judged(strong) > judged(replace(FEW, particles=1)) + 0.02
    finished = replace(strong, finish_particles=True)
    assert judged(finished, "final") > max(judged(strong, "final"), judged(replace(FEW, particles=1), "final")) + 0.01


def test_the_energy_tilt_prefers_low_energies_and_reports_its_sample_size(judging: CrystalModel, tmp_path: Path) -> None:
    """Energy: a tenth of an eV per atom of the cell. kT = 0.05 eV favours small cells; ids and info tell of it."""

    def energy(crystals: list[Orbits]) -> np.ndarray:
        return np.array([0.1 * c.n_primitive for c in crystals])

    save_model(judging, tmp_path)
    request = Request({"mobile_ion": "Li"}, Chemistry(n_atoms=(1, 12)))
    tilt = EnergyTilt(energy, temperature_K=0.05 / 8.617333262e-5)
    plain = sample_candidates(tmp_path, request, 12, 0, replace(FEW, particles=1), progress=False)
    tilted = sample_candidates(tmp_path, request, 12, 0, replace(FEW, particles=8), progress=False, guides=[tilt])
    assert np.mean([len(c.structure) for c in tilted]) < 0.6 * np.mean([len(c.structure) for c in plain])
    assert all(1.0 <= c.info["ess"] <= 8.0 and c.info["particles"] == 8 for c in tilted)
    assert "ess" not in plain[0].info and plain[0].id != tilted[0].id


def test_impossible_crystals_are_drawn_again(judging: CrystalModel) -> None:
    """Not a number rules out; what is left of a population goes on, and a population without any is drawn again."""
    tilt = EnergyTilt(lambda crystals: [math.nan if c.n_primitive > 4 else 0.0 for c in crystals], 300.0)
    request = Request({}, Chemistry(n_atoms=(1, 12)))
    crystals, _ = sample_batch(judging, request, torch.arange(5), 0, replace(FEW, particles=2), guides=[tilt])
    assert all(c.n_primitive <= 4 for c in crystals)


def test_structure_prediction_takes_no_particles_without_a_question(judging: CrystalModel) -> None:
    with pytest.raises(ConfigError, match="nothing that the property head judges"):
        predict_structures(judging, [{11: 1, 17: 1}], 0, torch.arange(1), FEW)


def test_a_given_composition_can_be_guided(judging: CrystalModel) -> None:
    request = Request({GIBBS: Interval(-math.inf, 0.0)}, Chemistry(formula={"Na": 1, "Cl": 1}, z=(1,)))
    (crystal,), _ = sample_batch(judging, request, torch.arange(1), 0, FEW)
    assert sorted(set(crystal.species)) == [11, 17]


def test_a_guide_by_import_path(judging: CrystalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user writes: nothing heavier than calcium, please."""
    (tmp_path / "my_guides.py").write_text(
        "class Light:\n"
        "    stages = frozenset({'discrete'})\n"
        "    def log_likelihood(self, seen):\n"
        "        return (seen.batch.species > 20).any(1).double() * -1e9\n"
        "def make(model, asked):\n"
        "    assert 'mobile_ion' in asked\n"
        "    return Light()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    request = Request({"mobile_ion": "Li"}, Chemistry(n_atoms=(1, 3)))
    config = replace(FEW, particles=64, guides=("my_guides:make",))
    crystals, _ = sample_batch(judging, request, torch.arange(3), 0, config)
    assert all((c.species <= 20).all() for c in crystals)


def test_the_gradient_moves_coordinates_and_cell_only(judging: CrystalModel) -> None:
    config = SamplerConfig(steps=2, types=None)
    plain, _ = sample_batch(judging, ASK, torch.arange(4), 0, config)
    moved, _ = sample_batch(judging, ASK, torch.arange(4), 0, replace(config, gradient_strength=5.0))
    assert all(same(a, b) for a, b in zip(plain, moved, strict=True))
    assert not all(np.allclose(a.cell, b.cell, atol=1e-4) for a, b in zip(plain, moved, strict=True))


def test_particles_keep_clear_of_attempts() -> None:
    """Streams of all attempts and particles differ, and all name the same crystal."""
    crystals = torch.arange(5)
    streams = torch.cat([Swarm(crystals + a * ATTEMPT_STRIDE, 6, 0, ()).streams for a in range(50)])
    assert len(streams.unique()) == len(streams) and torch.equal((streams % ATTEMPT_STRIDE).unique(), crystals)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"particles": 0}, "at least one particle"),
        ({"guides": ("no_such_module:make",)}, "my_module:my_function"),
        ({"guides": ("builtins:dict.fromkeys",)}, "my_module:my_function"),
        ({"guides": ("collections:namedtuple",)}, "my_module:my_function|not a guide"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, object], message: str, judging: CrystalModel) -> None:
    with pytest.raises(ConfigError, match=message):
        sample_batch(judging, ASK, torch.arange(1), 0, replace(FEW, **changes))


def test_a_head_is_needed_for_particles_and_gradients(random_model: CrystalModel, judging: CrystalModel) -> None:
    request = Request({"band_gap_eV": Interval(1.0, 2.0)}, Chemistry())
    for config in (FEW, SamplerConfig(types=None, gradient_strength=1.0)):
        with pytest.raises(ConfigError, match="property head"):
            sample_batch(random_model, request, torch.arange(1), 0, config)
    tilt = EnergyTilt(lambda crystals: [0.0 for _ in crystals], 300.0)
    with pytest.raises(ConfigError, match=r"sampler\.particles is 1"):
        sample_batch(judging, ASK, torch.arange(1), 0, replace(FEW, particles=1), guides=[tilt])
    assert len(sample_batch(random_model, Request({}, Chemistry()), torch.arange(2), 0, FEW, guides=[tilt])[0]) == 2
