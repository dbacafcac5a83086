"""``sse evaluate task=dng``: crystals from nothing. Sample n without conditions, then score them as anybody's crystals.

``sse evaluate task=dng checkpoint=NAME n=2000 out=DIR`` needs no other argument: the reference is the table of
``configs/data/mp.yaml`` where it exists (novelty against its train rows, coverage and distributions against all rows). Without it
novelty is judged by the index that ships with the checkpoint, and the other comparisons are missing with the reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sse_diffusion.core.checkpoint import checkpoint_dir
from sse_diffusion.core.config import build, config_dir, plain
from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.threads import set_threads
from sse_diffusion.data.tables import find_table
from sse_diffusion.design.evaluation.crystals import Given, checked_measures, protocols, score_crystals, write_rows
from sse_diffusion.design.evaluation.csp import crystal_of
from sse_diffusion.design.evaluation.reference import Reference, read_reference
from sse_diffusion.design.evaluation.shots import Shots
from sse_diffusion.design.evaluation.workers import worker_count
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.verification.metrics.match import in_parallel
from sse_diffusion.verification.metrics.rates import Metric
from sse_diffusion.verification.metrics.record import write_metrics
from sse_diffusion.verification.novelty import KnownIndex

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pymatgen.core import Structure

log = logging.getLogger(__name__)

CRYSTALS = "crystals.extxyz"
KNOWN_INDEX = "known.npy"
STEPS: tuple[tuple[str, ...], ...] = (("validity",), ("uniqueness", "stable"), ("coverage",), ("distributions",))
"""Measures that are computed together; each step's time is reported."""


@dataclass(frozen=True)
class Comparison:
    """What the samples are compared with.

    Attributes:
        novelty: crystals that a novel sample differs from; None: the index, if there is one.
        distribution: crystals whose distribution the samples should have; None: not compared.
        known: (formula, space group) index of the checkpoint.
        facts: names, counts and hashes for the record.
    """

    novelty: Reference | None
    distribution: Reference | None
    known: KnownIndex | None
    facts: dict[str, Any]


def evaluate_dng(config: DictConfig) -> None:
    """Sample, score, write ``metrics.json``, ``metrics.md``, ``crystals.extxyz``, ``crystals.csv`` (``proposals/`` for resuming).

    Raises:
        ConfigError: n < 1, an unknown measure or condition, or ``out`` holds crystals of other settings.
        CheckpointError: no such model. ChemistryError: the asked chemistry cannot be met.
    """
    if int(config.n) < 1 or int(config.batch) < 1:
        raise ConfigError(f"n={config.n}, batch={config.batch}: both must be at least 1")
    measures, workers = checked_measures(config.measures), worker_count(config.workers)
    out = Path(str(config.out)).expanduser()
    compared = comparison(config)
    structures, facts = sample_structures(config, out, workers)
    given = Given([f"dng-{i:05d}" for i in range(len(structures))], structures, {})
    write_crystals(given, out)
    write_rows(given, out)
    metrics, seconds = _score(config, structures, compared, measures, workers, out)
    counts = {"task": "dng", "n": len(structures), "n_not_sampled": sum(s is None for s in structures)}
    settings = {"seed": int(config.seed), "workers": workers, "settings": plain(config)}
    write_metrics(
        out,
        metrics,
        _protocols(config, measures, workers, compared),
        {**counts, **facts, **seconds, **compared.facts, **settings},
    )
    log.info("%s/metrics.md holds the table", out)


def sample_structures(config: DictConfig, out: Path, workers: int) -> tuple[list[Structure | None], dict[str, Any]]:
    """n crystals of the checkpoint, and the facts about the sampling; finished blocks of an earlier run are used again.

    Crystal i depends on checkpoint, sampler, conditions, seed and i only.
    """
    import torch

    from sse_diffusion.diffusion.generate import sample_batch
    from sse_diffusion.diffusion.model import load_model
    from sse_diffusion.thermo.request import parse_request

    set_threads(config.threads)
    n, seed, sampler = int(config.n), int(config.seed), build(SamplerConfig, config.sampler)
    model, checkpoint = load_model(str(config.checkpoint), str(config.device))
    request = parse_request(config.get("ask") or {}, model.specs)
    kept = {k: v for k, v in asdict(sampler).items() if k != "batch_tokens"}  # results do not depend on it
    identity = {"checkpoint_sha256": checkpoint.sha256, "sampler": kept, "seed": seed, "asked": request.to_dict()}
    shots = Shots(out / "proposals", identity)
    missing = [i for i in range(n) if (i, 0) not in shots.crystals]
    with tqdm(total=n, initial=n - len(missing), desc="sampling", unit="crystal", disable=not missing) as bar:
        for at in range(0, len(missing), int(config.batch)):
            block = missing[at : at + int(config.batch)]
            started = time.perf_counter()
            index = torch.tensor(block, device=model.first_position.device)
            crystals, _ = sample_batch(model, request, index, seed, sampler, bar.update)
            shots.add({(i, 0): crystal for i, crystal in zip(block, crystals, strict=True)}, time.perf_counter() - started)
    structures = in_parallel(crystal_of, [shots.crystals[(i, 0)] for i in range(n)], workers, "crystals")
    seconds = shots.seconds * n / len(shots.crystals)  # the folder may hold the crystals of a larger n
    speed = {"seconds": round(seconds, 3), "crystals_per_min": round(60 * n / max(seconds, 1e-9), 2), "nfe": sampler.evaluations}
    return structures, {**speed, "checkpoint": str(config.checkpoint), "device": str(config.device), **identity}


def comparison(config: DictConfig) -> Comparison:
    """The reference that was given, or the training table where it is found, or the index of the checkpoint."""
    asked = plain(config.reference)
    known = _known_index(str(config.checkpoint))
    if asked.get("path") is not None:
        given = read_reference(asked)
        return Comparison(given, given, known, _reference_facts(given, given))
    whole = _training_table(asked)
    if whole is not None:
        positions = [k for k, row in enumerate(whole.rows) if row.split == "train"]
        train = _subset(whole, positions) if positions else whole
        return Comparison(train, whole, known, _reference_facts(train, whole))
    log.warning("no reference table was found: coverage and distributions are missing; give reference.path=FILE for them")
    facts = {"reference": None, "n_known": None if known is None else len(known)}
    return Comparison(None, None, known, facts)


def write_crystals(given: Given, out: Path) -> None:
    """``crystals.extxyz``: every crystal that could be made, under its id."""
    from ase.io import write
    from pymatgen.io.ase import AseAtomsAdaptor

    from sse_diffusion.core.atomic_files import replacing

    frames = []
    for name, structure in zip(given.ids, given.structures, strict=True):
        if structure is not None:
            atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
            atoms.info = {"id": name, "formula": structure.composition.reduced_formula}
            frames.append(atoms)
    with replacing(out / CRYSTALS) as path:
        write(path, frames, format="extxyz")


def _score(
    config: DictConfig,
    structures: Sequence[Structure | None],
    compared: Comparison,
    measures: Sequence[str],
    workers: int,
    out: Path,
) -> tuple[dict[str, Metric], dict[str, float]]:
    """All asked numbers, and the wall time of each step."""
    metrics: dict[str, Metric] = {}
    seconds: dict[str, float] = {}
    for step in STEPS:
        names = [name for name in step if name in measures]
        if not names:
            continue
        reference = compared.novelty if "uniqueness" in step else compared.distribution
        started = time.perf_counter()
        metrics |= score_crystals(
            structures,
            reference,
            known=compared.known,
            measures=names,
            workers=workers,
            seed=int(config.seed),
            config=config,
            out=out,
        )
        seconds[f"seconds_{'_'.join(names)}"] = round(time.perf_counter() - started, 3)
        log.info("%s: %.1f s", " and ".join(names), seconds[f"seconds_{'_'.join(names)}"])
    return metrics, seconds


def _protocols(config: DictConfig, measures: Sequence[str], workers: int, compared: Comparison) -> dict[str, str]:
    """The texts of the scores, with what the samples were compared with here."""
    texts = protocols(config, measures, workers)
    if compared.novelty is not None:
        against = f"against {len(compared.novelty)} crystals of {compared.novelty.source}"
    else:
        against = "against the (formula, space group) index of the checkpoint" if compared.known else "nothing to compare with"
    return {k: f"{v}; {against}" if k in ("novelty", "unique_novel") else v for k, v in texts.items()}


def default_table() -> str:
    """Path of the table that checkpoints are trained on, as ``configs/data/mp.yaml`` has it."""
    from omegaconf import OmegaConf

    return str(OmegaConf.load(config_dir() / "data" / "mp.yaml").path)


def _training_table(asked: Mapping[str, Any]) -> Reference | None:
    """All wanted rows of the default data table; None when that file is not on this machine."""
    path = default_table()
    try:
        find_table(path)
    except DataError as error:
        log.info("%s", error.message)
        return None
    return read_reference({**asked, "path": path})


def _subset(reference: Reference, positions: Sequence[int]) -> Reference:
    """Some rows of a reference."""
    rows, numbers = [reference.rows[k] for k in positions], [reference.positions[k] for k in positions]
    return replace(reference, rows=rows, positions=numbers)


def _reference_facts(novelty: Reference | None, distribution: Reference | None) -> dict[str, Any]:
    if novelty is None or distribution is None:
        return {}
    return {
        "reference": novelty.source,
        "reference_sha256": novelty.sha256,
        "n_reference_novelty": len(novelty),
        "n_reference": len(distribution),
    }


def _known_index(checkpoint: str) -> KnownIndex | None:
    """The index that ships with the checkpoint, if any."""
    path = checkpoint_dir(checkpoint) / KNOWN_INDEX
    return KnownIndex(path) if path.is_file() else None
