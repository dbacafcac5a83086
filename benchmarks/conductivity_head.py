"""The conductivity head against measurements that neither it nor its teacher has seen, by level of masking or noise.

    python benchmarks/conductivity_head.py [trunk=mp_base] [draws=24]

Folds of reduced formulas over all lithium crystals of the table. For each the teacher is fitted again without the measurements
of the fold's compositions and without the papers they come from; it labels the other crystals, the head is trained on those, and
both are asked for the fold. `teacher_mae` is then out of sample, too.
Writes results/conductivity_head.json.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from measure import options, write
from tqdm import tqdm

from sse_diffusion.core.compose import compose
from sse_diffusion.core.task import prepare_task
from sse_diffusion.data.grouped import composition_key, connected_groups, grouped_folds
from sse_diffusion.diffusion.conductivity_head_scores import score
from sse_diffusion.diffusion.conductivity_head_training import compositions_of, lithium_crystals, out_of_fold
from sse_diffusion.diffusion.conductivity_labels import ConductivityLabels, label_compositions, near_room_temperature
from sse_diffusion.predictors.conductivity.inputs import inputs_of
from sse_diffusion.predictors.conductivity.model import ConductivityModel, observations_of
from sse_diffusion.predictors.conductivity.predictor import ConductivityPredictor
from sse_diffusion.predictors.conductivity.tables import ConductivityRow, read_conductivities


def without(rows: list[ConductivityRow], keys: set[str]) -> list[ConductivityRow]:
    """The measurements that share neither composition nor paper with these compositions."""
    papers = {row.doi for row in rows if row.key in keys and row.doi}
    return [row for row in rows if row.key not in keys and row.doi not in papers]


def teacher_of(rows: list[ConductivityRow]) -> ConductivityPredictor:
    """A conductivity predictor fitted to these measurements, at 300 K."""
    inputs = inputs_of(rows)
    return ConductivityPredictor.of(ConductivityModel.fit(inputs, observations_of(rows)), rows, inputs)


def merged(parts: list[ConductivityLabels], fold: np.ndarray, **fields: np.ndarray) -> ConductivityLabels:
    """Each row's labels from its own fold's part."""
    chosen = {k: np.stack([getattr(p, k) for p in parts])[fold, np.arange(len(fold))] for k in vars(parts[0])}
    return ConductivityLabels(**{**chosen, **fields})


def main() -> None:
    """Fit, judge, score, write."""
    given = options(sys.argv[1:], trunk="mp_base", draws=24)
    _, config = prepare_task(compose("experiment/predictor_conductivity_head"))
    config = replace(config, trunk=given["trunk"], draws=given["draws"])
    torch.set_num_threads(config.threads)
    data, features, objective, _ = lithium_crystals(config)
    tokens, levels = features.in_training(objective, config.draws, config.seed), features.at_levels(config.seed)
    compositions = compositions_of(data, features.rows)
    keys = np.array([composition_key(c.get_el_amt_dict()) for c in compositions])
    fold = grouped_folds(connected_groups([c.reduced_formula for c in compositions]), config.n_folds, config.seed)
    rows = [row for path in config.measured for row in read_conductivities(path)]
    parts = []
    for k in tqdm(range(config.n_folds), desc="teachers", unit="fold"):
        others = without(rows, set(keys[fold == k]) & {row.key for row in rows})
        parts.append(label_compositions(compositions, teacher_of(others), others))
    known = near_room_temperature(rows)
    measured = np.array([known.get(key, (np.nan, np.nan))[0] for key in keys])
    labels = merged(parts, fold, measured=measured)
    scores = score(out_of_fold(tokens, levels, parts, fold, config), labels)
    record: dict[str, Any] = {"trunk": given["trunk"], "draws": config.draws, "folds": config.n_folds, "seed": config.seed}
    record["measured_formulas"] = len(set(keys[~np.isnan(measured)]))
    record["measured_outside_domain"] = int((~labels.in_domain & ~np.isnan(measured)).sum())
    write("conductivity_head", {**record, "scores": scores}, speed=False)


if __name__ == "__main__":
    main()
