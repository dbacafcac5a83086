"""Propose structure types for a request: stored as a checkpoint of its own, used by the sampler before it refines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sse_diffusion.core.checkpoint import CONFIG, Checkpoint, load_checkpoint, save_checkpoint
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import CheckpointError, ConfigError
from sse_diffusion.core.orbit_batch import MASKED_SPECIES, MASKED_WYCKOFF, OrbitBatch
from sse_diffusion.core.rng import categorical, uniform
from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.structure_types.chemistry import ChemistryConfig, RoleChemistry
from sse_diffusion.diffusion.structure_types.decorate import Partners
from sse_diffusion.diffusion.structure_types.library import TypeLibrary
from sse_diffusion.diffusion.structure_types.prior import role_log_odds, type_weights
from sse_diffusion.diffusion.structure_types.scorer import (
    Prepared,
    ScorerConfig,
    TypeScorer,
    elements_by_frequency,
    question,
)

KIND, VERSION = "structure_types", 1
STREAM_TYPE = 40
NO_TYPE = -1
UNSEEN_PENALTY = 6.0
"""Nats that count against "none of the library's types" when a composition is given: without a type almost nothing is found."""


@dataclass(frozen=True)
class Proposal:
    """What is proposed for b crystals.

    Attributes:
        types: (b,) type, or -1: none, everything is left to the diffusion model.
        elements: (b, roles) element of each role where a composition was prescribed, else 0.
        surprisal: (b,) -log p of the choice, nats per crystal.
    """

    types: Int64[Tensor, " b"]
    elements: Int64[Tensor, "b r"]
    surprisal: Float[Tensor, " b"]

    def rows(self, chosen: Tensor) -> Proposal:
        """Some of the crystals."""
        return Proposal(self.types[chosen], self.elements[chosen], self.surprisal[chosen])


class StructureTypes:
    """Library, scorer and element statistics.

    Args:
        scorer: trained scorer; it holds the library.
        role_elements: (R, 95) crystals with each element in each role.
        untyped: share of the training crystals whose type the library lacks.
        chemistry: which elements go together; ``None``: left to the denoiser.
    """

    def __init__(
        self,
        scorer: TypeScorer,
        role_elements: Float[np.ndarray, "r 95"],
        untyped: float,
        chemistry: RoleChemistry | None = None,
    ) -> None:
        self.scorer = scorer.eval()
        self.chemistry = None if chemistry is None else chemistry.eval()
        self.library: TypeLibrary = scorer.library
        self.role_elements, self.untyped = role_elements, untyped
        self._log_odds = torch.tensor(role_log_odds(scorer.library, role_elements), dtype=torch.float32)

    @cached_property
    @torch.no_grad()
    def _prepared(self) -> Prepared:
        return self.scorer.prepare()

    @torch.no_grad()
    def propose(
        self,
        chemistry: HardChemistry,
        seed: int,
        index: Int64[Tensor, " b"],
        temperature: float,
        typed_share: float | None = None,
        rank: Int64[Tensor, " b"] | None = None,
    ) -> Proposal:
        """Types for crystals number ``index``.

        Args:
            chemistry: constraints; with prescribed compositions the scorer decides, else how often types occur.
            seed, index: of the random streams.
            temperature: of the choice for a given composition; 0 takes the most probable.
            typed_share: share of the crystals that get a type; ``None``: as in the training table.
            rank: instead of drawing take the most probable type (0), the second (1), ..., in a circle.
        """
        u = uniform(seed, index, STREAM_TYPE, (2,))
        if chemistry.prescribed:
            return self._for_compositions(chemistry, index, u[:, 0], temperature, rank)
        weights = torch.from_numpy(type_weights(self.library, self.role_elements, chemistry))
        share = 1.0 - self.untyped if typed_share is None else typed_share
        none = Proposal(torch.full_like(index, NO_TYPE), torch.zeros(len(index), 1, dtype=torch.long), torch.zeros(len(index)))
        if not weights.any():
            return none
        logits = weights.log().expand(len(index), -1)
        types = categorical(logits.float(), u[:, 0])
        surprisal = -logits.log_softmax(-1).gather(1, types[:, None])[:, 0]
        return Proposal(torch.where(u[:, 1] < share, types, NO_TYPE), none.elements, surprisal.float())

    def _for_compositions(
        self, chemistry: HardChemistry, index: Tensor, u: Tensor, temperature: float, rank: Tensor | None
    ) -> Proposal:
        compositions = [chemistry.composition_of(i) for i in index.tolist()]
        width = max(len(c) for c in compositions)
        types = torch.full((len(compositions),), NO_TYPE)
        elements = torch.zeros(len(compositions), width, dtype=torch.long)
        surprisal = torch.zeros(len(compositions))
        ordered = [elements_by_frequency(c) for c in compositions]
        for signature in {s for s, _ in ordered}:
            rows = [i for i, (s, _) in enumerate(ordered) if s == signature]
            asked = question(self.library, signature, [ordered[i][1] for i in rows])
            logs = self.scorer(asked, self._prepared)
            if logs.shape[1] == 1:
                continue
            biased = logs.clone()
            biased[:, -1] -= UNSEEN_PENALTY
            fits = torch.from_numpy(np.isin(self.library.group[asked.types.numpy()], chemistry.groups))
            biased[:, :-1] = biased[:, :-1].masked_fill(~fits.repeat_interleave(len(asked.orders)), -torch.inf)
            chosen = _choose(biased, u[rows], temperature, None if rank is None else rank[rows])
            surprisal[rows] = -logs.gather(1, chosen[:, None])[:, 0]
            typed = chosen < logs.shape[1] - 1
            place, order = chosen // len(asked.orders), chosen % len(asked.orders)
            here = torch.tensor(rows)[typed]
            types[here] = asked.types[place[typed]]
            elements[here, : len(signature)] = asked.elements[typed].gather(1, asked.orders[order[typed]])
        return Proposal(types, elements, surprisal)

    def role_prior(self, types: Int64[Tensor, " b"], width: int) -> Float[Tensor, "b r 95"]:
        """log p(element | role) / p(element) for the first ``width`` roles of each type (those of others where it has fewer)."""
        rows = torch.from_numpy(self.library.role_start)[types][:, None] + torch.arange(width)
        return self._log_odds[rows.clamp_max(len(self._log_odds) - 1)]

    def partners(self, weight: float) -> Partners | None:
        """``weight`` times how much more often an element goes with the others than alone; ``None`` where that is not known."""
        chemistry = self.chemistry
        if chemistry is None or weight == 0.0:
            return None
        return lambda species, atoms, asked: (
            weight * chemistry.log_odds(species.cpu(), atoms.cpu(), asked.cpu()).to(species.device)
        )

    def batch(self, proposal: Proposal, conditions: dict[str, Tensor]) -> tuple[OrbitBatch, Int64[Tensor, "b m"]]:
        """Crystals with the groups, sites, mean coordinates and cells (without size) of their types, and the role of each orbit.

        Species are those of the proposal, masked where it has none. Every crystal must have a type.
        """
        types = proposal.types.numpy()
        lib = self.library
        n_orbits = (lib.start[types + 1] - lib.start[types])[:, None]
        slot = np.arange(int(n_orbits.max()))[None]
        mask = slot < n_orbits
        rows = np.where(mask, lib.start[types][:, None] + slot, 0)
        role = torch.from_numpy(np.where(mask, lib.role[rows], -1))
        species = proposal.elements.gather(1, role.clamp(0, proposal.elements.shape[1] - 1)) if proposal.elements.any() else None
        filled = torch.full(mask.shape, MASKED_SPECIES) if species is None else species.masked_fill(role < 0, MASKED_SPECIES)
        batch = OrbitBatch(
            group=torch.from_numpy(lib.group[types]),
            cell=torch.from_numpy(lib.cell[types]),
            species=filled,
            wyckoff=torch.from_numpy(np.where(mask, lib.wyckoff[rows], MASKED_WYCKOFF)),
            free=torch.from_numpy(lib.free[rows] * mask[..., None]),
            mask=torch.from_numpy(mask),
            conditions=conditions,
        )
        return batch, role


def _choose(logs: Float[Tensor, "b c"], u: Tensor, temperature: float, rank: Tensor | None) -> Int64[Tensor, " b"]:
    """A column of each row: the one of a rank among the possible ones, or drawn at a temperature."""
    if rank is None and temperature > 0:
        return categorical(logs / temperature, u)
    possible = torch.isfinite(logs).sum(-1)
    wanted = torch.zeros_like(possible) if rank is None else rank % possible.clamp_min(1)
    return logs.argsort(dim=-1, descending=True, stable=True).gather(1, wanted[:, None])[:, 0]


def save_structure_types(types: StructureTypes, path: str | Path, extra: dict[str, object] | None = None) -> None:
    """Write a checkpoint folder; matrices as 16-bit floats."""
    state = types.scorer.state_dict()
    half = {f"scorer.{k}": v.half() if v.is_floating_point() and v.dim() > 1 else v for k, v in state.items()}
    library = {f"library.{k}": torch.from_numpy(v) for k, v in types.library.arrays().items()}
    statistics = {"role_elements": torch.from_numpy(types.role_elements).float()}  # parts of one where roles can be exchanged
    if types.chemistry is not None:
        learnt = types.chemistry.state_dict()
        half |= {f"chemistry.{k}": v.half() if v.dim() > 1 else v for k, v in learnt.items()}
    small = {k: v if v.is_floating_point() else v.to(_integer(v)) for k, v in {**library, **statistics}.items()}
    config = {"scorer": asdict(types.scorer.config), "untyped": types.untyped, **(extra or {})}
    if types.chemistry is not None:
        config["chemistry"] = asdict(types.chemistry.config)
    save_checkpoint(path, KIND, VERSION, config, {**half, **small})


def _integer(values: Tensor) -> torch.dtype:
    """The smaller of two integer types that hold the values."""
    return torch.int16 if int(values.abs().max()) < 2**15 else torch.int32


@lru_cache(maxsize=4)
def load_structure_types(name_or_path: str) -> StructureTypes:
    """Load a checkpoint folder, or a shipped one by name.

    Raises:
        CheckpointError: missing or damaged.
    """
    stored = load_checkpoint(name_or_path, KIND, VERSION)
    try:
        return _from_checkpoint(stored)
    except (KeyError, TypeError, ConfigError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights in {stored.path} do not fit its {CONFIG} ({error})", "copy the checkpoint again, or build it again"
        ) from error


def _from_checkpoint(stored: Checkpoint) -> StructureTypes:
    pick = {k: v for k, v in stored.tensors.items() if k.startswith("library.")}
    arrays = {k.removeprefix("library."): v.numpy() for k, v in pick.items()}
    library = TypeLibrary.from_arrays({k: v.astype(np.float32 if v.dtype.kind == "f" else np.int64) for k, v in arrays.items()})
    state = {k.removeprefix("scorer."): v.float() for k, v in stored.tensors.items() if k.startswith("scorer.")}
    counts = stored.tensors["role_elements"].numpy().astype(np.float64)
    scorer = TypeScorer(library, build(ScorerConfig, stored.config["scorer"]), state["element_features"], counts)
    scorer.load_state_dict(state)
    chemistry = None
    if "chemistry" in stored.config:
        learnt = {k.removeprefix("chemistry."): v.float() for k, v in stored.tensors.items() if k.startswith("chemistry.")}
        chemistry = RoleChemistry(build(ChemistryConfig, stored.config["chemistry"]), learnt["element_features"])
        chemistry.load_state_dict(learnt)
    return StructureTypes(scorer, counts, float(stored.config["untyped"]), chemistry)
