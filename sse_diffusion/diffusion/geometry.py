r"""What the orbits of a crystal see of each other: periodic neighbour sums that no choice of representative can change.

For orbit i (its representative atom) and orbit j (all its images m and their lattice translations n) within a cutoff:

    count_ijb  = sum_{mn} hat_b(r)                        radial distribution of j around i
    vector_ijb = sum_{mn} hat_b(r) d / r * V^(1/3)        where it lies, as a fractional displacement
    strain_ijb = sum_{mn} hat_b(r) d^T B_c G d / r^2      how each cell parameter k_c would stretch it

with d the fractional difference, G the metric, r^2 = d^T G d and hat_b a piecewise-linear radial basis. Counts are invariant
under the group, origin, cell and orbit order; vectors turn with the representative. Nothing is differentiated through.
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

MAX_TRANSLATIONS = 3
"""Lattice translations per axis and direction that are looked at; only cells flatter than cutoff/3 exceed it."""

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

    @torch.no_grad()
    def forward(self, batch: OrbitBatch) -> PairGeometry:
        """Neighbour sums of all orbits whose Wyckoff position is known."""
        with torch.autocast(batch.device.type, enabled=False):
            return self._sums(batch)

    def _sums(self, batch: OrbitBatch) -> PairGeometry:
        b, m = batch.mask.shape
        metric = log_to_metric(batch.cell)
        pair, difference, crystal = self._neighbours(batch, metric)
        g = metric[crystal]
        gd = torch.einsum("kij,kj->ki", g, difference)
        r2 = (difference * gd).sum(-1)
        near = (r2 < self.cutoff**2) & (r2 > 1e-6)
        pair, difference, crystal, gd, r2 = pair[near], difference[near], crystal[near], gd[near], r2[near]
        r = r2.sqrt()
        edge = torch.exp(batch.cell[crystal, -1])
        strain = torch.einsum("ki,cij,kj->kc", difference, self.strain_basis, gd) / r2[:, None]
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
    ) -> tuple[Int64[Tensor, " e"], Float[Tensor, "e 3"], Int64[Tensor, " e"]]:
        """Candidate pairs: flat pair index, fractional difference, crystal. Ragged, no loop over crystals."""
        b, m = batch.mask.shape
        known = (batch.wyckoff != MASKED_WYCKOFF) & batch.mask
        row, slot = known.nonzero(as_tuple=True)
        w = batch.wyckoff[row, slot]
        u = batch.free[row, slot]
        first = self.image_start[w]
        here = torch.einsum("tij,tj->ti", self.rotation[first], u) + self.translation[first]
        # images of all orbits, one flat list
        token = torch.repeat_interleave(torch.arange(len(w), device=w.device), self.multiplicity[w])
        op = first[token] + _ramp(self.multiplicity[w])
        image = torch.einsum("tij,tj->ti", self.rotation[op], u[token]) + self.translation[op]
        n_tokens = torch.bincount(row, minlength=b)
        n_images = torch.bincount(row[token], minlength=b)
        reach, n_shifts = self._translations(metric)
        # every (representative, image, translation) of each crystal, decoded from one running number
        total = n_tokens * n_images * n_shifts
        crystal = torch.repeat_interleave(torch.arange(b, device=w.device), total)
        local = _ramp(total)
        shift = local % n_shifts[crystal]
        local = local // n_shifts[crystal]
        source = _starts(n_images)[crystal] + local % n_images[crystal]
        target = _starts(n_tokens)[crystal] + local // n_images[crystal]
        difference = image[source] - here[target]
        difference = difference - difference.round() + self._decode(shift, reach[crystal])
        pair = (row[target] * m + slot[target]) * m + slot[token[source]]
        return pair, difference, crystal

    def _translations(self, metric: Float[Tensor, "b 3 3"]) -> tuple[Int64[Tensor, "b 3"], Int64[Tensor, " b"]]:
        """Translations per axis so that no neighbour within the cutoff is missed: plane spacing h = 1 / sqrt((G^-1)_ii)."""
        inverse = torch.linalg.inv(metric)
        spacing = inverse.diagonal(dim1=-2, dim2=-1).clamp_min(1e-8).rsqrt()
        reach = (self.cutoff / spacing - 0.5).ceil().clamp(0, MAX_TRANSLATIONS)
        reach = reach.long()
        return reach, (2 * reach + 1).prod(-1)

    @staticmethod
    def _decode(shift: Int64[Tensor, " e"], reach: Int64[Tensor, "e 3"]) -> Float[Tensor, "e 3"]:
        """Running number of a translation -> integer vector in [-reach, reach]^3."""
        size = 2 * reach + 1
        z = shift % size[:, 2]
        y = (shift // size[:, 2]) % size[:, 1]
        x = shift // (size[:, 2] * size[:, 1])
        return (torch.stack([x, y, z], -1) - reach).float()


def _ramp(counts: Int64[Tensor, " n"]) -> Int64[Tensor, " total"]:
    """0..c0-1, 0..c1-1, ... for counts c0, c1, ..."""
    total = torch.arange(int(counts.sum()), device=counts.device)
    return total - torch.repeat_interleave(_starts(counts), counts)


def _starts(counts: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Exclusive cumulative sum."""
    return counts.cumsum(0) - counts
