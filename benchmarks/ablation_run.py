"""One run of benchmarks/ablation.py, in its own process: calibrate, train, validate, predict structures, write `row.json`.

python benchmarks/ablation_run.py FOLDER/job.json
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ablation import NICE, Job
from training import Clock

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build, plain
from sse_diffusion.diffusion.lightning_module import VALIDATION_SEED, DiffusionModule
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.diffusion.objective import FIELDS, Objective, ObjectiveConfig
from sse_diffusion.diffusion.train import build_trainer, build_training, export
from sse_diffusion.verification.metrics.record import machine

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

PRESET = "experiment=budget_40min"
QUIET = (
    "trainer.enable_progress_bar=false", "trainer.val_check_interval=1000000", "samples.every_steps=0", "compile=false",
    "logger.wandb.enabled=false", "logger.csv.enabled=false", "checkpoint.every_minutes=100000", "checkpoint.resume=false",
)  # fmt: skip
REFERENCE_STEP_S = 0.795
"""CPU time of a step of the reference, all threads, on the machine of the table (0.75 s when nothing else runs on it)."""
SAME_COST = ("optimiser.learning_rate", "optimiser.muon_learning_rate", "objective.", "coordinates.")
"""Overrides that change nothing about the work of a step: equal steps are equal CPU time."""
ROUNDS, BLOCK = 9, 3
"""The cost of another step is measured relative to the reference's, in turns of this many steps: load by others meets both."""
WARMUP_SHARE, EMA_SHARE = 0.10, 0.05
"""Of the steps: the warm-up of the learning rate, and the horizon of the averaged weights."""
VALIDATION_PASSES = 2
N_PREDICTED = 200


def config_of(job: Job, steps: int) -> DictConfig:
    """Training configuration of a variant for a number of steps."""
    schedule = (
        f"trainer.max_steps={steps}", f"optimiser.warmup_steps={max(1, round(WARMUP_SHARE * steps))}",
        f"optimiser.ema_decay={1 - 1 / max(2.0, EMA_SHARE * steps)}",
    )  # fmt: skip
    return compose("train", [PRESET, *job["overrides"], *QUIET, *schedule, f"seed={job['seed']}", f"out={job['out']}"])


def stepper(job: Job) -> Callable[[], float]:
    """A function that does one training step of a variant and returns its CPU time, all threads."""
    module, data = build_training(config_of(job, 100))
    optimiser, batches = module.configure_optimizers()["optimizer"], iter(data.train_dataloader())
    count = itertools.count()

    def step() -> float:
        batch, started = next(batches), time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.objective(module.model, batch, 0, next(count)).total
        optimiser.zero_grad()
        loss.backward()
        module.configure_gradient_clipping(optimiser, 1.0)
        optimiser.step()
        module.ema.update_parameters(module.model)
        return time.process_time() - started

    return step


def relative_cost(job: Job) -> float:
    """CPU time of a step of the variant over that of the reference."""
    if all(override.startswith(SAME_COST) for override in job["overrides"]):
        return 1.0
    steppers = [stepper(job), stepper({**job, "overrides": []})]
    spent = np.array([[sum(step() for _ in range(BLOCK)) for step in steppers] for _ in range(ROUNDS)])
    own, reference = np.median(spent[1:], axis=0)  # the first turn warms up; a busy moment does not count
    return float(own / reference)


def train(job: Job, steps: int) -> tuple[DiffusionModule, Clock, DictConfig]:
    """Train as `sse train` does; the clock holds the times after every step."""
    cfg = config_of(job, steps)
    torch.manual_seed(job["seed"])
    module, data = build_training(cfg)
    trainer, clock = build_trainer(cfg, Path(job["out"])), Clock()
    trainer.callbacks = [clock]
    trainer.fit(module, datamodule=data)
    return module, clock, cfg


class ReferenceNoise(Objective):
    """Validation losses that compare across variants: the reference's times, and its noise at every time.

    A model with another range of coordinate noise is asked at the times where its noise is the reference's.
    """

    def __init__(self, config: ObjectiveConfig, model: CrystalModel, sigma_min: float, sigma_max: float) -> None:
        super().__init__(config)
        own = model.coordinate_noise.config
        span = np.log(own.sigma_max / own.sigma_min)
        self.scale, self.offset = np.log(sigma_max / sigma_min) / span, np.log(sigma_min / own.sigma_min) / span

    def _times(self, draw: Any) -> tuple[Tensor, Tensor]:
        t, t_cell = super()._times(draw)
        return (self.offset + self.scale * t).clamp(0.0, 1.0), t_cell


@torch.no_grad()
def validation_losses(folder: Path, job: Job) -> dict[str, float]:
    """Mean loss of each field over the validation crystals, exported weights, bf16 as in training."""
    p1 = [o for o in job["overrides"] if o == "loader.p1_share=1.0"]  # such a model knows nothing else
    cfg = compose("train", [PRESET, *QUIET, *p1])
    model, _ = load_model(folder)
    _, data = build_training(cfg)
    objective = ReferenceNoise(build(ObjectiveConfig, cfg.objective), model, cfg.coordinates.sigma_min, cfg.coordinates.sigma_max)
    sums, n = dict.fromkeys(FIELDS, 0.0), 0
    for one_pass in range(VALIDATION_PASSES):
        for step, batch in enumerate(data.val_dataloader()):
            with torch.autocast("cpu", torch.bfloat16):
                losses = objective(model, batch, VALIDATION_SEED + one_pass, step)
            sums = {name: total + losses.fields[name].item() * len(batch) for name, total in sums.items()}
            n += len(batch)
    return {name: round(total / n, 5) for name, total in sums.items()}


def structure_prediction(folder: Path, out: Path) -> Job:
    """k/n and RMSE of `sse evaluate task=csp` without structure types."""
    from sse_diffusion.design.evaluation.csp import evaluate_csp

    table = compose("train", [PRESET]).data.path
    evaluate_csp(compose("evaluate", [
        "task=csp", f"checkpoint={folder}", f"reference.path={table}", "reference.split=val", "reference.max_sites=20",
        f"limit={N_PREDICTED}", "k=1", "seed=0", "floors=false", "sampler.types=null", "workers=1", "threads=1", f"out={out}",
    ]))  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    return {
        "match": f"{metrics['match_rate_k']}/{metrics['match_rate_n']}",
        **{key: value for key, value in metrics.items() if key.startswith(("match_rate", "rmse", "structural_validity"))},
    }


def main(arguments: list[str]) -> None:
    """Do one job."""
    job = json.loads(Path(arguments[0]).read_text())
    out, code = Path(job["out"]), Path(__file__).resolve().parents[1]
    if Path(sys.modules["sse_diffusion"].__file__ or "").resolve().parents[1] != code:
        raise SystemExit(f"the package is not the copy in {code}")
    os.nice(NICE)
    os.sched_setaffinity(0, {int(job["core"])})
    torch.set_num_threads(1)
    cost = relative_cost(job)
    steps = round(60 * job["core_minutes"] / (REFERENCE_STEP_S * cost))
    started, wall = time.process_time(), time.perf_counter()
    module, clock, cfg = train(job, steps)
    spent = clock.cpu_seconds[-1] - clock.cpu_seconds[0]
    row = {
        **{key: job[key] for key in ("variant", "question", "overrides", "seed", "core_minutes")},
        "steps": steps, "crystals_seen": module.crystals_seen, "relative_cost_of_a_step": round(cost, 4),
        "cpu_seconds": round(spent * steps / max(1, steps - 1), 1),
        "cpu_seconds_with_setup": round(time.process_time() - started, 1),
        "wall_seconds": round(time.perf_counter() - wall, 1), "parameters": sum(p.numel() for p in module.model.parameters()),
    }  # fmt: skip
    export(module, out / "model", plain(cfg), {})
    row["val"] = validation_losses(out / "model", job)
    row |= {"machine": machine(), "torch": str(torch.__version__), "date": datetime.now(UTC).date().isoformat()}
    write_json_atomically(out / "losses.json", row)  # what there is if the rest is cut off
    row |= structure_prediction(out / "model", out / "csp")
    write_json_atomically(out / "row.json", row)


if __name__ == "__main__":
    main(sys.argv[1:])
