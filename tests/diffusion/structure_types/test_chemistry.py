"""Which elements go together: the charge balance is counted right, a network learns pairs, and sampling listens to it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.diffusion.generate import sample_batch
from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.diffusion.structure_types.build import element_features
from sse_diffusion.diffusion.structure_types.chemistry import (
    STATES,
    ChemistryConfig,
    RoleChemistry,
    as_roles,
    fit_chemistry,
    hide,
    nll_of_hidden,
)
from sse_diffusion.diffusion.structure_types.decorate import decorate, roles_of
from sse_diffusion.diffusion.structure_types.grouping import primitive_counts
from sse_diffusion.diffusion.structure_types.proposer import Proposal, StructureTypes, load_structure_types, save_structure_types
from sse_diffusion.thermo.charge_balance import imbalance
from sse_diffusion.thermo.request import Chemistry, Request

SMALL = ChemistryConfig(width=16, layers=1, dropout=0.0, epochs=150, learning_rate=1e-2, batch=8)
SALTS = [
    {11: 1, 17: 1},
    {19: 1, 35: 1},
    {12: 1, 8: 1},
    {20: 1, 16: 1},
    {12: 1, 17: 2},
    {20: 1, 35: 2},
    {11: 2, 8: 1},
    {19: 2, 16: 1},
]


@pytest.fixture(scope="module")
def learnt() -> RoleChemistry:
    torch.manual_seed(0)
    return fit_chemistry(RoleChemistry(SMALL, element_features()), SALTS, progress=False)


@pytest.fixture
def fresh() -> RoleChemistry:
    torch.manual_seed(0)
    model = RoleChemistry(SMALL, element_features()).eval()
    model.share[[8, 11, 17, 22]] = 1.0
    return model


@torch.no_grad()
def by_enumeration(model: RoleChemistry, elements: tuple[int, ...], atoms: tuple[int, ...]) -> float:
    metal, states = model.metal.sigmoid(), model.states.softmax(-1)
    total = float(torch.stack([metal[z] for z in elements]).prod())
    for chosen in itertools.product(range(len(STATES)), repeat=len(elements)):
        if sum(n * STATES[s] for n, s in zip(atoms, chosen, strict=True)) == 0:
            total += float(torch.stack([(1 - metal[z]) * states[z, s] for z, s in zip(elements, chosen, strict=True)]).prod())
    return total


@pytest.mark.parametrize(
    ("elements", "atoms"), [((11, 17), (1, 1)), ((22, 8), (1, 2)), ((11, 22, 8), (2, 1, 3)), ((8, 22), (3, 2))]
)
def test_the_probability_of_no_charge_is_that_of_all_assignments(
    elements: tuple[int, ...], atoms: tuple[int, ...], fresh: RoleChemistry
) -> None:
    species = torch.tensor([[*elements[:-1], 0]])
    with torch.no_grad():
        found = fresh.neutral(species, torch.tensor([atoms]), torch.tensor([len(elements) - 1]))[0, elements[-1]].exp()
    assert float(found) == pytest.approx(by_enumeration(fresh, elements, atoms) + 1e-4, abs=1e-5)


def test_an_open_role_counts_as_the_mean_element(fresh: RoleChemistry) -> None:
    atoms = torch.tensor([[1, 1, 3]])
    open_ = fresh.neutral(torch.tensor([[11, 0, 0]]), atoms, torch.tensor([2]))[0, 8].exp()
    known = [fresh.neutral(torch.tensor([[11, z, 0]]), atoms, torch.tensor([2]))[0, 8].exp() for z in (8, 11, 17, 22)]
    assert float(open_.detach()) == pytest.approx(float(torch.stack(known).mean().detach()), abs=1e-5)


def test_usual_states_make_salts_neutral_from_the_start(fresh: RoleChemistry) -> None:
    """With one or two sodium atoms per anion: chlorine balances the one, oxygen the other, neon neither."""
    one, two = (fresh.neutral(torch.tensor([[11, 0]]), torch.tensor([[n, 1]]), torch.tensor([1]))[0] for n in (1, 2))
    assert one[17] - two[17] > 0.5 and two[8] - one[8] > 0.5 and one[17] > one[8] and one[17] > one[10] + 0.5


def test_probabilities_leave_out_what_is_there_and_know_no_order(learnt: RoleChemistry) -> None:
    """The cell's size and the order of the roles do not matter; what is in the composition cannot come twice."""
    species, atoms = torch.tensor([[12, 0, 8]]), torch.tensor([[2, 4, 2]])
    first = learnt(species, atoms, torch.tensor([1]))
    assert float(first.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert torch.isinf(first[0, [0, 8, 12]]).all() and torch.isfinite(first[0, 1:8]).all()
    turned = learnt(species[:, [1, 2, 0]], atoms[:, [1, 2, 0]], torch.tensor([0]))
    torch.testing.assert_close(first, turned, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first, learnt(species, atoms // 2, torch.tensor([1])), atol=1e-5, rtol=1e-5)
    padded = learnt(torch.tensor([[12, 0, 8, 0]]), torch.tensor([[2, 4, 2, 0]]), torch.tensor([1]))
    torch.testing.assert_close(first, padded, atol=1e-5, rtol=1e-5)


def test_it_learns_who_goes_with_whom(learnt: RoleChemistry) -> None:
    """One partner of sodium is a halogen, half a partner is a chalcogen; better than how common elements are."""
    one = learnt(torch.tensor([[11, 0]]), torch.tensor([[1, 1]]), torch.tensor([1]))[0]
    half = learnt(torch.tensor([[11, 0]]), torch.tensor([[2, 1]]), torch.tensor([1]))[0]
    assert one[[17, 35]].logsumexp(0) > one[[8, 16]].logsumexp(0) + 1
    assert half[[8, 16]].logsumexp(0) > half[[17, 35]].logsumexp(0) + 1
    n, alone, together = nll_of_hidden(learnt, SALTS)
    assert n == len(SALTS) and together < alone - 1


def test_hidden_roles_are_hidden() -> None:
    species, atoms = as_roles(SALTS * 20)
    given, asked, answer = hide(species, atoms, torch.Generator().manual_seed(0))
    assert (given.gather(1, asked[:, None]) == 0).all() and torch.equal(answer, species.gather(1, asked[:, None])[:, 0])
    assert ((given == species) | (given == 0)).all() and (answer > 0).all()
    n_open = (given == 0).sum(1)
    assert {1, 2} == set(n_open.tolist())


def test_orbits_of_an_element_are_one_role() -> None:
    species = torch.tensor([[8, 22, 8, 38, 0], [5, 5, 6, 0, 0]])
    mask = torch.tensor([[True] * 4 + [False], [True] * 3 + [False] * 2])
    assert roles_of(species, mask).tolist() == [[0, 1, 0, 2, -1], [0, 0, 1, -1, -1]]


def test_a_stored_one_says_the_same(types: StructureTypes, learnt: RoleChemistry, tmp_path: Path) -> None:
    save_structure_types(StructureTypes(types.scorer, types.role_elements, types.untyped, learnt), tmp_path)
    read = load_structure_types(str(tmp_path)).chemistry
    assert read is not None
    asked = (torch.tensor([[11, 0]]), torch.tensor([[1, 1]]), torch.tensor([1]))
    torch.testing.assert_close(read.log_odds(*asked), learnt.log_odds(*asked), atol=0.05, rtol=0.05)
    assert types.partners(1.0) is None


def test_decoration_listens(random_model: CrystalModel, types: StructureTypes, learnt: RoleChemistry) -> None:
    """An untrained denoiser pairs anything; with a heavy weight on who goes with whom most binaries come out balanced."""
    both = StructureTypes(types.scorer, types.role_elements, types.untyped, learnt)
    binaries = torch.tensor([v for v in range(len(types.library)) if len(types.library.signature(v)) == 2])
    chosen, index = binaries[torch.arange(60) % len(binaries)], torch.arange(60)
    batch, role = both.batch(
        Proposal(chosen, torch.zeros(60, 1, dtype=torch.long), torch.zeros(60)), random_model.null_conditions(60)
    )
    share = {}
    for weight in (0.0, 3.0):
        with torch.no_grad():
            made, nll, complete = decorate(
                random_model, batch, role, HardChemistry.from_chemistry(Chemistry()), 0, index, torch.zeros(60, 2, 95),
                partners=both.partners(weight),
            )  # fmt: skip
        assert complete.all() and (nll > 0).all()
        share[weight] = sum(imbalance(c.to_structure()) == "" for c in made.to_orbits()) / 60
    assert share[3.0] > share[0.0] + 0.15


@pytest.fixture
def config(types: StructureTypes, learnt: RoleChemistry, tmp_path: Path) -> SamplerConfig:
    save_structure_types(StructureTypes(types.scorer, types.role_elements, types.untyped, learnt), tmp_path)
    return SamplerConfig(steps=2, types=str(tmp_path), max_rounds=20)


def discrete(crystal: Orbits) -> tuple[int, list[int], list[int]]:
    return crystal.group, crystal.wyckoff.tolist(), crystal.species.tolist()


def test_crystals_without_a_type_get_their_elements_again(random_model: CrystalModel, config: SamplerConfig) -> None:
    """Group and sites stay, elements change; constraints hold, and crystals do not depend on their batch."""
    chemistry = Chemistry(require=frozenset({"Li"}), forbid=frozenset({"O"}), n_atoms=(2, 14))
    request, index = Request({}, chemistry), torch.arange(10)
    untyped = replace(config, typed_share=0.0)
    with_, s = sample_batch(random_model, request, index, 3, untyped)
    without, t = sample_batch(random_model, request, index, 3, replace(untyped, partner_weight=0.0))
    assert [discrete(c)[:2] for c in with_] == [discrete(c)[:2] for c in without]
    assert [discrete(c)[2] for c in with_] != [discrete(c)[2] for c in without]
    assert all(chemistry.violations(c.to_structure(), c.group) == [] for c in with_)
    assert (s > 0).all() and not torch.allclose(s, t)
    apart, u = sample_batch(random_model, request, torch.tensor([7, 2]), 3, untyped)
    assert [discrete(c) for c in apart] == [discrete(with_[7]), discrete(with_[2])]
    torch.testing.assert_close(u, s[[7, 2]], atol=1e-4, rtol=1e-4)


def test_neutral_when_asked_also_after_the_second_draw(random_model: CrystalModel, config: SamplerConfig) -> None:
    chemistry = Chemistry(allow=frozenset({"Li", "Na", "Cl", "S", "P", "O", "Zr"}), charge_neutral=True, n_atoms=(2, 12))
    crystals, _ = sample_batch(random_model, Request({}, chemistry), torch.arange(6), 1, replace(config, typed_share=0.0))
    assert all(imbalance(c.to_structure()) == "" for c in crystals)
    asked = Chemistry(formula="LiCl", z=(2,))
    crystals, _ = sample_batch(random_model, Request({}, asked), torch.arange(2), 1, replace(config, typed_share=0.0))
    assert all(primitive_counts(c) == {3: 2, 17: 2} for c in crystals)
