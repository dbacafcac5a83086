r"""The denoiser: a transformer over orbit tokens and one crystal token.

Geometry enters as neighbour sums between orbits (:mod:`sse_diffusion.diffusion.geometry`), never as raw coordinates, and
leaves the same way: the coordinate output is a learned combination of the neighbour vectors, the cell output of the
neighbour strains,

    F_i = P_i sum_jb c_ijb vector_ijb,         v_c = w_c(h_0) + sum_ijb m_i e_ijb strain_ijbc / sum_i m_i

with P_i the projection on the free coordinates of orbit i. Outputs therefore do not depend on orbit order and origin, turn
with the choice of representative, and stay in the symmetry subspace by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sse_diffusion.core.lattice import N_CELL, cell_free, log_matrix
from sse_diffusion.core.orbit_batch import MASKED_WYCKOFF, MAX_SPECIES, OrbitBatch
from sse_diffusion.core.wyckoff import MAX_LETTERS, N_GROUPS, wyckoff_table
from sse_diffusion.diffusion.geometry import OrbitGeometry, PairGeometry
from sse_diffusion.diffusion.layers import Block, ConditionEmbedder, feed_forward, sinusoids
from sse_diffusion.thermo.conditions import ConditionSpec

LOG_STD_RANGE = (-4.0, 2.0)
"""Of an estimated property, in units of its spread over the training rows."""


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """Size of the network.

    Attributes:
        width: token width; bf16 pays from 256 up.
        depth: number of blocks.
        heads: attention heads.
        pair_width: width of the pair representation.
        cutoff_A: radius of the neighbour sums.
        n_radial: radial basis functions within it.
        max_orbits: largest number of orbits the size head can propose.
        dropout: on the residual branches.
        properties: whether a head estimates the continuous conditions from the noisy crystal (:class:`Properties`).
    """

    width: int = 256
    depth: int = 6
    heads: int = 8
    pair_width: int = 48
    cutoff_A: float = 6.0
    n_radial: int = 24
    max_orbits: int = 64
    dropout: float = 0.0
    properties: bool = False


@dataclass(frozen=True)
class Properties:
    """What the continuous conditions of a crystal are, judged from its masked or noisy form: one Gaussian each.

    Standardised as the specs say; in the order of :attr:`OrbitTransformer.property_names`. Every field is judged with the other
    conditions as they are given: p(y_f | noisy crystal, conditions without f). Fields that are themselves given mean nothing.
    """

    mean: Float[Tensor, "b f"]
    log_std: Float[Tensor, "b f"]


@dataclass(frozen=True)
class DiscreteLogits:
    """Scores for masked fields; a Wyckoff letter that the group lacks is -inf, and so is a species outside 1-94."""

    group: Float[Tensor, "b 231"]
    wyckoff: Float[Tensor, "b m 27"]
    species: Float[Tensor, "b m 95"]
    properties: Properties


@dataclass(frozen=True)
class ContinuousOutput:
    """Network outputs F of the coordinates and v of the cell (see the corruptions)."""

    free: Float[Tensor, "b m 3"]
    cell: Float[Tensor, "b 6"]
    properties: Properties


@dataclass(frozen=True)
class _Seen:
    """What the second stage knows of the geometry."""

    pair: Float[Tensor, "b m m p"]
    x_cell: Float[Tensor, "b 6"]


class OrbitTransformer(nn.Module):
    """Denoiser of all fields with one set of weights.

    Args:
        config: size.
        specs: the conditions it knows.
    """

    def __init__(self, config: DenoiserConfig, specs: Mapping[str, ConditionSpec]) -> None:
        super().__init__()
        self.config = config
        d, p = config.width, config.pair_width
        table = wyckoff_table()
        self.geometry = OrbitGeometry(config.cutoff_A, config.n_radial)
        self.conditions = ConditionEmbedder(specs, d)
        estimated = (name for name, spec in specs.items() if spec.kind == "continuous" and not spec.of_state_point)
        self.property_names = tuple(estimated) if config.properties else ()
        self.time, self.time_cell = feed_forward(64, d, d), feed_forward(64, d, d)
        self.stage = nn.Embedding(2, d)
        self.group_in = nn.Embedding(N_GROUPS + 1, d)
        self.size_in = nn.Embedding(config.max_orbits + 1, d)
        self.species_in = nn.Embedding(MAX_SPECIES + 1, d)
        self.wyckoff_in = nn.Embedding(MASKED_WYCKOFF + 1, d)
        self.site_in = feed_forward(4 + 4, d, d)
        self.cell_in = feed_forward(N_CELL + 1, d, d)
        self.pair_in = feed_forward(2 * config.n_radial, p, p)
        self.blocks = nn.ModuleList(Block(d, config.heads, p, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(d)
        self._build_heads(d, p)
        site = torch.zeros(MASKED_WYCKOFF + 1, 8)  # what a position is like, so that rare ones share what is learnt
        site[:-1, :4] = torch.eye(4)[torch.from_numpy(table.dof)]
        site[:-1, 4] = torch.from_numpy(table.multiplicity).float().log() / 5
        site[:-1, 5] = torch.from_numpy(table.multiplicity / table.centring[table.group]).float().log() / 5
        site[:-1, 6] = torch.from_numpy(table.multiplicity / table.multiplicity[table.start[table.group + 1] - 1]).float()
        site[-1, 7] = 1.0
        letters = torch.full((N_GROUPS + 1, MAX_LETTERS), MASKED_WYCKOFF)
        for group in range(1, N_GROUPS + 1):
            positions = torch.tensor(list(table.positions(group)))
            letters[group, : len(positions)] = positions
        self.register_buffer("site_features", site, persistent=False)
        self.register_buffer("letters", letters, persistent=False)
        self.register_buffer("cell_is_free", torch.from_numpy(cell_free()), persistent=False)

    def _build_heads(self, d: int, p: int) -> None:
        """Output layers; the continuous ones start at zero."""
        self.size_out = feed_forward(d, d, self.config.max_orbits + 1)
        self.group_out = nn.Linear(d, N_GROUPS + 1)
        self.species_out = nn.Linear(d, MAX_SPECIES + 1)
        self.wyckoff_out = nn.Linear(d, d)
        self.force_query, self.force_key = nn.Linear(d, 2 * p), nn.Linear(d, 2 * p)
        self.force_pair, self.force_out = nn.Linear(p, 2 * p), nn.Linear(2 * p, 2 * self.config.n_radial)
        self.cell_out = feed_forward(d, d, N_CELL)
        self.property_out = feed_forward(d, d, 2 * len(self.property_names)) if self.property_names else None
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.3)
        for layer in (self.force_out, self.cell_out[-1], self.time_cell[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def compile_blocks(self) -> None:
        """Fuse the element-wise work of the blocks with ``torch.compile`` (on CPUs: a C++ compiler and half a minute)."""
        torch._dynamo.config.recompile_limit = 64  # blocks with and without geometry, training and evaluation
        for block in self.blocks:
            block.compile(dynamic=True)

    def size_logits(self, conditions: Mapping[str, Tensor]) -> Float[Tensor, "b s"]:
        """log p(number of orbits | conditions), unnormalised; index 0 is never drawn."""
        return self.size_out(self.conditions(conditions))

    def discrete(self, batch: OrbitBatch) -> DiscreteLogits:
        """Predict masked groups, Wyckoff positions and species; coordinates and cell are not read."""
        zero = torch.zeros(len(batch), device=batch.device)
        h = self._trunk(batch, None, (zero, zero), stage=0)
        tokens, crystal = h[:, 1:], h[:, 0]
        group = self.group_out(crystal).float()
        group[:, 0] = -torch.inf
        letters = self.letters[batch.group]
        keys = self.wyckoff_in(letters) + self.site_in(self.site_features[letters])
        wyckoff = (torch.einsum("bmd,bld->bml", self.wyckoff_out(tokens), keys) / self.config.width**0.5).float()
        wyckoff = wyckoff.masked_fill((letters == MASKED_WYCKOFF)[:, None, :], -torch.inf)
        species = self.species_out(tokens).float()
        species[..., 0] = -torch.inf
        return DiscreteLogits(group, wyckoff, species, self.properties(crystal))

    def continuous(
        self, batch: OrbitBatch, x_cell: Float[Tensor, "b 6"], t: Float[Tensor, " b"], t_cell: Float[Tensor, " b"]
    ) -> ContinuousOutput:
        """Predict F and v; group, species and Wyckoff positions must be known.

        Args:
            batch: with noisy ``free`` and ``cell``.
            x_cell: the standardised noisy cell.
            t, t_cell: times of the coordinates and of the cell, in [0, 1].
        """
        geometry = self.geometry(batch)
        pair = self._pair_features(geometry, batch.cell)
        h = self._trunk(batch, _Seen(pair, x_cell), (t, t_cell), stage=1)
        tokens, crystal = h[:, 1:], h[:, 0]
        hidden = self.force_pair(pair) + self.force_query(tokens)[:, :, None] + self.force_key(tokens)[:, None, :]
        both = batch.mask[:, :, None] & batch.mask[:, None, :]
        coefficient = self.force_out(nn.functional.silu(hidden)).float() * both[..., None]
        to_force, to_strain = coefficient.chunk(2, dim=-1)
        displacement = (to_force[..., None] * geometry.vector).sum(dim=(2, 3))
        free = torch.einsum("bmij,bmj->bmi", self._projection(batch), displacement)
        multiplicity = self._multiplicity(batch)
        share = multiplicity / multiplicity.sum(-1, keepdim=True)
        strain = torch.einsum("bm,bmnk,bmnkc->bc", share, to_strain, geometry.strain)
        cell = (self.cell_out(crystal).float() + strain) * self.cell_is_free[batch.group]
        return ContinuousOutput(free, cell, self.properties(crystal))

    def crystal(
        self,
        batch: OrbitBatch,
        x_cell: Float[Tensor, "b 6"] | None = None,
        t: Float[Tensor, " b"] | None = None,
        t_cell: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b d"]:
        """The crystal token, which property heads read, without the other outputs.

        Arguments as in :meth:`continuous`; with the batch alone, as in :meth:`discrete`.
        """
        if x_cell is None or t is None or t_cell is None:
            zero = torch.zeros(len(batch), device=batch.device)
            return self._trunk(batch, None, (zero, zero), stage=0)[:, 0]
        pair = self._pair_features(self.geometry(batch), batch.cell)
        return self._trunk(batch, _Seen(pair, x_cell), (t, t_cell), stage=1)[:, 0]

    def properties(self, crystal: Float[Tensor, "b d"]) -> Properties:
        """What the property head says of crystal tokens."""
        if self.property_out is None:
            return Properties(*crystal.new_zeros(2, len(crystal), 0).float())
        mean, log_std = self.property_out(crystal).float().chunk(2, dim=-1)
        return Properties(mean, log_std.clamp(*LOG_STD_RANGE))

    def _projection(self, batch: OrbitBatch) -> Float[Tensor, "b m 3 3"]:
        known = batch.wyckoff.clamp_max(MASKED_WYCKOFF - 1)
        return self.geometry.left_inverse[known] * batch.mask[..., None, None]

    def _multiplicity(self, batch: OrbitBatch) -> Float[Tensor, "b m"]:
        known = batch.wyckoff.clamp_max(MASKED_WYCKOFF - 1)
        return self.geometry.multiplicity[known].float() * batch.mask

    def _pair_features(self, geometry: PairGeometry, cell: Float[Tensor, "b 6"]) -> Float[Tensor, "b m m p"]:
        """Invariants of the neighbour sums: log counts and lengths of the neighbour vectors."""
        metric = torch.linalg.matrix_exp(2.0 * self._shape(cell))
        squared = torch.einsum("bijkx,bxy,bijky->bijk", geometry.vector, metric, geometry.vector)
        length = squared.clamp_min(0).add(1e-8).sqrt()
        return self.pair_in(torch.cat([geometry.count.log1p(), length.log1p()], dim=-1))

    @staticmethod
    def _shape(k: Float[Tensor, "b 6"]) -> Float[Tensor, "b 3 3"]:
        """Logarithmic metric of the cell scaled to unit volume (the vectors already carry V^(1/3))."""
        return log_matrix(torch.cat([k[:, :-1], torch.zeros_like(k[:, -1:])], dim=-1))

    def _trunk(
        self,
        batch: OrbitBatch,
        seen: _Seen | None,
        times: tuple[Float[Tensor, " b"], Float[Tensor, " b"]],
        stage: int,
    ) -> Float[Tensor, "b n d"]:
        """Tokens through the blocks; position 0 is the crystal token. ``seen=None``: before there is any geometry."""
        b = len(batch)
        size = batch.mask.sum(-1).clamp_max(self.config.max_orbits)
        c = self.conditions(batch.conditions) + self.stage.weight[stage]
        c = c + self.time(sinusoids(times[0], 64)) + self.time_cell(sinusoids(times[1], 64))
        c = c + self.size_in(size) + self.group_in(batch.group)
        crystal = self.group_in(batch.group) + self.size_in(size)
        if seen is not None:
            atoms = self._multiplicity(batch).sum(-1, keepdim=True).clamp_min(1).log() / 5
            crystal = crystal + self.cell_in(torch.cat([seen.x_cell, atoms], dim=-1))
        tokens = self.species_in(batch.species) + self.wyckoff_in(batch.wyckoff) + self.site_in(self.site_features[batch.wyckoff])
        h = torch.cat([crystal[:, None], tokens], dim=1)
        mask = torch.cat([torch.ones(b, 1, dtype=torch.bool, device=batch.device), batch.mask], dim=1)
        pair = None if seen is None else nn.functional.pad(seen.pair, (0, 0, 1, 0, 1, 0))
        for block in self.blocks:
            h = block(h, c, pair, mask)
        return self.norm(h)
