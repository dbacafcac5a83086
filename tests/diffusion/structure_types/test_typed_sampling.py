"""Sampling from structure types: the composition asked for, the sites of a type, refined coordinates, and the ways out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion import generate
from sse_diffusion.diffusion.generate import predict_structures, sample_batch, sample_candidates
from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.model import CrystalModel, save_model
from sse_diffusion.diffusion.samplers import SamplerConfig, Start, euler_ancestral
from sse_diffusion.diffusion.structure_types.grouping import primitive_counts
from sse_diffusion.diffusion.structure_types.library import TypeLibrary
from sse_diffusion.diffusion.structure_types.proposer import StructureTypes
from sse_diffusion.thermo.charge_balance import imbalance
from sse_diffusion.thermo.request import Chemistry, Request

ASKED = [{11: 1, 17: 1}, {22: 1, 38: 1, 8: 3}, {12: 2, 13: 4, 8: 8}, {22: 2, 8: 4}, {20: 1, 9: 2}, {3: 2, 15: 1}, {5: 3, 7: 2}]
"""The last two have no type: Li2P is a fluorite by its numbers, B3N2 is nothing that the library knows."""
UNTYPED = 6


@pytest.fixture
def config(stored: Path) -> SamplerConfig:
    return SamplerConfig(steps=2, types=str(stored), max_rounds=20)


def same(a: Orbits, b: Orbits, tolerance: float = 1e-3) -> bool:
    discrete = a.group == b.group and np.array_equal(a.wyckoff, b.wyckoff) and np.array_equal(a.species, b.species)
    if not discrete:
        return False
    gap = a.free - b.free
    return bool(np.abs(gap - np.round(gap)).max() < tolerance and np.abs(a.cell - b.cell).max() < tolerance)


def sites(group: int, wyckoff: np.ndarray) -> tuple[int, tuple[int, ...]]:
    return group, tuple(sorted(int(w) for w in wyckoff))


def known_sites(library: TypeLibrary) -> set[tuple[int, tuple[int, ...]]]:
    return {sites(int(library.group[v]), library.wyckoff[library.orbits_of(v)]) for v in range(len(library))}


def test_predicted_crystals_have_the_composition_asked_for(
    random_model: CrystalModel, config: SamplerConfig, library: TypeLibrary
) -> None:
    """With a type or without one, atom by atom in the primitive cell."""
    crystals = predict_structures(random_model, ASKED, 0, torch.arange(len(ASKED)), config)
    for crystal, asked in zip(crystals, ASKED, strict=True):
        assert crystal is not None and primitive_counts(crystal) == asked
    typed = [sites(c.group, c.wyckoff) in known_sites(library) for c in crystals]
    assert all(typed[:UNTYPED])


def test_a_composition_without_a_type_is_left_to_the_model(random_model: CrystalModel, config: SamplerConfig) -> None:
    """It is then what the model alone would have made of it."""
    index = torch.tensor([UNTYPED])
    with_types = predict_structures(random_model, ASKED[UNTYPED:], 0, index, config)[0]
    without = predict_structures(random_model, ASKED[UNTYPED:], 0, index, replace(config, types=None))[0]
    assert with_types is not None and without is not None and same(with_types, without, 1e-6)


def test_a_predicted_crystal_does_not_depend_on_its_batch(random_model: CrystalModel, config: SamplerConfig) -> None:
    config = replace(config, steps=1, refine_steps=1)  # random weights amplify rounding from step to step
    index = torch.arange(len(ASKED))
    together = predict_structures(random_model, ASKED, 4, index, config)
    for numbers in ([2], [5, 0, 6]):
        apart = predict_structures(random_model, [ASKED[i] for i in numbers], 4, torch.tensor(numbers), config)
        for i, crystal in zip(numbers, apart, strict=True):
            assert crystal is not None and together[i] is not None and same(crystal, together[i])
    narrow = predict_structures(random_model, ASKED, 4, index, replace(config, batch_tokens=4))
    assert all(same(a, b) for a, b in zip(narrow, together, strict=True))
    other = predict_structures(random_model, ASKED, 5, index, config)
    assert not all(same(a, b) for a, b in zip(other, together, strict=True))


def test_de_novo_crystals_do_not_depend_on_their_batch(random_model: CrystalModel, config: SamplerConfig) -> None:
    """Some with a type, some without, some drawn again; two drawn alone are the same."""
    request = Request({"mobile_ion": "Li"}, Chemistry(require=frozenset({"Li"}), n_atoms=(2, 14)))
    share = replace(config, typed_share=0.6, steps=1, refine_steps=1)
    together, s = sample_batch(random_model, request, torch.arange(10), 7, share)
    apart, t = sample_batch(random_model, request, torch.tensor([8, 3]), 7, share)
    assert same(apart[0], together[8]) and same(apart[1], together[3])
    torch.testing.assert_close(t, s[[8, 3]], atol=1e-4, rtol=1e-4)


def test_the_share_with_a_type_is_respected(random_model: CrystalModel, config: SamplerConfig, library: TypeLibrary) -> None:
    request = Request({}, Chemistry(n_atoms=(2, 14)))
    every, _ = sample_batch(random_model, request, torch.arange(16), 0, replace(config, typed_share=1.0))
    assert all(sites(c.group, c.wyckoff) in known_sites(library) for c in every)
    none, _ = sample_batch(random_model, request, torch.arange(16), 0, replace(config, typed_share=0.0))
    alone, _ = sample_batch(random_model, request, torch.arange(16), 0, replace(config, types=None))
    assert all(same(a, b, 1e-6) for a, b in zip(none, alone, strict=True))


@pytest.mark.parametrize(
    "chemistry",
    [
        Chemistry(require=frozenset({"Li", "S"}), forbid=frozenset({"O"})),
        Chemistry(allow=frozenset({"Li", "Na", "Cl", "S", "P", "O", "Zr"}), charge_neutral=True),
        Chemistry(space_group=frozenset({216, 225}), n_atoms=(2, 3)),
        Chemistry(formula="TiO2", z=(2,)),
        Chemistry(formula="NaCl", z=(1,), space_group=frozenset({216})),
    ],
    ids=["elements", "neutral", "groups", "formula", "formula in a group"],
)
def test_hard_chemistry_holds_with_types(chemistry: Chemistry, random_model: CrystalModel, config: SamplerConfig) -> None:
    crystals, _ = sample_batch(random_model, Request({}, chemistry), torch.arange(8), 1, replace(config, typed_share=1.0))
    for crystal in crystals:
        structure = crystal.to_structure()
        assert chemistry.violations(structure, crystal.group) == []
        assert not chemistry.charge_neutral or imbalance(structure) == ""


def test_ranks_choose_among_the_types_of_a_composition(random_model: CrystalModel, config: SamplerConfig) -> None:
    """The first choice does not depend on the seed however warm the draw; the third is another crystal."""
    warm, index = replace(config, type_temperature=5.0), torch.arange(4)
    asked = [ASKED[0]] * 4

    def groups(seed: int, rank: int | None) -> list[int]:
        ranks = None if rank is None else torch.full((4,), rank)
        return [c.group for c in predict_structures(random_model, asked, seed, index, warm, rank=ranks) if c is not None]

    first = groups(0, None)
    assert len(set(first)) == 1 and first == groups(1, None) == groups(2, 0)
    assert {tuple(groups(0, r)) for r in range(6)} >= {(225,) * 4, (221,) * 4, (216,) * 4}


def test_surprisal_is_in_nats_per_orbit(random_model: CrystalModel, config: SamplerConfig, types: StructureTypes) -> None:
    """Choice of the type and of the elements together, divided by the orbits; with a composition the type's alone."""
    cells = HardChemistry.for_compositions(dict(enumerate(ASKED[:6])))
    index = torch.arange(6)
    proposal = types.propose(cells, 0, index, config.type_temperature)
    for chemistry, wanted in ((cells, proposal.surprisal), (HardChemistry.from_chemistry(Chemistry()), None)):
        task = generate.Task(random_model, {}, chemistry, 0, replace(config, typed_share=1.0))
        for rows, decoded, start in task._decode(index, 0):
            n_orbits = decoded.batch.mask.sum(1)
            assert start is not None and len(rows) > 0
            if wanted is not None:
                total = decoded.surprisal * n_orbits
                torch.testing.assert_close(total, wanted[rows], atol=1e-2, rtol=1e-2)  # networks are stored in half precision
            else:
                free = types.propose(chemistry, 0, index, config.type_temperature, 1.0)
                rest = decoded.surprisal * n_orbits - free.surprisal[rows]
                made = zip(decoded.batch.species, decoded.batch.mask, strict=True)
                n_roles = torch.tensor([len(set(species[there].tolist())) for species, there in made])
                # an untrained denoiser: about ln(94) for each role, whatever the number of its orbits
                assert (rest > 1.0 * n_roles).all() and (rest < 12.0 * n_roles).all()


def test_without_types_nothing_is_loaded(random_model: CrystalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "load_structure_types", lambda name: pytest.fail("types are switched off"))
    crystals = predict_structures(random_model, ASKED[:2], 0, torch.arange(2), SamplerConfig(steps=2, types=None))
    assert [primitive_counts(c) for c in crystals if c is not None] == ASKED[:2]
    sample_batch(random_model, Request({}, Chemistry(n_atoms=(2, 8))), torch.arange(2), 0, SamplerConfig(steps=2, types=None))


def test_a_mistyped_checkpoint_is_refused_with_advice(random_model: CrystalModel, config: SamplerConfig, tmp_path: Path) -> None:
    save_model(random_model, tmp_path / "model")
    for name, said in (("structure_tpyes", "structure_tpyes"), (str(tmp_path / "model"), "not a 'structure_types'")):
        wrong = replace(config, types=name)
        with pytest.raises(CheckpointError, match=said) as caught:
            predict_structures(random_model, ASKED[:1], 0, torch.arange(1), wrong)
        assert "give" in caught.value.hint
        with pytest.raises(CheckpointError):
            sample_batch(random_model, Request({}, Chemistry()), torch.arange(1), 0, wrong)


def test_candidates_with_and_without_types_have_other_names(
    random_model: CrystalModel, config: SamplerConfig, tmp_path: Path
) -> None:
    """Names tell runs apart, so the settings of the types are part of them."""
    save_model(random_model, tmp_path / "model")
    request = Request({}, Chemistry(n_atoms=(2, 8)))
    settings = [config, replace(config, types=None), replace(config, typed_share=1.0), replace(config, start_sigma=0.1)]
    names = [sample_candidates(tmp_path / "model", request, 1, config=c, progress=False)[0].id for c in settings]
    assert len(set(names)) == len(names)


def start_of(types: StructureTypes, model: CrystalModel, v: int, n: int = 6) -> OrbitBatch:
    """Copies of one type, as a batch with species."""
    library = types.library
    rows = library.orbits_of(v)
    cell = library.cell[v] + np.array([0, 0, 0, 0, 0, np.log(wyckoff_table().multiplicity[library.wyckoff[rows]].sum()) / 3])
    crystal = Orbits(int(library.group[v]), cell, library.role[rows] + 8, library.wyckoff[rows], library.free[rows])
    return OrbitBatch.from_orbits([crystal] * n, model.null_conditions(n))


@pytest.mark.parametrize("churn", [0.0, 1.0])
def test_a_start_at_time_zero_stays_where_it_is(
    churn: float, random_model: CrystalModel, types: StructureTypes, number_of: Callable[[int, tuple[int, ...]], int]
) -> None:
    """Up to the smallest noise of the coordinates; the cell exactly. At time one nothing of either is left."""
    batch = start_of(types, random_model, number_of(136, (2, 4)))
    index, noise = torch.arange(len(batch)), random_model.coordinate_noise
    is_free = random_model.is_free(batch)
    assert is_free.any()

    def refined(t: float) -> OrbitBatch:
        times = torch.full((len(batch),), t)
        settings = SamplerConfig(steps=5, churn=churn)
        with torch.no_grad():
            return euler_ancestral(random_model, batch, settings, 0, index, Start(batch.free, batch.cell, times, times))

    def distance(made: OrbitBatch) -> torch.Tensor:
        gap = made.free - batch.free
        return (gap - gap.round())[is_free].abs()

    still = refined(0.0)
    assert 0 < distance(still).max() < 8 * noise.config.sigma_min
    torch.testing.assert_close(still.cell, batch.cell, atol=1e-4, rtol=1e-4)
    assert (still.free[~is_free] == 0).all() and torch.equal(still.species, batch.species)
    near, forgotten = refined(noise.time_of(0.03)), refined(1.0)
    assert distance(still).mean() < distance(near).mean() < distance(forgotten).mean()
    assert (forgotten.cell - batch.cell)[:, -1].abs().max() > 1e-2
    torch.testing.assert_close(forgotten.free, euler_ancestral_from_noise(random_model, batch, churn).free)


def euler_ancestral_from_noise(model: CrystalModel, batch: OrbitBatch, churn: float) -> OrbitBatch:
    with torch.no_grad():
        return euler_ancestral(model, batch, SamplerConfig(steps=5, churn=churn), 0, torch.arange(len(batch)))


def test_the_start_is_the_mean_of_the_type(
    random_model: CrystalModel, config: SamplerConfig, types: StructureTypes, number_of: Callable[[int, tuple[int, ...]], int]
) -> None:
    """With hardly any noise on coordinates and cell a predicted rutile is the library's, at its mean volume per atom."""
    v = number_of(136, (2, 4))
    frozen = replace(config, start_sigma=0.0, start_cell_time=0.0)
    only = {"space_group": frozenset({136}), "formula": "SnO2", "z": (2,)}
    crystal = sample_batch(random_model, Request({}, Chemistry(**only)), torch.arange(1), 0, frozen)[0][0]
    gap = crystal.free - types.library.free[types.library.orbits_of(v)]
    assert np.abs(gap - np.round(gap)).max() < 8 * random_model.coordinate_noise.config.sigma_min
    expected = types.library.cell[v] + np.array([0, 0, 0, 0, 0, np.log(6) / 3])
    np.testing.assert_allclose(crystal.cell, expected, atol=1e-4)
