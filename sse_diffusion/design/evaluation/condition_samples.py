"""Crystals of every cell of the plan, kept on disk as they are sampled."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import read_json, write_json_atomically
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.design.evaluation.condition_plan import Cell
from sse_diffusion.design.labels.sample import Sample
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.request import Interval, Request, parse_request

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sse_diffusion.core.candidate import Candidate
    from sse_diffusion.thermo.conditions import ConditionSpec

FOLDER = "samples"


@dataclass(frozen=True)
class Sampled:
    """Crystals of one cell.

    Attributes:
        samples: with the state point of the request.
        seconds: that sampling took.
    """

    samples: tuple[Sample, ...]
    seconds: float


def sample_cells(
    cells: Sequence[Cell], specs: Mapping[str, ConditionSpec], checkpoint_sha256: str, config: DictConfig, out: Path
) -> dict[str, Sampled]:
    """Name of the cell -> its crystals; what ``out/samples`` holds already of this checkpoint and sampler is not sampled again.

    Raises:
        ChemistryError: a request whose chemistry cannot be met. OutputError: ``out`` cannot be written.
    """
    from tqdm import tqdm

    wanted = {cell.name: cell for cell in cells}
    sampler = {k: v for k, v in plain(config.sampler).items() if k != "batch_tokens"}  # results do not depend on it
    folder = out / FOLDER / hash_of_config({"checkpoint": checkpoint_sha256, "sampler": sampler})[:10]
    found: dict[str, Sampled] = {}
    with tqdm(total=sum(cell.n for cell in wanted.values()), desc="sampling", unit="crystal") as bar:
        for name, cell in wanted.items():
            request = parse_request(cell.ask, specs)
            path = folder / f"{name}.json"
            record = read_json(path)
            if record is None:
                record = _sampled(cell, request, specs, config)
                write_json_atomically(path, record)
            found[name] = _read(name, record, request)
            bar.update(cell.n)
    return found


def _sampled(cell: Cell, request: Request, specs: Mapping[str, ConditionSpec], config: DictConfig) -> dict[str, Any]:
    from sse_diffusion.diffusion.generate import sample_candidates

    started = time.perf_counter()
    sampler = build(SamplerConfig, plain(config.sampler) | {"guidance": {"default": 1.0, **cell.guidance}})
    if not any(isinstance(asked, Interval) and not specs[name].of_state_point for name, asked in request.conditions.items()):
        sampler = replace(sampler, particles=1, gradient_strength=0.0)  # a control that asks for nothing: nothing to judge
    candidates = sample_candidates(str(config.checkpoint), request, cell.n, cell.seed, sampler, progress=False)
    seconds = time.perf_counter() - started
    return {"cell": asdict(cell), "seconds": seconds, "crystals": [_record(c) for c in candidates]}


def _record(candidate: Candidate) -> dict[str, Any]:
    structure = candidate.structure
    return {
        "space_group": candidate.space_group,
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.specie.symbol for site in structure],
        "frac": structure.frac_coords.tolist(),
    }


def _read(name: str, record: dict[str, Any], request: Request) -> Sampled:
    from pymatgen.core import Lattice, Structure

    crystals = record["crystals"]
    structures = [Structure(Lattice(c["lattice"]), c["species"], c["frac"]) for c in crystals]
    samples = tuple(
        Sample(f"{name}-{i:04d}", structure, request.temperature_K, request.pressure_GPa)
        for i, structure in enumerate(structures)
    )
    return Sampled(samples, float(record["seconds"]))
