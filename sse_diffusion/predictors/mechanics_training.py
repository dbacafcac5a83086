"""Train, cross-validate, calibrate and ship the mechanics predictor."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.provenance import git_commit, package_versions, sha256_of_file
from sse_diffusion.data.grouped import check_no_leakage, connected_groups, grouped_folds, quantile_bins
from sse_diffusion.data.tables import find_table
from sse_diffusion.predictors.boosted_trees import TreesConfig, fit_trees
from sse_diffusion.predictors.composition import symbol_of
from sse_diffusion.predictors.conformal import LEVELS, conformal_quantile
from sse_diffusion.predictors.descriptors.table import DescriptorTable, describe
from sse_diffusion.predictors.domain import DomainDistance
from sse_diffusion.predictors.mechanics import (
    FRACTIONS,
    LEARNT,
    PROPERTIES,
    YOUNG,
    MechanicsCalibration,
    MechanicsModel,
    MechanicsPredictor,
    youngs_modulus,
    youngs_scale,
)
from sse_diffusion.predictors.mechanics_data import SOURCES, ElasticRows, read_elastic_tables
from sse_diffusion.predictors.mechanics_scores import score_folds
from sse_diffusion.predictors.tracking import Tracker, track
from sse_diffusion.predictors.training_index import TrainingIndex

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
PROTOCOL = (
    "Folds of all rows of the three tables; rows of one reduced composition (by_composition) or of one chemical system "
    "(by_chemical_system) are in one fold, whatever their table, so no test row has a sibling in its training rows. Structures "
    "as in the tables (relaxed by DFT). Errors are of log10; what was tuned is in docs/mechanics.md. Coverage: quantiles from "
    "the other folds. Numbers in threes: mean and its 95 % interval, bootstrap over groups."
)


@dataclass(frozen=True, kw_only=True)
class ScaleTreesConfig(TreesConfig):
    """Of the expected errors, whose signal is weak: fewer and smaller trees."""

    num_iterations: int = 120
    num_leaves: int = 15
    min_data_in_leaf: int = 30


@dataclass(frozen=True, kw_only=True)
class MechanicsTrainConfig:
    """Choices of a training run.

    Attributes:
        elastic_tensors, binaries, aflow: tables (docs/mechanics.md).
        out: folder of the checkpoint and of ``metrics.json``.
        trees: of the means.
        scale_trees: of the expected errors.
        n_folds: of the cross-validation that calibrates and scores.
        by_system: also score folds of whole chemical systems (as long again).
        domain_rows: training crystals that the distance to the domain keeps.
        domain_limit: percentile of the distance from which a crystal is outside the domain.
        seed: of folds and trees.
        threads: of LightGBM.
        progress: show progress bars.
        wandb: ``offline``, ``online`` or ``disabled``.
    """

    elastic_tensors: str
    binaries: str
    aflow: str
    out: str
    trees: TreesConfig = field(default_factory=TreesConfig)
    scale_trees: ScaleTreesConfig = field(default_factory=ScaleTreesConfig)
    n_folds: int = 5
    by_system: bool = True
    domain_rows: int = 3000
    domain_limit: float = 99.0
    seed: int = 0
    threads: int = 1
    progress: bool = True
    wandb: str = "offline"


@dataclass(frozen=True)
class OutOfFold:
    """What the ensembles of a cross-validation say about rows that they did not see.

    Attributes:
        folds: (n,) fold of each row.
        groups: (n,) group of each row; folds keep groups whole.
        mean, scale: (n, len(PROPERTIES)) predicted log10 and expected |error| of it.
        labels: (n, len(PROPERTIES)); NaN where unknown.
        far: (n,) percentile of the distance to the training rows of the fold (:class:`DomainDistance`).
    """

    folds: NDArray[np.int64]
    groups: NDArray[np.int64]
    mean: Array
    scale: Array
    labels: Array
    far: Array


def train_mechanics(config: MechanicsTrainConfig) -> dict[str, Any]:
    """Cross-validate, calibrate on the out-of-fold errors, fit on everything and write the checkpoint; returns the metrics."""
    choices = {k: v for k, v in asdict(config).items() if k not in ("out", "progress", "wandb")}
    with track(config.out, choices, config.wandb) as tracker:
        return _train(config, tracker)


def _train(config: MechanicsTrainConfig, tracker: Tracker) -> dict[str, Any]:
    start = time.perf_counter()
    paths = {name: getattr(config, name) for name in SOURCES}
    rows = read_elastic_tables(paths, config.progress)
    table = describe(rows.structures, progress=config.progress)
    columns, features, position = tree_inputs(table, rows)
    keys = {"by_composition": rows.compositions}
    if config.by_system:
        keys["by_chemical_system"] = rows.chemical_systems
    runs = {name: cross_validate(features, position, rows.labels, key, config, name) for name, key in keys.items()}
    predictor = _fit(table, columns, features, position, rows, runs["by_composition"], config)
    metrics: dict[str, Any] = {"protocol": PROTOCOL, "rows": dict(Counter(list(SOURCES)[s] for s in rows.source.tolist()))}
    metrics |= {name: score_folds(run, rows, table) for name, run in runs.items()}
    tracker.log({name: metrics[name] for name in runs})
    metrics |= {"seconds": round(time.perf_counter() - start), "commit": git_commit(), "packages": package_versions()}
    predictor.trained = TrainingIndex.of(rows.compositions)
    predictor.save(config.out, {"config": asdict(config), "tables": {n: sha256_of_file(find_table(p)) for n, p in paths.items()}})
    write_json_atomically(Path(config.out) / "metrics.json", metrics)
    return metrics


def training_index(config: MechanicsTrainConfig) -> TrainingIndex:
    """The compositions that a run with this configuration trains on."""
    return TrainingIndex.of(read_elastic_tables({name: getattr(config, name) for name in SOURCES}, config.progress).compositions)


def tree_inputs(table: DescriptorTable, rows: ElasticRows) -> tuple[tuple[str, ...], Array, Array]:
    """Columns that vary, (n, d + 1) features of the trees (the last says whether a row is AFLOW's), (n, c) without fractions."""
    columns = varying_columns(table)
    features = np.column_stack([table.columns(columns), rows.source == list(SOURCES).index("aflow")])
    return columns, features, table.columns([name for name in columns if name not in FRACTIONS])


def varying_columns(table: DescriptorTable) -> tuple[str, ...]:
    """Descriptors that take more than one value."""
    with np.errstate(invalid="ignore"):
        varies = np.nanmax(table.values, axis=0, initial=-np.inf) > np.nanmin(table.values, axis=0, initial=np.inf)
    return tuple(name for name, keep in zip(table.names, varies, strict=True) if keep)


def cross_validate(
    features: Array, position: Array, labels: Array, keys: list[str], config: MechanicsTrainConfig, title: str = "folds"
) -> OutOfFold:
    """Out-of-fold means, scales learnt from the out-of-fold errors of the other folds, and how far the rows of a fold are.

    Args:
        features: (n, d) of the trees.
        position: (n, c) descriptors in which distances are measured.
        labels: (n, len(LEARNT)).
        keys: (n,) rows of one key are in one fold.
        config: of the run.
        title: of the progress bar.
    """
    groups = connected_groups(keys)
    folds = grouped_folds(groups, config.n_folds, config.seed, quantile_bins(labels[:, 0], 5))
    mean, scale = np.full_like(labels, np.nan), np.full_like(labels, np.nan)
    far = np.empty(len(labels))
    bar = tqdm(total=2 * config.n_folds, desc=title, disable=not config.progress)
    for fold in range(config.n_folds):
        test = folds == fold
        domain = DomainDistance.fit(position[~test], groups[~test], max_rows=config.domain_rows, seed=config.seed)
        far[test] = domain.percentile(domain.distance(position[test]))
        check_no_leakage(np.array(keys)[~test].tolist(), np.array(keys)[test].tolist(), "key(s)")
        for column in range(len(LEARNT)):
            trees = fit_trees(*_known(features, labels[:, column], ~test), config.trees, config.seed, config.threads)
            mean[test, column] = trees.predict(features[test])
        bar.update()
    for fold in range(config.n_folds):
        test = folds == fold
        for column in range(len(LEARNT)):
            errors = log_errors(labels[:, column], mean[:, column])
            trees = fit_trees(*_known(features, errors, ~test), config.scale_trees, config.seed, config.threads)
            scale[test, column] = np.power(10.0, trees.predict(features[test]))
        bar.update()
    bar.close()
    return OutOfFold(folds, groups, _with_young(mean), _ordered(mean, scale), _with_young(labels), far)


def log_errors(labels: Array, predicted: Array) -> Array:
    """log10 of |error|, errors below 0.001 counted as that; its mean is insensitive to single wild errors."""
    return np.log10(np.maximum(np.abs(labels - predicted), 1e-3))


def _known(features: Array, labels: Array, chosen: NDArray[np.bool_]) -> tuple[Array, Array]:
    rows = chosen & np.isfinite(labels)
    return features[rows], labels[rows]


def _with_young(values: Array) -> Array:
    """Columns of LEARNT (log10) as columns of PROPERTIES."""
    by_name = dict(zip(LEARNT, values.T, strict=True))
    by_name[YOUNG] = np.log10(youngs_modulus(10 ** values[:, 0], 10 ** values[:, 1]))
    return np.column_stack([by_name[name] for name in PROPERTIES])


def _ordered(mean: Array, scale: Array) -> Array:
    by_name = dict(zip(LEARNT, scale.T, strict=True))
    by_name[YOUNG] = youngs_scale(mean, scale)
    return np.column_stack([by_name[name] for name in PROPERTIES])


def _fit(
    table: DescriptorTable,
    columns: tuple[str, ...],
    features: Array,
    position: Array,
    rows: ElasticRows,
    run: OutOfFold,
    config: MechanicsTrainConfig,
) -> MechanicsPredictor:
    """The shipped ensembles (on all rows), intervals and domain."""
    everything = np.ones(len(rows), dtype=bool)
    means, scales = {}, {}
    for column, name in enumerate(LEARNT):
        means[name] = fit_trees(*_known(features, rows.labels[:, column], everything), config.trees, config.seed, config.threads)
        errors = log_errors(rows.labels[:, column], run.mean[:, PROPERTIES.index(name)])
        scales[name] = fit_trees(*_known(features, errors, everything), config.scale_trees, config.seed, config.threads)
    domain = DomainDistance.fit(position, run.groups, limit=config.domain_limit, max_rows=config.domain_rows, seed=config.seed)
    scores = np.abs(run.labels - run.mean) / run.scale
    spread = np.abs(run.labels - np.nanmedian(run.labels, axis=0))
    fractions = table.columns(FRACTIONS)
    calibration = MechanicsCalibration(
        quantiles={
            n: {k: conformal_quantile(s, level) for k, level in LEVELS.items()} for n, s in zip(PROPERTIES, scores.T, strict=True)
        },
        prior_95={n: float(np.nanquantile(s, 0.95)) for n, s in zip(PROPERTIES, spread.T, strict=True)},
        element_counts={symbol_of(z): int(n) for z, n in enumerate((fractions > 0).sum(0), start=1) if n},
    )
    return MechanicsPredictor(MechanicsModel(columns, means, scales, domain), calibration)
