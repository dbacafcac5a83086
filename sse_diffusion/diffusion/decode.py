"""Unmask space group, Wyckoff positions and species one unit at a time, under hard chemistry.

Units are revealed in a random order (any-order autoregressive sampling of the absorbing-state model), every choice restricted
to those that can still meet the constraints; what a mask cannot foresee is drawn again. Violations are therefore zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sse_diffusion.core.orbit_batch import MASKED_GROUP, MASKED_SPECIES, MASKED_WYCKOFF, OrbitBatch
from sse_diffusion.core.rng import categorical, uniform
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.counting import Ledger, fewest_atoms
from sse_diffusion.diffusion.denoiser import DiscreteLogits
from sse_diffusion.diffusion.guidance import Weights, guided_discrete, guided_size
from sse_diffusion.diffusion.hard_chemistry import HardChemistry, redistribute
from sse_diffusion.diffusion.model import CrystalModel

STREAM_SIZE, STREAM_GROUP, STREAM_ORDER, STREAM_UNITS = 1, 2, 3, 100


@dataclass(frozen=True)
class Decoded:
    """Crystals without coordinates and cell.

    Attributes:
        batch: species, Wyckoff positions and groups filled in.
        surprisal: (b,) -log p of group, positions and species under the model, per orbit, in nats.
        complete: (b,) False where the constraints led to a dead end (draw again).
        of_species: (b,) the species' part of the surprisal, where it is known apart.
    """

    batch: OrbitBatch
    surprisal: Float[Tensor, " b"]
    complete: Tensor
    of_species: Float[Tensor, " b"] | None = None

    def select(self, rows: Tensor) -> Decoded:
        """The crystals ``rows``."""
        of_species = None if self.of_species is None else self.of_species[rows]
        return Decoded(self.batch.select(rows), self.surprisal[rows], self.complete[rows], of_species)


def decode(
    model: CrystalModel, conditions: dict[str, Tensor], chemistry: HardChemistry, seed: int, index: Int64[Tensor, " b"],
    size: Int64[Tensor, " b"], guidance: Weights = 1.0, temperature: float = 1.0,
) -> Decoded:  # fmt: skip
    """Draw the discrete part of ``len(index)`` crystals.

    Args:
        model: trained model.
        conditions: encoded conditions, one row per crystal.
        chemistry: hard constraints, see :class:`HardChemistry`.
        seed, index: of the random streams; crystal i depends on (seed, index[i]) only.
        size: number of orbits of each crystal, see :func:`draw_size`.
        guidance: classifier-free guidance weight, one or by field; 1 is none.
        temperature: of the softmax; below 1 favours likely choices.
    """
    decoder = _Decoder(model, chemistry, seed, index, guidance, temperature)
    with torch.no_grad():
        return decoder.run(conditions, size)


def draw_size(
    model: CrystalModel,
    conditions: dict[str, Tensor],
    chemistry: HardChemistry,
    seed: int,
    index: Int64[Tensor, " b"],
    guidance: Weights = 1.0,
    temperature: float = 1.0,
) -> Int64[Tensor, " b"]:
    """Number of orbits of each crystal; arguments as in :func:`decode`."""
    with torch.no_grad():
        logits = guided_size(model, conditions, guidance)
    fewest, most = chemistry.orbit_bounds(index, logits.shape[1] - 1)
    number = torch.arange(logits.shape[1], device=logits.device)
    logits = logits.masked_fill((number < fewest[:, None]) | (number > most[:, None]), -torch.inf)
    return categorical(logits / temperature, uniform(seed, index, STREAM_SIZE, ()))


class _Decoder:
    """State of one call of :func:`decode`."""

    def __init__(
        self, model: CrystalModel, chemistry: HardChemistry, seed: int, index: Tensor, guidance: Weights, temperature: float
    ) -> None:
        self.model, self.chemistry = model, chemistry
        self.seed, self.index = seed, index
        self.guidance, self.temperature = guidance, temperature
        self.nll = torch.zeros(len(index), dtype=torch.float64, device=index.device)
        self.nll_species = torch.zeros_like(self.nll)
        self.alive = torch.ones(len(index), dtype=torch.bool, device=index.device)
        table = wyckoff_table()
        device = index.device
        self.dof = torch.tensor([*table.dof, 3], device=device)
        self.primitive = torch.tensor([*(table.multiplicity // table.centring[table.group]), 0], device=device)
        self.fewest = torch.tensor(fewest_atoms(model.denoiser.config.max_orbits), device=device)

    def run(self, conditions: dict[str, Tensor], size: Int64[Tensor, " b"]) -> Decoded:
        """Group, then all units."""
        batch = self._masked_batch(size, conditions)
        batch = batch.with_(group=self._draw_group(batch, size))
        ledgers = self._ledgers(batch, size)
        order = self._order(batch)
        for step in range(order.shape[1]):
            batch = self._reveal(batch, order[:, step], step, ledgers)
        return Decoded(batch, (self.nll / size).float(), self.alive, (self.nll_species / size).float())

    def _masked_batch(self, size: Int64[Tensor, " b"], conditions: dict[str, Tensor]) -> OrbitBatch:
        b, m = len(size), int(size.max())
        mask = torch.arange(m, device=size.device)[None] < size[:, None]
        full = torch.full((b, m), 0, device=size.device)
        return OrbitBatch(
            group=torch.full((b,), MASKED_GROUP, device=size.device), cell=torch.zeros(b, 6, device=size.device),
            species=full + MASKED_SPECIES, wyckoff=full + MASKED_WYCKOFF, free=torch.zeros(b, m, 3, device=size.device),
            mask=mask, conditions=conditions,
        )  # fmt: skip

    def _draw_group(self, batch: OrbitBatch, size: Int64[Tensor, " b"]) -> Int64[Tensor, " b"]:
        """Draw until the composition, if one is prescribed, fits the group in ``size`` orbits."""
        logits = guided_discrete(self.model, batch, self.guidance).group
        allowed = self.chemistry.group_mask(logits.device)[None].expand_as(logits).clone()
        if self.chemistry.n_atoms:
            allowed &= self.chemistry.n_atoms[1] >= self.fewest[:, size].T
        for row in range(len(batch)) if self.chemistry.prescribed else ():
            counts = tuple(self.chemistry.composition_of(int(self.index[row])).values())
            allowed[row] &= self.chemistry.groups_that_fit(counts, int(size[row])).to(logits.device)
        self.alive &= allowed.any(-1)
        masked = torch.where(allowed | ~allowed.any(-1, keepdim=True), logits, torch.full_like(logits, -torch.inf))
        u = uniform(self.seed, self.index, STREAM_GROUP, ())
        group = categorical(masked / self.temperature, u)
        self._account(logits, group)
        return group

    def _ledgers(self, batch: OrbitBatch, size: Int64[Tensor, " b"]) -> list[Ledger]:
        """What is left to place in each crystal; empty when no composition is prescribed."""
        if not self.chemistry.prescribed:
            return []
        rows = zip(self.index.tolist(), batch.group.tolist(), size.tolist(), strict=True)
        return [Ledger.start(g, self.chemistry.composition_of(i), m) for i, g, m in rows]

    def _order(self, batch: OrbitBatch) -> Int64[Tensor, "b s"]:
        """Order in which units are revealed: unit 2i is the position of orbit i, 2i + 1 its species; -1 is padding.

        Free composition: any order; when charge neutrality is asked one species (orbits are exchangeable: the first) comes
        last and is chosen among those that balance the rest. Prescribed composition: orbit by orbit, position first, so that
        counting is exact.
        """
        b, m = batch.mask.shape
        u = uniform(self.seed, self.index, STREAM_ORDER, (m, 2))
        if self.chemistry.prescribed:
            u = torch.stack([u[..., 0], u[..., 0] + 1e-12], dim=-1)
        elif self.chemistry.charge_neutral:
            u[:, 0, 1] = 1.4
        u = torch.where(batch.mask[..., None], u, torch.full_like(u, 2.0)).view(b, 2 * m)
        order = u.argsort(dim=1, stable=True)
        return torch.where(u.gather(1, order) < 1.5, order, torch.full_like(order, -1))

    def _reveal(self, batch: OrbitBatch, unit: Int64[Tensor, " b"], step: int, ledgers: list[Ledger]) -> OrbitBatch:
        logits = guided_discrete(self.model, batch, self.guidance)
        u = uniform(self.seed, self.index, STREAM_UNITS + step, ())
        rows = torch.arange(len(batch), device=batch.device)
        slot, is_species = unit.clamp_min(0) // 2, unit % 2 == 1
        wyckoff, species = batch.wyckoff.clone(), batch.species.clone()
        at_site = rows[(unit >= 0) & ~is_species]
        if len(at_site):
            wyckoff[at_site, slot[at_site]] = self._choose_position(batch, logits, at_site, slot[at_site], u[at_site], ledgers)
        at_species = rows[(unit >= 0) & is_species]
        if len(at_species):
            species[at_species, slot[at_species]] = self._choose_species(
                batch, logits, at_species, slot[at_species], u[at_species], ledgers
            )
        return batch.with_(wyckoff=wyckoff, species=species)

    def _choose_position(
        self, batch: OrbitBatch, logits: DiscreteLogits, rows: Tensor, slot: Tensor, u: Tensor, ledgers: list[Ledger]
    ) -> Int64[Tensor, " r"]:
        score = logits.wyckoff[rows, slot]
        letters = self.model.denoiser.letters[batch.group[rows]]
        taken = (batch.wyckoff[rows][:, None, :] == letters[:, :, None]).any(-1) & (self.dof[letters] == 0)
        allowed = torch.isfinite(score) & ~taken
        if self.chemistry.n_atoms:
            placed = self.primitive[batch.wyckoff[rows]].sum(-1)
            masked = ((batch.wyckoff[rows] == MASKED_WYCKOFF) & batch.mask[rows]).sum(-1)
            rest = self.fewest[batch.group[rows], (masked - 1).clamp_min(0)]
            allowed &= self.primitive[letters] <= (self.chemistry.n_atoms[1] - placed - rest)[:, None]
        for k, row in enumerate(rows.tolist()) if ledgers else ():
            fits = [p != MASKED_WYCKOFF and bool(ledgers[row].elements_at(p)) for p in letters[k].tolist()]
            allowed[k] &= torch.tensor(fits, device=allowed.device)
        return letters.gather(1, self._pick(score, allowed, rows, u)[:, None])[:, 0]

    def _choose_species(
        self, batch: OrbitBatch, logits: DiscreteLogits, rows: Tensor, slot: Tensor, u: Tensor, ledgers: list[Ledger]
    ) -> Int64[Tensor, " r"]:
        score = logits.species[rows, slot]
        allowed = self.chemistry.species_mask(score.device)[None].expand_as(score).clone()
        masked = ((batch.species[rows] == MASKED_SPECIES) & batch.mask[rows]).sum(-1)
        score = redistribute(score, allowed)
        allowed &= self.chemistry.still_required(batch.species[rows], masked)
        if self.chemistry.charge_neutral and not self.chemistry.prescribed:
            for k in torch.nonzero(masked == 1).flatten().tolist():
                row = int(rows[k])
                atoms = self.primitive[batch.wyckoff[row]] * batch.mask[row]
                allowed[k] &= self.chemistry.balancing(batch.species[row].tolist(), atoms.tolist()).to(allowed.device)
        for k, row in enumerate(rows.tolist()) if ledgers else ():
            position = int(batch.wyckoff[row, slot[k]])
            fits = torch.zeros_like(allowed[k])
            fits[ledgers[row].elements_at(position)] = True
            allowed[k] &= fits
        before = self.nll[rows].clone()
        chosen = self._pick(score, allowed, rows, u)
        self.nll_species[rows] += self.nll[rows] - before
        for k, row in enumerate(rows.tolist()) if ledgers else ():
            ledgers[row] = ledgers[row].after(int(batch.wyckoff[row, slot[k]]), int(chosen[k])) or ledgers[row]
        return chosen

    def _pick(self, score: Float[Tensor, "r c"], allowed: Tensor, rows: Tensor, u: Tensor) -> Int64[Tensor, " r"]:
        possible = allowed.any(-1)
        self.alive[rows[~possible]] = False
        fallback = torch.isfinite(score)
        masked = torch.where(torch.where(possible[:, None], allowed, fallback), score, torch.full_like(score, -torch.inf))
        chosen = categorical(masked / self.temperature, u)
        self._account(score, chosen, rows)
        return chosen

    def _account(self, score: Tensor, chosen: Tensor, rows: Tensor | None = None) -> None:
        nll = -score.double().log_softmax(-1).gather(1, chosen[:, None])[:, 0]
        if rows is None:
            self.nll += nll
        else:
            self.nll[rows] += nll
