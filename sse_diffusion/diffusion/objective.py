"""Training loss: cross-entropy of masked fields plus mean squared error of the continuous outputs, field by field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.rng import normal, uniform
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.condition_tensors import COMPOSITION, drop_conditions, widen_intervals
from sse_diffusion.diffusion.corruption.discrete import Masked, mask_fields
from sse_diffusion.diffusion.denoiser import Properties
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.share import Share

TYPICAL_BATCH = 128
"""Batches hold equal work, not equally many crystals: only weighted by its length does a batch of large crystals not teach the
size head that crystals are large. The other fields are predicted with the size known."""

MIN_TIME = 1e-4
"""Times keep this distance from 0 and 1."""

FIELDS = ("size", "group", "wyckoff", "species", "coordinates", "cell")
"""What every model predicts; :class:`Losses` of one with a property head hold two fields more."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Loss weights per field, how often the built-in composition condition is dropped, and how times are drawn.

    Attributes:
        size, group, wyckoff, species, coordinates, cell: weights.
        masked_properties, noisy_properties: weights of the property head's two uses, if the model has one.
        composition_dropout: share of examples trained de novo rather than for structure prediction.
        few_conditions: share of crystals whose conditions are kept at a rate of their own, uniform in (0, 1), on top of their
            dropout: with a dozen conditions independent dropout alone would hardly ever show one or two of them.
        shared_time: share of crystals whose coordinates and cell have the same time. The others have one for each: a sampler
            may then know the one better than the other.
        time_power: coordinate times are u^p with u uniform; above 1 they gather where there is little noise.
    """

    size: float = 0.2
    group: float = 0.3
    wyckoff: float = 1.0
    species: float = 1.0
    coordinates: float = 1.0
    cell: float = 0.5
    masked_properties: float = 0.1
    noisy_properties: float = 0.1
    composition_dropout: float = 0.6
    few_conditions: float = 0.7
    shared_time: float = 0.5
    time_power: float = 1.0


@dataclass(frozen=True)
class Losses:
    """Mean loss of each field (nats per unit, or mean squared error of a unit-variance target)."""

    total: Float[Tensor, ""]
    fields: dict[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class Corrupted:
    """A batch as one training step shows it.

    Attributes:
        batch: with the conditions that are left.
        masked: before there is any geometry.
        noisy: coordinates and cell with noise, everything discrete known.
        x_cell, t, t_cell: of ``noisy``, see :meth:`~sse_diffusion.diffusion.denoiser.OrbitTransformer.continuous`.
        target, v: what the network should say of the coordinates and of the cell.
    """

    batch: OrbitBatch
    masked: Masked
    noisy: OrbitBatch
    x_cell: Float[Tensor, "b 6"]
    t: Float[Tensor, " b"]
    t_cell: Float[Tensor, " b"]
    target: Float[Tensor, "b m 3"]
    v: Float[Tensor, "b 6"]


class Objective:
    """Draws times, noise and condition dropout for a batch and computes the losses.

    All randomness comes from (seed, step, position in the batch), so a resumed run continues exactly, and a batch that is
    shared out (:class:`Share`) gets the noise and the weights it would have had in one piece.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        self.config = config

    def __call__(self, model: CrystalModel, batch: OrbitBatch, seed: int, step: int, part: int = 0, parts: int = 1) -> Losses:
        """Losses of one batch at one training step, or share ``part`` of ``parts`` of them (their mean is the whole)."""
        labels = property_labels(model, batch)
        shown = self.corrupt(model, batch, seed, step)
        hidden = torch.where(property_labels(model, shown.batch).isnan(), labels, torch.nan)
        share = Share(len(batch), part, parts)
        fields = {**self._discrete(model, shown, hidden, share), **self._continuous(model, shown, hidden, share)}
        total = torch.stack([getattr(self.config, name) * value for name, value in fields.items()]).sum()
        return Losses(total, fields)

    def corrupt(self, model: CrystalModel, batch: OrbitBatch, seed: int, step: int) -> Corrupted:
        """The batch with the conditions, masks and noise of one training step."""
        draw = _Draws(seed, torch.arange(len(batch), device=batch.device), step)
        batch = batch.with_(conditions=self._conditions(model, batch, draw))
        shape = batch.mask.shape[1]
        masked = mask_fields(batch, model.masking, draw.stratified(), draw.uniform(()), draw.uniform((shape, 2)))
        t, t_cell = self._times(draw)
        atoms = model.atoms(batch)
        x = model.cell_noise.standardise(batch.cell, batch.group, atoms)
        x_t, v = model.cell_noise.corrupt(x, t_cell, draw.normal((6,)), batch.group)
        u_t, target = model.coordinate_noise.corrupt(
            batch.free, t, draw.normal(tuple(batch.free.shape[1:])), model.is_free(batch)
        )
        noisy = batch.with_(free=u_t, cell=model.cell_noise.restore(x_t, batch.group, atoms))
        return Corrupted(batch, masked, noisy, x_t, t, t_cell, target, v)

    def _conditions(self, model: CrystalModel, batch: OrbitBatch, draw: _Draws) -> dict[str, Tensor]:
        """Intervals around point labels, the composition, and independent dropout of every field."""
        conditions = {name: batch.conditions[name] for name in model.specs}
        for name, spec in model.specs.items():
            if spec.kind == "continuous" and not spec.of_state_point:
                conditions[name] = widen_intervals(conditions[name], draw.uniform((4,)).float())
        conditions[COMPOSITION] = composition_of(batch)
        rate = torch.where(draw.uniform(()) < self.config.few_conditions, draw.uniform(()), 1.0)
        probability = {
            name: spec.dropout + torch.zeros_like(rate) if spec.of_state_point else 1.0 - (1.0 - spec.dropout) * rate
            for name, spec in model.specs.items()
        }
        probability[COMPOSITION] = torch.full_like(rate, self.config.composition_dropout)
        return drop_conditions(conditions, probability, draw.uniform((len(conditions),)))

    def _times(self, draw: _Draws) -> tuple[Tensor, Tensor]:
        """Times of the coordinates and of the cell."""
        t = (draw.stratified() ** self.config.time_power).clamp_min(MIN_TIME).float()
        return t, torch.where(draw.uniform(()) < self.config.shared_time, t, draw.uniform(()).float())

    def _discrete(self, model: CrystalModel, shown: Corrupted, hidden: Float[Tensor, "b f"], share: Share) -> dict[str, Tensor]:
        batch, masked = shown.batch, shown.masked
        each = torch.ones(len(batch), device=batch.device)
        group_weight, n_crystals = masked.group.float(), len(batch)
        batch, masked = batch.select(share.rows), masked.select(share.rows)
        orbits = batch.mask.sum(-1).clamp_max(model.denoiser.config.max_orbits)
        size = F.cross_entropy(model.denoiser.size_logits(batch.conditions).float(), orbits, reduction="none")
        # Letters of a masked group are unknown: those units are predicted once the group is known.
        logits = model.denoiser.discrete(masked.batch)
        group = F.cross_entropy(logits.group, batch.group, reduction="none")
        start = model.first_position[batch.group]
        letter = (batch.wyckoff - start[:, None]).clamp(0, logits.wyckoff.shape[-1] - 1)
        wyckoff_weight = masked.wyckoff * masked.weight[:, None] * ~masked.group[:, None]
        species_weight = masked.species * masked.weight[:, None] * ~masked.group[:, None]
        wyckoff = _token_loss(logits.wyckoff, letter, wyckoff_weight, batch)
        species = _token_loss(logits.species, batch.species, species_weight, batch)
        size = size * (n_crystals / TYPICAL_BATCH)
        weighted = {"size": (size, each), "group": (group, group_weight), "wyckoff": (wyckoff, each), "species": (species, each)}
        fields = {name: share.mean(value, weight) for name, (value, weight) in weighted.items()}
        return fields | _property_loss("masked_properties", logits.properties, hidden, share)

    def _continuous(self, model: CrystalModel, shown: Corrupted, hidden: Float[Tensor, "b f"], share: Share) -> dict[str, Tensor]:
        batch, is_free = shown.batch, model.is_free(shown.batch)
        rows, dof, cell_free = share.rows, is_free.sum(dim=(1, 2)), model.cell_noise.is_free[batch.group]
        output = model.denoiser.continuous(shown.noisy.select(rows), shown.x_cell[rows], shown.t[rows], shown.t_cell[rows])
        coordinates = ((output.free - shown.target[rows]) ** 2 * is_free[rows]).sum(dim=(1, 2)) / dof[rows].clamp_min(1)
        cell = ((output.cell - shown.v[rows]) ** 2 * cell_free[rows]).sum(-1) / cell_free[rows].sum(-1)
        fields = {"coordinates": share.mean(coordinates, (dof > 0).float()), "cell": share.mean(cell, torch.ones_like(shown.t))}
        return fields | _property_loss("noisy_properties", output.properties, hidden, share)


class _Draws:
    """Numbered streams of random numbers for one step."""

    def __init__(self, seed: int, index: Int64[Tensor, " b"], step: int) -> None:
        self.seed, self.index, self.base, self.count = seed, index, step * 64, 0

    def _next(self) -> int:
        self.count += 1
        return self.base + self.count

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Numbers in (0, 1) from the next stream."""
        return uniform(self.seed, self.index, self._next(), shape)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers from the next stream."""
        return normal(self.seed, self.index, self._next(), shape)

    def stratified(self) -> Tensor:
        """Times spread evenly over (0, 1) across the batch, with a random offset: less variance than independent ones."""
        offset = self.uniform(())[:1]
        order = self.uniform(()).argsort()
        return torch.remainder(offset + order / len(self.index), 1.0).clamp(MIN_TIME, 1 - MIN_TIME)


def property_labels(model: CrystalModel, batch: OrbitBatch) -> Float[Tensor, "b f"]:
    """What the property head estimates, standardised, in its order; NaN where unknown."""
    names = model.denoiser.property_names
    columns = [batch.conditions[name][:, :1] for name in names]
    return torch.cat([batch.cell.new_zeros(len(batch), 0), *columns], dim=-1)


def _property_loss(name: str, estimate: Properties, hidden: Float[Tensor, "b f"], share: Share) -> dict[str, Tensor]:
    """-log p of the labels that the network was not shown, nats per label; nothing for a model without a head."""
    if not hidden.shape[1]:
        return {}
    known = ~hidden.isnan()[share.rows]
    label = hidden[share.rows].nan_to_num()
    nll = 0.5 * ((label - estimate.mean) * (-estimate.log_std).exp()) ** 2 + estimate.log_std
    each = (nll * known).sum(-1) / known.sum(-1).clamp_min(1)
    return {name: share.mean(each, (~hidden.isnan()).any(-1).float())}


def composition_of(batch: OrbitBatch) -> Float[Tensor, "b 95"]:
    """Atoms of each element in the primitive cell."""
    table = wyckoff_table()
    multiplicity = torch.from_numpy(table.multiplicity).to(batch.device)[batch.wyckoff.clamp_max(len(table.multiplicity) - 1)]
    centring = torch.from_numpy(table.centring).to(batch.device)[batch.group]
    counts = torch.zeros(len(batch), 95, device=batch.device)
    return counts.scatter_add_(1, batch.species, multiplicity * batch.mask / centring[:, None].float())


def _token_loss(logits: Tensor, target: Tensor, weight: Tensor, batch: OrbitBatch) -> Tensor:
    """Weighted cross-entropy of each crystal, summed over its orbits, per orbit."""
    safe = torch.where(weight > 0, target, torch.zeros_like(target))
    loss = F.cross_entropy(logits.flatten(0, 1).nan_to_num(neginf=-1e9), safe.flatten(), reduction="none").view_as(target)
    return (loss * weight).sum(-1) / batch.mask.sum(-1)
