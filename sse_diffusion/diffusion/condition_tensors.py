"""Conditions as tensors: encoding of labels and requests, random intervals and dropout in training.

Layout per kind (leading dimension B; every kind has a null of its own, so any subset can be asked):

    continuous    (B, 2) float: standardised [lo, hi]; NaN is null, open ends are +-OPEN_END
    categorical   (B,) int64: index of the choice; -1 is null
    element_set   (B, 95) float: 1 at each atomic number of the set; all zeros is null
    composition   (B, 95) float: atoms of each element in the primitive cell; all zeros is null (structure prediction)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.orbit_batch import MAX_SPECIES
from sse_diffusion.thermo.conditions import ConditionSpec
from sse_diffusion.thermo.request import Interval

OPEN_END = 6.0
"""Standardised value that stands for an open end; values beyond are clipped to it."""

COMPOSITION = "composition"
"""Name of the built-in condition that structure prediction uses."""


def atomic_numbers(symbols: Iterable[str]) -> list[int]:
    """Atomic numbers of element symbols."""
    from pymatgen.core import Element

    return sorted(Element(s).Z for s in symbols)


def encode(spec: ConditionSpec, values: Sequence[float | str | frozenset[str] | Interval | None]) -> Tensor:
    """One tensor for a list of labels or asked values; ``None`` is null."""
    if spec.kind == "continuous":
        return _ends(spec, [_interval(v) for v in values])
    if spec.kind == "categorical":
        return torch.tensor([-1 if v is None else spec.index(str(v)) for v in values])
    return torch.stack([_multi_hot(v) for v in values])


def encode_numbers(spec: ConditionSpec, values: Float[np.ndarray, " n"]) -> Float[Tensor, "n 2"]:
    """The same for an array of labels of a continuous condition; NaN is null."""
    return _ends(spec, np.stack([values, values], axis=-1))


def _ends(spec: ConditionSpec, ends: Sequence[Sequence[float]] | Float[np.ndarray, "n 2"]) -> Float[Tensor, "n 2"]:
    standardised = spec.standardised(np.array(ends, dtype=float).reshape(-1, 2))
    return torch.from_numpy(np.clip(standardised, -OPEN_END, OPEN_END)).float()


def _interval(value: float | str | frozenset[str] | Interval | None) -> tuple[float, float]:
    if value is None or isinstance(value, str | frozenset):
        return math.nan, math.nan
    return (value.lo, value.hi) if isinstance(value, Interval) else (value, value)


def _multi_hot(value: object) -> Tensor:
    vector = torch.zeros(MAX_SPECIES + 1)
    if isinstance(value, frozenset):
        vector[atomic_numbers(value)] = 1.0
    return vector


def encode_composition(counts: Sequence[Mapping[int, int] | None]) -> Float[Tensor, "b 95"]:
    """Atoms per primitive cell by atomic number; ``None`` is null."""
    rows = torch.zeros(len(counts), MAX_SPECIES + 1)
    for row, count in enumerate(counts):
        for z, n in (count or {}).items():
            rows[row, z] = n
    return rows


def null_like(conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with every field unknown."""
    return {name: _null(value) for name, value in conditions.items()}


def _null(value: Tensor) -> Tensor:
    if value.dtype == torch.int64:
        return torch.full_like(value, -1)
    return torch.full_like(value, math.nan) if value.shape[-1] == 2 else torch.zeros_like(value)


def drop_conditions(
    conditions: Mapping[str, Tensor], probability: Mapping[str, float | Tensor], u: Float[Tensor, "b f"]
) -> dict[str, Tensor]:
    """Replace each field by its null independently, field f with its own probability (a number, or one for each crystal)."""
    dropped = {}
    for column, (name, value) in enumerate(conditions.items()):
        gone = u[:, column] < probability[name]
        dropped[name] = torch.where(gone.view(-1, *[1] * (value.dim() - 1)), _null(value), value)
    return dropped


def widen_intervals(value: Float[Tensor, "b 2"], u: Float[Tensor, "b 4"]) -> Float[Tensor, "b 2"]:
    """Turn half of the point labels into random intervals that hold them, so that ranges and inequalities can be asked.

    Ends move outwards by an exponential step of mean one standard deviation; each is open with probability 0.4, never both.
    """
    step = -torch.log(u[:, :2]) * torch.tensor([-1.0, 1.0], device=u.device)
    wide = (value + step).clamp(-OPEN_END, OPEN_END)
    ends = torch.tensor([-OPEN_END, OPEN_END], device=u.device).expand_as(wide)
    is_open = torch.stack([u[:, 3] < 0.4, u[:, 3] > 0.6], dim=1)
    wide = torch.where(is_open, ends, wide)
    return torch.where(u[:, 2:3] < 0.5, value, wide)
