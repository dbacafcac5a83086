"""``sse evaluate task=csp``: structure prediction. The composition of the primitive cell is given, everything else is proposed.

Definitions as in DiffCSP (Jiao et al., NeurIPS 2023), FlowMM and OMatG: match rate over all n rows, RMSE over the matched ones,
with k shots the best of k; see docs/evaluation.md.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import ConfigError, SSEError
from sse_diffusion.core.orbit_batch import MAX_SPECIES
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.symmetry import find_symmetry
from sse_diffusion.core.threads import set_threads
from sse_diffusion.design.evaluation.csp_scores import PROTOCOL, Proposals, floor_metrics, proposal_metrics, write_proposals
from sse_diffusion.design.evaluation.reference import Reference, read_reference
from sse_diffusion.design.evaluation.shots import Key, Shots
from sse_diffusion.design.evaluation.workers import worker_count
from sse_diffusion.diffusion.generate import predict_structures
from sse_diffusion.diffusion.hard_chemistry import ATTEMPT_STRIDE
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.verification.metrics.match import in_parallel
from sse_diffusion.verification.metrics.record import write_metrics
from sse_diffusion.verification.structure_files import read_structures

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pymatgen.core import Structure
    from torch import Tensor

    from sse_diffusion.diffusion.model import CrystalModel

log = logging.getLogger(__name__)

SYMMETRY_TOLERANCE_A = 0.1
"""moyo's tolerance for the primitive cell whose composition is given, the one the training crystals are parsed with."""


@dataclass(frozen=True)
class _Asked:
    """The options of this task, checked."""

    out: Path
    k: int
    seed: int
    batch: int
    workers: int
    sampler: SamplerConfig


def evaluate_csp(config: DictConfig) -> None:
    """Propose ``k`` crystals for the composition of every reference row, match them, write ``metrics.json``.

    Written: ``metrics.json``, ``metrics.md``, ``rows.csv`` (each row's result), ``proposals.extxyz``, and ``proposals/`` from
    which an interrupted run goes on.
    With ``input`` the proposals are read from a file or folder instead of sampled.

    Raises:
        ConfigError: no reference, k < 1, or ``out`` holds proposals of other settings.
        DataError: unreadable reference or input. CheckpointError: no such model.
    """
    asked = _checked(config)
    reference = read_reference(config.reference)
    if reference is None:
        raise ConfigError("task=csp needs a reference", "give the table whose crystals are to be predicted: reference.path=FILE")
    chosen = reference.draw(config.limit)
    log.info("%d crystals of %s to predict, %d shot(s) each", len(chosen), chosen.source, asked.k)
    compositions = in_parallel(primitive_composition, chosen.structures, asked.workers, "primitive cells")
    n_atoms = np.array([sum(c.values()) for c in compositions])
    if config.input:
        made = _given(str(config.input), chosen, asked.k)
        extra: dict[str, Any] = {"seconds": None, "input": str(config.input)}
    else:
        made, extra = _sampled(config, asked, chosen, compositions)
    started = time.perf_counter()
    proposals = Proposals.judge(chosen, n_atoms, made, asked.workers)
    extra |= {"seconds_matching": round(time.perf_counter() - started, 3)}
    metrics = proposal_metrics(proposals)
    if config.floors:
        metrics |= floor_metrics(chosen, n_atoms, asked.k, asked.seed, asked.workers)
    write_proposals(proposals, asked.out)
    counts = {
        "task": "csp",
        "n": len(chosen),
        "k": asked.k,
        "n_rejected": len(chosen.rejected),
        "n_not_sampled": proposals.n_missing,
    }
    facts = {"reference": chosen.source, "reference_sha256": chosen.sha256, "seed": asked.seed, "workers": asked.workers}
    write_metrics(asked.out, metrics, PROTOCOL, {**counts, **extra, **facts, "settings": plain(config)})


def _checked(config: DictConfig) -> _Asked:
    if int(config.k) < 1 or int(config.batch) < 1:
        raise ConfigError(f"k={config.k}, batch={config.batch}: both must be at least 1", "k is the number of shots per crystal")
    if config.limit is not None and int(config.limit) < 1:
        raise ConfigError(f"limit={config.limit} leaves nothing to do", "give limit=null for all rows")
    return _Asked(
        Path(str(config.out)).expanduser(),
        int(config.k),
        int(config.seed),
        int(config.batch),
        worker_count(config.workers),
        build(SamplerConfig, config.sampler),
    )


def primitive_composition(structure: Structure) -> dict[int, int]:
    """Atomic number -> atoms in the primitive cell (moyo, 0.1 A); of the cell as given where no symmetry is found."""
    return dict(Counter(find_symmetry(structure, SYMMETRY_TOLERANCE_A).primitive_numbers))


def _sampled(
    config: DictConfig, asked: _Asked, reference: Reference, compositions: Sequence[dict[int, int]]
) -> tuple[list[list[Structure | None]], dict[str, Any]]:
    """k proposals per row by the checkpoint, and the facts about the sampling."""
    from sse_diffusion.diffusion.model import load_model

    set_threads(config.threads)
    model, checkpoint = load_model(str(config.checkpoint), str(config.device))
    sampler = {k: v for k, v in asdict(asked.sampler).items() if k != "batch_tokens"}  # results do not depend on it
    identity = {"checkpoint_sha256": checkpoint.sha256, "sampler": sampler, "seed": asked.seed}
    shots = Shots(asked.out / "proposals", identity | {"reference_sha256": reference.sha256})
    _sample_missing(model, asked, reference, compositions, shots)
    keys = [(row, shot) for row in reference.positions for shot in range(asked.k)]
    flat = in_parallel(crystal_of, [shots.crystals[key] for key in keys], asked.workers, "crystals")
    made = [flat[i : i + asked.k] for i in range(0, len(flat), asked.k)]
    share = len(keys) / len(shots.crystals)  # below 1 where the folder holds the proposals of a larger limit or k
    seconds = shots.seconds * share
    extra = {
        "seconds": round(seconds, 3),
        "seconds_cpu": shots.cpu_seconds * share,
        "crystals_per_min": round(60 * len(keys) / max(seconds, 1e-9), 2),
    }
    return made, extra | {"nfe": asked.sampler.evaluations, "checkpoint": str(config.checkpoint), **identity}


def _sample_missing(
    model: CrystalModel, asked: _Asked, reference: Reference, compositions: Sequence[dict[int, int]], shots: Shots
) -> None:
    """Sample what the folder lacks, block by block; crystal (row, shot) is the same whatever the limit, k or batch.

    Raises:
        ConfigError: more crystals than the random numbers keep apart.
    """
    import torch

    if asked.k * reference.n_table >= ATTEMPT_STRIDE:
        raise ConfigError(
            f"{reference.n_table} rows x {asked.k} shots is too many", f"stay below {ATTEMPT_STRIDE} with a smaller k"
        )
    wanted: dict[Key, dict[int, int]] = {
        (row, shot): composition
        for row, composition in zip(reference.positions, compositions, strict=True)
        for shot in range(asked.k)
        if (row, shot) not in shots.crystals
    }
    keys = list(wanted)
    device = model.first_position.device
    with tqdm(total=len(keys), desc="sampling", unit="crystal", disable=not keys) as bar:
        for at in range(0, len(keys), asked.batch):
            block = keys[at : at + asked.batch]
            index = torch.tensor([row + shot * reference.n_table for row, shot in block], device=device)
            started, cpu = time.perf_counter(), time.process_time()
            rank = torch.tensor([shot for _, shot in block], device=device)
            made = propose(model, [wanted[key] for key in block], asked.seed, index, asked.sampler, bar.update, rank)
            shots.add(dict(zip(block, made, strict=True)), time.perf_counter() - started, time.process_time() - cpu)
            bar.n = at + len(block)  # crystals that could not be sampled are done, too
            bar.refresh()


def propose(
    model: CrystalModel,
    compositions: Sequence[Mapping[int, int]],
    seed: int,
    index: Tensor,
    config: SamplerConfig,
    on_done: Callable[[int], object] = lambda n: None,
    rank: Tensor | None = None,
) -> list[Orbits | None]:
    """:func:`predict_structures` that never fails: a composition that the model does not know or chokes on gives ``None``."""
    import torch

    if not compositions:
        return []
    known = [i for i, composition in enumerate(compositions) if max(composition) <= MAX_SPECIES]
    made: list[Orbits | None] = [None] * len(compositions)
    try:
        kept = torch.tensor(known, dtype=torch.long, device=index.device)
        ranks = None if rank is None else rank[kept]
        asked = [compositions[i] for i in known]
        found = predict_structures(model, asked, seed, index[kept], config, on_done, ranks) if known else []
    except (SSEError, ValueError, RuntimeError, IndexError) as error:
        if len(compositions) == 1:
            log.warning("%s could not be sampled: %s", dict(compositions[0]), error)
            return [None]
        half = len(compositions) // 2  # the culprit is found by halving; the others are sampled all the same
        halves = (slice(None, half), slice(half, None))
        return [
            crystal
            for some in halves
            for crystal in propose(
                model, compositions[some], seed, index[some], config, on_done, None if rank is None else rank[some]
            )
        ]
    for i, crystal in zip(known, found, strict=True):
        made[i] = crystal
    return made


def crystal_of(orbits: Orbits | None) -> Structure | None:
    """The primitive cell; ``None`` when the numbers make no crystal."""
    try:
        return None if orbits is None else orbits.to_structure()
    except (ValueError, ArithmeticError, RuntimeError) as error:  # RuntimeError: torch finds no Cholesky factor
        log.debug("a proposal is no crystal: %s", error)
        return None


def _given(source: str, reference: Reference, k: int) -> list[list[Structure | None]]:
    """Somebody else's proposals: the id (file name, or ``id`` of a frame) is that of the row, with ``-0``, ``-1`` ... for shots.

    Raises:
        ConfigError: no id is that of a row.
    """
    # names of files and frames are read with odd characters replaced; ids of rows must be, too
    rows: dict[str, list[Structure | None]] = {re.sub(r"[^A-Za-z0-9._-]+", "-", row.id): [] for row in reference.rows}
    for candidate in read_structures(source).candidates:
        name, dash, shot = candidate.id.rpartition("-")
        owner = candidate.id if candidate.id in rows else name if dash and shot.isdigit() else ""
        if owner in rows:
            rows[owner].append(candidate.structure)
    if not any(rows.values()):
        raise ConfigError(f"no crystal of {source} carries the id of a reference row", f"ids look like {next(iter(rows))!r}")
    return [(found + [None] * k)[:k] for found in rows.values()]
