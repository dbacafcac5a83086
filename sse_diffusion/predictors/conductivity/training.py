"""Train the conductivity predictor: grouped cross-validation first, then all rows; a few minutes of one core."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.provenance import package_versions, sha256_of_file
from sse_diffusion.predictors.conductivity.crossval import cross_validate, make_folds, scored
from sse_diffusion.predictors.conductivity.inputs import Inputs, inputs_of
from sse_diffusion.predictors.conductivity.model import ConductivityModel, ConductivityModelConfig, observations_of
from sse_diffusion.predictors.conductivity.predictor import ConductivityPredictor, domain_features, measured_domain
from sse_diffusion.predictors.conductivity.scores import score
from sse_diffusion.predictors.conductivity.soft_labels import read_soft_labels
from sse_diffusion.predictors.conductivity.tables import ConductivityRow, read_conductivities
from sse_diffusion.predictors.tracking import track

OBELIX, LIVERPOOL = "obelix", "liverpool"
PROTOCOL = (
    "Out-of-fold numbers. obelix: 5 folds of rows that share neither paper (DOI) nor composition; liverpool: 5 folds of papers, "
    "at the temperatures of the table. Rows of the other table train where they share no paper and no composition with the test "
    "fold. Hyperparameters, member weights and interval scales are chosen on the training rows of each fold (inner groups). "
    "log10 of S/cm. mae: against the number in the table, <1E-10 as 1e-10; mae_censored: everything at or below 1e-10 counts as "
    "1e-10; mae_limit_as_1e_15: <1E-10 as 1e-15, the convention of the OBELiX paper; mae_with_cif: rows with a structure. "
    "coverage: a row below a limit is covered when the interval reaches it. nll: censored, sd = 68 % half-width. "
    "enrichment_top10: share above 1e-4 S/cm in the top tenth over base_rate (it cannot exceed 1 / base_rate). ci95: bootstrap "
    "over groups."
)
DISTANCE_BINS = (0.0, 25.0, 50.0, 75.0, 90.0, 100.1)


@dataclass(frozen=True, kw_only=True)
class ConductivityTrainConfig:
    """Choices of a training run.

    Attributes:
        obelix, obelix_cifs: table with OBELiX's columns, and zip or folder of its CIFs (empty: none).
        liverpool: table with Liverpool's columns; empty: none.
        soft_labels: tables of soft labels (conductivities of dynamics); each has an offset of its own.
        out: folder of the checkpoint.
        model: of the members and the stack.
        n_folds: of the cross-validation; 0: none.
        seed: of the folds.
        threads: torch threads.
        progress: show progress bars.
        wandb: offline, online or disabled.
    """

    obelix: str
    obelix_cifs: str = ""
    liverpool: str = ""
    soft_labels: tuple[str, ...] = ()
    out: str
    model: ConductivityModelConfig = field(default_factory=ConductivityModelConfig)
    n_folds: int = 5
    seed: int = 0
    threads: int = 1
    progress: bool = True
    wandb: str = "offline"


def train_conductivity(config: ConductivityTrainConfig) -> dict[str, Any]:
    """Train and write the checkpoint; returns what is also in ``out/metrics.json``.

    Raises:
        ConfigError, DataError: the tables cannot be used.
    """
    started = time.perf_counter()
    torch.set_num_threads(config.threads)
    rows = read_conductivities(config.obelix, config.obelix_cifs or None, OBELIX)
    rows += read_conductivities(config.liverpool, source=LIVERPOOL) if config.liverpool else []
    rows += [row for path in config.soft_labels for row in read_soft_labels(path)]
    inputs = inputs_of(rows, config.progress)
    choices = {k: v for k, v in asdict(config).items() if k not in ("out", "threads", "progress", "wandb")}
    choices |= {k: Path(choices[k]).name for k in ("obelix", "obelix_cifs", "liverpool")}
    choices["soft_labels"] = [Path(path).name for path in config.soft_labels]
    with track(config.out, choices, config.wandb) as tracker:
        scores = _cross_validated(rows, inputs, config) if config.n_folds else {}
        tracker.log(scores)
        model = ConductivityModel.fit(inputs, observations_of(rows), config.model)
        predictor = ConductivityPredictor.of(model, rows, inputs)
        predictor.save(config.out, choices)
        weights = Path(config.out) / "weights.safetensors"
        metrics = {
            "protocol": PROTOCOL,
            "command": "sse train experiment=predictor_conductivity",
            "rows": dict(Counter(row.source for row in rows)),
            "stack": asdict(model.stack),
            **scores,
            "weights_sha256": sha256_of_file(weights),
            "weights_bytes": weights.stat().st_size,
            "seconds": round(time.perf_counter() - started, 1),
            "versions": package_versions(),
        }
        tracker.log({"seconds": metrics["seconds"]})
    write_json_atomically(Path(config.out) / "metrics.json", metrics)
    return metrics


def _cross_validated(rows: Sequence[ConductivityRow], inputs: Inputs, config: ConductivityTrainConfig) -> dict[str, Any]:
    """Scores per table, and the error by distance from the training data."""
    result: dict[str, Any] = {}
    for table, grouping in ((OBELIX, "paper and composition"), (LIVERPOOL, "paper")):
        if not any(row.source == table for row in rows):
            continue
        folds = make_folds(rows, table, grouping, config.n_folds, config.seed)
        forecast = cross_validate(rows, inputs, folds, config.model, config.progress)
        tested = np.concatenate([fold.test for fold in folds])
        sample = scored(rows, forecast, tested)
        percentile = np.full(len(rows), np.nan)
        for fold in folds:
            domain = measured_domain(inputs.take(fold.train), observations_of([rows[i] for i in fold.train]))
            percentile[fold.test] = domain.percentile(domain.distance(domain_features(inputs.take(fold.test))))
        result[table] = score(sample)
        result[table]["error_by_domain_percentile"] = _binned(percentile[tested], np.abs(sample.value - sample.truth))
    return result


def _binned(percentile: np.ndarray, error: np.ndarray) -> list[dict[str, float]]:
    """Mean error per bin of the distance's percentile."""
    bins = []
    for low, high in pairwise(DISTANCE_BINS):
        inside = error[(percentile >= low) & (percentile < high)]
        mean = round(float(inside.mean()), 3) if len(inside) else np.nan
        bins.append({"from": low, "to": min(high, 100.0), "n": len(inside), "mae": mean})
    return bins
