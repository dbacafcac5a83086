r"""Classifier-free guidance with one weight per field (Ho & Salimans 2022, composed).

Let A(w) be the asked fields of weight w or more, w_1 < w_2 < ... the weights in use (w_0 = 0), and F_A the network's output when
only the fields A are asked. Then

    F = F_0 + sum_k (w_k - w_(k-1)) (F_A(w_k) - F_0)

which samples p(x) prod_k (p(A(w_k) | x))^(w_k - w_(k-1)), also of logits. One weight w for all is the familiar
F_0 + w (F_asked - F_0); all 1 is F_asked itself, one evaluation; a weight of 3 for one field and 1 for the rest amplifies that
field on top of the joint question (F_asked + 2 (F_field - F_0)), so that nothing jumps as a weight passes through 1. Negative
weights (away from what is asked) are summed in the same way on their side. A field of weight 0 is not asked.

State point and composition are no wishes: they say what the other fields mean, and accompany every term, F_0 too.
Cost: one evaluation per term whose coefficient is not zero, all in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.diffusion.condition_tensors import COMPOSITION, null_like
from sse_diffusion.diffusion.denoiser import ContinuousOutput, DiscreteLogits, Properties
from sse_diffusion.diffusion.guides.gradient import with_gradient
from sse_diffusion.diffusion.guides.guide import Guide
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.thermo.conditions import ConditionSpec

Weights = float | Mapping[str, float]
"""One weight for all fields, or by field; ``default`` is that of the fields not named (1 if it is not given)."""

DEFAULT = "default"


def check_weights(weights: Any, specs: Mapping[str, ConditionSpec]) -> None:
    """Refuse weights that mean nothing.

    Raises:
        ConfigError: a name that the model does not know, the state point, or a weight that is no number.
    """
    by_name = weights if isinstance(weights, Mapping) else {DEFAULT: weights}
    known = {DEFAULT, *(name for name, spec in specs.items() if not spec.of_state_point)}
    for name, weight in by_name.items():
        if name in specs and name not in known:
            raise ConfigError(f"sampler.guidance: {name} has no weight", "the state point accompanies every question")
        if name not in known:
            raise ConfigError(f"sampler.guidance: the model has no condition named {name!r}", did_you_mean(str(name), known))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigError(f"sampler.guidance: the weight of {name} is {weight!r}", "give a number; 1 asks without amplifying")


def n_evaluations(weights: Weights) -> int:
    """Most network evaluations that one guided output takes (as many where every named field is asked)."""
    by_name = {DEFAULT: 1.0, **weights} if isinstance(weights, Mapping) else {DEFAULT: weights}
    return len(terms(by_name, by_name))


def terms(asked: Iterable[str], weights: Weights) -> dict[frozenset[str], float]:
    """Sets of fields to ask and their coefficients, which add up to 1 (equation: see the module); the empty set comes last."""
    by_name = weights if isinstance(weights, Mapping) else {DEFAULT: weights}
    weight = {name: by_name.get(name, by_name.get(DEFAULT, 1.0)) for name in asked}
    found: dict[frozenset[str], float] = {}
    rest = 1.0
    for sign in (1.0, -1.0):
        below = 0.0
        for level in sorted({sign * w for w in weight.values() if sign * w > 0.0}):
            found[frozenset(name for name, w in weight.items() if sign * w >= level)] = sign * (level - below)
            below = level
        rest -= sign * below
    return {**found, frozenset(): rest} if rest != 0.0 else found


def guided_size(model: CrystalModel, conditions: dict[str, Tensor], weights: Weights) -> Float[Tensor, "b s"]:
    """Logits of the number of orbits."""
    questions, coefficients = _questions(model, conditions, weights)
    return _mix(model.denoiser.size_logits(questions).float(), coefficients)


def guided_discrete(model: CrystalModel, batch: OrbitBatch, weights: Weights) -> DiscreteLogits:
    """Logits of group, positions and species."""
    questions, c = _questions(model, batch.conditions, weights)
    out = model.denoiser.discrete(_repeated(batch, questions, len(c)))
    return DiscreteLogits(_mix(out.group, c), _mix(out.wyckoff, c), _mix(out.species, c), _first(out.properties, len(c)))


def guided_continuous(
    model: CrystalModel, batch: OrbitBatch, x_cell: Tensor, t: Tensor, t_cell: Tensor, weights: Weights,
    guides: Sequence[Guide] = (), clip: float = 1.0,
) -> ContinuousOutput:  # fmt: skip
    """Outputs of the coordinates and the cell; ``guides`` of the continuous stage add their gradients, at most ``clip`` long."""
    questions, c = _questions(model, batch.conditions, weights)
    n = len(c)
    out = model.denoiser.continuous(_repeated(batch, questions, n), x_cell.repeat(n, 1), t.repeat(n), t_cell.repeat(n))
    mixed = ContinuousOutput(_mix(out.free, c), _mix(out.cell, c), _first(out.properties, n))
    if any("continuous" in guide.stages for guide in guides):
        return with_gradient(model, mixed, batch, x_cell, t, t_cell, guides, clip)
    return mixed


def _questions(
    model: CrystalModel, conditions: Mapping[str, Tensor], weights: Weights
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    """The conditions once per term, one below the other, and the coefficients."""
    if weights == 1.0:
        return dict(conditions), (1.0,)
    nulls = null_like(conditions)
    always = {COMPOSITION, *(name for name, spec in model.specs.items() if spec.of_state_point)}
    asked = [k for k, v in conditions.items() if k not in always and not torch.equal(_no_nan(v), _no_nan(nulls[k]))]
    mixture = terms(asked, weights)
    stacked = {k: torch.cat([v if k in fields or k in always else nulls[k] for fields in mixture]) for k, v in conditions.items()}
    return stacked, tuple(mixture.values())


def _no_nan(value: Tensor) -> Tensor:
    """NaN as a number that no condition takes."""
    return value.nan_to_num(-1e6)


def _repeated(batch: OrbitBatch, conditions: dict[str, Tensor], n: int) -> OrbitBatch:
    """The batch n times, with these conditions."""
    if n == 1:
        return batch.with_(conditions=conditions)
    fields = ("group", "cell", "species", "wyckoff", "free", "mask")
    repeated = {k: getattr(batch, k).repeat(n, *[1] * (getattr(batch, k).dim() - 1)) for k in fields}
    return OrbitBatch(**repeated, conditions=conditions)


def _mix(stacked: Float[Tensor, "nb ..."], coefficients: Sequence[float]) -> Float[Tensor, "b ..."]:
    """Sum of the terms, as differences from the last one; what is impossible (-inf) stays so."""
    if len(coefficients) == 1:
        return stacked
    *others, last = stacked.chunk(len(coefficients))
    mixed = last + sum((c * (value - last) for c, value in zip(coefficients, others, strict=False)), torch.zeros_like(last))
    return torch.where(torch.isfinite(last), mixed, last)


def _first(stacked: Properties, n: int) -> Properties:
    return Properties(stacked.mean.chunk(n)[0], stacked.log_std.chunk(n)[0])
