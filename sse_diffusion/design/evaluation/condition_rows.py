"""One row per crystal and arm: what was asked, what the crystal is, what the independent sources say about it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.design.evaluation.condition_plan import Question, Trial
from sse_diffusion.design.labels.sample import Sample


@dataclass(frozen=True)
class Row:
    """A crystal in an arm.

    Attributes:
        sample: the crystal.
        request: number of the request that it is compared with.
        given: conditions that the model was given (empty: none).
        labels: of the question's fields; NaN where there is none.
        reason: why a label is missing; empty when all are there.
        converged: whether every label rests on a converged relaxation, or on none.
        hit: whether the labels meet the request; a crystal without a label does not.
        unique: valid and no earlier crystal of the arm is the same.
        novel: valid and none of the reference is the same; None: nothing to compare with.
    """

    sample: Sample
    request: int
    given: Mapping[str, Any]
    labels: Mapping[str, float]
    reason: str
    converged: bool
    hit: bool
    unique: bool
    novel: bool | None


@dataclass(frozen=True)
class Judged:
    """A trial with the rows of its arms."""

    trial: Trial
    rows: Mapping[str, list[Row]]


def rows_of(
    question: Question,
    requests: Sequence[int],
    crystals: Sequence[tuple[Sample, Mapping[str, Any]]],
    labels: Mapping[str, Mapping[str, Quantity]],
    unique: Sequence[bool],
    novel: Mapping[str, bool] | None,
) -> list[Row]:
    """The rows of one arm.

    Args:
        question: what is looked for.
        requests: number of the request that each crystal is compared with.
        crystals: each with the whole request that the model was given.
        labels: field -> id of the sample -> label.
        unique: of each crystal.
        novel: by id; None: nothing to compare with.
    """
    rows = []
    for (sample, ask), request, alone in zip(crystals, requests, unique, strict=True):
        found = {name: labels[name][sample.id] for name in question.fields}
        missing = sorted({q.reason for q in found.values() if q.status is Status.FAILED})
        values = {name: math.nan if q.status is Status.FAILED else q.value for name, q in found.items()}
        given = {k: v for k, v in ask.items() if k in question.fields}
        known = None if novel is None else novel[sample.id]
        converged = all(q.status is not Status.UNCONVERGED for q in found.values())
        hit = question.hit(request, values)
        rows.append(Row(sample, request, given, values, "; ".join(missing), converged, hit, alone, known))
    return rows


def write_rows(judged: Sequence[Judged], path: Path) -> None:
    """``conditions.csv``: one line per crystal and arm: what was asked, given and found, and the verdicts."""
    fields = list(dict.fromkeys(name for one in judged for name in one.trial.question.fields))
    head = [
        "question",
        "guidance",
        "arm",
        "asked",
        "given",
        "id",
        "formula",
        "n_atoms",
        "hit",
        "unique",
        "novel",
        *fields,
        "reason",
    ]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(head)
        for one in judged:
            for arm, rows in one.rows.items():
                place = [one.trial.question.name, f"{one.trial.guidance:g}", arm]
                writer.writerows([*place, *_cells(one.trial.question, row, fields)] for row in rows)


def _cells(question: Question, row: Row, fields: Sequence[str]) -> list[Any]:
    structure = row.sample.structure
    crystal = [row.sample.id, structure.composition.reduced_formula, len(structure)]
    flags = [int(row.hit), int(row.unique), "" if row.novel is None else int(row.novel)]
    labels = [_number(row.labels.get(name, math.nan)) for name in fields]
    return [words(question.asks[row.request]), words(row.given), *crystal, *flags, *labels, int(row.converged), row.reason]


def words(ask: Mapping[str, Any]) -> str:
    """``name=value; name=value``."""
    return "; ".join(f"{name}={value}" for name, value in ask.items())


def _number(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else ""
