"""From a request to crystals: decode the discrete part, sample the continuous part, redraw dead ends, name the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from tqdm import tqdm

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.errors import ChemistryError, ConfigError
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.condition_tensors import COMPOSITION, encode, encode_composition
from sse_diffusion.diffusion.decode import decode, draw_size
from sse_diffusion.diffusion.hard_chemistry import ATTEMPT_STRIDE, HardChemistry
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.diffusion.samplers import SamplerConfig, sampler
from sse_diffusion.thermo.request import Request


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
    chemistry = HardChemistry.from_chemistry(request.chemistry)
    crystals: dict[int, Orbits] = {}
    surprisal: dict[int, float] = {}
    left = index
    for attempt in range(config.max_rounds):
        stream = left + attempt * ATTEMPT_STRIDE
        conditions = condition_tensors(model, request, chemistry, stream)
        size = draw_size(model, conditions, chemistry, seed, stream, config.guidance, config.temperature)
        missing = []
        for rows in _similar_sizes(size, config.batch_tokens):
            done, batch, nll = _sample_rows(
                model, {k: v[rows] for k, v in conditions.items()}, chemistry, seed, stream[rows], size[rows], config
            )
            for i, crystal, s in zip(left[rows][done].tolist(), batch, nll.tolist(), strict=True):
                crystals[i], surprisal[i] = crystal, s
            missing.append(left[rows][~done])
            on_done(len(batch))
        left = torch.cat(missing).sort().values
        if len(left) == 0:
            order = index.tolist()
            return [crystals[i] for i in order], torch.tensor([surprisal[i] for i in order])
    raise ChemistryError(
        f"{len(left)} of {len(index)} crystals could not meet the constraints in {config.max_rounds} rounds",
        "widen n_atoms, z or space_group, or raise sampler.max_rounds",
    )


def _sample_rows(
    model: CrystalModel,
    conditions: dict[str, Tensor],
    chemistry: HardChemistry,
    seed: int,
    stream: Tensor,
    size: Tensor,
    config: SamplerConfig,
) -> tuple[Bool[Tensor, " b"], list[Orbits], Tensor]:
    """One padded batch: which rows came out complete, and their crystals and surprisal."""
    decoded = decode(model, conditions, chemistry, seed, stream, size, config.guidance, config.temperature)
    good = decoded.complete & _enough_atoms(model, decoded.batch, chemistry)
    if not good.any():
        return good, [], decoded.surprisal[good]
    filled = sampler(config.name)(model, decoded.batch.select(good), config, seed, stream[good])
    return good, filled.to_orbits(), decoded.surprisal[good]


def _similar_sizes(size: Int64[Tensor, " b"], batch_tokens: int) -> Iterator[Int64[Tensor, " r"]]:
    """Rows in batches of similar size, so that little is padded."""
    order = size.argsort(stable=True)
    low = 0
    while low < len(order):
        high = low + 1
        while high < len(order) and (high + 1 - low) * (int(size[order[high]]) + 1) <= batch_tokens:
            high += 1
        yield order[low:high]
        low = high


def condition_tensors(model: CrystalModel, request: Request, chemistry: HardChemistry, index: Tensor) -> dict[str, Tensor]:
    """The asked conditions of each crystal; everything else is null."""
    n = len(index)
    conditions = {name: encode(spec, [request.conditions.get(name)] * n) for name, spec in model.specs.items()}
    asked = [chemistry.composition_of(i) if chemistry.compositions else None for i in index.tolist()]
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
    settings |= {"w": config.guidance, "wc": config.guidance_continuous}
    text = json.dumps([sha256, request.to_dict(), settings, seed], sort_keys=True)
    return "c" + hashlib.sha256(text.encode()).hexdigest()[:7]
