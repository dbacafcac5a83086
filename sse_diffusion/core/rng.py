"""Stateless random numbers: the draw for crystal i, step s depends on (seed, i, s) and nothing else.

A counter is hashed by SplitMix64 (Steele, Lea & Flood 2014), so crystal i is the same whatever the batch it is sampled in,
the device, or the order of calls; and a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as signed 64-bit
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Int64[Tensor, "..."], bits: int) -> Int64[Tensor, "..."]:
    """Logical right shift of a signed 64-bit integer."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _wrap(value: int) -> int:
    """A Python integer reduced modulo 2^64 to the signed 64-bit range."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """SplitMix64 finaliser; multiplication wraps modulo 2^64."""
    x = (x ^ _shift_right(x, 30)) * _MIX1
    x = (x ^ _shift_right(x, 27)) * _MIX2
    return x ^ _shift_right(x, 31)


def uniform(seed: int, index: Int64[Tensor, " b"], stream: int, shape: tuple[int, ...]) -> Float[Tensor, "b ..."]:
    """Uniform numbers in (0, 1), float64.

    Args:
        seed: of the whole run.
        index: (b,) number of each crystal.
        stream: which draw (step and field): distinct calls need distinct numbers.
        shape: trailing shape per crystal.

    Returns:
        (b, \\*shape) on the device of ``index``.
    """
    count = math.prod(shape)
    key = _mix(index * _GOLDEN + _wrap(seed)) + _wrap(stream * _MIX1)
    counter = torch.arange(1, count + 1, device=index.device, dtype=torch.int64)
    bits = _mix(_mix(key)[:, None] + counter[None, :] * _GOLDEN)
    return ((_shift_right(bits, 11).double() + 0.5) * 2.0**-53).view(len(index), *shape)


def normal(seed: int, index: Int64[Tensor, " b"], stream: int, shape: tuple[int, ...]) -> Float[Tensor, "b ..."]:
    """Standard normal numbers, float32, by Box and Muller's transform of :func:`uniform`."""
    # The pair is the last axis, so that a longer (more padded) row starts with the numbers of a shorter one.
    u = uniform(seed, index, stream, (*shape, 2))
    return ((-2.0 * u[..., 0].log()).sqrt() * (2.0 * math.pi * u[..., 1]).cos()).float()


def categorical(logits: Float[Tensor, "b c"], u: Float[Tensor, " b"]) -> Int64[Tensor, " b"]:
    """Draw from softmax(logits) by inverting its cumulative sum at u in (0, 1); -inf entries are never drawn."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    drawn = (cumulative < u[:, None] * cumulative[:, -1:]).sum(-1)
    last = (torch.isfinite(logits) * torch.arange(1, logits.shape[-1] + 1, device=logits.device)).amax(-1) - 1
    return torch.minimum(drawn, last)
