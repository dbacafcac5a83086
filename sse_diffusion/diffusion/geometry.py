r"""What the orbits of a crystal see of each other: periodic neighbour sums that no choice of representative can change.

For orbit i (its representative atom) and orbit j (all its images m and their lattice translations n) within a cutoff:

    count_ijb  = sum_{mn} hat_b(r)                        radial distribution of j around i
    vector_ijb = sum_{mn} hat_b(r) d / r * V^(1/3)        where it lies, as a fractional displacement
    strain_ijb = sum_{mn} hat_b(r) d^T B_c G d / r^2      how each cell parameter k_c would stretch it

with d the fractional difference, G the metric, r^2 = d^T G d and hat_b a piecewise-linear radial basis. Counts are invariant
under the group, origin, cell and orbit order; vectors turn with the representative. In training nothing is differentiated
through (no coordinate or cell asks for a gradient); guidance does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sse_diffusion.core.lattice import N_CELL, log_matrix, log_to_metric
from sse_diffusion.core.orbit_batch import MASKED_WYCKOFF, OrbitBatch
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.neighbours import ramp, starts, translations_within

MEAN_DENSITY = 0.06
"""Atoms per cubic Angstrom: scales the radial distribution to about one."""


@dataclass(frozen=True)
class PairGeometry:
    """Neighbour sums between orbits (shapes: see the module)."""

    count: Float[Tensor, "b m m k"]
    vector: Float[Tensor, "b m m k 3"]
    strain: Float[Tensor, "b m m k 6"]


class OrbitGeometry(nn.Module):
    """Computes :class:`PairGeometry` of a batch; holds the Wyckoff operations as buffers.

    Args:
        cutoff: radius in Angstrom.
        n_radial: number of hat functions between 0 and the cutoff.
    """

    def __init__(self, cutoff: float = 6.0, n_radial: int = 24) -> None:
        super().__init__()
        table = wyckoff_table()
        self.cutoff, self.n_radial = cutoff, n_radial
        as_float = {"rotation": table.rotation, "translation": table.translation, "left_inverse": table.left_inverse}
        as_int = {"image_start": table.image_start, "multiplicity": table.multiplicity}
        for name, array in as_float.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32), persistent=False)
        for name, array in as_int.items():
            self.register_buffer(name, torch.tensor(array), persistent=False)
        centres = (torch.arange(n_radial) + 0.5) * cutoff / n_radial
        shell = 4.0 * math.pi * centres**2 * (cutoff / n_radial) * MEAN_DENSITY
        self.register_buffer("shell_scale", 1.0 / shell.clamp_min(0.5), persistent=False)
        self.register_buffer("strain_basis", log_matrix(torch.eye(N_CELL)), persistent=False)

    def forward(self, batch: OrbitBatch) -> PairGeometry:
        """Neighbour sums of all orbits whose Wyckoff position is known."""
        with torch.autocast(batch.device.type, enabled=False):
            return self._sums(batch)

    def _sums(self, batch: OrbitBatch) -> PairGeometry:
        b, m = batch.mask.shape
        metric = log_to_metric(batch.cell)
        pair, crystal, difference, r2 = self._neighbours(batch, metric)
        r = r2.sqrt()
        edge = torch.exp(batch.cell[crystal, -1])
        # d^T B_c G d for all c: a quadratic form of each crystal, (B_c G)_ij d_i d_j
        form = torch.einsum("cij,bjk->bcik", self.strain_basis, metric).flatten(1)[crystal].view(-1, N_CELL, 9)
        strain = (form @ (difference[:, :, None] * difference[:, None, :]).view(-1, 9, 1))[..., 0] / r2[:, None]
        values = torch.cat([torch.ones_like(r)[:, None], difference * (edge / r)[:, None], strain], dim=-1)
        sums = self._radial_sums(pair, r, values, b * m * m)
        sums = (sums * self.shell_scale[None, :, None]).view(b, m, m, self.n_radial, 1 + 3 + N_CELL)
        return PairGeometry(sums[..., 0], sums[..., 1:4], sums[..., 4:])

    def _radial_sums(
        self, pair: Int64[Tensor, " e"], r: Float[Tensor, " e"], values: Float[Tensor, "e c"], n_pairs: int
    ) -> Float[Tensor, "p k c"]:
        """Sum ``values`` into the two hats around each distance; the last hat falls to zero at the cutoff."""
        position = r * (self.n_radial / self.cutoff) - 0.5
        lower = position.floor()
        weight = position - lower
        out = values.new_zeros(n_pairs * self.n_radial, values.shape[1])
        for hat, share in ((lower, 1.0 - weight), (lower + 1, weight)):
            inside = (hat >= 0) & (hat < self.n_radial)
            index = pair[inside] * self.n_radial + hat[inside].long()
            out.index_add_(0, index, values[inside] * share[inside, None])
        return out.view(n_pairs, self.n_radial, -1)

    def _neighbours(
        self, batch: OrbitBatch, metric: Float[Tensor, "b 3 3"]
    ) -> tuple[Int64[Tensor, " e"], Int64[Tensor, " e"], Float[Tensor, "e 3"], Float[Tensor, " e"]]:
        """Neighbours of every representative: flat pair index, crystal, fractional difference, squared distance."""
        b, m = batch.mask.shape
        known = (batch.wyckoff != MASKED_WYCKOFF) & batch.mask
        row, slot = known.nonzero(as_tuple=True)
        w = batch.wyckoff[row, slot]
        u = batch.free[row, slot]
        first = self.image_start[w]
        here = torch.einsum("tij,tj->ti", self.rotation[first], u) + self.translation[first]
        # images of all orbits, one flat list
        token = torch.repeat_interleave(self.multiplicity[w])
        op = first[token] + ramp(self.multiplicity[w], token)
        image = torch.einsum("tij,tj->ti", self.rotation[op], u[token]) + self.translation[op]
        # every (representative, image) of each crystal
        n_images = torch.bincount(row[token], minlength=b)
        target = torch.repeat_interleave(n_images[row])
        source = starts(n_images)[row[target]] + ramp(n_images[row], target)
        near = translations_within(image[source] - here[target], row[target], metric, self.cutoff)
        apart = near.r2 > 1e-6  # an atom is not its own neighbour
        kept = near.pair[apart]
        target, source = target[kept], source[kept]
        pair = (row[target] * m + slot[target]) * m + slot[token[source]]
        return pair, row[target], near.difference[apart], near.r2[apart]
