"""Hand elements to the roles of structure types: the denoiser's choice, one role at a time, under hard chemistry."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sse_diffusion.core.orbit_batch import MASKED_SPECIES, OrbitBatch
from sse_diffusion.core.rng import categorical, uniform
from sse_diffusion.diffusion.guidance import Weights, guided_discrete
from sse_diffusion.diffusion.hard_chemistry import HardChemistry, redistribute
from sse_diffusion.diffusion.model import CrystalModel

STREAM_ROLE_ORDER, STREAM_ROLE = 50, 60

Partners = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(elements (b, r), atoms (b, r), role asked for (b,)) -> (b, 95) term of each element."""


def decorate(
    model: CrystalModel, batch: OrbitBatch, role: Int64[Tensor, "b m"], chemistry: HardChemistry, seed: int,
    index: Int64[Tensor, " b"], prior: Float[Tensor, "b r 95"], guidance: Weights = 1.0, temperature: float = 1.0,
    partners: Partners | None = None,
) -> tuple[OrbitBatch, Float[Tensor, " b"], Bool[Tensor, " b"]]:  # fmt: skip
    """Draw the elements of crystals whose group and sites are known; orbits of one role share an element, roles never do.

    Args:
        model: trained model.
        batch: with groups and Wyckoff positions; species masked.
        role: role of each orbit; -1 is padding.
        chemistry: constraints.
        seed, index: of the random streams.
        prior: added to the log-probability of each element in each role.
        guidance, temperature: as in :func:`~sse_diffusion.diffusion.decode.decode`.
        partners: adds to the log-probability of each element how well it goes with those chosen.

    Returns:
        The batch with species, -log p of all choices together in nats, and which crystals met the constraints.
    """
    n_roles = role.max(1).values + 1
    order = _order(seed, index, n_roles)
    alive = torch.ones(len(index), dtype=torch.bool, device=index.device)
    nll = torch.zeros(len(index), dtype=torch.float64, device=index.device)
    for step in range(int(n_roles.max())):
        rows = torch.nonzero(step < n_roles).flatten()
        part = batch.select(rows)
        here = role[rows] == order[rows, step, None]
        score = _role_score(guided_discrete(model, part, guidance).species, here) + prior[rows, order[rows, step]]
        if partners is not None:
            score = score + partners(*_as_composition(model, part, role[rows], int(n_roles.max())), order[rows, step])
        left = n_roles[rows] - step
        allowed, kept = _allowed(model, part, left, chemistry, score)
        possible = allowed.any(-1)
        alive[rows[~possible]] = False
        masked = torch.where(allowed | ~possible[:, None], kept, torch.full_like(kept, -torch.inf))
        chosen = categorical(masked / temperature, uniform(seed, index[rows], STREAM_ROLE + step, ()))
        nll[rows] -= score.double().log_softmax(-1).gather(1, chosen[:, None])[:, 0]
        species = batch.species.clone()
        species[rows] = torch.where(here, chosen[:, None], batch.species[rows])
        batch = batch.with_(species=species)
    return batch, nll.float(), alive


def roles_of(species: Int64[Tensor, "b m"], mask: Bool[Tensor, "b m"]) -> Int64[Tensor, "b m"]:
    """Orbits of one element as one role, numbered by first occurrence; -1 is padding."""
    same = (species[:, :, None] == species[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    first = same.float().argmax(-1)
    founds = (first == torch.arange(species.shape[1], device=species.device)) & mask
    number = founds.long().cumsum(1) - 1
    return torch.where(mask, number.gather(1, first), torch.full_like(number, -1))


def _as_composition(
    model: CrystalModel, batch: OrbitBatch, role: Int64[Tensor, "b m"], width: int
) -> tuple[Int64[Tensor, "b r"], Int64[Tensor, "b r"]]:
    """Element of each role, masked where it is open, and its atoms."""
    slot = role.clamp_min(0)
    atoms = torch.zeros(len(role), width, dtype=torch.long, device=role.device)
    species = torch.full_like(atoms, MASKED_SPECIES)
    atoms.scatter_add_(1, slot, model.multiplicity[batch.wyckoff] * (role >= 0))
    species.scatter_reduce_(1, slot, batch.species * (role >= 0), "amax")
    return species, atoms


def _order(seed: int, index: Int64[Tensor, " b"], n_roles: Int64[Tensor, " b"]) -> Int64[Tensor, "b r"]:
    """Roles in random order, those that a crystal lacks last."""
    u = uniform(seed, index, STREAM_ROLE_ORDER, (int(n_roles.max()),))
    missing = torch.arange(u.shape[1], device=index.device)[None] >= n_roles[:, None]
    return (u + 2.0 * missing).argsort(dim=1)


def _role_score(logits: Float[Tensor, "b m 95"], here: Bool[Tensor, "b m"]) -> Float[Tensor, "b 95"]:
    """Mean log-probability over the orbits of the role."""
    logs = logits.log_softmax(-1).masked_fill(~here[..., None], 0.0)
    return logs.sum(1) / here.sum(1, keepdim=True)


def _allowed(
    model: CrystalModel, batch: OrbitBatch, left: Tensor, chemistry: HardChemistry, score: Tensor
) -> tuple[Bool[Tensor, "b 95"], Float[Tensor, "b 95"]]:
    """Elements that may be chosen, and the score with the forbidden ones' share redistributed."""
    allowed = chemistry.species_mask(score.device)[None].expand_as(score).clone()
    kept = redistribute(score, allowed)
    allowed &= chemistry.still_required(batch.species, left)
    used = torch.zeros_like(allowed).scatter_(1, batch.species, True)
    used[:, MASKED_SPECIES] = False
    allowed &= ~used
    if chemistry.charge_neutral:
        atoms = model.multiplicity[batch.wyckoff] * batch.mask
        for k in torch.nonzero(left == 1).flatten().tolist():
            allowed[k] &= chemistry.balancing(batch.species[k].tolist(), atoms[k].tolist()).to(allowed.device)
    return allowed, kept
