"""Handing elements to roles: hard chemistry is never violated, whatever the weights of the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.structure_types.decorate import decorate
from sse_diffusion.diffusion.structure_types.proposer import Proposal, StructureTypes
from sse_diffusion.thermo.charge_balance import imbalance
from sse_diffusion.thermo.chemistry import Chemistry

SEED = 3
ELEMENTS = frozenset({"Li", "Na", "P", "S", "Cl", "O", "Zr", "Y"})


@pytest.fixture
def decorated(random_model: CrystalModel, types: StructureTypes) -> Callable[..., tuple[OrbitBatch, Tensor, Tensor, Tensor]]:
    """``decorated(Chemistry(...), numbers)``: crystal i of type i mod V, with the role of each orbit."""

    def _decorated(
        chemistry: Chemistry, index: Tensor, weight: float = 0.5, order: Tensor | None = None
    ) -> tuple[OrbitBatch, Tensor, Tensor, Tensor]:
        chosen = index % len(types.library)
        none = torch.zeros(len(index), 1, dtype=torch.long)
        proposal = Proposal(chosen, none, torch.zeros(len(index)))
        batch, role = types.batch(proposal, random_model.null_conditions(len(index)))
        prior = weight * types.role_prior(chosen, int(role.max()) + 1)
        with torch.no_grad():
            made, nll, complete = decorate(random_model, batch, role, HardChemistry.from_chemistry(chemistry), SEED, index, prior)
        return made, role, nll, complete

    return _decorated


def elements_by_role(batch: OrbitBatch, role: Tensor, row: int) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for r, z in zip(role[row].tolist(), batch.species[row].tolist(), strict=True):
        if r >= 0:
            found.setdefault(r, set()).add(z)
    return found


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_role_has_one_element_and_an_element_one_role(weight: float, decorated: Callable) -> None:
    batch, role, nll, complete = decorated(Chemistry(), torch.arange(36), weight)
    assert complete.all() and (nll >= 0).all()
    for row in range(len(batch)):
        roles = elements_by_role(batch, role, row)
        assert all(len(elements) == 1 for elements in roles.values())
        assert len(set().union(*roles.values())) == len(roles)
    assert (batch.species[batch.mask] > 0).all() and (batch.species[~batch.mask] == 0).all()


def test_required_elements_are_there_and_forbidden_ones_are_not(decorated: Callable) -> None:
    chemistry = Chemistry(require=frozenset({"Li", "S"}), allow=ELEMENTS - {"Cl"}, forbid=frozenset({"O"}))
    batch, role, _, complete = decorated(chemistry, torch.arange(60))
    assert complete.all()
    for row in range(len(batch)):
        elements = set().union(*elements_by_role(batch, role, row).values())
        assert {3, 16} <= elements <= {3, 11, 15, 16, 40, 39}


def test_what_cannot_be_met_is_reported(decorated: Callable, types: StructureTypes) -> None:
    """Two allowed elements fill two roles, never three."""
    n_roles = torch.from_numpy(types.library.role_start[1:] - types.library.role_start[:-1])
    index = torch.arange(len(types.library))
    _, _, _, complete = decorated(Chemistry(allow=frozenset({"Li", "Cl"})), index)
    assert torch.equal(complete, n_roles <= 2) and complete.any() and not complete.all()


def test_charge_neutrality_is_met_by_all_that_are_complete(decorated: Callable, types: StructureTypes) -> None:
    chemistry = Chemistry(allow=ELEMENTS, charge_neutral=True)
    batch, _, _, complete = decorated(chemistry, torch.arange(60))
    free, _, _, _ = decorated(Chemistry(allow=ELEMENTS), torch.arange(60))
    assert complete.float().mean() > 0.3
    balanced = [imbalance(c.to_structure()) == "" for c in batch.select(complete).to_orbits()]
    assert all(balanced)
    assert not all(imbalance(c.to_structure()) == "" for c in free.select(complete).to_orbits())


def test_a_crystal_does_not_depend_on_its_batch(decorated: Callable) -> None:
    chemistry = Chemistry(require=frozenset({"Li"}), allow=ELEMENTS)
    together, _, nll, _ = decorated(chemistry, torch.arange(30))
    for numbers in ([7], [29, 3, 11]):
        apart, _, alone, _ = decorated(chemistry, torch.tensor(numbers))
        width = apart.species.shape[1]
        assert torch.equal(apart.species, together.species[numbers][:, :width])
        torch.testing.assert_close(alone, nll[numbers], atol=1e-4, rtol=1e-4)


def test_the_prior_of_roles_counts(decorated: Callable, types: StructureTypes) -> None:
    """With an overwhelming weight roles draw elements that they have been seen with; an untrained model alone does not."""
    batch, role, _, _ = decorated(Chemistry(), torch.arange(36), 50.0)
    other, _, _, _ = decorated(Chemistry(), torch.arange(36), 0.0)
    assert not torch.equal(batch.species, other.species)
    known = 0
    for row in range(len(batch)):
        v = row % len(types.library)
        start = int(types.library.role_start[v])
        for r, elements in elements_by_role(batch, role, row).items():
            known += types.role_elements[start + r, next(iter(elements))] > 0
    assert known >= 0.9 * sum(len(elements_by_role(batch, role, row)) for row in range(len(batch)))
