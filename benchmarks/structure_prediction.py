"""One-shot structure prediction on validation crystals: formula and cell size given, everything else sampled.

    python benchmarks/structure_prediction.py checkpoint=mp_small limit=200 seed=0

Floors with the same matcher stand beside the rate: random free coordinates in the true group, cell and orbits.
Matcher: StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3); RMSE in units of (V/N)^(1/3).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sse_diffusion.core.compose import compose
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.provenance import git_commit
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.datamodule import CrystalDataModule, LoaderConfig
from sse_diffusion.diffusion.generate import sample_batch
from sse_diffusion.diffusion.model import load_model
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.chemistry import Chemistry
from sse_diffusion.thermo.request import Request

MAX_SITES = 20


def match(given: Orbits, proposed: Orbits) -> float:
    """RMSE of the match; NaN when there is none."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    found = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3).get_rms_dist(given.to_structure(), proposed.to_structure())
    return np.nan if found is None else float(found[0])


def random_coordinates(given: Orbits, rng: np.random.Generator) -> Orbits:
    """The true group, cell and orbits with random free coordinates."""
    free = rng.random(given.free.shape) * wyckoff_table().free[given.wyckoff]
    return Orbits(given.group, given.cell, given.species, given.wyckoff, free)


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a rate."""
    p, z = k / n, 1.96
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))


def summarise(rms: np.ndarray) -> dict[str, object]:
    """Counts, rate with interval, and mean RMSE of the matches."""
    k, n = int(np.isfinite(rms).sum()), len(rms)
    tight = int((rms < 0.1).sum())
    return {
        "k": k,
        "n": n,
        "rate": k / n,
        "ci95": wilson(k, n),
        "rmse": float(np.nanmean(rms)) if k else None,
        "k_rmse_below_0.1": tight,
    }


def main(arguments: list[str]) -> None:
    """Sample one crystal per validation formula and compare."""
    from omegaconf import OmegaConf

    given = dict(a.split("=", 1) for a in arguments)
    seed, limit = int(given.get("seed", 0)), int(given.get("limit", 200))
    cfg = compose("train", ["data=mp"])
    data = CrystalDataModule(OmegaConf.to_container(cfg.data, resolve=True), LoaderConfig(cache_dir=cfg.loader.cache_dir))  # type: ignore[arg-type]
    rows = [i for i in data.indices("val") if data.dataset.orbits(i).n_primitive <= MAX_SITES]
    rows = np.random.default_rng(seed).permutation(rows)[:limit].tolist()
    model, stored = load_model(given.get("checkpoint", "mp_small"))
    rng = np.random.default_rng(seed)
    rms, floor, size, started = [], [], [], time.perf_counter()
    for i in tqdm(rows, desc="structure prediction", unit="crystal"):
        crystal = data.dataset.orbits(i)
        formula = {k.symbol: int(v) for k, v in crystal.to_structure().composition.items()}
        request = Request({}, Chemistry(formula=formula, z=(1,)))
        proposed, _ = sample_batch(model, request, torch.tensor([i]), seed, SamplerConfig())
        rms.append(match(crystal, proposed[0]))
        floor.append(match(crystal, random_coordinates(crystal, rng)))
        size.append(crystal.n_primitive)
    small = np.array(size) <= 8
    record = {
        "protocol": __doc__, "checkpoint_sha256": stored.sha256, "seed": seed, "commit": git_commit(),
        "model": summarise(np.array(rms)), "model_up_to_8_sites": summarise(np.array(rms)[small]),
        "model_9_to_20_sites": summarise(np.array(rms)[~small]), "floor_random_coordinates_true_cell": summarise(np.array(floor)),
        "seconds": time.perf_counter() - started,
    }  # fmt: skip
    target = Path(__file__).parent / "results" / "structure_prediction.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({k: record[k] for k in record if k.startswith(("model", "floor"))}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
