"""The scorer: a distribution over types and role assignments, blind to the order of elements, and able to learn roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.diffusion.structure_types.build import collect_kinds, element_features
from sse_diffusion.diffusion.structure_types.fit import FitConfig, answers, count_role_elements, fit_scorer, lessons, nll
from sse_diffusion.diffusion.structure_types.grouping import primitive_counts
from sse_diffusion.diffusion.structure_types.library import TypeLibrary
from sse_diffusion.diffusion.structure_types.proposer import StructureTypes
from sse_diffusion.diffusion.structure_types.scorer import (
    Question,
    ScorerConfig,
    TypeScorer,
    elements_by_frequency,
    question,
)

SMALL = ScorerConfig(width=16, hidden=32, dropout=0.1)
A, B = (19, 37, 55), (22, 40, 72)


def crystals_of(scores: torch.Tensor, asked: Question, row: int) -> dict[tuple[int, tuple[int, ...]], float]:
    """(type, elements by role) -> probability; "none" under (-1, ())."""
    probability = scores[row].exp().tolist()
    named = [(int(v), tuple(asked.elements[row, order].tolist())) for v in asked.types.tolist() for order in asked.orders]
    return dict(zip([*named, (-1, ())], probability, strict=True))


@pytest.mark.parametrize("signature", [(1, 1), (1, 2), (2, 4), (1, 1, 3), (2, 2, 4), (5, 7)])
def test_probabilities_add_up_to_one(signature: tuple[int, ...], types: StructureTypes) -> None:
    elements = [tuple(range(3, 3 + len(signature))), tuple(range(40, 40 + len(signature)))]
    asked = question(types.library, signature, elements)
    with torch.no_grad():
        probability = types.scorer(asked).exp()
    candidates = len(types.library.by_signature.get(signature, []))
    assert probability.shape == (2, candidates * len(asked.orders) + 1)
    torch.testing.assert_close(probability.sum(1), torch.ones(2))
    if candidates == 0:
        assert (probability == 1).all()


@pytest.mark.parametrize(("signature", "elements"), [((1, 1, 3), (22, 38, 8)), ((2, 2, 4), (26, 29, 16)), ((1, 1), (11, 17))])
def test_the_order_of_equally_frequent_elements_does_not_matter(
    signature: tuple[int, ...], elements: tuple[int, ...], types: StructureTypes
) -> None:
    asked = question(types.library, signature, [elements, (elements[1], elements[0], *elements[2:])])
    with torch.no_grad():
        scores = types.scorer(asked)
    one, other = crystals_of(scores, asked, 0), crystals_of(scores, asked, 1)
    assert one.keys() == other.keys() and len(one) == scores.shape[1]
    assert [one[k] for k in one] == pytest.approx([other[k] for k in one], rel=1e-5)
    assert len({round(p, 6) for p in one.values()}) > 2  # it is not uniform


def test_other_compositions_of_the_batch_do_not_matter(types: StructureTypes) -> None:
    rows = [(22, 38, 8), (25, 57, 8), (28, 19, 9)]
    with torch.no_grad():
        together = types.scorer(question(types.library, (1, 1, 3), rows))
        alone = types.scorer(question(types.library, (1, 1, 3), rows[1:2]))
    torch.testing.assert_close(together[1:2], alone)


def test_elements_come_by_frequency() -> None:
    assert elements_by_frequency({8: 3, 38: 1, 22: 1}) == ((1, 1, 3), (22, 38, 8))
    assert elements_by_frequency({8: 1, 3: 2}) == ((1, 2), (8, 3))


def perovskites(
    decorations: Callable[..., list[Orbits]],
    substituted: Callable[[Orbits, Sequence[int]], Orbits],
    left_out: set[tuple[int, int]],
) -> list[Orbits]:
    """ABX3 with a big A and a small B, and as many salts."""
    parent = decorations("perovskite", 1)[0]  # O, Ti, Sr
    made = [substituted(parent, [x, b, a]) for a in A for b in B for x in (8, 9, 17) if (a, b) not in left_out]
    return [*made, *decorations("rock_salt", 6), *decorations("caesium_chloride", 6)]


def fitted(crystals: list[Orbits], seed: int = 0, epochs: int = 40) -> tuple[TypeScorer, TypeLibrary]:
    kinds = collect_kinds(crystals)
    library, known = TypeLibrary.from_kinds(kinds), answers(kinds)
    torch.manual_seed(seed)
    scorer = TypeScorer(library, SMALL, element_features(), count_role_elements(library, list(known.values())))
    given = lessons(library, [primitive_counts(c) for c in crystals], [known[i] for i in range(len(crystals))], True)
    config = FitConfig(epochs=epochs, learning_rate=1e-2, batch=16, seed=seed)
    return fit_scorer(scorer, given, config, progress=False), library


def test_roles_are_learnt(
    decorations: Callable[..., list[Orbits]], substituted: Callable[[Orbits, Sequence[int]], Orbits]
) -> None:
    """Pairs that were never seen get the alkali metal on the cuboctahedral site and the transition metal in the octahedron."""
    unseen = [(37, 40), (19, 72)]
    crystals = perovskites(decorations, substituted, set(unseen))
    scorer, library = fitted(crystals)
    kind = next(k for k in collect_kinds(crystals) if k.first.crystal.group == 221 and len(k.elements[0]) == 3)
    a = kind.elements[0].index(19)  # the role of A in this library
    asked = question(library, (1, 1, 3), [elements_by_frequency({x: 1, y: 1, 8: 3})[1] for x, y in unseen])
    with torch.no_grad():
        scores = scorer(asked)
    for row, (big, small) in enumerate(unseen):
        crystal, probability = max(crystals_of(scores, asked, row).items(), key=lambda item: item[1])
        assert crystal[1][a] == big and crystal[1][1 - a] == small and crystal[1][2] == 8
        assert probability > 0.9


def test_fitting_is_deterministic_by_seed(
    decorations: Callable[..., list[Orbits]], substituted: Callable[[Orbits, Sequence[int]], Orbits]
) -> None:
    crystals = perovskites(decorations, substituted, set())
    one, again, other = (fitted(crystals, seed, epochs=2)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_equivalent_assignments_all_count_as_right(decorations: Callable[..., list[Orbits]]) -> None:
    """Rock salt with its ions swapped is the same crystal: both columns are right, and -log p is that of their sum."""
    crystals = decorations("rock_salt", 4)
    kinds = collect_kinds(crystals)
    library = TypeLibrary.from_kinds(kinds)
    known = answers(kinds)
    (lesson,) = lessons(library, [primitive_counts(c) for c in crystals], [known[0], known[1], known[2], None], False)
    assert lesson.right.tolist() == [[True, True, False]] * 3 + [[False, False, True]]
    counts = count_role_elements(library, list(known.values()))
    scorer = TypeScorer(library, SMALL, element_features(), counts).eval()
    with torch.no_grad():
        probability, loss = scorer(lesson.asked).exp(), nll(scorer, lesson)
    torch.testing.assert_close((-loss).exp()[:3], probability[:3, :2].sum(1))
    torch.testing.assert_close((-loss).exp()[3], probability[3, 2])
    part = lesson.part(np.array([3, 0]))
    assert part.rows.tolist() == [3, 0] and part.right.tolist() == [[False, False, True], [True, True, False]]
