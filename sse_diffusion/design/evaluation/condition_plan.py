"""What ``task=conditions`` asks: questions, and the crystals that are sampled to answer each with its two controls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import ConfigError, SSEError, did_you_mean
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.design.labels.labeller import check_source
from sse_diffusion.thermo.conditions import ConditionSpec
from sse_diffusion.thermo.request import STATE_KEYS, Interval, parse_request

ASKED, UNCONDITIONAL, SHUFFLED = "asked", "unconditional", "shuffled"
"""Arms: as asked; the same chemistry and state point, nothing asked; asked for something else than what is then looked for."""


@dataclass(frozen=True, kw_only=True)
class QuestionConfig:
    """One question, as it is written in the plan.

    Attributes:
        ask: as in ``sse sample``; the same in every request of the question.
        each: condition -> values; one request per value (several conditions step together). Empty: one request.
        n: crystals per request; ``None``: the plan's ``n`` with several requests, its ``n_control`` with one.
        guidance: weights; ``None``: as the plan says.
    """

    ask: Mapping[str, Any] = field(default_factory=dict)
    each: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    n: int | None = None
    guidance: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """All questions of an evaluation.

    Attributes:
        questions: name -> :class:`QuestionConfig`.
        only: names of the questions that are asked; ``None``: all.
        given: chemistry and state point of every request.
        n: crystals per request of a question with several.
        n_control: crystals of a question with a single request, and of each control.
        guidance: classifier-free weights; the first is the one that counts, its keys carry no weight.
        shuffled_values: how many other values the shuffled control of a single request is given, in equal parts.
        tolerance: condition -> how far from an asked value a hit may lie (not for ranges).
    """

    questions: Mapping[str, Mapping[str, Any]]
    only: tuple[str, ...] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    n: int = 24
    n_control: int = 48
    guidance: tuple[float, ...] = (2.0,)
    shuffled_values: int = 6
    tolerance: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse unknown names and empty plans (ConfigError)."""
        for name in self.only or ():
            if name not in self.questions:
                raise ConfigError(f"plan.only: no question named {name!r}", did_you_mean(name, self.questions))
        if min(self.n, self.n_control, self.shuffled_values) < 1 or not self.guidance or not self.questions:
            raise ConfigError(
                "the plan is empty", "give questions, guidance weights, and n, n_control, shuffled_values of at least 1"
            )


@dataclass(frozen=True)
class Question:
    """One question, checked against what the model knows.

    Attributes:
        name: in keys and tables.
        base: what is given in every request and every control.
        asks: conditions of each request, as the user writes them.
        wanted: the same as ranges, widened by the tolerance where a value is asked.
        values: the same as asked, for one number each.
        n, guidance: see :class:`QuestionConfig`.
    """

    name: str
    base: Mapping[str, Any]
    asks: tuple[Mapping[str, Any], ...]
    wanted: tuple[Mapping[str, Interval], ...]
    values: tuple[Mapping[str, float], ...]
    n: int
    guidance: tuple[float, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """Conditions that are asked and then looked for."""
        return tuple(self.wanted[0])

    @property
    def swept(self) -> str | None:
        """The one condition that takes several values, if that is what the question does."""
        return self.fields[0] if len(self.asks) > 1 and len(self.fields) == 1 else None

    def hit(self, request: int, labels: Mapping[str, float]) -> bool:
        """Whether labels (NaN: none) meet a request."""
        return all(interval.contains(labels[name]) for name, interval in self.wanted[request].items())


@dataclass(frozen=True)
class Cell:
    """n crystals sampled for one request.

    Attributes:
        ask: the whole request.
        guidance: condition -> weight where it is not 1.
        n: crystals.
        seed: of all random numbers.
    """

    ask: Mapping[str, Any]
    guidance: Mapping[str, float]
    n: int
    seed: int

    @property
    def name(self) -> str:
        """Ten hex digits, the same for equal cells."""
        return hash_of_config(asdict(self))[:10]


@dataclass(frozen=True)
class Arm:
    """Crystals of one kind.

    Attributes:
        cells: where they come from.
        requests: for each crystal, in the order of the cells, the number of the request that it is compared with.
    """

    cells: tuple[Cell, ...]
    requests: tuple[int, ...]


@dataclass(frozen=True)
class Trial:
    """One question at one guidance weight.

    Attributes:
        question: what is looked for.
        guidance: weight of the asked conditions in the discrete stage.
        arms: by name (:data:`ASKED`, :data:`UNCONDITIONAL`, :data:`SHUFFLED`).
    """

    question: Question
    guidance: float
    arms: Mapping[str, Arm]

    @property
    def prefix(self) -> str:
        """Beginning of its keys; the first weight of a question is the one that counts and is not named."""
        name, first = self.question.name, self.question.guidance[0]
        return f"{name}." if self.guidance == first else f"{name}.guidance_{self.guidance:g}."


def read_questions(plan: PlanConfig, specs: Mapping[str, ConditionSpec]) -> list[Question]:
    """The questions that are asked.

    Raises:
        ConfigError: a condition that the model does not know, a field without an independent source, a malformed question.
    """
    names = list(plan.questions) if plan.only is None else list(plan.only)
    questions = []
    for name in names:
        try:
            questions.append(_question(name, build(QuestionConfig, plan.questions[name]), plan, specs))
        except SSEError as error:
            raise type(error)(
                f"question {name}: {error.message}", f"{error.hint}; or choose questions with plan.only=[...]"
            ) from error
    return questions


def _question(name: str, config: QuestionConfig, plan: PlanConfig, specs: Mapping[str, ConditionSpec]) -> Question:
    each = plain(config.each)
    lengths = {len(values) for values in each.values()}
    if len(lengths) > 1 or 0 in lengths:
        raise ConfigError(f"each: lists of {sorted(lengths)} values", "give every condition of each the same number of values")
    steps = [dict(zip(each, values, strict=True)) for values in zip(*each.values(), strict=True)] or [{}]
    given = {**plain(plan.given), **plain(config.ask)}
    requests = [parse_request({**given, **step}, specs) for step in steps]
    fields = [k for k in (*plain(config.ask), *each) if k in specs and k not in STATE_KEYS and specs[k].kind == "continuous"]
    if not fields:
        raise ConfigError("nothing is asked", "give a continuous condition under ask or each")
    for condition in fields:
        check_source(condition)
    asked = [{k: request.conditions[k] for k in fields} for request in requests]
    intervals = [{k: v for k, v in a.items() if isinstance(v, Interval)} for a in asked]
    return Question(
        name,
        {k: v for k, v in given.items() if k not in fields},
        tuple({k: {**given, **step}[k] for k in fields} for step in steps),
        tuple({k: _wanted(v, k, plan) for k, v in i.items()} for i in intervals),
        tuple({k: v.target for k, v in i.items()} for i in intervals),
        config.n or (plan.n if len(steps) > 1 else plan.n_control),
        config.guidance or plan.guidance,
    )


def _wanted(asked: Interval, name: str, plan: PlanConfig) -> Interval:
    if asked.lo < asked.hi:
        return asked
    if name not in plan.tolerance:
        raise ConfigError(f"a value of {name} is asked, but not how far off a hit may be", f"give plan.tolerance.{name}")
    return Interval(asked.lo - plan.tolerance[name], asked.hi + plan.tolerance[name])


def trials_of(questions: Sequence[Question], plan: PlanConfig, specs: Mapping[str, ConditionSpec], seed: int) -> list[Trial]:
    """Every question at every weight; cells that two arms share are equal."""
    return [_trial(question, weight, plan, specs, seed) for question in questions for weight in question.guidance]


def _trial(question: Question, weight: float, plan: PlanConfig, specs: Mapping[str, ConditionSpec], seed: int) -> Trial:
    weights = {name: weight for name in question.fields if weight != 1.0}
    cells = tuple(_cell({**question.base, **ask}, weights, question.n, seed, ASKED) for ask in question.asks)
    asked = Arm(cells, tuple(np.repeat(np.arange(len(cells)), question.n).tolist()))
    nothing = _cell(question.base, {}, plan.n_control, seed, UNCONDITIONAL)
    control = Arm((nothing,), tuple((np.arange(plan.n_control) % len(cells)).tolist()))
    shuffled = _shuffled(question, weights, asked, plan, specs, seed)
    return Trial(question, weight, {ASKED: asked, UNCONDITIONAL: control, SHUFFLED: shuffled})


def _shuffled(
    question: Question,
    weights: Mapping[str, float],
    asked: Arm,
    plan: PlanConfig,
    specs: Mapping[str, ConditionSpec],
    seed: int,
) -> Arm:
    """Several requests: the crystals that were sampled, each compared with a request that is drawn for it by permutation.

    One request: crystals sampled for values drawn from the distribution of the training labels.
    """
    rng = np.random.default_rng([seed, *question.name.encode()])
    if len(question.asks) > 1:
        return Arm(asked.cells, tuple(rng.permutation(asked.requests).tolist()))
    parts = np.array_split(np.arange(plan.n_control), min(plan.shuffled_values, plan.n_control))
    values = {name: _drawn(specs[name], len(parts), rng) for name in question.fields}
    drawn = [{**question.base, **{name: values[name][i] for name in question.fields}} for i in range(len(parts))]
    cells = tuple(_cell(ask, weights, len(part), seed, SHUFFLED) for ask, part in zip(drawn, parts, strict=True))
    return Arm(cells, (0,) * plan.n_control)


def _drawn(spec: ConditionSpec, n: int, rng: np.random.Generator) -> list[float]:
    """n values of the training labels' distribution (normal in the spec's transform), one of each n-quantile, in random order."""
    from scipy.special import ndtri

    values = [spec.unstandardise(float(z)) for z in ndtri((rng.permutation(n) + rng.random(n)) / n)]
    return [float(f"{min(max(value, spec.low), spec.high):.4g}") for value in values]


def _cell(ask: Mapping[str, Any], guidance: Mapping[str, float], n: int, seed: int, arm: str) -> Cell:
    """Cells draw from streams of their own: rates that are compared must be independent."""
    text = json.dumps([seed, arm, guidance, ask], sort_keys=True, default=str)
    return Cell(ask, guidance, n, int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1)
