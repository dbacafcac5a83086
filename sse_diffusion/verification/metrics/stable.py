"""Stable, unique and novel (SUN): relax samples with a force field and place them on the hull of the same force field.

SUN figures of different protocols cannot be compared; :func:`protocol` says this one in words, to stand beside the number. A
sample counts when it is structurally valid, the first of its kind, equals no reference, and its relaxed energy lies at most a
threshold above the hull. Everything else of the first n samples stays in the denominator: also crystals that could not be
relaxed and those with elements that the hull lacks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.core.results import Status
from sse_diffusion.verification.metrics.kept_records import kept_records
from sse_diffusion.verification.metrics.rates import Metric
from sse_diffusion.verification.relax import RelaxConfig, relax
from sse_diffusion.verification.structure_files import structure_hash
from sse_diffusion.verification.validity import structural_validity

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from sse_diffusion.thermo.hull import ReferenceHull
    from sse_diffusion.verification.potential import Potential

log = logging.getLogger(__name__)

RECORDS, TABLE = "relaxed.jsonl", "stable.csv"
NO_NOVELTY = "novelty is unknown: no reference crystals and no index of known crystals"


@dataclass(frozen=True, kw_only=True)
class StableConfig:
    """Protocol of the stability test.

    Attributes:
        n: the first n samples are examined; 0 switches the test off.
        workers: processes, each with its own force field.
        hull: name of a shipped table, or a CSV file; of the same energy scheme as the engine.
        thresholds_eV_per_atom: energies above hull that count as stable.
        engine: see :func:`sse_diffusion.verification.potential.load_potential`.
        relax: see :class:`sse_diffusion.verification.relax.RelaxConfig`.
    """

    n: int = 500
    workers: int = 1
    hull: str = "chgnet-0.3.0-all"
    thresholds_eV_per_atom: tuple[float, ...] = (0.1, 0.0)
    engine: Mapping[str, Any] = field(default_factory=lambda: {"name": "chgnet", "model": "0.3.0"})
    relax: Mapping[str, Any] = field(default_factory=lambda: {"fmax_eV_per_A": 0.05, "max_steps": 200, "max_seconds": 300.0})

    def __post_init__(self) -> None:
        """Refuse values that have no meaning (ConfigError)."""
        if self.n < 0 or self.workers < 1 or not self.thresholds_eV_per_atom:
            raise ConfigError("the stability test needs n >= 0, workers >= 1 and at least one threshold")

    @property
    def protocol(self) -> RelaxConfig:
        """The relaxation."""
        return build(RelaxConfig, self.relax)


def protocol(config: StableConfig) -> str:
    """One line: relaxer, hull, and what the denominator is."""
    r = config.protocol
    engine = " ".join(str(config.engine[key]) for key in ("name", "model", "calculator") if key in config.engine)
    return (
        f"first {config.n} samples, none left out; unique and novel before relaxation; relaxed with {engine} (FIRE, free cell, "
        f"fmax {r.fmax_eV_per_A:g} eV/A, at most {r.max_steps} steps) and placed on the self-consistent hull {config.hull}"
    )


def stable_unique_novel(
    structures: Sequence[Structure | None],
    is_unique: NDArray[np.bool_],
    is_novel: NDArray[np.bool_] | None,
    config: StableConfig,
    out: Path,
    progress: bool = True,
) -> dict[str, Metric]:
    """SUN rates at each threshold and what they are made of.

    One record per crystal is appended to ``out/relaxed.jsonl`` as it is finished; the same call goes on where it was ended.
    ``out/stable.csv`` lists every sample that was relaxed.

    Args:
        structures: all samples in order; only the first ``config.n`` are looked at.
        is_unique, is_novel: (n,) verdicts; without novelty SUN is missing and only the stable unique ones are counted.
        config: protocol.
        out: folder.
        progress: show a progress bar with the time left.

    Returns:
        ``sun_<threshold>`` and ``stable_unique_<threshold>`` of the examined samples, ``stable_<threshold>_of_relaxed``,
        ``relax_candidates``, ``relax_converged``, ``relax_failed``, ``without_hull_reference``, ``energy_above_hull_median``.

    Raises:
        EnergySchemeError: hull and engine are of two schemes.
        OutputError: ``out`` cannot be written.
    """
    n = min(config.n, len(structures))
    names = [f"sun_{float(t)}" for t in config.thresholds_eV_per_atom]
    if n == 0:
        reason = "switched off (relax.n=0)" if config.n == 0 else "no samples"
        return {name: Metric.missing(reason) for name in names}
    from sse_diffusion.thermo.hull import ReferenceHull

    hull = ReferenceHull.load(config.hull)
    wanted = [i for i in range(n) if is_unique[i] and (is_novel is None or is_novel[i])]
    candidates = {i: s for i in wanted if (s := structures[i]) is not None and structural_validity(s).valid}
    placeable = {i: s for i, s in candidates.items() if s.composition.chemical_system_set <= hull.elements}
    records = relaxed_records(placeable, config, out, progress)
    heights = _heights(placeable, records, hull)
    _write_table(placeable, records, heights, out)
    return _metrics(n, len(candidates), len(placeable), records, heights, is_novel is not None, config)


def _metrics(
    n: int,
    n_candidates: int,
    n_placeable: int,
    records: Mapping[int, Mapping[str, Any]],
    heights: Mapping[int, dict[str, Any]],
    novelty_known: bool,
    config: StableConfig,
) -> dict[str, Metric]:
    """Rates from heights above the hull."""
    values = np.array([h["e_above_hull_eV_per_atom"] for h in heights.values()], dtype=float)
    metrics: dict[str, Metric] = {}
    for threshold in config.thresholds_eV_per_atom:
        stable = int((values <= threshold).sum())
        metrics[f"sun_{float(threshold)}"] = Metric.rate(stable, n) if novelty_known else Metric.missing(NO_NOVELTY)
        if not novelty_known:
            metrics[f"stable_unique_{float(threshold)}"] = Metric.rate(stable, n)
        metrics[f"stable_{float(threshold)}_of_relaxed"] = Metric.rate(stable, len(values))
    metrics["relax_candidates"] = Metric.rate(n_candidates, n)
    metrics["without_hull_reference"] = Metric.rate(n_candidates - n_placeable, n)
    metrics["relax_converged"] = Metric.rate(sum(r["status"] == Status.OK for r in records.values()), len(records))
    metrics["relax_failed"] = Metric.rate(sum(r["status"] == Status.FAILED for r in records.values()), len(records))
    median = Metric.missing("nothing was relaxed")
    if len(values):
        draws = np.random.default_rng(0).choice(values, (1000, len(values)))
        low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
        median = Metric(float(np.median(values)), (float(low), float(high)), n=len(values))
    return metrics | {"energy_above_hull_median": median}


def _heights(
    structures: Mapping[int, Structure], records: Mapping[int, Mapping[str, Any]], hull: ReferenceHull
) -> dict[int, dict[str, Any]]:
    """Energy above hull of every crystal that has an energy; an unconverged energy is an upper bound and counts as it is."""
    heights: dict[int, dict[str, Any]] = {}
    for index, record in records.items():
        if record["energy_eV_per_atom"] is None:
            continue
        height = hull.energy_above_hull(structures[index].composition, record["energy_eV_per_atom"], record["energy_scheme"])
        if math.isfinite(height.value):
            heights[index] = {
                "e_above_hull_eV_per_atom": height.value,
                "uncertainty_eV_per_atom": height.uncertainty,
                "decomposition": height.provenance["decomposition"],
            }
    return heights


def relaxed_records(
    structures: Mapping[int, Structure], config: StableConfig, out: Path, progress: bool = True
) -> dict[int, dict[str, Any]]:
    """One record per crystal, from ``out/relaxed.jsonl`` or computed now and kept there.

    Args:
        structures: by number.
        config: engine, relaxation and number of processes.
        out: folder.
        progress: show a progress bar with the time left.

    Returns:
        number -> formula, status, reason, energy_eV_per_atom (None: failed), energy_scheme and the fields of
        :class:`sse_diffusion.verification.relax.RelaxResult`.

    Raises:
        OutputError: ``out`` cannot be written. EngineError: no such force field.
    """
    # What a record depends on: not the hull, not the number of processes.
    settings = {"engine": dict(config.engine), "relax": asdict(config.protocol)}
    keys = {i: hash_of_config({"crystal": structure_hash(s), **settings}) for i, s in structures.items()}

    def missing(wanted: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        return _compute({i: structures[i] for i in wanted}, config)

    return kept_records(out / RECORDS, keys, missing, "relaxing", progress)


def _compute(structures: Mapping[int, Structure], config: StableConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    """(index, record) as they are finished."""
    if not structures:
        return
    if config.workers == 1:
        import torch

        threads = torch.get_num_threads()
        try:
            _start(dict(config.engine))
            for index, structure in structures.items():
                yield index, _relax_one(structure, config.protocol)
        finally:
            torch.set_num_threads(threads)
        return
    from multiprocessing import get_context

    # spawn: a forked process would inherit torch's thread pool in an undefined state
    with ProcessPoolExecutor(config.workers, get_context("spawn"), _start, (dict(config.engine),)) as pool:
        running = {pool.submit(_relax_one, s, config.protocol): i for i, s in structures.items()}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_ENGINE: dict[str, Potential] = {}
"""The force field of this process."""


def _start(engine: dict[str, Any]) -> None:
    """Load the force field once per process; one thread is fastest on small cells (see core/threads)."""
    from sse_diffusion.core.threads import set_threads
    from sse_diffusion.verification.potential import load_potential

    set_threads(1)
    _ENGINE["potential"] = load_potential(engine)


def _relax_one(structure: Structure, config: RelaxConfig) -> dict[str, Any]:
    """Relax one crystal; a bad one is a record with a reason."""
    potential = _ENGINE["potential"]
    result = relax(structure, potential, config)
    energy = result.energy_eV_per_atom
    return {
        "formula": structure.composition.reduced_formula,
        "n_atoms": len(structure),
        "status": str(energy.status),
        "reason": energy.reason,
        "energy_eV_per_atom": None if energy.status is Status.FAILED else energy.value,
        "energy_scheme": potential.info.energy_scheme,
        **{k: v for k, v in result.to_dict().items() if k != "energy_eV_per_atom"},
    }


def _write_table(
    structures: Mapping[int, Structure],
    records: Mapping[int, Mapping[str, Any]],
    heights: Mapping[int, dict[str, Any]],
    out: Path,
) -> None:
    """``stable.csv``, lowest above the hull first."""
    import pandas as pd

    rows = [
        {
            "index": i,
            **{k: records[i][k] for k in ("formula", "n_atoms", "status", "reason", "steps", "seconds")},
            **heights.get(i, {}),
        }
        for i in structures
    ]
    columns = ["index", "formula", "n_atoms", "e_above_hull_eV_per_atom", "uncertainty_eV_per_atom", "decomposition"]
    frame = pd.DataFrame(rows, columns=[*columns, "status", "reason", "steps", "seconds"])
    frame.sort_values("e_above_hull_eV_per_atom").round(5).to_csv(out / TABLE, index=False)
