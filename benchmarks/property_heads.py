"""How well the property heads judge validation crystals, by how much of the crystal is still noise.

    python benchmarks/property_heads.py [checkpoint=mp_base] [seed=0] [limit=1310]

Discrete stage: the group is known, each element and Wyckoff position is masked with probability t (1: the group alone is known).
Continuous stage: coordinates and cell are noisy, both at time t of their own schedules; everything discrete is known. Nothing is
asked but the state point, which is drawn as in training. Labels are the table's (dG_hull: of its Gibbs hull at that state point).

Explained variance (r2) and coverage of the central 68 % and 95 % intervals are those of the standardised (square root, logarithm)
label, the mean absolute error is in the condition's unit. Written to results/property_heads.json.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from measure import options, training_setup, write
from torch import Tensor
from tqdm import tqdm

from sse_diffusion.diffusion.conductivity_head_scores import HALF_WIDTHS
from sse_diffusion.diffusion.guides.property_guide import judged
from sse_diffusion.diffusion.model import load_model
from sse_diffusion.diffusion.noise_levels import LEVELS, at_level
from sse_diffusion.diffusion.objective import property_labels
from sse_diffusion.thermo.conditions import ConditionSpec


def score(spec: ConditionSpec, label: Tensor, mean: Tensor, std: Tensor) -> dict[str, Any]:
    """Scores of one property at one time over the crystals that have a label."""
    known = ~label.isnan()
    y, mu, s = (v[known].double().numpy() for v in (label, mean, std))
    error = mu - y
    real = np.array([[spec.unstandardise(float(v)) for v in pair] for pair in zip(mu, y, strict=True)])
    return {
        "n": int(known.sum()),
        "r2": round(float(1.0 - (error**2).mean() / y.var()), 3),
        "mae": round(float(np.abs(real[:, 0] - real[:, 1]).mean()), 4),
        **{name: round(float((np.abs(error) <= z * s).mean()), 3) for name, z in HALF_WIDTHS.items()},
    }


@torch.no_grad()
def main() -> None:
    """Judge, score, write."""
    given = options(sys.argv[1:], checkpoint="mp_base", seed=0, limit=1310)
    model, stored = load_model(given["checkpoint"])
    _, data, _, source = training_setup("compile=false", f"conditions=[{','.join(model.specs)}]")
    found: dict[tuple[str, float], list[tuple[Tensor, Tensor, Tensor]]] = {}
    seen = 0
    for batch in tqdm(data.val_dataloader(), desc="validation crystals", unit="batch"):
        if seen >= given["limit"]:
            break
        seen += len(batch)
        label = property_labels(model, batch)
        state = {k: batch.conditions[k] for k, spec in model.specs.items() if spec.of_state_point}
        batch = replace(batch, conditions={**model.null_conditions(len(batch)), **state})
        for stage, times in LEVELS.items():
            for time in times:
                said = judged(model, at_level(model, batch, stage, time, given["seed"]), ())
                found.setdefault((stage, time), []).append((label, said.mean, said.log_std.exp()))
    scores: dict[str, Any] = {}
    for (stage, time), parts in found.items():
        label, mean, std = (torch.cat(column) for column in zip(*parts, strict=True))
        for column, name in enumerate(model.denoiser.property_names):
            at = score(model.specs[name], label[:, column], mean[:, column], std[:, column])
            scores.setdefault(name, {}).setdefault(stage, {})[str(time)] = at
    units = {name: model.specs[name].unit for name in scores}
    record = {**given, "checkpoint_sha256": stored.sha256, "data": source, "split": "val", "units": units, "scores": scores}
    write("property_heads", record, speed=False)


if __name__ == "__main__":
    main()
