"""From a request to crystals: decode the discrete part, sample the continuous part, redraw dead ends, name the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.errors import ChemistryError, ConfigError
from sse_diffusion.core.orbit_batch import MASKED_SPECIES, MAX_SPECIES, OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.condition_tensors import COMPOSITION, encode, encode_composition
from sse_diffusion.diffusion.decode import Decoded, decode, draw_size
from sse_diffusion.diffusion.hard_chemistry import ATTEMPT_STRIDE, HardChemistry
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.diffusion.samplers import SamplerConfig, Start, sampler
from sse_diffusion.diffusion.structure_types.decorate import decorate, roles_of
from sse_diffusion.diffusion.structure_types.proposer import Proposal, StructureTypes, load_structure_types
from sse_diffusion.thermo.request import Interval, Request


def sample_candidates(
    checkpoint: str | Path, request: Request, n: int, seed: int = 0, config: SamplerConfig | None = None, progress: bool = True
) -> list[Candidate]:
    """Sample crystals for a request with a stored model.

    Args:
        checkpoint: shipped name or folder.
        request: conditions and constraints.
        n: crystals.
        seed: of all random numbers.
        config: sampler settings.
        progress: show a progress bar.

    Returns:
        ``n`` candidates whose ids depend on checkpoint, request, settings, seed and number only.

    Raises:
        CheckpointError, ConfigError, ChemistryError: with what to do.
    """
    config = config or SamplerConfig()
    model, stored = load_model(checkpoint)
    unknown = set(request.conditions) - set(model.specs)
    if unknown:
        raise ConfigError(f"this checkpoint does not know {', '.join(sorted(unknown))}", f"it knows: {', '.join(model.specs)}")
    prefix = _prefix(stored.sha256, request, config, seed)
    index = torch.arange(n, device=model.first_position.device)
    with tqdm(total=n, desc="sampling", unit="crystal", disable=not progress) as bar:
        crystals, surprisal = sample_batch(model, request, index, seed, config, bar.update)
    candidates = []
    for i, (crystal, s) in enumerate(zip(crystals, surprisal.tolist(), strict=True)):
        info = {
            "proposer": "diffusion",
            "seed": seed,
            "index": i,
            "checkpoint_sha256": stored.sha256,
            "n_orbits": len(crystal.species),
        }
        candidates.append(Candidate(f"{prefix}-{i:05d}", crystal.to_structure(), crystal.group, s, info))
    return candidates


@torch.no_grad()
def sample_batch(
    model: CrystalModel,
    request: Request,
    index: Int64[Tensor, " b"],
    seed: int,
    config: SamplerConfig,
    on_done: Callable[[int], object] = lambda n: None,
) -> tuple[list[Orbits], Float[Tensor, " b"]]:
    """Crystals number ``index``; those that a constraint left incomplete are drawn again from their next stream.

    Args:
        model: trained model.
        request: conditions and constraints.
        index: numbers of the crystals; crystal i depends on (seed, i) only, not on the others.
        seed: of all random numbers.
        config: sampler settings.
        on_done: told how many crystals were just finished.

    Raises:
        ChemistryError: some crystals could not be completed within ``config.max_rounds``.
    """
    task = Task(model, request.conditions, HardChemistry.from_chemistry(request.chemistry), seed, config)
    crystals = task.run(index, on_done)
    missing = sum(i not in crystals for i in index.tolist())
    if missing:
        raise ChemistryError(
            f"{missing} of {len(index)} crystals could not meet the constraints in {config.max_rounds} rounds",
            "widen n_atoms, z or space_group, or raise sampler.max_rounds",
        )
    return [crystals[i][0] for i in index.tolist()], torch.tensor([crystals[i][1] for i in index.tolist()])


@torch.no_grad()
def predict_structures(
    model: CrystalModel,
    compositions: Sequence[Mapping[int, int]],
    seed: int,
    index: Int64[Tensor, " b"],
    config: SamplerConfig,
    on_done: Callable[[int], object] = lambda n: None,
    rank: Int64[Tensor, " b"] | None = None,
) -> list[Orbits | None]:
    """One crystal per composition; ``None`` where none could be completed.

    Args:
        model: trained model.
        compositions: atomic number -> atoms in the primitive cell, for each crystal.
        seed, index, config, on_done: as in :func:`sample_batch`.
        rank: take the most probable structure type (0, the default), the second (1), ...
    """
    wanted = dict(zip(index.tolist(), compositions, strict=True))
    ranks = dict(zip(index.tolist(), (torch.zeros_like(index) if rank is None else rank).tolist(), strict=True))
    found = Task(model, {}, HardChemistry.for_compositions(wanted), seed, config, ranks).run(index, on_done)
    return [found[i][0] if i in found else None for i in index.tolist()]


@dataclass(frozen=True)
class Task:
    """One request on its way to crystals: structure types, decoding, continuous fields, redrawing of dead ends."""

    model: CrystalModel
    conditions: Mapping[str, Interval | str | frozenset[str]]
    chemistry: HardChemistry
    seed: int
    config: SamplerConfig
    ranks: Mapping[int, int] | None = None

    def run(self, index: Int64[Tensor, " b"], on_done: Callable[[int], object]) -> dict[int, tuple[Orbits, float]]:
        """Crystal and surprisal by number, for those that could be completed."""
        crystals: dict[int, tuple[Orbits, float]] = {}
        left = index
        for attempt in range(self.config.max_rounds):
            stream = left + attempt * ATTEMPT_STRIDE
            conditions = condition_tensors(self.model, self.conditions, self.chemistry, stream)
            missing = []
            for rows, decoded, start in self._decode(conditions, stream, attempt):
                good = decoded.complete & _enough_atoms(self.model, decoded.batch, self.chemistry)
                missing.append(left[rows][~good])
                if good.any():
                    kept = None if start is None else start.select(good)
                    config = self.config if start is None else replace(self.config, steps=self.config.refine_steps)
                    call = sampler(config.name)
                    filled = call(self.model, decoded.batch.select(good), config, self.seed, stream[rows][good], kept)
                    made = zip(filled.to_orbits(), decoded.surprisal[good].tolist(), strict=True)
                    crystals |= dict(zip(left[rows][good].tolist(), made, strict=True))
                on_done(int(good.sum()))
            left = torch.cat(missing).sort().values
            if len(left) == 0:
                break
        return crystals

    def _decode(
        self, conditions: dict[str, Tensor], stream: Tensor, attempt: int
    ) -> Iterator[tuple[Tensor, Decoded, Start | None]]:
        """Batches of rows with their discrete part: those with a structure type, then the others."""
        typed = torch.zeros(len(stream), dtype=torch.bool, device=stream.device)
        # A composition that its type cannot hold is left to the diffusion model in later rounds.
        if self.config.types and not (self.chemistry.prescribed and attempt):
            source, c = load_structure_types(self.config.types), self.config
            rank = None if self.ranks is None else torch.tensor([self.ranks[i % ATTEMPT_STRIDE] for i in stream.tolist()])
            proposal = source.propose(self.chemistry, self.seed, stream, c.type_temperature, c.typed_share, rank)
            typed = proposal.types >= 0
            yield from self._typed(source, proposal, torch.nonzero(typed).flatten(), conditions, stream)
        rest = torch.nonzero(~typed).flatten()
        if len(rest) == 0:
            return
        c = self.config
        some = {k: v[rest] for k, v in conditions.items()}
        size = draw_size(self.model, some, self.chemistry, self.seed, stream[rest], c.guidance, c.temperature)
        for part in similar_sizes(size, c.batch_tokens):
            rows = rest[part]
            given = {k: v[rows] for k, v in conditions.items()}
            made = decode(self.model, given, self.chemistry, self.seed, stream[rows], size[part], c.guidance, c.temperature)
            yield rows, self._redecorated(made, stream[rows]), None

    def _redecorated(self, made: Decoded, stream: Tensor) -> Decoded:
        """Elements drawn again one role at a time, so that they go together; as made where that is not known or not free."""
        c = self.config
        partners = load_structure_types(c.types).partners(c.partner_weight) if c.types else None
        if partners is None or self.chemistry.prescribed or made.of_species is None:
            return made
        role = roles_of(made.batch.species, made.batch.mask)
        empty = made.batch.with_(species=torch.zeros_like(made.batch.species) + MASKED_SPECIES)
        prior = torch.zeros(len(role), int(role.max()) + 1, MAX_SPECIES + 1, device=role.device)
        batch, nll, alive = decorate(
            self.model, empty, role, self.chemistry, self.seed, stream, prior, c.guidance, c.temperature, partners
        )
        surprisal = made.surprisal - made.of_species + nll / made.batch.mask.sum(1)
        return Decoded(batch, surprisal, made.complete & alive)

    def _typed(
        self, source: StructureTypes, proposal: Proposal, typed: Tensor, conditions: dict[str, Tensor], stream: Tensor
    ) -> Iterator[tuple[Tensor, Decoded, Start | None]]:
        c, lib = self.config, source.library
        size = torch.from_numpy(lib.start[1:] - lib.start[:-1])[proposal.types[typed.cpu()]]
        for part in similar_sizes(size, c.batch_tokens):
            rows = typed[part]
            given = {k: v[rows] for k, v in conditions.items()}
            mine = proposal.rows(rows.cpu())
            batch, role = source.batch(mine, {})
            batch, role = batch.to(rows.device).with_(conditions=given), role.to(rows.device)
            surprisal, complete = mine.surprisal.to(rows.device), torch.ones_like(rows, dtype=torch.bool)
            if not self.chemistry.prescribed:
                prior = c.role_prior * source.role_prior(mine.types, int(role.max()) + 1).to(rows.device)
                batch, extra, complete = decorate(
                    self.model, batch, role, self.chemistry, self.seed, stream[rows], prior, c.guidance, c.temperature,
                    source.partners(c.partner_weight),
                )  # fmt: skip
                surprisal = surprisal + extra
            per_orbit = surprisal / batch.mask.sum(1)
            yield rows, Decoded(batch, per_orbit, complete), _start_of(self.model, batch, c)


def _start_of(model: CrystalModel, batch: OrbitBatch, config: SamplerConfig) -> Start:
    """The type's mean coordinates and cell, from where the sampler refines."""
    b = len(batch)
    cell = batch.cell.clone()
    cell[:, -1] += model.atoms(batch).float().log() / 3.0
    times = [model.coordinate_noise.time_of(config.start_sigma), config.start_cell_time]
    return Start(batch.free, cell, *(torch.full((b,), t, device=batch.device) for t in times))


def similar_sizes(size: Int64[Tensor, " b"], batch_tokens: int) -> Iterator[Int64[Tensor, " r"]]:
    """Rows of crystals of ``size`` orbits in batches of similar size, so that little is padded."""
    order = size.argsort(stable=True)
    low = 0
    while low < len(order):
        high = low + 1
        while high < len(order) and (high + 1 - low) * (int(size[order[high]]) + 1) <= batch_tokens:
            high += 1
        yield order[low:high]
        low = high


def condition_tensors(
    model: CrystalModel, asked_for: Mapping[str, Interval | str | frozenset[str]], chemistry: HardChemistry, index: Tensor
) -> dict[str, Tensor]:
    """The asked conditions of each crystal; everything else is null."""
    n = len(index)
    conditions = {name: encode(spec, [asked_for.get(name)] * n) for name, spec in model.specs.items()}
    asked = [chemistry.composition_of(i) if chemistry.prescribed else None for i in index.tolist()]
    conditions[COMPOSITION] = encode_composition(asked)
    return {k: v.to(index.device) for k, v in conditions.items()}


def _enough_atoms(model: CrystalModel, batch: OrbitBatch, chemistry: HardChemistry) -> Tensor:
    if chemistry.n_atoms is None:
        return torch.ones(len(batch), dtype=torch.bool, device=batch.device)

    centring = torch.tensor(wyckoff_table().centring, device=batch.device)[batch.group]
    atoms = model.atoms(batch) // centring
    return (atoms >= chemistry.n_atoms[0]) & (atoms <= chemistry.n_atoms[1])


def _prefix(sha256: str, request: Request, config: SamplerConfig, seed: int) -> str:
    """Eight characters that tell runs apart."""
    settings = {"name": config.name, "steps": config.steps, "churn": config.churn, "t": config.temperature}
    settings |= {"w": config.guidance, "wc": config.guidance_continuous, "types": config.types, "share": config.typed_share}
    settings |= {
        "tt": config.type_temperature,
        "prior": config.role_prior,
        "partners": config.partner_weight,
        "start": [config.start_sigma, config.start_cell_time, config.refine_steps],
    }
    text = json.dumps([sha256, request.to_dict(), settings, seed], sort_keys=True)
    return "c" + hashlib.sha256(text.encode()).hexdigest()[:7]
