"""Train, calibrate and score the composition-stability predictor; about three minutes of one core."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.provenance import package_versions, sha256_of_file
from sse_diffusion.predictors.ensemble import laplace_nll
from sse_diffusion.predictors.features import composition_features
from sse_diffusion.predictors.stability import TARGETS, Calibration, CompositionStability, StabilityModelConfig, _symbol
from sse_diffusion.predictors.stability_data import SOURCES, LabelledCompositions, read_tables

log = logging.getLogger(__name__)

CALIBRATION_FOLD, TEST_FOLD = 0, 1


@dataclass(frozen=True, kw_only=True)
class StabilityTrainConfig:
    """Choices of a training run.

    Attributes:
        structures, energies, decomposition: paths of the tables, see :func:`stability_data.read_tables`.
        sources: tables that give training labels.
        out: folder of the checkpoint.
        width, depth, members: shape of the ensemble.
        epochs, batch_size, learning_rate, weight_decay: of AdamW with a one-cycle schedule.
        n_folds: whole chemical systems are dealt to this many folds; one calibrates, one tests, the rest trains.
        seed: of weights and batches.
        threads: torch threads.
        progress: show the progress bar.
    """

    structures: str
    energies: str
    decomposition: str
    sources: tuple[str, ...] = SOURCES
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

    def __post_init__(self) -> None:
        """Refuse folds that leave nothing to train on."""
        if self.n_folds < 3:
            raise ConfigError(f"n_folds is {self.n_folds}", "one fold calibrates and one tests: give at least 3")


def train_stability(config: StabilityTrainConfig) -> dict[str, Any]:
    """Train and write the checkpoint; returns the metrics that are also in ``out/metrics.json``.

    Raises:
        ConfigError, DataError: see :func:`stability_data.read_tables`.
    """
    started = time.perf_counter()
    torch.set_num_threads(config.threads)
    rows, val = read_tables(Path(config.structures), Path(config.energies), Path(config.decomposition), config.sources)
    fold = rows.fold(config.n_folds)
    train, held, test = rows.take(fold > TEST_FOLD), rows.take(fold == CALIBRATION_FOLD), rows.take(fold == TEST_FOLD)
    if not (len(train) and len(held) and len(test)):
        raise ConfigError("a fold is empty", "use more data or fewer folds")
    predictor = fit(train, config)
    predictor = CompositionStability(predictor.model, predictor.config, calibrate(predictor, held, train), predictor.table)
    recipe = {k: v for k, v in asdict(config).items() if k not in ("out", "threads", "progress")}
    recipe |= {k: Path(recipe[k]).name for k in SOURCES}
    predictor.save(config.out, recipe)
    weights = Path(config.out) / "weights.safetensors"
    metrics = {
        "protocol": PROTOCOL,
        "command": "python scripts/train_stability.py",
        "rows": {"train": len(train), "calibration": len(held), "val": len(val), "test_new_systems": len(test)},
        "val": score(predictor, val),
        "test_new_systems": score(predictor, test),
        "weights_sha256": sha256_of_file(weights),
        "weights_bytes": weights.stat().st_size,
        "seconds": round(time.perf_counter() - started, 1),
        "versions": package_versions(),
    }
    write_json_atomically(Path(config.out) / "metrics.json", metrics)
    return metrics


PROTOCOL = (
    "Truth: lowest energy above the MP hull per reduced formula, eV/atom, never negative. val: compositions of the structure "
    "table's val split (no reduced formula in training; chemical systems may be; epochs and sources were chosen on it). "
    "test_new_systems: whole chemical systems kept out of training and calibration; it holds the unstable "
    "compositions that MP-20 lacks. No composition of MP-20's test split is used anywhere. spearman ranks the uncut "
    "prediction; spearman_unstable over rows more than 1 meV above the hull; auc_0.05: chance that a composition within 0.05 "
    "eV/atom is ranked below one that is not; mae_constant: the median of the same rows as prediction."
)


def fit(train: LabelledCompositions, config: StabilityTrainConfig) -> CompositionStability:
    """Maximise the likelihood of the labels; every member sees its own order of batches."""
    shape = StabilityModelConfig(width=config.width, depth=config.depth, members=config.members)
    predictor = CompositionStability.untrained(shape, config.seed)
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
    for _ in tqdm(range(config.epochs), desc="train stability", unit="epoch", disable=not config.progress):
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
        log.debug("loss %.4f", loss.item() / config.members)
    model.eval()
    return predictor


def _targets(rows: LabelledCompositions) -> tuple[Tensor, Tensor, Tensor]:
    """Labels with gaps at 0, 1 where a label is known, and the censoring flags; all (n, 2)."""
    labels = torch.from_numpy(rows.labels).float()
    censored = torch.zeros_like(labels, dtype=torch.bool)
    censored[:, 0] = torch.from_numpy(rows.censored)
    return labels.nan_to_num(0.0), labels.isfinite().float(), censored


def calibrate(predictor: CompositionStability, held: LabelledCompositions, train: LabelledCompositions) -> Calibration:
    """Conformal scales from the held fold; widths for the unknown from the training labels."""
    mean, deviation = predictor.distributions(held.compositions)
    rules: dict[str, dict[str, float]] = {"scale_68": {}, "scale_95": {}, "prior_95": {}}
    for column, target in enumerate(TARGETS):
        truth = _truth(held.labels[:, column], target)
        scores = _misses(mean[:, column], truth, target) / deviation[:, column]
        labels = _truth(train.labels[:, column], target)
        spread = np.abs(labels - np.nanmedian(labels))
        rules["prior_95"][target] = float(np.nanquantile(spread, 0.95))
        for level, name in ((0.68, "68"), (0.95, "95")):
            rules[f"scale_{name}"][target] = _conformal_quantile(scores, level)
    counts = Counter(_symbol(z) for composition in train.compositions for z in composition)
    return Calibration(**rules, element_counts=dict(sorted(counts.items())))


def _conformal_quantile(scores: NDArray[np.float64], level: float) -> float:
    """The ceil((n + 1) level)-th smallest score: covers a new exchangeable row with probability >= level."""
    known = np.sort(scores[np.isfinite(scores)])
    return float(known[min(int(np.ceil((len(known) + 1) * level)), len(known)) - 1])


def _truth(labels: NDArray[np.float64], target: str) -> NDArray[np.float64]:
    return np.maximum(labels, 0.0) if target == "energy_above_hull" else labels


def _misses(mean: NDArray[np.float64], truth: NDArray[np.float64], target: str) -> NDArray[np.float64]:
    """Half-width that an interval about ``mean``, cut at 0 for the hull, needs to hold ``truth``."""
    misses = np.abs(mean - truth)
    return np.where(truth <= 0.0, np.maximum(mean, 0.0), misses) if target == "energy_above_hull" else misses


def score(predictor: CompositionStability, rows: LabelledCompositions) -> dict[str, dict[str, float]]:
    """Errors, ranking and coverage per target."""
    mean, deviation = predictor.distributions(rows.compositions)
    return {
        target: _score_target(predictor.calibration, target, mean[:, c], deviation[:, c], _truth(rows.labels[:, c], target))
        for c, target in enumerate(TARGETS)
    }


def _score_target(
    rules: Calibration, target: str, mean: NDArray[np.float64], deviation: NDArray[np.float64], truth: NDArray[np.float64]
) -> dict[str, float]:
    from scipy.stats import mannwhitneyu, spearmanr

    known = np.isfinite(truth)
    mean, deviation, truth = mean[known], deviation[known], truth[known]
    misses = _misses(mean, truth, target) / deviation
    hull = target == "energy_above_hull"
    result = {
        "n": len(truth),
        "mae_eV_per_atom": float(np.abs((np.maximum(mean, 0.0) if hull else mean) - truth).mean()),
        "mae_constant_eV_per_atom": float(np.abs(truth - np.median(truth)).mean()),
        "spearman": float(spearmanr(mean, truth)[0]),
        "coverage_68": float((misses <= rules.scale_68[target]).mean()),
        "coverage_95": float((misses <= rules.scale_95[target]).mean()),
        "median_half_width_68_eV_per_atom": float(np.median(rules.scale_68[target] * deviation)),
    }
    if hull:
        unstable, near = truth > 1e-3, truth <= 0.05
        result["n_unstable"] = int(unstable.sum())
        result["spearman_unstable"] = float(spearmanr(mean[unstable], truth[unstable])[0])
        if near.any() and not near.all():
            wins = mannwhitneyu(mean[~near], mean[near]).statistic
            result["auc_0.05"] = float(wins / (near.sum() * (~near).sum()))
    return {k: round(v, 5) for k, v in result.items()}
