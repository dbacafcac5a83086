"""Hard chemistry is never violated, whatever the weights of the model: the random one here has learnt nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_diffusion.core.errors import ChemistryError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.counting import Ledger, can_complete, fewest_atoms, orbit_numbers
from sse_diffusion.diffusion.generate import sample_batch
from sse_diffusion.diffusion.hard_chemistry import has_enough_atoms, redistribute
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.charge_balance import imbalance
from sse_diffusion.thermo.request import Chemistry, Request

FAST = SamplerConfig(steps=2, max_rounds=8)
ELEMENTS = ["Li", "Na", "P", "S", "Cl", "O", "Zr", "Y"]


def sampled(model: CrystalModel, chemistry: Chemistry, n: int = 4, seed: int = 0) -> list:
    crystals, _ = sample_batch(model, Request({}, chemistry), torch.arange(n), seed, FAST)
    return crystals


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    require=st.sets(st.sampled_from(ELEMENTS), max_size=3),
    extra=st.sets(st.sampled_from(ELEMENTS), min_size=1, max_size=4),
    high=st.integers(6, 30),
    groups=st.none() | st.sets(st.integers(1, 230), min_size=3, max_size=12),
    seed=st.integers(0, 10**6),
)
def test_random_constraints_are_met(random_model, require, extra, high, groups, seed) -> None:
    chemistry = Chemistry(require=frozenset(require), allow=frozenset(require | extra), n_atoms=(2, high),
                          space_group=None if groups is None else frozenset(groups))  # fmt: skip
    try:
        crystals = sampled(random_model, chemistry, seed=seed)
    except ChemistryError as error:  # a few groups with large orbits may not fit: that must be said, not broken
        assert groups is not None and "could not meet" in error.message
        return
    for crystal in crystals:
        structure = crystal.to_structure()
        assert chemistry.violations(structure, crystal.group) == [] or len(structure.get_primitive_structure()) < 2
        assert 2 <= crystal.n_primitive <= high
        assert groups is None or crystal.group in groups


@pytest.mark.parametrize(("formula", "z"), [("Li3PS4", (1, 2)), ("LiCl", (1, 4)), ("Li7La3Zr2O12", (1,)), ("Li2S", (1, 2, 3))])
def test_a_formula_is_met_exactly(random_model: CrystalModel, formula: str, z: tuple[int, ...]) -> None:
    crystals = sampled(random_model, Chemistry(formula=formula, z=z), n=6)
    for number, crystal in enumerate(crystals):
        composition = crystal.to_structure().composition
        assert composition.reduced_formula == formula
        assert composition.get_reduced_composition_and_factor()[1] == z[number % len(z)]


def test_fixed_positions_hold_one_orbit(random_model: CrystalModel) -> None:
    table = wyckoff_table()
    for crystal in sampled(random_model, Chemistry(n_atoms=(2, 24)), n=24):
        fixed = [w for w in crystal.wyckoff.tolist() if table.dof[w] == 0]
        assert len(fixed) == len(set(fixed))
        assert all(table.group[w] == crystal.group for w in crystal.wyckoff)


def test_orbit_numbers_by_hand() -> None:
    """Fm-3m per primitive cell: 1a, 1b, 2c hold once; the smallest movable position has 6 images (24e)."""
    none = frozenset()
    assert orbit_numbers(225, none, 1) == 0b10
    assert orbit_numbers(225, none, 2) == 0b110  # 2c, or 1a + 1b
    assert orbit_numbers(225, none, 4) == 0b1000  # 1a + 1b + 2c
    assert orbit_numbers(225, none, 5) == 0
    a = wyckoff_table().positions(225)[0]
    assert orbit_numbers(225, frozenset({a}), 4) == 0
    assert fewest_atoms()[225, 1:5].tolist() == [1, 2, 4, 6 + 4]
    assert can_complete(225, none, (1, 1), 2) and not can_complete(225, none, (1, 1), 1)


def test_ledger_refuses_what_cannot_be_completed() -> None:
    table = wyckoff_table()
    a, b, c = list(table.positions(225))[:3]
    ledger = Ledger.start(225, {3: 1, 17: 1}, 2)
    assert ledger.feasible and set(ledger.elements_at(a)) == {3, 17} and ledger.elements_at(c) == []
    placed = ledger.after(a, 3)
    assert placed is not None and placed.elements_at(a) == [] and placed.elements_at(b) == [17]


def test_impossible_requests_say_so(random_model: CrystalModel) -> None:
    with pytest.raises(ChemistryError, match="could not meet"):
        crystals = Chemistry(formula="Li5P", z=(1,), space_group=frozenset({225}))
        sample_batch(random_model, Request({}, crystals), torch.arange(2), 0, SamplerConfig(steps=2, max_rounds=2))


def test_charge_neutrality_is_met_when_asked(random_model: CrystalModel) -> None:
    """The last species is chosen among those that balance the rest; what cannot be balanced is drawn again."""
    chemistry = Chemistry(require=frozenset({"Li"}), allow=frozenset(ELEMENTS), n_atoms=(2, 20), charge_neutral=True)
    crystals, _ = sample_batch(random_model, Request({}, chemistry), torch.arange(8), 0, SamplerConfig(steps=2, max_rounds=50))
    assert [imbalance(c.to_structure()) for c in crystals] == [""] * 8


def test_forbidden_probability_goes_to_similar_elements() -> None:
    """Forbidding sodium and rubidium hands their share to lithium, not to oxygen; nothing is lost or created."""
    probability = torch.full((1, 95), 1e-12)
    for z, p in ((3, 0.1), (8, 0.4), (11, 0.25), (37, 0.25)):
        probability[0, z] = p
    allowed = torch.zeros(1, 95, dtype=torch.bool)
    allowed[0, [3, 8]] = True
    moved = redistribute(probability.log(), allowed).exp()
    assert moved.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert moved[0, 3].item() == pytest.approx(0.6, abs=0.01)
    assert moved[0, 8].item() == pytest.approx(0.4, abs=0.01)
    assert moved[0, ~allowed[0]].max().item() == 0.0


def test_a_smaller_primitive_cell_than_asked_is_noticed() -> None:
    """Two atoms half a cell apart are one atom; displaced a little they are two."""
    general = wyckoff_table().positions(1)[0]

    def pair(z: tuple[int, int], x: float) -> Orbits:
        return Orbits(
            1, np.array([0, 0, 0, 0.1, 0, 1.4]), np.array(z), np.array([general] * 2), np.array([[0.1] * 3, [0.1, 0.1, x]])
        )

    assert not has_enough_atoms(pair((3, 3), 0.6), (2, 4))
    assert has_enough_atoms(pair((3, 3), 0.6), (1, 4)) and has_enough_atoms(pair((3, 3), 0.6), None)
    assert has_enough_atoms(pair((3, 3), 0.65), (2, 4)) and has_enough_atoms(pair((3, 9), 0.6), (2, 4))
