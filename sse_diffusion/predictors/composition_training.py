"""Train, calibrate and score a predictor that knows the composition only; a few minutes of one core."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.core.provenance import package_versions, sha256_of_file
from sse_diffusion.predictors.composition import Calibration, CompositionModelConfig, CompositionPredictor, Target, symbol_of
from sse_diffusion.predictors.composition_data import LabelledCompositions
from sse_diffusion.predictors.composition_scores import misses, score_target, truth
from sse_diffusion.predictors.conformal import conformal_quantile
from sse_diffusion.predictors.ensemble import laplace_nll
from sse_diffusion.predictors.features import composition_features
from sse_diffusion.predictors.tracking import Tracker, track
from sse_diffusion.predictors.training_index import TrainingIndex

CALIBRATION_FOLD, TEST_FOLD = 0, 1
PROPERTIES = {
    "stability": "sse_diffusion.predictors.stability_data:RECIPE",
    "band_gap": "sse_diffusion.predictors.band_gap_data:RECIPE",
}
"""Property -> its :class:`Recipe`."""


@dataclass(frozen=True, kw_only=True)
class CompositionTrainConfig:
    """Choices of a training run.

    Attributes:
        property: one of :data:`PROPERTIES`.
        structures, energies, decomposition: paths of the tables, as far as the property's recipe reads them.
        sources: tables that give training labels.
        out: folder of the checkpoint.
        width, depth, members: shape of the ensemble.
        epochs, batch_size, learning_rate, weight_decay: of AdamW with a one-cycle schedule.
        n_folds: whole chemical systems are dealt to this many folds; one calibrates, one tests, the rest trains.
        seed: of weights and batches.
        threads: torch threads.
        progress: show the progress bar.
        wandb: offline, online or disabled.
    """

    property: str
    structures: str
    energies: str
    decomposition: str = ""
    sources: tuple[str, ...] = ("structures", "energies")
    out: str
    width: int = 192
    depth: int = 2
    members: int = 5
    epochs: int = 40
    batch_size: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 0.03
    n_folds: int = 20
    seed: int = 0
    threads: int = 1
    progress: bool = True
    wandb: str = "offline"

    def __post_init__(self) -> None:
        """Refuse unknown properties, and folds that leave nothing to train on."""
        if self.property not in PROPERTIES:
            raise ConfigError(f"unknown property {self.property!r}", did_you_mean(self.property, PROPERTIES))
        if self.n_folds < 3:
            raise ConfigError(f"n_folds is {self.n_folds}", "one fold calibrates and one tests: give at least 3")


@dataclass(frozen=True)
class Recipe:
    """What a property adds to the common training.

    Attributes:
        predictor: the class that is trained.
        read: training and validation rows; raises ConfigError or DataError.
        protocol: what the numbers of ``metrics.json`` mean.
        above: what a row above the first target's floor is called.
        near: the first target's rows at or below this are told from the others by ``auc_<near>``.
    """

    predictor: type[CompositionPredictor]
    read: Callable[[CompositionTrainConfig], tuple[LabelledCompositions, LabelledCompositions]]
    protocol: str
    above: str
    near: float


def recipe_of(name: str) -> Recipe:
    """The recipe of a property."""
    module, _, attribute = PROPERTIES[name].partition(":")
    recipe: Recipe = getattr(import_module(module), attribute)
    return recipe


def train_composition(config: CompositionTrainConfig) -> dict[str, Any]:
    """Train and write the checkpoint; returns the metrics that are also in ``out/metrics.json``.

    Raises:
        ConfigError, DataError: the tables cannot be used.
    """
    started = time.perf_counter()
    torch.set_num_threads(config.threads)
    recipe = recipe_of(config.property)
    rows, val = recipe.read(config)
    fold = rows.fold(config.n_folds)
    train, held, test = rows.take(fold > TEST_FOLD), rows.take(fold == CALIBRATION_FOLD), rows.take(fold == TEST_FOLD)
    if not (len(train) and len(held) and len(test)):
        raise ConfigError("a fold is empty", "use more data or fewer folds")
    choices = {k: v for k, v in asdict(config).items() if k not in ("out", "threads", "progress", "wandb")}
    choices |= {k: Path(choices[k]).name for k in ("structures", "energies", "decomposition")}
    with track(config.out, choices, config.wandb) as tracker:
        predictor = fit(recipe.predictor, train, config, tracker)
        predictor.calibration = calibrate(predictor, held, train)
        scores = {"val": score(predictor, val, recipe), "test_new_systems": score(predictor, test, recipe)}
        tracker.log(scores)
    predictor.trained = TrainingIndex.of_formulas([*train.formulas, *held.formulas])
    predictor.save(config.out, choices)
    weights = Path(config.out) / "weights.safetensors"
    metrics = {
        "protocol": recipe.protocol,
        "command": f"sse train experiment=predictor_{recipe.predictor.kind}",
        "rows": {"train": len(train), "calibration": len(held), "val": len(val), "test_new_systems": len(test)},
        **scores,
        "weights_sha256": sha256_of_file(weights),
        "weights_bytes": weights.stat().st_size,
        "seconds": round(time.perf_counter() - started, 1),
        "versions": package_versions(),
    }
    write_json_atomically(Path(config.out) / "metrics.json", metrics)
    return metrics


def training_index(config: CompositionTrainConfig) -> TrainingIndex:
    """The compositions that a run with this configuration trains and calibrates on."""
    rows, _ = recipe_of(config.property).read(config)
    return TrainingIndex.of_formulas(rows.take(rows.fold(config.n_folds) != TEST_FOLD).formulas)


def fit(
    kind: type[CompositionPredictor], train: LabelledCompositions, config: CompositionTrainConfig, tracker: Tracker
) -> CompositionPredictor:
    """Maximise the likelihood of the labels; every member sees its own order of batches."""
    shape = CompositionModelConfig(width=config.width, depth=config.depth, members=config.members)
    predictor = kind.untrained(shape, config.seed)
    model = predictor.model.train()
    features = torch.from_numpy(composition_features(train.compositions, predictor.table))
    model.feature_mean.copy_(features.mean(0))
    model.feature_std.copy_(features.std(0).clamp(min=1e-3))
    labels, known, censored = _targets(train)
    batch = min(config.batch_size, len(train))
    steps = len(train) // batch
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, config.epochs * steps, pct_start=0.15)
    generator = torch.Generator().manual_seed(config.seed)
    for _ in tqdm(range(config.epochs), desc=f"train {config.property}", unit="epoch", disable=not config.progress):
        order = torch.stack([torch.randperm(len(train), generator=generator) for _ in range(config.members)])
        for k in range(steps):
            rows = order[:, k * batch : (k + 1) * batch]
            mu, log_scale = model(features[rows])
            losses = laplace_nll(mu, log_scale, labels[rows], censored[rows]) * known[rows]
            loss = losses.mean((1, 2)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        tracker.log({"train/nll": loss.item() / config.members})
    model.eval()
    return predictor


def _targets(rows: LabelledCompositions) -> tuple[Tensor, Tensor, Tensor]:
    """Labels with gaps at 0, 1 where a label is known, and the censoring flags; all (n, targets)."""
    labels = torch.from_numpy(rows.labels).float()
    censored = torch.zeros_like(labels, dtype=torch.bool)
    censored[:, 0] = torch.from_numpy(rows.censored)
    return labels.nan_to_num(0.0), labels.isfinite().float(), censored


def calibrate(predictor: CompositionPredictor, held: LabelledCompositions, train: LabelledCompositions) -> Calibration:
    """Conformal scales from the held fold; widths for the unknown from the training labels."""
    mean, deviation = predictor.distributions(held.compositions)
    rules: dict[str, dict[str, float]] = {"scale_68": {}, "scale_95": {}, "prior_95": {}}
    for column, target in enumerate(predictor.targets):
        scores = misses(mean[:, column], truth(held.labels[:, column], target), target) / deviation[:, column]
        labels = truth(train.labels[:, column], target)
        spread = np.abs(labels - np.nanmedian(labels))
        rules["prior_95"][target.name] = float(np.nanquantile(spread, 0.95))
        for level, name in ((0.68, "68"), (0.95, "95")):
            rules[f"scale_{name}"][target.name] = conformal_quantile(scores, level)
    counts = Counter(symbol_of(z) for composition in train.compositions for z in composition)
    return Calibration(**rules, element_counts=dict(sorted(counts.items())))


def score(predictor: CompositionPredictor, rows: LabelledCompositions, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Errors, ranking and coverage per target."""
    mean, deviation = predictor.distributions(rows.compositions)

    def scored(column: int, target: Target) -> dict[str, Any]:
        above = recipe.above if column == 0 else ""
        predicted = mean[:, column], deviation[:, column]
        return score_target(predictor.calibration, target, *predicted, rows.labels[:, column], above, recipe.near)

    return {target.name: scored(column, target) for column, target in enumerate(predictor.targets)}
