"""What each guidance mechanism costs: network evaluations and seconds per crystal, side by side in one process.

    python benchmarks/guidance_cost.py [checkpoint=mp_base] [n=24] [repeats=5]

Every variant samples the same n crystals for the same request (seed 0), after one warm-up of its own; the variants take turns,
so that a change of the machine's load hits all of them. Wall and CPU seconds are medians over the repeats.

- `evaluations_discrete`, `evaluations_continuous`: crystals that the network was given in each stage, per finished crystal,
  padding and redrawn dead ends included (both are paid for).
- `backward`: of the continuous ones, those that were also differentiated.

Without a checkpoint that has a property head, small random weights stand in (`"checkpoint": "random weights"`): evaluations and
ratios then still mean something, seconds do not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from measure import one_core, options, write
from tqdm import tqdm

from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.diffusion.denoiser import DenoiserConfig
from sse_diffusion.diffusion.generate import sample_batch
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.conditions import load_condition_specs
from sse_diffusion.thermo.request import Request, parse_request

STABLE = "gibbs_above_hull_eV_per_atom"
ASK = {"mobile_ion": "Li", "temperature_K": 300, STABLE: "<0.05", "band_gap_eV": ">1", "n_atoms": [2, 24]}
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "classifier_free_one_weight": {"guidance": 2.0, "guidance_continuous": 2.0},
    "classifier_free_two_weights": {"guidance": {STABLE: 3.0}, "guidance_continuous": {STABLE: 3.0}},
    "gradient": {"gradient_strength": 1.0},
    "particles_8_head": {"particles": 8, "phases": None},
    "particles_8_thermodynamics": {"particles": 8},
    "particles_32_thermodynamics": {"particles": 32},
}


def model_with_head(checkpoint: str) -> tuple[CrystalModel, str]:
    """The checkpoint, or random weights where it is missing or has no property head."""
    try:
        model, stored = load_model(checkpoint)
        if model.denoiser.property_names:
            return model, f"{checkpoint} ({stored.sha256[:12]})"
    except CheckpointError:
        pass
    torch.manual_seed(0)
    config = DenoiserConfig(width=64, depth=2, heads=4, pair_width=16, max_orbits=12, properties=True)
    return CrystalModel(config, load_condition_specs()).eval(), "random weights"


@contextmanager
def counted(model: CrystalModel) -> Iterator[dict[str, int]]:
    """Crystals given to the network, by stage."""
    rows = {"discrete": 0, "continuous": 0, "backward": 0}
    discrete, continuous, crystal = model.denoiser.discrete, model.denoiser.continuous, model.denoiser.crystal

    def count_discrete(batch: Any) -> Any:
        rows["discrete"] += len(batch)
        return discrete(batch)

    def count_continuous(batch: Any, *rest: Any) -> Any:
        rows["continuous"] += len(batch)
        return continuous(batch, *rest)

    def count_crystal(batch: Any, *rest: Any) -> Any:  # what property heads read
        rows["continuous" if rest else "discrete"] += len(batch)
        rows["backward"] += len(batch) if batch.free.requires_grad else 0
        return crystal(batch, *rest)

    counters = {"discrete": count_discrete, "continuous": count_continuous, "crystal": count_crystal}
    model.denoiser.__dict__.update(counters)
    try:
        yield rows
    finally:
        for name in counters:
            del model.denoiser.__dict__[name]


def cost(model: CrystalModel, request: Request, config: SamplerConfig, n: int) -> dict[str, float]:
    """One run."""
    with counted(model) as rows:
        wall, cpu = time.perf_counter(), time.process_time()
        sample_batch(model, request, torch.arange(n), 0, config)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    evaluations = {f"evaluations_{k}" if k != "backward" else k: round(v / n, 2) for k, v in rows.items()}
    return {**evaluations, "wall_s": wall / n, "cpu_s": cpu / n}


def main(arguments: list[str]) -> None:
    """Measure and write ``results/guidance_cost.json``."""
    asked = options(arguments, checkpoint="mp_base", n=24, repeats=5)
    one_core()
    model, name = model_with_head(asked["checkpoint"])
    base = build(SamplerConfig, compose("sample").sampler)
    request = parse_request({k: v for k, v in ASK.items() if k in model.specs or k == "n_atoms"}, model.specs)
    configs = {k: replace(base, **changes) for k, changes in VARIANTS.items()}
    runs: dict[str, list[dict[str, float]]] = {k: [] for k in configs}
    for turn in tqdm(range(asked["repeats"] + 1), desc="rounds"):
        for k, config in configs.items():
            once = cost(model, request, config, asked["n"])
            if turn:  # the first warms up
                runs[k].append(once)
    medians = {k: {m: round(float(np.median([r[m] for r in rs])), 5) for m in rs[0]} for k, rs in runs.items()}
    for values in medians.values():
        values["cpu_over_none"] = round(values["cpu_s"] / medians["none"]["cpu_s"], 2)
    write("guidance_cost", {
        "checkpoint": name, "parameters": sum(p.numel() for p in model.parameters()), "n": asked["n"],
        "repeats": asked["repeats"], "seed": 0, "asked": request.to_dict(), "steps": base.steps,
        "refine_steps": base.refine_steps, "per_crystal": medians,
    }, speed=False)  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
