"""``sse evaluate task=crystals``: the de novo numbers of crystals that anybody made, and of real ones (the ceilings)."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.data.readers.raw import ColumnMap
from sse_diffusion.data.tables import find_table, read_table
from sse_diffusion.design.evaluation.csp_scores import validity
from sse_diffusion.design.evaluation.reference import ANYTHING, Reference, read_reference, structure_of
from sse_diffusion.design.evaluation.workers import worker_count
from sse_diffusion.verification.metrics.rates import Metric
from sse_diffusion.verification.metrics.record import write_metrics
from sse_diffusion.verification.structure_files import CIF_SUFFIXES, EXTXYZ_SUFFIXES, read_structures
from sse_diffusion.verification.validity import composition_validity, structural_validity

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pymatgen.core import Structure

    from sse_diffusion.verification.metrics.stable import StableConfig
    from sse_diffusion.verification.novelty import KnownIndex

log = logging.getLogger(__name__)

MEASURES = ("validity", "uniqueness", "coverage", "distributions", "stable")
"""What can be computed, cheap first; see docs/evaluation.md."""

PROTOCOL = {
    "structural_validity": "of all n: distances >= 0.5 A and volume >= 0.1 A^3 (CDVAE); unreadable ones are invalid",
    "composition_validity": "of all n: CDVAE's SMACT check (oxidation_states_smact14); real crystals reach about 90 %, not 100",
    "composition_validity_2_3_elements": "as composition_validity, of the crystals of two or three elements",
    "validity": "of all n: both checks",
    "plausible_volume": "of all n: 4-100 A^3 per atom, which the field's check does not look at",
    "uniqueness": "of all n: valid in structure, no earlier one is equal by StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)",
    "novelty": "of all n: valid in structure, equal to no reference crystal by the same matcher (or not in the index: n_known)",
    "uniqueness_of_valid": "as uniqueness, of the crystals valid in structure",
    "novelty_of_valid": "as novelty, of the crystals valid in structure",
    "novelty_of_unique": "as novelty, of the unique crystals",
    "unique_novel": "of all n: unique and novel",
    "coverage": "CDVAE: nearest CrystalNN fingerprint within 0.4 and nearest scaled Magpie fingerprint within 10",
    "w_density": "Wasserstein distance between the densities (g/cm^3) of the valid crystals and of the reference",
    "w_n_elements": "Wasserstein distance between the numbers of elements of the valid crystals and of the reference",
    "w_n_atoms": "Wasserstein distance between the numbers of atoms in the cells as given",
    "p1_share": "space group by moyo at 0.1 A, of the valid crystals",
    "jsd_space_group": "Jensen-Shannon divergence (base 2) of the space groups of valid crystals and reference",
}


@dataclass(frozen=True)
class Given:
    """Crystals to score.

    Attributes:
        ids: their names.
        structures: ``None`` where one could not be read or is disordered.
        rejected: name -> why, for those.
    """

    ids: list[str]
    structures: list[Structure | None]
    rejected: dict[str, str]

    def draw(self, limit: int | None) -> Given:
        """A random subset that depends on ``limit`` only."""
        if limit is None or limit >= len(self.ids):
            return self
        chosen = sorted(np.random.default_rng(0).permutation(len(self.ids))[:limit].tolist())
        ids = [self.ids[i] for i in chosen]
        rejected = {name: why for name, why in self.rejected.items() if name in set(ids)}
        return Given(ids, [self.structures[i] for i in chosen], rejected)


def evaluate_crystals(config: DictConfig) -> None:
    """Score ``config.input`` and write ``metrics.json``, ``metrics.md`` and ``crystals.csv``.

    Raises:
        ConfigError: no input, or an unknown measure. DataError: nothing readable.
    """
    if not config.input:
        raise ConfigError("task=crystals needs input", "give a folder of CIFs, an extxyz, or a table: input=PATH")
    measures = checked_measures(config.measures)
    given = read_crystals(str(config.input), plain(config.reference).get("columns")).draw(config.limit)
    reference = read_reference(config.reference)
    out, workers = Path(str(config.out)).expanduser(), worker_count(config.workers)
    metrics = score_crystals(
        given.structures, reference, measures=measures, workers=workers, seed=int(config.seed), config=config, out=out
    )
    write_rows(given, out)
    counts = {"task": "crystals", "n": len(given.ids), "n_rejected": len(given.rejected), "input": str(config.input)}
    against = (
        {"reference": reference.source, "reference_sha256": reference.sha256, "n_reference": len(reference)} if reference else {}
    )
    facts = {"seed": int(config.seed), "workers": workers, "settings": plain(config), "rejected": given.rejected}
    write_metrics(out, metrics, protocols(config, measures, workers), {**counts, **against, **facts})


def checked_measures(asked: Sequence[str]) -> tuple[str, ...]:
    """The asked measures in their order; raises ``ConfigError`` for an unknown one."""
    unknown = [name for name in asked if name not in MEASURES]
    if unknown:
        raise ConfigError(f"unknown measure {unknown[0]!r}", did_you_mean(str(unknown[0]), MEASURES))
    return tuple(name for name in MEASURES if name in asked)


def score_crystals(
    structures: Sequence[Structure | None],
    reference: Reference | None,
    *,
    known: KnownIndex | None = None,
    measures: Sequence[str] = MEASURES,
    workers: int = 1,
    seed: int = 0,
    config: DictConfig | None = None,
    out: Path | None = None,
) -> dict[str, Metric]:
    """The numbers of a set of crystals; those that need what is not given are missing, with the reason.

    Args:
        structures: all n crystals; ``None`` is one that could not be made or read, and counts as invalid.
        reference: crystals to compare with.
        known: (formula, space group) pairs for novelty, when there is no reference.
        measures: of :data:`MEASURES`.
        workers: processes.
        seed: of subsets and bootstraps.
        config: settings of the force field, for ``stable``.
        out: where ``stable`` keeps relaxed crystals.
    """
    from sse_diffusion.verification.metrics.coverage import CoverageConfig, coverage
    from sse_diffusion.verification.metrics.distributions import distances
    from sse_diffusion.verification.metrics.uniqueness import unique_and_novel

    metrics: dict[str, Metric] = {}
    references = reference.structures if reference else []
    if "validity" in measures:
        metrics |= validity_metrics(structures, workers)
    if "uniqueness" in measures or "stable" in measures:
        pairs = zip((row.id for row in reference.rows), references, strict=True) if reference else None
        found = unique_and_novel(structures, pairs, known, workers=workers)
        metrics |= found.metrics
    if "coverage" in measures:
        settings = plain(config.coverage) if config is not None else {}
        metrics |= coverage(structures, references, build(CoverageConfig, settings | {"seed": seed, "workers": workers}))
    if "distributions" in measures:
        metrics |= distances(structures, references, seed=seed, workers=workers)
    if "stable" in measures and config is not None and out is not None:
        from sse_diffusion.verification.metrics.stable import stable_unique_novel

        metrics |= stable_unique_novel(structures, found.unique, found.novel, stable_config(config, workers), out)
    return metrics


def validity_metrics(structures: Sequence[Structure | None], workers: int = 1) -> dict[str, Metric]:
    """Rates of the field's two checks, alone and together, of all n crystals, and of volumes that are believable."""
    both = validity(structures, workers)
    few = np.array([s is not None and len(s.composition.elements) in (2, 3) for s in structures], dtype=bool)
    volumes = np.array([np.nan if s is None else s.volume / len(s) for s in structures])
    n = len(structures)
    return {
        "structural_validity": Metric.rate(int(both[:, 0].sum()), n),
        "composition_validity": Metric.rate(int(both[:, 1].sum()), n),
        "composition_validity_2_3_elements": Metric.rate(int(both[few, 1].sum()), int(few.sum())),
        "validity": Metric.rate(int(both.all(axis=1).sum()), n),
        "plausible_volume": Metric.rate(int(((volumes >= 4) & (volumes <= 100)).sum()), n),
    }


def read_crystals(source: str, columns: Mapping[str, str] | None = None) -> Given:
    """Crystals from a folder of CIFs, an extxyz, a CIF, or a table; overlapping atoms are kept, they are a verdict.

    Raises:
        DataError: nothing there, or nothing readable.
    """
    path = find_table(source)
    suffixes = {p.suffix.lower() for p in path.iterdir()} if path.is_dir() else {path.suffix.lower()}
    if suffixes & set(EXTXYZ_SUFFIXES) or (path.is_file() and suffixes & set(CIF_SUFFIXES)):
        read = read_structures(path)
        ids, structures = [c.id for c in read.candidates], [c.structure for c in read.candidates]
        return Given(ids + list(read.rejected), structures + [None] * len(read.rejected), read.rejected)
    # A table may repeat its ids, once per shot: rows are numbered instead. A folder's file names are unique.
    names = build(ColumnMap, columns) if path.is_dir() else replace(build(ColumnMap, columns), id="")
    report = read_table(path, columns=names, validation=ANYTHING)
    rejected = {r.id: f"{r.reason}: {r.detail}" for r in report.rejected}
    ids = [row.id for row in report.rows] + list(rejected)
    return Given(ids, [structure_of(row) for row in report.rows] + [None] * len(rejected), rejected)


def write_rows(given: Given, out: Path) -> None:
    """``crystals.csv``: every crystal's checks and what is wrong with it."""
    with replacing(out / "crystals.csv") as path, path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "formula", "n_atoms", "structure_valid", "composition_valid", "reason"])
        for name, structure in zip(given.ids, given.structures, strict=True):
            if structure is None:
                writer.writerow([name, "", "", 0, 0, given.rejected.get(name, "unreadable")])
                continue
            checks = structural_validity(structure), composition_validity(structure)
            formula, reasons = structure.composition.reduced_formula, "; ".join(c.reason for c in checks if c.reason)
            writer.writerow([name, formula, len(structure), *(int(c.valid) for c in checks), reasons])


def stable_config(config: DictConfig, workers: int) -> StableConfig:
    """Protocol of the hull part from ``config.stable`` and the groups ``verification.engine`` and ``verification.relax``."""
    from sse_diffusion.verification.metrics.stable import StableConfig

    force_field = {"engine": plain(config.verification.engine), "relax": plain(config.verification.relax)}
    return build(StableConfig, plain(config.stable) | force_field | {"workers": workers})


def protocols(config: DictConfig, measures: Sequence[str], workers: int) -> dict[str, str]:
    """How every number was computed, in words."""
    if "stable" not in measures:
        return PROTOCOL
    from sse_diffusion.verification.metrics import stable

    how = stable.protocol(stable_config(config, workers))
    return PROTOCOL | {name: how for name in ("sun", "stable", "relax", "energy_above_hull", "without_hull_reference")}
