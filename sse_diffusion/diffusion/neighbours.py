r"""Lattice translations that bring two sites within a cutoff, found without looking at any other (Fincke & Pohst 1985).

With G = R^T R and R upper triangular, the squared distance of d + n is a sum over rows,

    r^2 = sum_a y_a^2,        y_a = R_aa (d_a + n_a) + sum_{c > a} R_ac (d_c + n_c)

The last row depends on n_3 alone, the next on n_2 and n_3: row by row, the range of n_a follows from what the rows fixed so
far leave of the cutoff. Ragged lists, no loop over crystals or pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

MAX_TRANSLATIONS = 3
"""Lattice translations per axis and direction that are looked at; only cells flatter than cutoff/3 exceed it."""


class Near(NamedTuple):
    """Pairs within the cutoff, once per translation.

    Attributes:
        pair: which of the given pairs.
        difference: fractional difference with the translation.
        r2: squared distance in square Angstrom.
    """

    pair: Int64[Tensor, " e"]
    difference: Float[Tensor, "e 3"]
    r2: Float[Tensor, " e"]


def translations_within(
    difference: Float[Tensor, "p 3"], crystal: Int64[Tensor, " p"], metric: Float[Tensor, "b 3 3"], cutoff: float
) -> Near:
    """All translations of all pairs within the cutoff.

    Args:
        difference: fractional differences of the pairs, any representative.
        crystal: the crystal each pair belongs to.
        metric: metric tensors in square Angstrom.
        cutoff: radius in Angstrom.
    """
    triangle = _triangular(metric)
    reduced = difference - difference.round()
    pair, r2 = torch.arange(len(reduced), device=reduced.device), reduced.new_zeros(len(reduced))
    fixed: list[Tensor] = []  # d_c + n_c of the rows done, from c = a + 1 up
    for a in (2, 1, 0):
        start = reduced[:, a][pair]
        row = triangle[:, a][crystal]
        edge = row[:, a]
        offset = start + sum((row[:, a + 1 + k] * x for k, x in enumerate(fixed)), torch.zeros_like(r2)) / edge
        reach = (cutoff**2 - r2).clamp_min(0).sqrt() / edge
        low = (-reach - offset).ceil().clamp_min(-MAX_TRANSLATIONS)
        high = (reach - offset).floor().clamp_max(MAX_TRANSLATIONS)
        count = (high - low + 1).nan_to_num(0.0).clamp_min(0).long()  # a cell that is not finite has no neighbours
        parent = torch.repeat_interleave(count)
        n = low[parent] + ramp(count, parent)
        r2 = r2[parent] + (edge[parent] * (offset[parent] + n)) ** 2
        fixed = [start[parent] + n, *(x[parent] for x in fixed)]
        pair, crystal = pair[parent], crystal[parent]
    return Near(pair, torch.stack(fixed, dim=-1), r2)


def _triangular(metric: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    """Upper triangular R with G = R^T R; flat cells, on which a library's factorisation fails, get a thin positive edge."""
    rows: list[Tensor] = []  # a list and no array that is written to: guidance differentiates through this
    for a in range(3):
        rest = metric[:, a] - sum((row[:, a, None] * row for row in rows), torch.zeros_like(metric[:, a]))
        edge = rest[:, a].clamp_min(1e-6).sqrt()
        left = torch.zeros_like(rest[:, :a])
        rows.append(torch.cat([left, edge[:, None], rest[:, a + 1 :] / edge[:, None]], dim=1))
    return torch.stack(rows, dim=1)


def ramp(counts: Int64[Tensor, " n"], owner: Int64[Tensor, " total"] | None = None) -> Int64[Tensor, " total"]:
    """0..c0-1, 0..c1-1, ... for counts c0, c1, ...; ``owner`` is ``repeat_interleave(counts)`` where it is at hand."""
    owner = torch.repeat_interleave(counts) if owner is None else owner
    return torch.arange(len(owner), device=counts.device) - starts(counts)[owner]


def starts(counts: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Exclusive cumulative sum."""
    return counts.cumsum(0) - counts
