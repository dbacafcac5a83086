"""From crystals to a checkpoint: what is kept, what is measured, and what a table without repetitions is told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.structure_types.build import (
    BuildConfig,
    build_structure_types,
    element_features,
    held_out_formulas,
    run_build,
)
from sse_diffusion.diffusion.structure_types.chemistry import ChemistryConfig
from sse_diffusion.diffusion.structure_types.fit import FitConfig, answers, count_role_elements
from sse_diffusion.diffusion.structure_types.grouping import Kind
from sse_diffusion.diffusion.structure_types.library import TypeLibrary
from sse_diffusion.diffusion.structure_types.proposer import load_structure_types
from sse_diffusion.diffusion.structure_types.scorer import ScorerConfig

QUICK = BuildConfig(
    workers=1,
    held_out=0.3,
    scorer=ScorerConfig(width=8, hidden=16),
    fit=FitConfig(epochs=2, learning_rate=1e-2, batch=16),
    chemistry=ChemistryConfig(width=8, layers=1, epochs=2),
)


@pytest.fixture(scope="module")
def crystals(decorations: Callable[..., list[Orbits]]) -> list[Orbits]:
    """Three types of several members, and one crystal that has no like."""
    some = [c for name in ("rock_salt", "rutile", "perovskite") for c in decorations(name, 8)]
    return [*some, decorations("spinel", 1)[0]]


def test_a_crystal_without_a_like_founds_no_type(crystals: list[Orbits]) -> None:
    types, measured = build_structure_types(crystals, QUICK)
    assert sorted(types.library.group.tolist()) == [136, 221, 225]
    assert types.library.count.tolist() == [8, 8, 8]
    assert types.untyped == pytest.approx(1 / 25)
    assert (measured["types"], measured["crystals"], measured["crystals_with_type"]) == (3, 25, 24)
    assert 0 < measured["held_out_n"] < 25
    assert 0 <= measured["held_out_top1"] <= measured["held_out_top5"] <= measured["held_out_has_type"] <= 1
    spinel = types.propose(HardChemistry.for_compositions({0: {12: 2, 13: 4, 8: 8}}), 0, torch.arange(1), 0.0)
    assert spinel.types.tolist() == [-1]


def test_a_type_needs_as_many_members_as_asked_for_and_two_at_least(crystals: list[Orbits]) -> None:
    fewer = crystals[:11]  # eight rock salts, three rutiles
    for members, groups in ((1, {225, 136}), (3, {225, 136}), (4, {225})):
        config = BuildConfig(
            min_members=members, workers=1, held_out=0.0, scorer=QUICK.scorer, fit=QUICK.fit, chemistry=QUICK.chemistry
        )
        assert set(build_structure_types([*fewer, crystals[-1]], config)[0].library.group.tolist()) == groups


def test_building_is_deterministic(crystals: list[Orbits]) -> None:
    (one, a), (other, b) = build_structure_types(crystals, QUICK), build_structure_types(crystals, QUICK)
    assert a == b
    for name, value in one.scorer.state_dict().items():
        assert torch.equal(value, other.scorer.state_dict()[name])
    assert one.chemistry is not None and other.chemistry is not None
    for name, value in one.chemistry.state_dict().items():
        assert torch.equal(value, other.chemistry.state_dict()[name])


def test_a_table_without_repetitions_is_refused_with_advice(decorations: Callable[..., list[Orbits]]) -> None:
    with pytest.raises(DataError, match="occurs twice") as caught:
        build_structure_types([decorations(name, 1)[0] for name in ("rock_salt", "rutile")], QUICK)
    assert "larger table" in caught.value.hint


def test_role_elements_count_every_member_once(library: TypeLibrary, kinds: list[Kind]) -> None:
    """In the role it takes, in equal parts where roles can be exchanged."""
    counts = count_role_elements(library, list(answers(kinds).values()))
    members = np.repeat(library.count, np.diff(library.role_start))
    np.testing.assert_allclose(counts.sum(1), members)
    for v, kind in enumerate(kinds):
        first, symmetries = library.role_start[v], library.symmetries(v)
        for r in range(len(kind.elements[0])):
            expected = {elements[p[r]] for elements in kind.elements for p in symmetries}
            assert counts[first + r].nonzero()[0].tolist() == sorted(expected)


def test_formulas_are_held_out_as_a_whole() -> None:
    """Polymorphs and supercells of one formula never stand on both sides."""
    compositions = [{3: 1 + n % 3, 8: 1 + n % 3} if n % 2 else {11: 1, 8 + n % 7: 1 + n % 5} for n in range(200)]
    held = held_out_formulas(compositions, 0.3, 0)
    assert 0.05 < held.mean() < 0.8
    assert len({bool(h) for h, c in zip(held, compositions, strict=True) if 3 in c}) == 1
    assert not held_out_formulas(compositions, 0.0, 0).any() and held_out_formulas(compositions, 1.0, 0).all()
    np.testing.assert_array_equal(held, held_out_formulas(compositions, 0.3, 0))


def test_element_features_are_standardised() -> None:
    features = element_features()
    assert features.shape[0] == 95
    torch.testing.assert_close(features[1:].mean(0), torch.zeros(features.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(features[1:].std(0), torch.ones(features.shape[1]))


@pytest.mark.slow
def test_the_script_stores_a_checkpoint(composed: Callable, in_tmp) -> None:
    """On the embedded prototypes, from the configuration to proposals."""
    cfg = composed("diffusion/structure_types", "data=prototypes", f"out={in_tmp / 'types'}", f"cache_dir={in_tmp / 'cache'}",
                   "workers=1", "fit.epochs=2", "scorer={width: 8, hidden: 16}",
                   "chemistry.epochs=1", "chemistry.width=8")  # fmt: skip
    record = run_build(cfg)
    types = load_structure_types(str(in_tmp / "types"))
    assert (in_tmp / "types" / "metrics.json").is_file()
    assert record["types"] == len(types.library) > 20
    proposal = types.propose(HardChemistry.for_compositions({0: {11: 1, 17: 1}}), 0, torch.arange(1), 0.0)
    assert (proposal.types >= 0).all()
