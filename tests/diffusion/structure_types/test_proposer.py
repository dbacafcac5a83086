"""Proposals: what a request draws, how it becomes a batch, and that a stored checkpoint proposes the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.core.orbit_batch import MASKED_SPECIES, MASKED_WYCKOFF
from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.model import CrystalModel, save_model
from sse_diffusion.diffusion.structure_types.prior import type_weights
from sse_diffusion.diffusion.structure_types.proposer import (
    NO_TYPE,
    Proposal,
    StructureTypes,
    load_structure_types,
    save_structure_types,
)
from sse_diffusion.diffusion.structure_types.scorer import TypeScorer
from sse_diffusion.thermo.chemistry import Chemistry

FREE = HardChemistry.from_chemistry(Chemistry())
ASKED = {0: {11: 1, 17: 1}, 1: {22: 1, 38: 1, 8: 3}, 2: {12: 2, 13: 4, 8: 8}, 3: {3: 5, 15: 7}, 4: {22: 2, 8: 4}}
"""Rock-salt-like, perovskite-like, spinel-like, nothing the library knows, rutile-like."""


def compositions(numbers: list[int]) -> HardChemistry:
    return HardChemistry.for_compositions({i: ASKED[i] for i in numbers})


def test_a_proposal_holds_the_composition_that_was_asked_for(types: StructureTypes) -> None:
    index = torch.arange(5)
    proposal = types.propose(compositions([0, 1, 2, 3, 4]), 0, index, 0.3)
    assert proposal.types[3] == NO_TYPE and (proposal.types[[0, 1, 2, 4]] >= 0).all()
    for row in (0, 1, 2, 4):
        v = int(proposal.types[row])
        signature = types.library.signature(v)
        elements = proposal.elements[row].tolist()
        assert dict(zip(elements[: len(signature)], signature, strict=True)) == ASKED[row]
        assert not any(elements[len(signature) :])
    assert (proposal.surprisal >= 0).all() and proposal.surprisal[3] == 0


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_a_proposal_does_not_depend_on_its_batch(temperature: float, types: StructureTypes) -> None:
    together = types.propose(compositions([0, 1, 2, 3, 4]), 5, torch.arange(5), temperature)
    for i in range(5):
        alone = types.propose(compositions([i]), 5, torch.tensor([i]), temperature)
        assert alone.types[0] == together.types[i]
        assert alone.elements[0].tolist() == together.elements[i, : alone.elements.shape[1]].tolist()
        torch.testing.assert_close(alone.surprisal[0], together.surprisal[i])
    free = types.propose(FREE, 5, torch.arange(40), 1.0)
    part = types.propose(FREE, 5, torch.tensor([31, 4]), 1.0)
    assert torch.equal(part.types, free.types[[31, 4]])


def test_at_temperature_zero_the_seed_does_not_matter(types: StructureTypes) -> None:
    """The most probable crystal is always the same; a high temperature tries others."""
    wanted = HardChemistry.for_compositions(dict.fromkeys(range(30), ASKED[0]))
    index = torch.arange(30)
    coldest = types.propose(wanted, 0, index, 0.0)
    assert len(set(coldest.types.tolist())) == 1
    assert torch.equal(coldest.types, types.propose(wanted, 9, index, 0.0).types)
    assert len(set(types.propose(wanted, 0, index, 3.0).types.tolist())) > 1
    assert coldest.surprisal.max() <= types.propose(wanted, 0, index, 3.0).surprisal.max()


def test_ranks_go_through_all_candidates_from_the_best(types: StructureTypes) -> None:
    """Rock salt, caesium chloride and zinc blende, either way round, and "none": seven crystals, then the first again."""
    wanted = HardChemistry.for_compositions(dict.fromkeys(range(8), ASKED[0]))
    proposal = types.propose(wanted, 0, torch.arange(8), 0.3, rank=torch.arange(8))
    found = list(zip(proposal.types.tolist(), map(tuple, proposal.elements.tolist()), strict=True))
    assert found[7] == found[0] and len(set(found)) == 7
    typed = proposal.types[:7] != NO_TYPE
    assert typed.sum() == 6 and (proposal.surprisal[:7][typed].diff() >= 0).all()
    assert torch.equal(proposal.types[:1], types.propose(wanted, 0, torch.arange(1), 0.0).types)


def test_a_prescribed_composition_keeps_to_the_groups(types: StructureTypes) -> None:
    """NaCl in F-43m is zinc blende, in P1 nothing the library knows."""
    for group, names in ((216, {216}), (225, {225}), (1, set())):
        cells = Chemistry(formula="NaCl", z=(1,), space_group=frozenset({group}))
        proposal = types.propose(HardChemistry.from_chemistry(cells), 0, torch.arange(12), 1.0)
        assert set(types.library.group[proposal.types[proposal.types != NO_TYPE]].tolist()) == names


def test_types_are_drawn_as_often_as_they_occur(types: StructureTypes) -> None:
    chemistry = HardChemistry.from_chemistry(Chemistry(allow=frozenset({"Ti", "Sn", "O", "F", "Mg", "Al"})))
    n = 4000
    proposal = types.propose(chemistry, 1, torch.arange(n), 1.0, 1.0)
    weight = type_weights(types.library, types.role_elements, chemistry)
    expected = weight / weight.sum()
    found = np.bincount(proposal.types.numpy(), minlength=len(types.library)) / n
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / n)
    np.testing.assert_allclose(proposal.surprisal, -np.log(expected)[proposal.types], rtol=1e-4)


def test_the_share_without_a_type(types: StructureTypes) -> None:
    """As in the training table, or what is asked for."""
    n = 4000
    drawn = {share: types.propose(FREE, 2, torch.arange(n), 1.0, share).types for share in (None, 0.0, 0.6, 1.0)}
    assert (drawn[0.0] == NO_TYPE).all() and (drawn[1.0] != NO_TYPE).all()
    for share, expected in ((None, 1 - types.untyped), (0.6, 0.6)):
        assert (drawn[share] != NO_TYPE).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_impossible_requests_are_left_to_the_model(types: StructureTypes) -> None:
    nothing = HardChemistry.from_chemistry(Chemistry(n_atoms=(400, 500)))
    assert (types.propose(nothing, 0, torch.arange(6), 1.0, 1.0).types == NO_TYPE).all()


def test_a_batch_holds_the_sites_of_its_types(types: StructureTypes, number_of: Callable[[int, tuple[int, ...]], int]) -> None:
    library = types.library
    salt, spinel, perovskite = number_of(225, (1, 1)), number_of(227, (2, 4, 8)), number_of(221, (1, 1, 3))
    elements = torch.tensor([[11, 17, 0], [12, 13, 8], [22, 38, 8]])
    chosen = torch.tensor([salt, spinel, perovskite])
    batch, role = types.batch(Proposal(chosen, elements, torch.zeros(3)), {"x": torch.arange(3)})
    assert batch.conditions["x"].tolist() == [0, 1, 2]
    assert batch.group.tolist() == [225, 227, 221]
    for row, v in enumerate(chosen.tolist()):
        rows, m = library.orbits_of(v), int(library.start[v + 1] - library.start[v])
        assert batch.mask[row].sum() == m and batch.mask[row, :m].all()
        assert batch.wyckoff[row, :m].tolist() == library.wyckoff[rows].tolist()
        assert role[row, :m].tolist() == library.role[rows].tolist()
        np.testing.assert_array_equal(batch.free[row, :m], library.free[rows])
        np.testing.assert_array_equal(batch.cell[row], library.cell[v])
        assert batch.species[row, :m].tolist() == [int(elements[row, r]) for r in library.role[rows]]
        assert (batch.wyckoff[row, m:] == MASKED_WYCKOFF).all() and (role[row, m:] == -1).all()
        assert (batch.species[row, m:] == MASKED_SPECIES).all() and (batch.free[row, m:] == 0).all()


def test_species_are_masked_where_nothing_was_prescribed(types: StructureTypes) -> None:
    proposal = types.propose(FREE, 0, torch.arange(8), 1.0, 1.0)
    batch, role = types.batch(proposal, {})
    assert (batch.species == MASKED_SPECIES).all() and ((role >= 0) == batch.mask).all()


def test_the_role_prior_is_that_of_the_types(types: StructureTypes) -> None:
    """Row r of a type says what its role r favours: an element it holds above one it never holds."""
    every = torch.arange(len(types.library))
    prior = types.role_prior(every, 3)
    for v in every.tolist():
        for r, row in enumerate(range(types.library.roles_of(v).start, types.library.roles_of(v).stop)):
            held = np.flatnonzero(types.role_elements[row])
            never = np.setdiff1d(np.flatnonzero(types.role_elements.sum(0)), held)
            assert prior[v, r, held].min() > prior[v, r, never].max()


def test_a_loaded_checkpoint_proposes_the_same(types: StructureTypes, tmp_path: Path) -> None:
    """Matrices are stored as 16-bit floats: from the first loading on nothing changes any more."""
    save_structure_types(types, tmp_path / "one", {"training": {"seed": 1}})
    once = load_structure_types(str(tmp_path / "one"))
    save_structure_types(once, tmp_path / "two")
    twice = load_structure_types(str(tmp_path / "two"))
    for name, array in types.library.arrays().items():
        np.testing.assert_array_equal(getattr(once.library, name), array)
    np.testing.assert_array_equal(once.role_elements, types.role_elements)
    assert once.untyped == types.untyped and not once.scorer.training
    wanted = compositions([0, 1, 2, 3, 4])
    for temperature in (0.0, 1.0):
        a, b, c = (t.propose(wanted, 3, torch.arange(5), temperature) for t in (types, once, twice))
        assert torch.equal(b.types, c.types) and torch.equal(b.elements, c.elements) and torch.equal(b.surprisal, c.surprisal)
        assert torch.equal(a.types, b.types) and torch.equal(a.elements, b.elements)
        torch.testing.assert_close(a.surprisal, b.surprisal, atol=0.02, rtol=0.02)
    a, b = (t.propose(FREE, 3, torch.arange(50), 1.0) for t in (types, once))
    assert torch.equal(a.types, b.types) and torch.equal(a.surprisal, b.surprisal)


def test_large_counts_survive_storage(types: StructureTypes, tmp_path: Path) -> None:
    """Tables of millions hold tens of thousands of crystals of one type."""
    library = replace(types.library, count=types.library.count * 20_000)
    counts = types.role_elements * 20_000
    scorer = TypeScorer(library, types.scorer.config, types.scorer.element_features, counts)
    save_structure_types(StructureTypes(scorer, counts, 0.1), tmp_path / "large")
    loaded = load_structure_types(str(tmp_path / "large"))
    np.testing.assert_array_equal(loaded.library.count, library.count)
    np.testing.assert_array_equal(loaded.role_elements, counts)


def refused(folder: Path | str) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_structure_types(str(folder))
    assert caught.value.hint
    return caught.value


def test_bad_checkpoints_are_refused_with_advice(types: StructureTypes, random_model: CrystalModel, tmp_path: Path) -> None:
    assert "give a folder" in refused("structure_typs").hint
    save_model(random_model, tmp_path / "model")
    assert "not a 'structure_types'" in refused(tmp_path / "model").message
    save_structure_types(types, tmp_path / "cut")
    (tmp_path / "cut" / "weights.safetensors").write_bytes(b"no weights")
    assert "missing or truncated" in refused(tmp_path / "cut").message


@pytest.mark.parametrize(
    "change", [{"scorer": {"width": 9, "hidden": 16}}, {"scorer": {"widht": 8}}, {"scorer": None}, {"untyped": None}]
)
def test_a_configuration_that_does_not_fit_is_refused(change: dict, types: StructureTypes, tmp_path: Path) -> None:
    save_structure_types(types, tmp_path / "changed")
    path = tmp_path / "changed" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    changed = {k: v for k, v in {**config, **change}.items() if v is not None}
    path.write_text(json.dumps(changed), encoding="utf-8")
    assert "config.json" in refused(tmp_path / "changed").message
