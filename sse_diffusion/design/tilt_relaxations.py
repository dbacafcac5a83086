"""Relaxing what was proposed, once per kind of crystal and resumably, and finding out which results are the same crystal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sse_diffusion.core.atomic_files import read_json, write_json_atomically
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.verification.relax import RelaxConfig, RelaxResult, relax

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import Potential

MATCH = {"ltol": 0.1, "stol": 0.1, "angle_tol": 5.0}
"""StructureMatcher tolerances for "the same minimum": much tighter than the field's for duplicates (0.3, 0.5, 10), which also
equates polymorphs that differ by a distortion. Volumes are scaled to each other first."""
SAME_VOLUME = 1.3
"""Largest ratio of volumes for which two proposals of the same crystal may share a relaxation: a cell that has collapsed or
exploded answers for itself only."""


def kinds(structures: Sequence[Structure], near: Callable[[int, int], bool] = lambda i, j: True) -> list[list[int]]:
    """Numbers of the structures in groups of the same crystal; each group and its members in order of first appearance.

    Args:
        structures: any crystals; supercells count as their primitive cell.
        near: what else must hold of the first member of a group and one that joins it.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(**MATCH)
    groups: list[list[int]] = []
    for i, structure in enumerate(structures):
        own = next((g for g in groups if near(g[0], i) and matcher.fit(structures[g[0]], structure)), None)
        if own is None:
            groups.append([i])
        else:
            own.append(i)
    return groups


def relax_kinds(
    structures: Sequence[Structure],
    potential: Potential,
    config: RelaxConfig,
    folder: Path | None = None,
    progress: bool = True,
) -> list[tuple[list[int], RelaxResult]]:
    """Relaxations, each with the numbers of the structures that share it: the same crystal up to some 30 % of volume.

    Args:
        structures: ordered crystals.
        potential: the force field.
        config: protocol, with the pressure.
        folder: where finished relaxations are kept and looked up by structure, protocol and engine; ``None``: nowhere.
        progress: show a progress bar.
    """
    logs = [math.log(s.volume / len(s)) for s in structures]
    groups = kinds(structures, lambda i, j: abs(logs[i] - logs[j]) <= math.log(SAME_VOLUME))
    bar = tqdm(groups, desc=f"relaxing at {config.pressure_GPa:g} GPa", unit="crystal", disable=not progress)
    return [(group, _stored(structures[group[0]], potential, config, folder)) for group in bar]


def _stored(structure: Structure, potential: Potential, config: RelaxConfig, folder: Path | None) -> RelaxResult:
    """The relaxation, read from ``folder`` when it was done before."""
    if folder is None:
        return relax(structure, potential, config)
    question: dict[str, Any] = {
        "lattice": structure.lattice.matrix.tolist(),
        "species": [s.symbol for s in structure.species],
        "frac": structure.frac_coords.tolist(),
        "relax": asdict(config),
        "engine": [potential.info.name, potential.info.version, potential.info.energy_scheme],
    }
    path = folder / f"{hash_of_config(question)}.json"
    record = read_json(path)
    if record is not None:
        return RelaxResult.from_dict(record)
    result = relax(structure, potential, config)
    write_json_atomically(path, result.to_dict())
    return result
