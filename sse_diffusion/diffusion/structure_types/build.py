"""From a table of crystals to structure types: sort, average, train the scorer, measure it on held-out formulas."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import DataError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.provenance import git_commit, package_versions
from sse_diffusion.core.threads import set_threads
from sse_diffusion.data.splits import reduced_formula
from sse_diffusion.diffusion.structure_types.chemistry import ChemistryConfig, RoleChemistry, fit_chemistry, nll_of_hidden
from sse_diffusion.diffusion.structure_types.fit import FitConfig, Lesson, answers, count_role_elements, fit_scorer, lessons, nll
from sse_diffusion.diffusion.structure_types.grouping import Kind, buckets, primitive_counts, sort_into_kinds
from sse_diffusion.diffusion.structure_types.library import MAX_ROLES, TypeLibrary
from sse_diffusion.diffusion.structure_types.proposer import StructureTypes, save_structure_types
from sse_diffusion.diffusion.structure_types.scorer import ScorerConfig, TypeScorer

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """How a library is built.

    Attributes:
        min_members: crystals that a type needs; 2 at least, so that every type is a mean.
        held_out: share of the reduced formulas kept back to measure the scorer; the shipped one is then trained on all.
        workers: processes for sorting.
        scorer, fit: network and its training.
        chemistry: network of which elements go together, and its training.
    """

    min_members: int = 2
    held_out: float = 0.08
    workers: int = 2
    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    chemistry: ChemistryConfig = field(default_factory=ChemistryConfig)


def run_build(cfg: DictConfig) -> dict[str, Any]:
    """Build from a configuration (configs/diffusion/structure_types.yaml) and store the checkpoint in ``cfg.out``.

    Raises:
        ConfigError, DataError: with what to do.
    """
    from sse_diffusion.data.datamodule import CrystalDataModule, LoaderConfig

    started = time.monotonic()
    set_threads(cfg.threads)
    data = CrystalDataModule(plain(cfg.data), LoaderConfig(cache_dir=cfg.cache_dir))
    crystals = [data.dataset.orbits(int(i)) for i in data.indices("train")]
    config = build(BuildConfig, {f.name: cfg[f.name] for f in fields(BuildConfig)})
    types, measured = build_structure_types(crystals, config)
    save_structure_types(types, cfg.out, {"training": plain(cfg)})
    record = {**measured, "seconds": round(time.monotonic() - started, 1), "commit": git_commit(), "versions": package_versions()}
    write_json_atomically(Path(cfg.out) / "metrics.json", record)
    return record


def collect_kinds(crystals: Sequence[Orbits], workers: int = 1) -> list[Kind]:
    """Sort crystals into types, with progress; members are numbered as given."""
    todo = list(buckets(crystals, range(len(crystals))))
    kinds: list[Kind] = []
    with tqdm(total=len(crystals), desc="structure types", unit="crystal", disable=len(crystals) < 500) as bar:
        if workers <= 1:
            for some in todo:
                kinds += sort_into_kinds(*some)
                bar.update(len(some[1]))
            return kinds
        with ProcessPoolExecutor(workers) as pool:
            for found, some in zip(pool.map(_sort, todo), todo, strict=True):
                kinds += found
                bar.update(len(some[1]))
    return kinds


def _sort(some: tuple[list[Orbits], list[int]]) -> list[Kind]:
    torch.set_num_threads(1)
    return sort_into_kinds(*some)


def build_structure_types(crystals: Sequence[Orbits], config: BuildConfig) -> tuple[StructureTypes, dict[str, Any]]:
    """Library and scorer of a training table, and what was measured.

    Raises:
        DataError: no arrangement occurs often enough.
    """
    kinds = collect_kinds(crystals, config.workers)
    kept = [k for k in kinds if len(k.members) >= max(2, config.min_members) and len(k.elements[0]) <= MAX_ROLES]
    if not kept:
        raise DataError("no arrangement occurs twice in these crystals", "structure types need a larger table")
    library = TypeLibrary.from_kinds(kept)
    compositions = [primitive_counts(c) for c in crystals]
    known = answers(kept)
    labels = [known.get(i) for i in range(len(crystals))]
    features = element_features()
    measured: dict[str, Any] = {"types": len(library), "crystals": len(crystals), "crystals_with_type": len(known)}
    held = held_out_formulas(compositions, config.held_out, config.fit.seed)
    if held.any():
        counts = count_role_elements(library, [None if h else label for h, label in zip(held, labels, strict=True)])
        trial = _train(library, _part(library, compositions, labels, ~held, True), config, features, counts)
        measured |= {f"held_out_{k}": v for k, v in measure(trial, _part(library, compositions, labels, held, False)).items()}
        measured |= _measure_chemistry(compositions, held, config, features)
        log.info("%s", measured)
    counts = count_role_elements(library, labels)
    scorer = _train(library, lessons(library, compositions, labels, True), config, features, counts)
    untyped = 1.0 - len(known) / len(crystals)
    return StructureTypes(scorer, counts, untyped, _chemistry(compositions, config, features)), measured


def _part(
    library: TypeLibrary, compositions: Sequence[dict[int, int]], labels: Sequence[Any], chosen: np.ndarray, counted: bool
) -> list[Lesson]:
    rows = np.flatnonzero(chosen)
    return lessons(library, [compositions[int(i)] for i in rows], [labels[int(i)] for i in rows], counted)


def _train(library: TypeLibrary, taught: list[Lesson], config: BuildConfig, features: Tensor, counts: np.ndarray) -> TypeScorer:
    torch.manual_seed(config.fit.seed)
    return fit_scorer(TypeScorer(library, config.scorer, features, counts), taught, config.fit)


def _chemistry(compositions: Sequence[dict[int, int]], config: BuildConfig, features: Tensor) -> RoleChemistry:
    torch.manual_seed(config.fit.seed)
    fitting = [c for c in compositions if len(c) <= MAX_ROLES]
    return fit_chemistry(RoleChemistry(config.chemistry, features), fitting, config.fit.seed)


def _measure_chemistry(
    compositions: Sequence[dict[int, int]], held: np.ndarray, config: BuildConfig, features: Tensor
) -> dict[str, Any]:
    """-log p of one hidden element of a held-out composition, all others known; and by how often elements occur alone."""
    taught = [c for c, h in zip(compositions, held, strict=True) if not h]
    asked = [c for c, h in zip(compositions, held, strict=True) if h and len(c) <= MAX_ROLES]
    n, alone, together = nll_of_hidden(_chemistry(taught, config, features), asked, config.fit.seed)
    return {"held_out_elements": n, "held_out_element_nll_alone": round(alone, 4), "held_out_element_nll": round(together, 4)}


def held_out_formulas(compositions: Sequence[dict[int, int]], share: float, seed: int) -> np.ndarray:
    """(n,) True for the crystals of a random share of the reduced formulas."""
    reduced = [reduced_formula(np.repeat(list(c), list(c.values()))) for c in compositions]
    names = {key: i for i, key in enumerate(dict.fromkeys(reduced))}
    chosen: np.ndarray = np.random.default_rng(seed).random(len(names)) < share
    return chosen[np.array([names[key] for key in reduced])]


@torch.no_grad()
def measure(scorer: TypeScorer, given: Sequence[Lesson]) -> dict[str, float | int]:
    """Mean -log p, share of crystals whose type the library has, and how often it is the first or among the first five."""
    total = {"nll": 0.0, "has_type": 0.0, "top1": 0.0, "top5": 0.0}
    prepared, n = scorer.prepare(), sum(len(lesson.rows) for lesson in given)
    for lesson in given:
        total["nll"] += float(nll(scorer, lesson, prepared).sum())
        typed = scorer(lesson.asked, prepared)[:, :-1]
        total["has_type"] += float((~lesson.right[:, -1]).sum())
        if typed.shape[1]:
            best = typed.topk(min(5, typed.shape[1]), dim=-1).indices
            hits = lesson.right.gather(1, best)
            total["top1"] += float(hits[:, 0].sum())
            total["top5"] += float(hits.any(-1).sum())
    return {"n": n, **{k: round(v / n, 4) for k, v in total.items()}}


def element_features() -> Float[Tensor, "95 f"]:
    """Standardised properties of the elements."""
    from sse_diffusion.predictors.features import element_table

    table = torch.from_numpy(element_table()[:95])
    return (table - table[1:].mean(0)) / table[1:].std(0)
