"""Reference phases outside the electrolyte chemistries: one engine energy at the published geometry instead of a relaxation.

Relaxing every near-hull phase of a large table costs a second or more each; one evaluation at the DFT geometry costs 40 ms and
lies a few meV/atom above the relaxed energy. The mean of that difference, measured on phases that have both, is added and its
spread is the row's uncertainty.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.errors import DataError, OutputError
from sse_diffusion.thermo.hull import ReferencePhase
from sse_diffusion.verification.hull_table import (
    CATHODE_METALS,
    ELECTROLYTE_ELEMENTS,
    Phase,
    chemistry_class,
    phase_of_row,
    read_records,
)
from sse_diffusion.verification.single_point import static_energies

if TYPE_CHECKING:
    from sse_diffusion.verification.potential import Potential

log = logging.getLogger(__name__)

ELEMENT_PREFIX = "element-"
BLOCK = 50
SHIFT_PHASES = 300
"""Relaxed phases whose static energy is computed as well, to measure what relaxing changes."""


@dataclass(frozen=True)
class StaticShift:
    """Relaxed energy minus the energy at the published geometry, eV/atom.

    Attributes:
        mean, spread: mean and standard deviation after dropping the 1 % farthest from the median.
        count: phases that have both energies.
    """

    mean: float
    spread: float
    count: int


def near_hull_phases(frame: Any, above: float, max_sites: int) -> list[Phase]:
    """Every phase of the table within ``above`` eV/atom of the DFT hull, the most stable first."""
    near = frame[(frame.e_above_hull <= above) & (frame.nsites <= max_sites)].sort_values(["e_above_hull", "material_id"])
    return [phase_of_row(row) for row in near.itertuples()]


def static_order(near: Sequence[Phase], relaxed: Container[str]) -> list[Phase]:
    """Electrolytes and electrodes that were not relaxed, then relaxed phases for the shift, then the other chemistries.

    Args:
        near: the phases, the most stable first.
        relaxed: ids that have a relaxed energy.
    """
    wanted = ELECTROLYTE_ELEMENTS | CATHODE_METALS
    new = [phase for phase in near if phase.id not in relaxed]
    again = [phase for phase in near if phase.id in relaxed][:SHIFT_PHASES]
    inside = [phase.symbols <= wanted for phase in new]
    ours = [phase for phase, ok in zip(new, inside, strict=True) if ok]
    return [*ours, *again, *(phase for phase, ok in zip(new, inside, strict=True) if not ok)]


def check_phases(frame: Any, above: float, max_sites: int, count: int, elements: int = 3) -> list[Phase]:
    """Phases to relax outside the electrolyte chemistries: polymorphs of the elements, and a random sample of compounds.

    Args:
        frame: the crystal table.
        above: cap on the DFT energy above hull, eV/atom (0.1 for elements).
        max_sites: largest cell.
        count: compounds drawn (with a fixed seed).
        elements: polymorphs of each element, the most stable ones.
    """
    outside = frame[[chemistry_class(c.split("-")) is None for c in frame.chemsys]]
    pure = outside[~outside.chemsys.str.contains("-") & (outside.e_above_hull <= 0.1)].sort_values("e_above_hull")
    compounds = outside[outside.chemsys.str.contains("-") & (outside.e_above_hull <= above) & (outside.nsites <= max_sites)]
    drawn = compounds.sort_values("material_id").sample(min(count, len(compounds)), random_state=0)
    rows = [*pure.groupby("chemsys").head(elements).itertuples(), *drawn.itertuples()]
    return [phase_of_row(row) for row in rows]


def element_phases(path: str | Path) -> list[Phase]:
    """Structures of the elements from a JSON file, symbol -> {"structure": pymatgen dictionary}; no path, no phases.

    Raises:
        DataError: the file cannot be read.
    """
    from pymatgen.core import Structure

    if not path:
        return []
    try:
        raw = gzip.decompress(Path(path).read_bytes()) if str(path).endswith(".gz") else Path(path).read_bytes()
        return [Phase(f"{ELEMENT_PREFIX}{s}", Structure.from_dict(entry["structure"])) for s, entry in json.loads(raw).items()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read element structures from {path}: {error}", "give elements_path=FILE.json.gz") from error


def evaluate_static(phases: Sequence[Phase], potential: Potential, path: str | Path) -> list[dict[str, Any]]:
    """Engine energy of every phase as it is; one record per phase is appended to ``path``, finished ones are not repeated.

    Raises:
        OutputError: the file cannot be written.
    """
    from tqdm import tqdm

    target = Path(path)
    done = {record["id"] for record in read_records(target)}
    todo = [phase for phase in phases if phase.id not in done]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        cut = target.is_file() and not target.read_bytes().endswith(b"\n")
        with target.open("a", encoding="utf-8") as handle, tqdm(total=len(todo), desc="static energies", unit="phase") as bar:
            if cut and target.stat().st_size:
                handle.write("\n")
            for start in range(0, len(todo), BLOCK):
                block = todo[start : start + BLOCK]
                energies = static_energies([p.structure for p in block], potential, progress=False)
                scheme = potential.info.energy_scheme
                records = [_record(p, e.value if e.ok else None, e.reason, scheme) for p, e in zip(block, energies, strict=True)]
                handle.writelines(json.dumps(record) + "\n" for record in records)
                handle.flush()
                bar.update(len(block))
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error}", "give another static_path") from error
    return read_records(target)


def static_shift(records: Sequence[Mapping[str, Any]], relaxed: Mapping[str, float]) -> StaticShift:
    """What relaxation changes, from phases that have both energies.

    Args:
        records: of :func:`evaluate_static`.
        relaxed: id -> relaxed energy, eV/atom.

    Raises:
        DataError: fewer than 10 phases have both.
    """
    static = {r["id"]: r["static_energy_eV_per_atom"] for r in records if r["static_energy_eV_per_atom"] is not None}
    both = np.array([relaxed[i] - e for i, e in static.items() if i in relaxed])
    if len(both) < 10:
        raise DataError(f"only {len(both)} phases have a static and a relaxed energy", "relax more phases (check_count)")
    kept = both[np.argsort(np.abs(both - np.median(both)))][: max(10, int(0.99 * len(both)))]
    return StaticShift(float(kept.mean()), float(kept.std()), len(both))


def static_rows(records: Sequence[Mapping[str, Any]], relaxed: Mapping[str, float], scheme: str) -> list[ReferencePhase]:
    """Reference rows (source ``static``) of the phases that were not relaxed."""
    if not records:
        return []
    shift = static_shift(records, relaxed)
    log.info("static energies: relaxed %+.4f eV/atom on average, spread %.4f (%d phases)", shift.mean, shift.spread, shift.count)
    return [
        ReferencePhase(
            r["formula"],
            r["static_energy_eV_per_atom"] + shift.mean,
            r["volume_A3_per_atom"],
            "static",
            scheme,
            False,
            r["id"],
            shift.spread,
        )
        for r in records
        if r["static_energy_eV_per_atom"] is not None and r["id"] not in relaxed
    ]


def _record(phase: Phase, energy: float | None, reason: str, scheme: str) -> dict[str, Any]:
    """One line of the file."""
    return {
        "id": phase.id,
        "formula": phase.structure.composition.reduced_formula,
        "n_sites": len(phase.structure),
        "static_energy_eV_per_atom": energy,
        "volume_A3_per_atom": phase.structure.volume / len(phase.structure),
        "reason": reason,
        "mp_e_above_hull": phase.e_above_hull,
        "mp_formation_energy": phase.formation_energy,
        "energy_scheme": scheme,
    }
