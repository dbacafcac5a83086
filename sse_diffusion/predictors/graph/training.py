"""Train, calibrate and score the stability network; the same command goes on where it stopped."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.checkpoint import load_checkpoint, save_checkpoint
from sse_diffusion.core.errors import CheckpointError, ConfigError, did_you_mean
from sse_diffusion.core.provenance import git_commit, package_versions, sha256_of_file
from sse_diffusion.core.threads import set_threads
from sse_diffusion.data.tables import find_table
from sse_diffusion.predictors.graph.calibration import calibrate, far_factor, fit_domain, score
from sse_diffusion.predictors.graph.crystals import LabelledCrystals, read_crystals, reference_rows, trained_formulas
from sse_diffusion.predictors.graph.lightning_module import Examples, FitConfig, GraphModule
from sse_diffusion.predictors.graph.network import CrystalNetwork
from sse_diffusion.predictors.graph.predictor import GraphModelConfig, GraphPredictor
from sse_diffusion.predictors.graph.reference import fit_reference, fold_of, reference_values
from sse_diffusion.predictors.stability import FORMATION, HULL
from sse_diffusion.predictors.tracking import MODES, PROJECT
from sse_diffusion.predictors.training_index import TrainingIndex

if TYPE_CHECKING:
    import pytorch_lightning as pl

log = logging.getLogger(__name__)

TARGETS = (HULL, FORMATION)
LAST = "last.ckpt"
PROTOCOL = (
    "Structures as in the table (relaxed). val: the table's val split; no reduced formula of it is in training (chemical systems "
    "may be). calibration: one in 20 formulas of the train split, kept out of all training; it calibrates the intervals. The "
    "loss and the dropout were chosen among three runs by the curves of both; the steps were not. mae_composition: the "
    "composition reference alone, same rows. mae_constant: the median of the same rows as prediction."
)


@dataclass(frozen=True, kw_only=True)
class GraphTrainConfig:
    """Choices of a training run.

    Attributes:
        structures, energies, decomposition: tables (docs/graph_predictors.md).
        out: run folder; the predictor is exported to ``<out>/model``.
        model: shapes; its members are trained one after the other.
        fit: optimisation of each member.
        cache_dir: where graphs are kept.
        validate_every: steps between errors in the log.
        checkpoint_minutes: a killed run loses at most this much.
        max_time: "DD:HH:MM:SS" after which a member's training stops; ``None``: at ``fit.max_steps``.
        wandb: offline, online or disabled.
        seed: of weights and batches.
        threads: torch threads.
        progress: show progress bars.
    """

    structures: str
    energies: str
    decomposition: str
    out: str
    model: GraphModelConfig = field(default_factory=GraphModelConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    cache_dir: str | None = ".cache/sse_diffusion"
    validate_every: int = 750
    checkpoint_minutes: float = 4.0
    max_time: str | None = None
    wandb: str = "offline"
    seed: int = 0
    threads: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        """ConfigError for an unknown W&B mode."""
        if self.wandb not in MODES:
            raise ConfigError(f"wandb is {self.wandb!r}", did_you_mean(self.wandb, MODES))


def train_graph(config: GraphTrainConfig) -> dict[str, Any]:
    """Train and export ``<out>/model``; returns what is written to its ``metrics.json``.

    Raises:
        DataError: a table is missing or lacks a column.
        OutputError: the run folder cannot be written.
    """
    set_threads(config.threads)
    started, out = time.monotonic(), Path(config.out)
    cache = None if config.cache_dir is None else Path(config.cache_dir)
    crystals = read_crystals(find_table(config.structures), config.model.graph, cache, config.progress)
    predictor = _with_reference(config, out / "reference")
    train = crystals.rows("train")
    reference = _reference(predictor, crystals, train)
    residual = crystals.labels - reference
    predictor.scale = np.abs(residual[train] - np.median(residual[train], axis=0)).mean(0)
    members = range(config.model.members)
    steps = [fit_member(config, predictor, crystals, residual, m, out / f"member{m}") for m in members]
    spent = {"steps": steps, "seconds_this_session": round(time.monotonic() - started, 1)}
    return export(predictor, crystals, config, out / "model", spent)


def fit_member(
    config: GraphTrainConfig, predictor: GraphPredictor, crystals: LabelledCrystals, residual: np.ndarray, number: int, out: Path
) -> int:
    """Train one network of the predictor, or what is left of it; returns its steps."""
    censored = np.zeros(residual.shape, dtype=bool)
    censored[:, 0] = crystals.censored
    targets = residual / predictor.scale

    def part(split: str) -> Examples:
        return Examples(crystals.graphs, crystals.rows(split), targets, censored)

    network, seed = cast(CrystalNetwork, predictor.networks[number]), config.seed + number
    monitored = {split: part(split) for split in ("calibration", "val")}
    scale = {target.name: float(unit) for target, unit in zip(TARGETS, predictor.scale, strict=True)}
    module = GraphModule(network.train(), config.fit, part("train"), monitored, scale, seed)
    trainer = build_trainer(config, out)
    last = out / LAST
    torch.manual_seed(seed)
    trainer.fit(module, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    trainer.save_checkpoint(last)
    network.load_state_dict(module.ema.module.state_dict())
    return trainer.global_step


def export(
    predictor: GraphPredictor, crystals: LabelledCrystals, config: GraphTrainConfig, folder: Path, spent: dict[str, Any]
) -> dict[str, Any]:
    """Calibrate, score and write a predictor."""
    predictor.networks.eval()
    held, train = crystals.rows("calibration"), crystals.rows("train")
    predictor.domain = fit_domain(predictor, crystals, train, config.seed)
    predictor.far = far_factor(predictor, crystals, held)
    predictor.calibration = calibrate(predictor, crystals, held, train)
    predictor.trained = training_index(config)
    predictor.save(folder, {**_choices(config), **spent})
    metrics = {
        "protocol": PROTOCOL,
        "command": "sse train experiment=predictor_formation_energy",
        "rows": dict(Counter(crystals.split.tolist())),
        "val": score(predictor, crystals, crystals.rows("val")),
        **spent,
        "weights_sha256": sha256_of_file(folder / "weights.safetensors"),
        "weights_bytes": (folder / "weights.safetensors").stat().st_size,
        "commit": git_commit(),
        "versions": package_versions(),
    }
    write_json_atomically(folder / "metrics.json", metrics)
    return metrics


def training_index(config: GraphTrainConfig) -> TrainingIndex:
    """The compositions that a run with this configuration trains and calibrates on."""
    tables = (find_table(path) for path in (config.structures, config.energies, config.decomposition))
    return TrainingIndex.of_formulas(trained_formulas(*tables))


def _choices(config: GraphTrainConfig) -> dict[str, Any]:
    """What shaped the weights: without the machine's paths and settings."""
    chosen = {k: v for k, v in asdict(config).items() if k not in ("out", "cache_dir", "threads", "progress", "wandb")}
    return {**chosen, **{k: Path(chosen[k]).name for k in ("structures", "energies", "decomposition")}}


def build_trainer(config: GraphTrainConfig, out: Path) -> pl.Trainer:
    """Lightning trainer with time-based checkpoints, a CSV and W&B."""
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import ModelCheckpoint
    from pytorch_lightning.loggers import CSVLogger, WandbLogger

    parts = len(list(out.glob("csv/version_*")))
    loggers: list[Any] = [CSVLogger(out, name="csv", version=parts)]
    if config.wandb != "disabled":
        import wandb

        quiet, name = wandb.Settings(silent=True, x_disable_stats=True), f"{out.parent.name}-{out.name}"
        loggers.append(
            WandbLogger(name=name, save_dir=str(out), project=PROJECT, offline=config.wandb == "offline", settings=quiet)
        )
    keep = ModelCheckpoint(
        out, filename=LAST.removesuffix(".ckpt"), train_time_interval=timedelta(minutes=config.checkpoint_minutes),
        enable_version_counter=False,
    )  # fmt: skip
    return pl.Trainer(
        accelerator="cpu", devices=1, precision=config.fit.precision, max_steps=config.fit.max_steps, max_epochs=-1,
        max_time=config.max_time, gradient_clip_val=1.0, val_check_interval=config.validate_every, check_val_every_n_epoch=None,
        num_sanity_val_steps=0, log_every_n_steps=50, logger=loggers, callbacks=[keep], default_root_dir=out,
        enable_progress_bar=config.progress, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip


def _with_reference(config: GraphTrainConfig, folder: Path) -> GraphPredictor:
    """An untrained predictor whose composition reference is trained (read back when the run goes on)."""
    predictor = GraphPredictor.untrained(config.model, TARGETS, config.seed)
    shape = asdict(config.model.reference)
    try:
        found = load_checkpoint(folder, "composition_reference", 1)
        if found.config["shape"] == shape:
            predictor.reference.load_state_dict(found.tensors)
            return predictor
    except CheckpointError:
        log.info("training the composition reference")
    tables = (find_table(path) for path in (config.structures, config.energies, config.decomposition))
    predictor.reference = fit_reference(
        reference_rows(*tables), predictor.table, config.model.reference, config.seed, config.progress
    )
    save_checkpoint(folder, "composition_reference", 1, {"shape": shape}, predictor.reference.state_dict())
    return predictor


def _reference(predictor: GraphPredictor, crystals: LabelledCrystals, train: np.ndarray) -> np.ndarray:
    """Composition reference of every crystal (n, t); of training crystals by members that never saw their formula."""
    everything, table, folds = crystals.compositions, predictor.table, predictor.config.reference.folds
    values = reference_values(predictor.reference, table, everything)
    known = [everything[i] for i in train]
    fold = fold_of([crystals.formulas[i] for i in train], folds)
    values[train] = reference_values(predictor.reference, table, known, fold, folds)
    return values
