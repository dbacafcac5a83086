"""Sampling speed on one core, from noise to pymatgen structures, at the default sampler setting.

    python benchmarks/sampling.py [checkpoint=mp_base] [n=256] [repeats=3] [per_size=32]

Two rates:

- `sample_crystals_per_min_per_core`: `sse sample` without a request. The sizes are what the checkpoint draws; their histogram is
  listed beside the training table's.
- `sample_table_sizes_crystals_per_min_per_core`: exactly the table's histogram of atoms, whatever the checkpoint draws. The
  numbers of orbits of random training crystals go to the discrete stage, the discrete parts of the same crystals to the whole
  continuous stage; nothing else of those crystals is used.

`sample_s_<N>_atoms` is the cost per crystal when N atoms are asked for (crystals of another size are drawn again, at their cost).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from measure import histogram, one_core, options, peak_memory_gb, training_setup, write
from tqdm import tqdm

from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ChemistryError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.data.dataset import OrbitDataset
from sse_diffusion.diffusion.decode import decode, draw_size
from sse_diffusion.diffusion.generate import sample_batch, similar_sizes
from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.diffusion.samplers import SamplerConfig, sampler
from sse_diffusion.thermo.chemistry import Chemistry
from sse_diffusion.thermo.request import Request

SIZES = (5, 10, 20, 40, 52)


@torch.no_grad()
def sample_like(model: CrystalModel, dataset: OrbitDataset, rows: np.ndarray, config: SamplerConfig, seed: int) -> list[Orbits]:
    """As many crystals as ``rows``, paying for both stages at the sizes of those rows (see the module)."""
    chemistry, size, made = HardChemistry.from_chemistry(Chemistry()), torch.from_numpy(dataset.n_orbits[rows]), []
    nulls = model.null_conditions(len(rows))
    draw_size(model, nulls, chemistry, seed, torch.arange(len(rows)), config.guidance, config.temperature)
    for index in similar_sizes(size, config.batch_tokens):
        known = {k: v[: len(index)] for k, v in nulls.items()}
        decode(model, known, chemistry, seed, index, size[index], config.guidance, config.temperature)
        batch = dataset.__getitems__(rows[index.numpy()].tolist()).with_(conditions=known)
        made += sampler(config.name)(model, batch, config, seed, index).to_orbits()
    return made


def timed(make: Callable[[int], list[Orbits]], repeats: int, label: str) -> tuple[float, float, float, list[Orbits]]:
    """Medians over repeats of wall, CPU and conversion seconds for one call, and the last crystals."""
    runs, crystals = [], []
    for seed in tqdm(range(repeats), desc=label):
        start, cpu = time.perf_counter(), time.process_time()
        crystals = make(seed)
        sampled = time.perf_counter()
        for crystal in crystals:
            crystal.to_structure()
        end = time.perf_counter()
        runs.append((end - start, time.process_time() - cpu, end - sampled))
    wall, cpu_s, convert = np.median(np.array(runs), axis=0).tolist()
    return wall, cpu_s, convert, crystals


def by_atoms(model: CrystalModel, config: SamplerConfig, n: int, repeats: int) -> dict[str, float | None]:
    """Seconds per crystal of each size, ``None`` where the model does not get there, and the growth from 10 to 40 atoms."""
    cost: dict[str, float | None] = {}
    for size in SIZES:
        request = Request({}, Chemistry(n_atoms=(size, size)))
        try:
            make = partial(lambda seed, r: sample_batch(model, r, torch.arange(n), seed, config)[0], r=request)
            cost[f"sample_s_{size}_atoms"] = round(timed(make, repeats, f"{size} atoms")[0] / n, 5)
        except ChemistryError:
            cost[f"sample_s_{size}_atoms"] = None
    ten, forty = cost["sample_s_10_atoms"], cost["sample_s_40_atoms"]
    return {**cost, "sample_cost_growth_10_to_40_atoms": round(forty / ten, 2) if ten and forty else None}


def main(arguments: list[str]) -> None:
    """Sample and write the rates."""
    asked = options(arguments, checkpoint="mp_base", n=256, repeats=3, per_size=32)
    n, repeats = asked["n"], asked["repeats"]
    one_core()
    model, stored = load_model(asked["checkpoint"])
    config = build(SamplerConfig, compose("sample").sampler)
    _, data, _, table = training_setup("diffusion/denoiser@denoiser=tiny")
    dataset, rows = data.dataset, data.indices("train")
    atoms = np.array([dataset.orbits(i).n_primitive for i in rows])
    like = np.random.default_rng(0).permutation(rows)[:n]
    request, index = Request({}, Chemistry()), torch.arange(n)
    wall, cpu, convert, crystals = timed(lambda seed: sample_batch(model, request, index, seed, config)[0], repeats, "free")
    like_wall, like_cpu, *_ = timed(lambda seed: sample_like(model, dataset, like, config, seed), repeats, "table sizes")
    write("sampling", {
        "sample_crystals_per_min_per_core": round(60 * n / wall, 1),
        "sample_crystals_per_cpu_min": round(60 * n / cpu, 1),
        "sample_table_sizes_crystals_per_min_per_core": round(60 * len(like) / like_wall, 1),
        "sample_table_sizes_crystals_per_cpu_min": round(60 * len(like) / like_cpu, 1),
        "nfe": config.steps, "sampler": config.name, "checkpoint": asked["checkpoint"], "checkpoint_sha256": stored.sha256,
        "sample_parameters": sum(p.numel() for p in model.parameters()), "sample_n": n, "sample_table": table,
        "sample_atoms": histogram(np.array([c.n_primitive for c in crystals])), "table_atoms": histogram(atoms),
        "convert_crystals_per_s": round(n / convert, 1), "convert_share_of_time": round(convert / wall, 4),
        **by_atoms(model, config, asked["per_size"], repeats),
        "peak_memory_gb": round(peak_memory_gb(), 3),
    })  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
