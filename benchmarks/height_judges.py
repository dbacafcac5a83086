"""How well the judges of dG_hull order crystals that were generated and relaxed before, and what choosing by them would give.

    python benchmarks/height_judges.py folder=outputs/conditions [judges=head,composition] [phases=mp] [checkpoint=mp_base]
        [particles=32]

`folder` is that of an `sse evaluate task=conditions` run: its samples, those relaxations that it made and its settings are read,
nothing is sampled or relaxed anew. Truth is dG_hull(300 K) of the relaxed crystals on the hull that the run used. Per judge, and
for all together, at both stages: rank correlation of log p(dG_hull < 0.05 eV/atom) with the truth, and the share of hits when one
of `particles` crystals, drawn from all, is kept with weight p^strength. Crystals of many requests are mixed, so the shares
compare judges; they are no hit rates of a model. Written to results/height_judges.json.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import options, write
from scipy.stats import spearmanr
from tqdm import tqdm

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.data.orbits import parse_orbits
from sse_diffusion.design.labels.labeller import LabelConfig, Labeller
from sse_diffusion.design.labels.sample import Sample
from sse_diffusion.diffusion.guides.gibbs_guide import GibbsGuide
from sse_diffusion.diffusion.guides.guide import Seen, Stage
from sse_diffusion.diffusion.guides.heights import height_judges
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.thermo.competition import load_competition
from sse_diffusion.thermo.request import Interval
from sse_diffusion.verification.hull_table import read_records
from sse_diffusion.verification.metrics.stable import RECORDS
from sse_diffusion.verification.structure_files import structure_hash

FIELD, ASKED, STATE = "gibbs_above_hull_eV_per_atom", Interval(-math.inf, 0.05), (300.0, 1.01325e-4)
STRENGTHS = (1.0, 6.0, 12.0)
STAGES: tuple[Stage, ...] = ("discrete", "final")


def labelled(folder: Path) -> tuple[list[Sample], np.ndarray]:
    """Samples that the run relaxed, and their dG_hull (NaN: no answer)."""
    from pymatgen.core import Lattice, Structure

    settings = json.loads((folder / "metrics.json").read_text())["settings"]
    crystals = [c for path in sorted(folder.glob("samples/*/*.json")) for c in json.loads(path.read_text())["crystals"]]
    structures = [Structure(Lattice(c["lattice"]), c["species"], c["frac"]) for c in crystals]
    labels, force_field = settings["labels"], settings["verification"]
    config = LabelConfig(relax_steps=labels["relax_steps"], hull=labels["hull"], **force_field)
    protocol = {"engine": dict(config.stable.engine), "relax": asdict(config.stable.protocol)}
    relaxed = {record["key"] for record in read_records(folder / RECORDS)}
    done = [s for s in structures if hash_of_config({"crystal": structure_hash(s), **protocol}) in relaxed]
    samples, labeller = [Sample(f"s{i}", s, *STATE) for i, s in enumerate(done)], Labeller(config, folder)
    return samples, np.array([q.value for q in labeller.label(FIELD, samples)])


def batches(model: CrystalModel, samples: list[Sample]) -> tuple[list[OrbitBatch], np.ndarray]:
    """The samples as orbits, and which of them have such a description."""
    found, kept = [], []
    for i, sample in enumerate(tqdm(samples, desc="orbits", unit="crystal")):
        s = sample.structure
        try:
            found.append(parse_orbits(np.array(s.atomic_numbers), s.frac_coords, s.lattice.matrix))
        except DataError:
            continue
        kept.append(i)
    parts = [found[i : i + 64] for i in range(0, len(found), 64)]
    return [OrbitBatch.from_orbits(p).with_(conditions=model.null_conditions(len(p))) for p in parts], np.array(kept)


def chosen(log_p: np.ndarray, hit: np.ndarray, particles: int, strength: float, draws: int = 4000) -> float:
    """Share of hits among crystals of which each is kept out of ``particles`` random ones."""
    rng = np.random.default_rng(0)
    populations = rng.integers(0, len(hit), (draws, particles))
    weight = strength * log_p[populations]
    weight = np.exp(weight - weight.max(1, keepdims=True))
    place = (weight.cumsum(1) > rng.random((draws, 1)) * weight.sum(1, keepdims=True)).argmax(1)
    return float(hit[populations[np.arange(draws), place]].mean())


@torch.no_grad()
def main() -> None:
    """Judge, compare, write."""
    given = options(sys.argv[1:], folder="", judges="head,composition", phases="mp", checkpoint="mp_base", particles=32)
    model, _ = load_model(given["checkpoint"])
    samples, truth = labelled(Path(given["folder"]))
    crystals, kept = batches(model, samples)
    truth = truth[kept]
    hit, known = truth <= ASKED.hi, np.isfinite(truth)
    competition, names = load_competition(given["phases"], *STATE), given["judges"].split(",")
    judges = height_judges(names, model, competition.table.energy_scheme)
    record: dict[str, Any] = {"n": len(kept), "labelled": int(known.sum()), "hits": int(hit.sum())}
    for name, panel in [*zip(names, ([j] for j in judges), strict=True), ("all", judges)]:
        guide = GibbsGuide(model, competition, ASKED, panel, dict.fromkeys(STAGES, 1.0))
        for stage in STAGES:
            if not any(stage in judge.stages for judge in panel):
                continue
            log_p = torch.cat([guide.log_p(Seen(stage, batch)) for batch in crystals]).numpy()
            shares = {f"{s:g}": round(chosen(log_p, hit, given["particles"], s), 3) for s in STRENGTHS}
            order = float(-spearmanr(log_p[known], truth[known]).statistic)
            record[f"{name}.{stage}"] = {"rank_correlation": round(order, 3), "hits_by_strength": shares}
    write("height_judges", {**{k: given[k] for k in ("phases", "checkpoint", "particles")}, **record}, speed=False)


if __name__ == "__main__":
    main()
