"""From a request to crystals: decode the discrete part, sample the continuous part, redraw dead ends, name the results."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from sse_diffusion.diffusion.guides.choose import choose_guides
from sse_diffusion.diffusion.guides.guide import Asked, Guide
from sse_diffusion.diffusion.guides.particles import Made, Swarm
from sse_diffusion.diffusion.hard_chemistry import ATTEMPT_STRIDE, HardChemistry, has_enough_atoms
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.diffusion.samplers import SamplerConfig, Start, sampler
from sse_diffusion.diffusion.structure_types.decorate import decorate, roles_of
from sse_diffusion.diffusion.structure_types.proposer import Proposal, StructureTypes, load_structure_types
from sse_diffusion.predictors.registry import judges_of
from sse_diffusion.thermo.conditions import load_judged_specs
from sse_diffusion.thermo.request import Request

log = logging.getLogger(__name__)

AT_ONCE = 512
"""Particles that are on their way together: enough to fill batches, few enough for memory and for a bar that moves."""


def sample_candidates(
    checkpoint: str | Path, request: Request, n: int, seed: int = 0, config: SamplerConfig | None = None, progress: bool = True,
    guides: Sequence[Guide] = (),
) -> list[Candidate]:  # fmt: skip
    """Sample crystals for a request with a stored model.

    Args:
        checkpoint: shipped name or folder.
        request: conditions and constraints.
        n: crystals.
        seed: of all random numbers.
        config: sampler settings.
        progress: show a progress bar.
        guides: beside those of ``config``.

    Returns:
        ``n`` candidates, or fewer (a warning says how many) when some could not be completed within ``config.max_rounds``. Their
        ids depend on checkpoint, request, settings, seed and number only (of ``guides`` they know the classes); with particles,
        ``info["ess"]`` is the effective sample size that the crystal was chosen at.

    Raises:
        CheckpointError, ConfigError, ChemistryError: with what to do; the last one when no crystal at all could be completed.
    """
    config = config or SamplerConfig()
    model, stored = load_model(checkpoint)
    unknown = set(request.conditions) - set(model.specs) - set(load_judged_specs())
    if unknown:
        raise ConfigError(f"this checkpoint does not know {', '.join(sorted(unknown))}", f"it knows: {', '.join(model.specs)}")
    prefix = _prefix(stored.sha256, request, config, seed, guides)
    index = torch.arange(n, device=model.first_position.device)
    with tqdm(total=n, desc="sampling", unit="crystal", disable=not progress) as bar:
        made = _sampled(model, request, index, seed, config, bar.update, guides)
    candidates = []
    if len(made) < n:
        incomplete = _incomplete(n - len(made), n, config)
        if not made:
            raise incomplete
        log.warning("%s; the others are returned", incomplete.message)
    for i, (crystal, s, ess) in sorted(made.items()):
        info: dict[str, Any] = {
            "proposer": "diffusion",
            "seed": seed,
            "index": i,
            "checkpoint_sha256": stored.sha256,
            "n_orbits": len(crystal.species),
        }
        if ess is not None:
            info |= {"particles": config.particles, "ess": round(ess, 3)}
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
    guides: Sequence[Guide] = (),
) -> tuple[list[Orbits], Float[Tensor, " b"]]:
    """Crystals number ``index``; those that a constraint left incomplete are drawn again from their next stream.

    Args:
        model: trained model.
        request: conditions and constraints.
        index: numbers of the crystals; crystal i depends on (seed, i) only, not on the others.
        seed: of all random numbers.
        config: sampler settings.
        on_done: told how many crystals were just finished.
        guides: beside those of ``config``.

    Returns:
        the crystals and their surprisals, see :class:`~sse_diffusion.diffusion.guides.particles.Made`.

    Raises:
        ChemistryError: some crystals could not be completed within ``config.max_rounds``.
        ConfigError: guidance that the model has no means for.
    """
    made = _sampled(model, request, index, seed, config, on_done, guides)
    if len(made) < len(index):
        raise _incomplete(len(index) - len(made), len(index), config)
    in_order = [made[i] for i in index.tolist()]
    return [m.crystal for m in in_order], torch.tensor([m.surprisal for m in in_order])


@torch.no_grad()
def _sampled(
    model: CrystalModel, request: Request, index: Tensor, seed: int, config: SamplerConfig,
    on_done: Callable[[int], object], guides: Sequence[Guide],
) -> dict[int, Made]:  # fmt: skip
    chosen = choose_guides(model, request.conditions, config, guides, (request.temperature_K, request.pressure_GPa))
    task = Task(model, request.conditions, HardChemistry.from_chemistry(request.chemistry), seed, config, guides=chosen)
    crystals = task.run(index, on_done)
    if config.particles > 1 and crystals:
        sizes = [made.ess or 0.0 for made in crystals.values()]
        log.info(
            "effective sample size of %d particles: mean %.2f, least %.2f", config.particles, sum(sizes) / len(sizes), min(sizes)
        )
    return crystals


def _incomplete(missing: int, n: int, config: SamplerConfig) -> ChemistryError:
    return ChemistryError(
        f"{missing} of {n} crystals could not meet the constraints in {config.max_rounds} rounds",
        "widen n_atoms, z or space_group, or raise sampler.max_rounds",
    )


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
    guides = choose_guides(model, {}, config)
    found = Task(model, {}, HardChemistry.for_compositions(wanted), seed, config, ranks, guides).run(index, on_done)
    return [found[i].crystal if i in found else None for i in index.tolist()]


@dataclass(frozen=True)
class Task:
    """One request on its way to crystals: structure types, decoding, continuous fields, redrawing of dead ends."""

    model: CrystalModel
    conditions: Asked
    chemistry: HardChemistry
    seed: int
    config: SamplerConfig
    ranks: Mapping[int, int] | None = None
    guides: Sequence[Guide] = ()

    def run(self, index: Int64[Tensor, " b"], on_done: Callable[[int], object]) -> dict[int, Made]:
        """The crystals that could be completed, by number."""
        crystals: dict[int, Made] = {}
        left = index
        for attempt in range(self.config.max_rounds):
            stream = left + attempt * ATTEMPT_STRIDE
            made = (self._alone if self.config.particles == 1 else self._in_company)(stream, attempt, on_done)
            made = {row: one for row, one in made.items() if has_enough_atoms(one.crystal, self.chemistry.n_atoms)}
            crystals |= {int(left[row]): one for row, one in made.items()}
            left = left[[row for row in range(len(left)) if row not in made]].sort().values
            if len(left) == 0:
                break
        return crystals

    def _alone(self, stream: Int64[Tensor, " b"], attempt: int, on_done: Callable[[int], object]) -> dict[int, Made]:
        """One attempt at every crystal; those without a dead end, by row."""
        made: dict[int, Made] = {}
        for rows, decoded, start in self._decode(stream, attempt):
            good = self._usable(decoded)
            if good.any():
                kept, rows = decoded.select(good), rows[good]
                filled = self._fill(kept, None if start is None else start.select(good), stream[rows])
                made |= dict(zip(rows.tolist(), map(Made, filled.to_orbits(), kept.surprisal.tolist()), strict=True))
            on_done(int(good.sum()))
        return made

    def _in_company(self, stream: Int64[Tensor, " b"], attempt: int, on_done: Callable[[int], object]) -> dict[int, Made]:
        """The same with K particles for each crystal, one of which is kept by its weight."""
        made: dict[int, Made] = {}
        for rows in torch.arange(len(stream), device=stream.device).split(max(1, AT_ONCE // self.config.particles)):
            swarm = Swarm(stream[rows], self.config.particles, self.seed, self.guides)
            for places, decoded, start in self._decode(swarm.streams, attempt):
                swarm.add(places, decoded, start, self._usable(decoded))
            for places, decoded, start in swarm.survivors():
                swarm.finish(places, self._fill(decoded, start, swarm.streams[places]), decoded.surprisal)
            kept = swarm.crystals()
            made |= {int(rows[row]): one for row, one in kept.items()}
            on_done(len(kept))
        return made

    def _usable(self, decoded: Decoded) -> Tensor:
        return decoded.complete & _enough_atoms(self.model, decoded.batch, self.chemistry)

    def _fill(self, decoded: Decoded, start: Start | None, stream: Tensor) -> OrbitBatch:
        """Coordinates and cell."""
        config = self.config if start is None else replace(self.config, steps=self.config.refine_steps)
        steering = {"guides": self.guides} if any("continuous" in guide.stages for guide in self.guides) else {}
        return sampler(config.name)(self.model, decoded.batch, config, self.seed, stream, start, **steering)

    def _decode(self, stream: Tensor, attempt: int) -> Iterator[tuple[Tensor, Decoded, Start | None]]:
        """Batches of rows with their discrete part: those with a structure type, then the others."""
        conditions = condition_tensors(self.model, self.conditions, self.chemistry, stream)
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


def condition_tensors(model: CrystalModel, asked_for: Asked, chemistry: HardChemistry, index: Tensor) -> dict[str, Tensor]:
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


def _prefix(sha256: str, request: Request, config: SamplerConfig, seed: int, guides: Sequence[Guide] = ()) -> str:
    """Eight characters that tell runs apart."""
    settings: dict[str, Any] = {"name": config.name, "steps": config.steps, "churn": config.churn, "t": config.temperature}
    settings |= {"w": config.guidance, "wc": config.guidance_continuous, "types": config.types, "share": config.typed_share}
    settings |= {
        "tt": config.type_temperature,
        "prior": config.role_prior,
        "partners": config.partner_weight,
        "start": [config.start_sigma, config.start_cell_time, config.refine_steps],
    }
    if config.particles > 1 or config.gradient_strength or config.guides or guides:
        settings["guides"] = [*config.guides, *(type(guide).__qualname__ for guide in guides)]
        settings["particles"] = [config.particles, config.particle_strength, config.finish_particles]
        settings["heights"] = [config.phases, *config.height_judges]
        settings["gradient"] = [config.gradient_strength, config.gradient_clip]
    if judges := judges_of(request.conditions):
        settings["judges"] = judges
        if "head" in config.conductivity_judges or config.gradient_strength:
            settings["conductivity"] = [*config.conductivity_judges, config.conductivity_head]
    text = json.dumps([sha256, request.to_dict(), settings, seed], sort_keys=True)
    return "c" + hashlib.sha256(text.encode()).hexdigest()[:7]
