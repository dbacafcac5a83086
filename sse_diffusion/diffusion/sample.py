"""``sse sample``: crystals for a request, written as CIF, extxyz and CSV under one id each."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.checkpoint import checkpoint_dir
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError, OutputError
from sse_diffusion.core.provenance import git_commit, package_versions, sha256_of_file
from sse_diffusion.core.threads import set_threads
from sse_diffusion.diffusion.fix import FixConfig, inpaint_candidates
from sse_diffusion.diffusion.generate import sample_candidates
from sse_diffusion.diffusion.guides.predictor_guide import needs_structure
from sse_diffusion.diffusion.model import KIND, VERSION
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.predictors.protocol import Predictor
from sse_diffusion.predictors.registry import load_predictor
from sse_diffusion.thermo.conditions import ConditionSpec, load_judged_specs
from sse_diffusion.thermo.request import Interval, Request, parse_request

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

COLUMNS = ("id", "formula", "space_group", "n_atoms", "volume_A3_per_atom", "surprisal", "seed", "index")


def checkpoint_specs(checkpoint: str | Path) -> dict[str, ConditionSpec]:
    """What can be asked of a stored model, read without its weights: its conditions, and what predictors judge.

    Raises:
        CheckpointError: not a generative model.
    """
    from sse_diffusion.core.checkpoint import read_config

    config = read_config(checkpoint, KIND, VERSION)
    own = {name: build(ConditionSpec, spec) for name, spec in config["model"]["conditions"].items()}
    return {**load_judged_specs(), **own}


def run_sample(cfg: DictConfig) -> int:
    """Sample and write ``<out>/{crystals.csv, crystals.extxyz, cifs/, sample.json}``."""
    from omegaconf import OmegaConf

    out = Path(cfg.out)
    try:
        (out / "cifs").mkdir(parents=True, exist_ok=True)
        (out / "sample.json").touch()
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}", "choose another folder with out=...") from error
    set_threads(cfg.threads)
    request = parse_request(cfg.ask, checkpoint_specs(cfg.checkpoint))
    fix, asked = build(FixConfig, cfg.get("fix")), (request, int(cfg.n), int(cfg.seed), build(SamplerConfig, cfg.sampler))
    if fix.structure is None and (fix.add or fix.remove):
        raise ConfigError("fix.add and fix.remove need a framework", "give its file: fix.structure=framework.cif")
    judges = load_judges(request)  # before sampling: what they refuse must not cost the crystals
    if fix.structure is None:
        candidates = sample_candidates(cfg.checkpoint, *asked)
    else:
        candidates = inpaint_candidates(cfg.checkpoint, fix, *asked)
    write_candidates(candidates, out, judged_columns(candidates, request, judges))
    record = {
        "asked": request.to_dict(), "n": len(candidates), "config": OmegaConf.to_container(cfg, resolve=True),
        "checkpoint_sha256": sha256_of_file(checkpoint_dir(cfg.checkpoint) / "weights.safetensors"),
        "commit": git_commit(), "versions": package_versions(),
    }  # fmt: skip
    write_json_atomically(out / "sample.json", record)
    log.info("%d crystals written to %s", len(candidates), out)
    return 0


def load_judges(request: Request) -> dict[str, Predictor]:
    """The predictors of what is asked and no condition of the model, at the request's state point.

    Raises:
        ConfigError: a state point out of a predictor's range. CheckpointError: its checkpoint is missing or damaged.
    """
    specs, state = load_judged_specs(), {"temperature_K": request.temperature_K, "pressure_GPa": request.pressure_GPa}
    return {
        name: load_predictor(str(specs[name].predictor), None, **state)
        for name, asked in request.conditions.items()
        if name in specs and isinstance(asked, Interval)
    }


def judged_columns(candidates: Sequence[Candidate], request: Request, judges: Mapping[str, Predictor]) -> list[dict[str, Any]]:
    """What the predictors say of each crystal, as they judge it: value, 68 % half-width, status."""
    specs, rows = load_judged_specs(), [dict[str, Any]() for _ in candidates]
    for name, predictor in judges.items():
        asked, whole = request.conditions[name], needs_structure(predictor)
        assert isinstance(asked, Interval)  # as load_judges chose them
        crystals = [c.structure if whole else c.structure.composition.reduced_composition for c in candidates]
        lo, hi = specs[name].transformed(np.array([asked.lo, asked.hi]))
        found, title = predictor.predict(crystals), f"predicted_{specs[name].predictor}"
        for row, q in zip(rows, found, strict=True):
            row |= {title: round(q.value, 4), f"{title}_sd": round(q.uncertainty, 4), f"{title}_status": str(q.status)}
        met = sum(bool(q.ok and lo <= q.value <= hi) for q in found)
        log.info("%s: %d of %d crystals are as asked by its predictor", name, met, len(found))
    return rows


def write_candidates(candidates: Sequence[Candidate], out: Path, more: Sequence[Mapping[str, Any]] = ()) -> None:
    """CSV, extxyz and one CIF per crystal; the same id everywhere. ``more``: further columns of each."""
    from ase.io import write
    from pymatgen.io.ase import AseAtomsAdaptor

    rows = [candidate_row(c) | dict(further) for c, further in zip(candidates, more or [{}] * len(candidates), strict=True)]
    with (out / "crystals.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]) if rows else COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    frames = []
    for candidate, row in zip(candidates, rows, strict=True):
        atoms = AseAtomsAdaptor.get_atoms(candidate.structure, msonable=False)
        atoms.info = dict(row)
        frames.append(atoms)
        candidate.structure.to(filename=str(out / "cifs" / f"{candidate.id}.cif"), fmt="cif")
    write(out / "crystals.extxyz", frames, format="extxyz")


def candidate_row(candidate: Candidate) -> dict[str, Any]:
    """One CSV row."""
    s, info = candidate.structure, candidate.info
    return {
        "id": candidate.id, "formula": s.composition.reduced_formula, "space_group": candidate.space_group, "n_atoms": len(s),
        "volume_A3_per_atom": round(s.volume / len(s), 4), "surprisal": round(candidate.surprisal, 4),
        "seed": info.get("seed"), "index": info.get("index"), **({"ess": info["ess"]} if "ess" in info else {}),
    }  # fmt: skip
