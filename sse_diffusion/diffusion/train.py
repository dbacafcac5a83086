"""``sse train``: data, model, Lightning trainer and loggers from one configuration; resumes by the same command."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import ConfigError, OutputError
from sse_diffusion.core.provenance import git_commit, hash_of_config, package_versions, sha256_of_file
from sse_diffusion.core.threads import set_threads
from sse_diffusion.data.datamodule import CrystalDataModule, LoaderConfig
from sse_diffusion.diffusion.corruption.coordinates import CoordinateNoise, CoordinateNoiseConfig
from sse_diffusion.diffusion.corruption.discrete import MaskingConfig
from sse_diffusion.diffusion.denoiser import DenoiserConfig
from sse_diffusion.diffusion.encode_dataset import ConditionEncoder, require_phases
from sse_diffusion.diffusion.lightning_module import DiffusionModule
from sse_diffusion.diffusion.model import CrystalModel, load_model, save_model
from sse_diffusion.diffusion.objective import ObjectiveConfig
from sse_diffusion.diffusion.optimiser import OptimiserConfig
from sse_diffusion.thermo.conditions import ConditionSpec, load_condition_specs
from sse_diffusion.thermo.labels import PhasesConfig
from sse_diffusion.thermo.own_condition import OwnCondition

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

LAST = "last.ckpt"

TOLD_TO_END = 128 + signal.SIGTERM
"""Exit code after SIGTERM, as a shell would report it."""


def run_train(cfg: DictConfig) -> int:
    """Train and export ``<out>/model``.

    Raises:
        ConfigError, DataError, OutputError: with what to do.
    """
    import torch

    out = _prepare_folder(cfg)
    set_threads(cfg.threads)
    torch.manual_seed(int(cfg.seed))
    module, data = build_training(cfg)
    trainer = build_trainer(cfg, out)
    last = out / LAST
    resume = str(last) if cfg.checkpoint.resume and last.is_file() else None
    if resume:
        log.info("resuming from %s", resume)
    started = time.monotonic()
    interrupted = _fit(trainer, module, data, resume)
    if trainer.is_global_zero and trainer.global_step > 0:  # nothing to export when interrupted before the first step
        export(module, out / "model", plain(cfg), final_metrics(trainer, module, time.monotonic() - started))
        _log_artifact(trainer, out / "model", cfg)
    if interrupted:
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        log.info("exported %s", out / "model")
    return 0


def _fit(trainer: pl.Trainer, module: DiffusionModule, data: CrystalDataModule, resume: str | None) -> bool:
    """Train; True when the user interrupted it. Lightning would exit with code 1 there and leave Ctrl-C switched off.

    Raises:
        SystemExit: with code 143 when the job was told to end (SIGTERM) and the state is saved; a batch script may requeue it.
    """
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    on_ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except SIGTERMException as error:
        raise SystemExit(TOLD_TO_END) from error
    except SystemExit:
        if not trainer.interrupted:
            raise
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_ctrl_c)
    return trainer.interrupted


def build_training(cfg: DictConfig) -> tuple[DiffusionModule, CrystalDataModule]:
    """Lightning module and data module of a training configuration; scales and cell statistics are measured here."""
    own = OwnCondition.read(cfg.condition) if cfg.get("condition") else None
    source = plain(cfg.data) if own is None else own.source(plain(cfg.data))
    data = CrystalDataModule(source, build(LoaderConfig, cfg.loader))
    specs = load_condition_specs(list(cfg.conditions))
    if own is not None:
        specs[own.spec.name] = own.scaled([data.dataset.labels[i] for i in data.indices("train")])
    phases = build(PhasesConfig, cfg.phases) if cfg.get("phases") else None
    require_phases(specs, phases)
    model = _start(cfg, specs) if cfg.checkpoint.start_from else _fresh(cfg, specs)
    seed = int(cfg.seed)
    data.encode = lambda dataset: ConditionEncoder(dataset, model.specs, phases, seed)
    if not cfg.checkpoint.start_from:
        dataset, rows = data.fit_rows()
        model.cell_noise.fit(dataset.flat.group[rows], dataset.flat.cell[rows], dataset.n_conventional[rows])
    module = DiffusionModule(model, build(ObjectiveConfig, cfg.objective), build(OptimiserConfig, cfg.optimiser), seed)
    if cfg.compile:
        _compile(model, str(cfg.trainer.accelerator))  # after the averaged copy was made: that one is only evaluated
    return module, data


def _fresh(cfg: DictConfig, specs: Mapping[str, ConditionSpec]) -> CrystalModel:
    return CrystalModel(
        build(DenoiserConfig, cfg.denoiser),
        specs,
        build(CoordinateNoiseConfig, cfg.coordinates),
        build(MaskingConfig, cfg.masking),
    )


def _start(cfg: DictConfig, specs: Mapping[str, ConditionSpec]) -> CrystalModel:
    """A trained model, with adapters for the conditions that it lacks; what it knows it keeps."""
    model, _ = load_model(cfg.checkpoint.start_from)
    if set(specs) - set(model.specs) or (cfg.denoiser.properties and not model.denoiser.property_names):
        model = model.with_conditions(specs)
    model.coordinate_noise = CoordinateNoise(build(CoordinateNoiseConfig, cfg.coordinates))
    model.masking = build(MaskingConfig, cfg.masking)
    return model.train()


def _compile(model: CrystalModel, accelerator: str) -> None:
    """Compile the blocks where that is possible; training goes on without it elsewhere."""
    compiler = os.environ.get("CXX", "g++")
    if accelerator == "cpu" and shutil.which(compiler) is None:
        log.warning("compile=true needs a C++ compiler and there is no %s: training goes on uncompiled", compiler)
        return
    model.denoiser.compile_blocks()


def build_trainer(cfg: DictConfig, out: Path) -> pl.Trainer:
    """Lightning trainer with time-based checkpoints, loggers and the sampling callback."""
    import pytorch_lightning as pl

    from sse_diffusion.diffusion.callbacks import LastCheckpoint, SampleLook

    callbacks: list[pl.Callback] = [LastCheckpoint(out / LAST, minutes=float(cfg.checkpoint.every_minutes))]
    if cfg.samples.every_steps:
        callbacks.append(SampleLook(every_steps=int(cfg.samples.every_steps), n=int(cfg.samples.n), steps=int(cfg.samples.steps)))
    options = plain(cfg.trainer)
    try:
        return pl.Trainer(
            **options, default_root_dir=out, logger=build_loggers(cfg, out), callbacks=callbacks, enable_checkpointing=False,
            use_distributed_sampler=False,
        )  # fmt: skip
    except TypeError as error:
        raise ConfigError(f"trainer: {error}", "see configs/trainer for the keys that pytorch_lightning.Trainer takes") from error


def build_loggers(cfg: DictConfig, out: Path) -> list[Any]:
    """CSV beside W&B; W&B is offline by default and needs no account."""
    from pytorch_lightning.loggers import CSVLogger, WandbLogger

    loggers: list[Any] = []
    if cfg.logger.csv.enabled:
        _set_aside(out / "csv" / "metrics.csv")
        loggers.append(CSVLogger(out, name="", version="csv"))
    if cfg.logger.wandb.enabled and cfg.logger.wandb.mode != "disabled":
        w = cfg.logger.wandb
        loggers.append(
            WandbLogger(
                name=w.name or out.name, save_dir=str(out), project=w.project, entity=w.entity, group=w.group, tags=list(w.tags),
                offline=w.mode == "offline", settings=_quiet_wandb(),
            )
        )  # fmt: skip
    return loggers


def _set_aside(metrics: Path) -> None:
    """Keep what an earlier part of the run logged as metrics_part1.csv, ...: the logger would delete it."""
    from pytorch_lightning.utilities import rank_zero_only

    if rank_zero_only.rank == 0 and metrics.is_file():
        parts = len(list(metrics.parent.glob("metrics_part*.csv")))
        metrics.rename(metrics.with_name(f"metrics_part{parts + 1}.csv"))


def _quiet_wandb() -> Any:
    import wandb

    return wandb.Settings(silent=True, x_disable_stats=True)


def final_metrics(trainer: pl.Trainer, module: DiffusionModule, seconds: float) -> dict[str, Any]:
    """Last logged value of every metric and what was spent."""
    values = {k: float(v) for k, v in trainer.callback_metrics.items() if k != "train/loss_bar"}
    spent = {"steps": trainer.global_step, "crystals_seen": module.crystals_seen, "seconds_this_session": round(seconds, 1)}
    return {**spent, **{k: round(v, 5) for k, v in values.items()}}


def export(module: DiffusionModule, folder: Path, config: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Write the averaged weights, the resolved config and the metrics."""
    save_model(module.ema.module, folder, {"training": config, "config_hash": hash_of_config(config)}, half=True)
    record = {
        **metrics,
        "weights_sha256": sha256_of_file(folder / "weights.safetensors"),
        "commit": git_commit(),
        "versions": package_versions(),
    }
    write_json_atomically(folder / "metrics.json", record)


def _log_artifact(trainer: pl.Trainer, folder: Path, cfg: DictConfig) -> None:
    from pytorch_lightning.loggers import WandbLogger

    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and cfg.logger.wandb.log_artifacts and trainer.is_global_zero:
            import wandb

            artifact = wandb.Artifact("model", type="model")
            artifact.add_dir(str(folder))
            logger.experiment.log_artifact(artifact)
            logger.experiment.finish()


def _prepare_folder(cfg: DictConfig) -> Path:
    out = Path(cfg.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # several processes probe at once
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}", "choose another folder with out=...") from error
    return out
