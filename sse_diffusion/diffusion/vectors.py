r"""What angles the neighbours make: sums of neighbour vectors over all orbits, and the inner products of such sums.

    V_ic = sum_j g_ijc sum_b R_cb vector_ijb,        s_ic = (A V_i)_c . (B V_i)_c

with the gates g read from the pair and both tokens, R, A, B learnt mixings of radial functions and channels, and the product
taken in the metric of the cell. The pair features alone know distances; two neighbours of different orbits in line or at a
right angle look the same to them. Sums of vectors turn with the representative and their products do not (Schuett et al.
2021, PaiNN, without the propagation of vectors: a neighbour's own vectors would have to be turned into each of its images).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sse_diffusion.diffusion.layers import feed_forward


class NeighbourAngles(nn.Module):
    """Adds the invariants of the neighbours' vectors to the tokens; zero at the start.

    Args:
        width: of the tokens.
        pair_width: of the pair representation.
        n_radial: radial functions of the neighbour vectors.
        channels: vectors per orbit.
    """

    def __init__(self, width: int, pair_width: int, n_radial: int, channels: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, pair_width), nn.Linear(width, pair_width)
        self.pair, self.gate = nn.Linear(pair_width, pair_width), nn.Linear(pair_width, channels)
        self.radial = nn.Parameter(torch.randn(n_radial, channels) / n_radial**0.5)
        self.mix = nn.Parameter(torch.randn(channels, 2 * channels) / channels**0.5)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = feed_forward(channels, width, width)
        nn.init.zeros_(self.out[-1].weight)
        nn.init.zeros_(self.out[-1].bias)

    def forward(
        self,
        x: Float[Tensor, "b m w"],
        pair: Float[Tensor, "b m m p"],
        vector: Float[Tensor, "b m m k 3"],
        metric: Float[Tensor, "b 3 3"],
    ) -> Float[Tensor, "b m w"]:
        """Update the tokens.

        Args:
            x: tokens.
            pair: pair representation.
            vector: neighbour vectors; zero where an orbit is missing.
            metric: of the cell at unit volume, in whose units the vectors are.
        """
        tokens = self.norm(x)
        hidden = self.pair(pair) + self.query(tokens)[:, :, None] + self.key(tokens)[:, None, :]
        gate = self.gate(nn.functional.silu(hidden)).float()
        with torch.autocast(x.device.type, enabled=False):  # lengths and angles deserve their digits
            each = vector.mT @ self.radial  # (b, m, m, 3, c)
            total = (gate[:, :, :, None] * each).sum(dim=2)
            left, right = (total @ self.mix).chunk(2, dim=-1)
            product = (left * torch.einsum("bxy,bmyc->bmxc", metric, right)).sum(dim=2)
            product = product * (1 + product.abs()).rsqrt()  # grows like a length
        return x + self.out(product)
