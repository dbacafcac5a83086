"""Transformer parts: conditions and times as vectors, attention with a pair bias, adaptive layer norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from sse_diffusion.core.orbit_batch import MAX_SPECIES
from sse_diffusion.diffusion.condition_tensors import COMPOSITION, OPEN_END
from sse_diffusion.thermo.conditions import ConditionSpec


def feed_forward(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers with a SiLU between them."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


def sinusoids(x: Float[Tensor, " b"], width: int, highest: float = 1000.0) -> Float[Tensor, "b w"]:
    """Sines and cosines of x at geometrically spaced frequencies between 1 and ``highest``."""
    frequency = torch.exp(torch.linspace(0.0, math.log(highest), width // 2, device=x.device))
    angle = x[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class IntervalEmbedding(nn.Module):
    """A standardised range [lo, hi] -> vector; NaN gives the learned null."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = feed_forward(6, width, width)
        self.null = nn.Parameter(torch.zeros(width))

    def forward(self, value: Float[Tensor, "b 2"]) -> Float[Tensor, "b w"]:
        """Embed ranges."""
        known = ~value.isnan().any(-1, keepdim=True)
        x = value.nan_to_num(0.0)
        features = torch.cat([x, x.tanh(), (x.abs() >= OPEN_END).float()], dim=-1)
        return torch.where(known, self.net(features), self.null)


class CategoryEmbedding(nn.Module):
    """An index -> vector; -1 is the learned null (row 0)."""

    def __init__(self, n_choices: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_choices + 1, width)

    def forward(self, value: Tensor) -> Float[Tensor, "b w"]:
        """Embed indices."""
        return self.table(value + 1)


class ElementCountEmbedding(nn.Module):
    """Amounts of each element -> vector, through fractions, log amounts and the total; all zeros gives the learned null."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = feed_forward(2 * (MAX_SPECIES + 1) + 1, width, width)
        self.null = nn.Parameter(torch.zeros(width))

    def forward(self, value: Float[Tensor, "b 95"]) -> Float[Tensor, "b w"]:
        """Embed amounts."""
        total = value.sum(-1, keepdim=True)
        features = torch.cat([value / total.clamp_min(1e-6), value.log1p(), total.log1p()], dim=-1)
        return torch.where(total > 0, self.net(features), self.null)


class ElementSetEncoder(nn.Module):
    """Amounts of each element -> vector by a sum over the elements present, so that what is learnt of one carries to its kin.

    s = W sum_e f(embedding_e, fraction_e, log amount_e); zero at the start, and for an empty set.
    """

    def __init__(self, width: int, element_width: int = 64) -> None:
        super().__init__()
        self.element = nn.Embedding(MAX_SPECIES + 1, element_width)
        self.each = feed_forward(element_width + 2, width, width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, amount: Float[Tensor, "b 95"]) -> Float[Tensor, "b w"]:
        """Encode amounts."""
        row, z = amount.nonzero(as_tuple=True)
        n = amount[row, z]
        share = n / amount.sum(-1)[row]
        each = self.each(torch.cat([self.element(z), share[:, None], n.log1p()[:, None]], dim=-1))
        total = each.new_zeros(len(amount), each.shape[-1]).index_add_(0, row, each)
        return self.out(total)


class ConditionEmbedder(nn.Module):
    """Sum of the field embeddings; each field has its own module and null. Element amounts also pass a shared encoder."""

    def __init__(self, specs: Mapping[str, ConditionSpec], width: int) -> None:
        super().__init__()
        fields: dict[str, nn.Module] = {COMPOSITION: ElementCountEmbedding(width)}
        for name, spec in specs.items():
            if spec.kind == "continuous":
                fields[name] = IntervalEmbedding(width)
            elif spec.kind == "categorical":
                fields[name] = CategoryEmbedding(len(spec.choices), width)
            else:
                fields[name] = ElementCountEmbedding(width)
        self.fields = nn.ModuleDict(fields)
        self.elements = nn.ModuleDict(
            {name: ElementSetEncoder(width) for name, module in fields.items() if isinstance(module, ElementCountEmbedding)}
        )

    def silence(self, names: Iterable[str]) -> None:
        """Make fields contribute nothing until they are trained: their last layer and their null become zero."""
        for name in names:
            module = self.fields[name]
            last = module.table.weight if isinstance(module, CategoryEmbedding) else module.net[-1].weight
            for parameter in (last, *((module.null, module.net[-1].bias) if hasattr(module, "null") else ())):
                nn.init.zeros_(parameter)
            if name in self.elements:
                nn.init.zeros_(self.elements[name].out.weight)
                nn.init.zeros_(self.elements[name].out.bias)

    def forward(self, conditions: Mapping[str, Tensor]) -> Float[Tensor, "b w"]:
        """Embed all fields; every field of the model must be present (as its null when not asked)."""
        own = torch.stack([module(conditions[name]) for name, module in self.fields.items()]).sum(0)
        return own + torch.stack([module(conditions[name]) for name, module in self.elements.items()]).sum(0)


class PairAttention(nn.Module):
    """Multi-head attention whose logits and values also read a pair representation.

    a_ij = softmax_j(q_i k_j / sqrt(d) + W_b p_ij),    o_i = W_o sum_j a_ij v_j + W_p sum_j a_ij p_ij
    """

    def __init__(self, width: int, heads: int, pair_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.pair_bias = nn.Linear(pair_width, heads, bias=False)
        self.out = nn.Linear(width + heads * pair_width, width)

    def forward(
        self, x: Float[Tensor, "b n w"], pair: Float[Tensor, "b n n p"] | None, mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n w"]:
        """Attend; ``pair=None`` means no geometry (its share is zero)."""
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # Crystals have a dozen orbits: explicit attention beats the fused kernel at this length on CPUs.
        logits = q @ k.mT / math.sqrt(q.shape[-1])
        if pair is not None:
            logits = logits + self.pair_bias(pair).permute(0, 3, 1, 2)
        logits = logits.masked_fill(~mask[:, None, None, :], -1e4)
        weight = logits.softmax(-1)
        mixed = (weight @ v).transpose(1, 2).reshape(b, n, width)
        if pair is None:
            return F.linear(mixed, self.out.weight[:, :width], self.out.bias)
        seen = weight.permute(0, 2, 1, 3).to(pair.dtype) @ pair  # (b, n, heads, pair_width)
        return self.out(torch.cat([mixed, seen.flatten(2).to(mixed.dtype)], dim=-1))


class Block(nn.Module):
    """Pre-norm transformer block with adaptive layer norm, zero at the start (adaLN-Zero, Peebles & Xie 2023)."""

    def __init__(self, width: int, heads: int, pair_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = PairAttention(width, heads, pair_width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, x: Float[Tensor, "b n w"], c: Float[Tensor, "b w"], pair: Float[Tensor, "b n n p"] | None, mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n w"]:
        """Update the tokens under the condition vector ``c``."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(c))[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.dropout(self.attention(self.norm1(x) * (1 + scale1) + shift1, pair, mask))
        return x + gate2 * self.dropout(self.mlp(self.norm2(x) * (1 + scale2) + shift2))
