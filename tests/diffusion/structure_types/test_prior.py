"""Naive Bayes over roles: the numbers of a calculation by hand, and zero for what the constraints rule out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.structure_types.build import collect_kinds
from sse_diffusion.diffusion.structure_types.fit import answers, count_role_elements
from sse_diffusion.diffusion.structure_types.grouping import Kind
from sse_diffusion.diffusion.structure_types.library import TypeLibrary
from sse_diffusion.diffusion.structure_types.prior import SMOOTHING, role_log_odds, role_probability, type_weights
from sse_diffusion.thermo.chemistry import Chemistry

LI, NA, CL, BR, S = 3, 11, 17, 35, 16


def chemistry(**constraints: object) -> HardChemistry:
    return HardChemistry.from_chemistry(Chemistry(**constraints))


@pytest.fixture
def toy(decorations: Callable[..., list[Orbits]]) -> tuple[TypeLibrary, np.ndarray]:
    """Rock salts LiCl, NaCl, NaBr, whose roles count half each way, and antifluorites Li2S, Na2S: two types of two roles."""
    salt, anti = decorations("rock_salt", 1)[0], decorations("antifluorite", 1)[0]
    salts = [replace(salt, species=np.array(pair)) for pair in ((LI, CL), (NA, CL), (NA, BR))]
    order = anti.species == S
    sulfides = [replace(anti, species=np.where(order, S, z)) for z in (LI, NA)]
    kinds = collect_kinds([*salts, *sulfides])
    library = TypeLibrary.from_kinds(kinds)
    counts = count_role_elements(library, list(answers(kinds).values()))
    assert library.count.tolist() == [3, 2]
    return library, counts


def test_role_probabilities_by_hand(toy: tuple[TypeLibrary, np.ndarray]) -> None:
    """(c + a q) / (n + a): of ten role places 2 are Li, 3 Na, 2 Cl, 1 Br, 2 S."""
    library, counts = toy
    assert SMOOTHING == 1.0
    p = role_probability(library, counts)
    np.testing.assert_allclose(p[0], p[1])  # both roles of rock salt are alike
    assert p[0, LI] == pytest.approx((0.5 + 0.2) / 4) and p[0, NA] == pytest.approx((1 + 0.3) / 4)
    assert p[1, CL] == pytest.approx((1 + 0.2) / 4) and p[1, S] == pytest.approx(0.2 / 4)
    assert p[2, S] == pytest.approx((2 + 0.2) / 3) and p[3, NA] == pytest.approx((1 + 0.3) / 3)
    np.testing.assert_allclose(p.sum(1), 1.0)
    odds = role_log_odds(library, counts)
    assert odds[0, NA] == pytest.approx(np.log(0.325 / 0.3)) and odds[2, LI] == pytest.approx(np.log(0.2 / 3 / 0.2))
    assert (odds[:, 0] == 0).all()


def test_type_weights_by_hand(toy: tuple[TypeLibrary, np.ndarray]) -> None:
    library, counts = toy
    np.testing.assert_allclose(type_weights(library, counts, chemistry()), [3, 2])
    some = type_weights(library, counts, chemistry(allow=frozenset({"Li", "Cl"})))
    salt = 3 * ((0.5 + 1.0 + 0.2 + 0.2) / 4) ** 2
    anti = 2 * ((0.2 + 0.2) / 3) * ((1.2 + 0.2) / 3)
    np.testing.assert_allclose(some, [salt, anti])
    required = type_weights(library, counts, chemistry(require=frozenset({"S"})))
    salt = 3 * (1 - (1 - 0.2 / 4) * (1 - 0.2 / 4))
    anti = 2 * (1 - (1 - 2.2 / 3) * (1 - 0.2 / 3))
    np.testing.assert_allclose(required, [salt, anti])


def test_groups_and_sizes_are_respected(library: TypeLibrary, kinds: list[Kind]) -> None:
    counts = count_role_elements(library, list(answers(kinds).values()))
    for asked in (frozenset({225}), frozenset({216, 227}), frozenset({1})):
        weight = type_weights(library, counts, chemistry(space_group=asked))
        np.testing.assert_array_equal(weight > 0, np.isin(library.group, sorted(asked)))
    weight = type_weights(library, counts, chemistry(n_atoms=(3, 6)))
    np.testing.assert_array_equal(weight > 0, (library.n_atoms >= 3) & (library.n_atoms <= 6))
    assert 0 < (weight > 0).sum() < len(library)


def test_what_cannot_be_met_has_no_weight(library: TypeLibrary, kinds: list[Kind]) -> None:
    counts, roles = count_role_elements(library, list(answers(kinds).values())), np.diff(library.role_start)
    assert {2, 3} <= set(roles.tolist())
    three = type_weights(library, counts, chemistry(require=frozenset({"Li", "P", "S"})))
    np.testing.assert_array_equal(three > 0, roles >= 3)
    two = type_weights(library, counts, chemistry(allow=frozenset({"Li", "S"})))
    np.testing.assert_array_equal(two > 0, roles <= 2)
    assert not type_weights(library, counts, chemistry(require=frozenset({"Li", "Na", "P", "S"}))).any()


def test_asking_for_an_element_prefers_types_that_hold_it(library: TypeLibrary, kinds: list[Kind]) -> None:
    """Relative to no request, oxygen raises rutile (oxides here) against rock salt (none here)."""
    counts = count_role_elements(library, list(answers(kinds).values()))
    with_oxygen = [v for v in range(len(library)) if counts[library.roles_of(v), 8].sum() > 0]
    without = [v for v in range(len(library)) if v not in with_oxygen]
    assert with_oxygen and without
    ratio = type_weights(library, counts, chemistry(require=frozenset({"O"}))) / type_weights(library, counts, chemistry())
    assert ratio[with_oxygen].min() > ratio[without].max()
