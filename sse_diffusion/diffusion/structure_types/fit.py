"""Train the scorer of structure types: cross-entropy over all types and assignments that a composition could take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from sse_diffusion.diffusion.structure_types.grouping import Kind
from sse_diffusion.diffusion.structure_types.library import TypeLibrary
from sse_diffusion.diffusion.structure_types.scorer import Prepared, Question, TypeScorer, elements_by_frequency, question


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Optimisation of the scorer.

    Attributes:
        epochs: passes over the crystals.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: of AdamW.
        batch: crystals per step (whole signatures are collected until there are as many).
        seed: of initial weights, order and dropout.
    """

    epochs: int = 6
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    batch: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Lesson:
    """Compositions of one signature with their answers.

    Attributes:
        asked: the question.
        right: (b, c) True at every (type, assignment) that is the crystal's; the last column is "none".
        rows: positions of the crystals in what was given.
    """

    asked: Question
    right: Bool[Tensor, "b c"]
    rows: np.ndarray

    def part(self, chosen: np.ndarray) -> Lesson:
        """Some of its compositions."""
        return Lesson(self.asked.part(torch.from_numpy(chosen)), self.right[chosen], self.rows[chosen])


def answers(kinds: Sequence[Kind]) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Crystal number -> (type, elements in the order of its roles)."""
    return {
        number: (v, elements)
        for v, kind in enumerate(kinds)
        for number, elements in zip(kind.members, kind.elements, strict=True)
    }


def lessons(
    library: TypeLibrary,
    compositions: Sequence[Mapping[int, int]],
    known: Sequence[tuple[int, tuple[int, ...]] | None],
    counted: bool,
) -> list[Lesson]:
    """Crystals by signature.

    Args:
        library: the types.
        compositions: atoms of each element in the primitive cell, one per crystal.
        known: (type, elements by role) of each crystal; ``None`` when the library lacks its type.
        counted: whether these crystals are among those whose elements the scorer counted.
    """
    by_signature: dict[tuple[int, ...], list[int]] = defaultdict(list)
    ordered = [elements_by_frequency(dict(c)) for c in compositions]
    for row, (signature, _) in enumerate(ordered):
        by_signature[signature].append(row)
    found = []
    for signature, rows in by_signature.items():
        asked = question(library, signature, [ordered[row][1] for row in rows])
        right = torch.zeros(len(rows), len(asked.types) * len(asked.orders) + 1, dtype=torch.bool)
        for position, row in enumerate(rows):
            answer = known[row]
            right[position, _columns(library, asked, ordered[row][1], answer) if answer else [-1]] = True
        if counted:
            asked = _with_own(library, asked, [known[row] for row in rows])
        found.append(Lesson(asked, right, np.array(rows)))
    return found


def _with_own(library: TypeLibrary, asked: Question, given: Sequence[tuple[int, tuple[int, ...]] | None]) -> Question:
    """The question with how each crystal was itself counted, so that it can be left out."""
    own_type = torch.full((len(given),), -1)
    own_roles = torch.zeros(len(given), len(asked.signature), 95)
    place = {v: k for k, v in enumerate(asked.types.tolist())}
    for position, answer in enumerate(given):
        if answer is not None:
            own_type[position] = place[answer[0]]
            own_roles[position] = torch.from_numpy(member_roles(library, *answer)).float()
    return Question(asked.signature, asked.elements, asked.types, asked.orders, own_type, own_roles)


def member_roles(library: TypeLibrary, v: int, elements: Sequence[int]) -> np.ndarray:
    """(roles, 95) share of each element in each role of type v: one, or equal parts where roles can be exchanged."""
    symmetries = library.symmetries(v)
    counts = np.zeros((len(elements), 95))
    for permutation in symmetries:
        counts[np.arange(len(elements)), [elements[k] for k in permutation]] += 1.0 / len(symmetries)
    return counts


def count_role_elements(library: TypeLibrary, known: Sequence[tuple[int, tuple[int, ...]] | None]) -> Float[np.ndarray, "r 95"]:
    """Members with each element in each role of each type, over crystals with (type, elements by role)."""
    counts = np.zeros((len(library.role_atoms), 95))
    for answer in known:
        if answer is not None:
            counts[library.roles_of(answer[0])] += member_roles(library, *answer)
    return counts


def _columns(library: TypeLibrary, asked: Question, elements: tuple[int, ...], answer: tuple[int, tuple[int, ...]]) -> list[int]:
    """Columns of all assignments that mean the same crystal."""
    v, by_role = answer
    place = int(np.flatnonzero(asked.types.numpy() == v)[0])
    order = [elements.index(z) for z in by_role]
    orders = [tuple(o) for o in asked.orders.tolist()]
    same = {tuple(order[k] for k in permutation) for permutation in library.symmetries(v)}
    return [place * len(orders) + orders.index(o) for o in same]


def fit_scorer(scorer: TypeScorer, taught: Sequence[Lesson], config: FitConfig, progress: bool = True) -> TypeScorer:
    """Train in place; deterministic for one seed."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    optimiser = torch.optim.AdamW(scorer.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    n = sum(len(lesson.rows) for lesson in taught)
    steps = config.epochs * (n // config.batch + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps + 10, pct_start=0.1)
    scorer.train()
    bar = tqdm(total=config.epochs, desc="structure types", unit="epoch", disable=not progress)
    for _ in range(config.epochs):
        total = 0.0
        for parts in _batches(taught, config.batch, rng):
            given = scorer.prepare()
            loss = torch.stack([nll(scorer, part, given).sum() for part in parts]).sum() / sum(len(part.rows) for part in parts)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(scorer.parameters(), 1.0)
            optimiser.step()
            if schedule.last_epoch < steps:
                schedule.step()
            total += float(loss.detach()) * sum(len(part.rows) for part in parts)
        bar.update()
        bar.set_postfix(loss=total / n)
    bar.close()
    return scorer.eval()


def nll(scorer: TypeScorer, lesson: Lesson, given: Prepared | None = None) -> Float[Tensor, " b"]:
    """-log p of each crystal's own type and assignment (any of the equivalent ones)."""
    return -scorer(lesson.asked, given).masked_fill(~lesson.right, -torch.inf).logsumexp(-1)


def _batches(given: Sequence[Lesson], size: int, rng: np.random.Generator) -> list[list[Lesson]]:
    """Pieces of single signatures, gathered in random order until there are ``size`` crystals."""
    pieces = []
    for lesson in given:
        order = rng.permutation(len(lesson.rows))
        pieces += [lesson.part(order[low : low + 64]) for low in range(0, len(order), 64)]
    batches: list[list[Lesson]] = [[]]
    for k in rng.permutation(len(pieces)):
        if sum(len(p.rows) for p in batches[-1]) >= size:
            batches.append([])
        batches[-1].append(pieces[k])
    return batches
