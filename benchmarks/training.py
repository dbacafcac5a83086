"""Training speed on one core: crystals per second of `sse train experiment=mp_base`, with everything a step does.

    python benchmarks/training.py [steps=150] [warmup=20] [repeats=5]

The Lightning trainer runs as in `sse train` (batches of the table, bf16 autocast, clipping, optimiser, averaged weights), without
loggers, validation and sample looks. The batches after the warm-up are cut into `repeats` windows of equal length; the rate is
their median, in wall time. The rate per CPU second stands beside it: when the two differ, the core was shared.
"""

from __future__ import annotations

import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from measure import histogram, one_core, options, peak_memory_gb, training_setup, write

from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.datamodule import CrystalDataModule
from sse_diffusion.diffusion.lightning_module import DiffusionModule


class Clock(pl.Callback):
    """Wall and processor time and crystals seen after every step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.crystals: list[int] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note all three."""
        self.seconds.append(time.perf_counter())
        self.cpu_seconds.append(time.process_time())
        self.crystals.append(pl_module.crystals_seen)


def atoms_of_training_rows(data: CrystalDataModule) -> np.ndarray:
    """Atoms in the primitive cell of every training crystal."""
    rows, dataset = data.indices("train"), data.dataset
    return (dataset.n_conventional // wyckoff_table().centring[dataset.flat.group])[rows]


def gflop_per_crystal(module: DiffusionModule, data: CrystalDataModule, n_batches: int = 8) -> float:
    """Matrix-product work of forward and backward, 10^9 operations per crystal, at the table's sizes (torch's counter)."""
    from itertools import islice

    from torch.utils.flop_counter import FlopCounterMode

    crystals, operations = 0, 0
    for step, batch in enumerate(islice(data.train_dataloader(), n_batches)):
        with FlopCounterMode(display=False) as counter:
            module.objective(module.model, batch, 0, step).total.backward()
        crystals, operations = crystals + len(batch), operations + counter.get_total_flops()
    module.model.zero_grad()
    return operations / crystals / 1e9


def rate(clock: Clock, first: int, last: int) -> float:
    """Crystals per second between the ends of two steps."""
    return (clock.crystals[last] - clock.crystals[first]) / (clock.seconds[last] - clock.seconds[first])


def main(arguments: list[str]) -> None:
    """Train for a while and write the rates."""
    from sse_diffusion.diffusion.train import build_trainer

    asked = options(arguments, steps=150, warmup=20, repeats=5)
    one_core()
    steps = asked["warmup"] + asked["steps"]
    quiet = ("trainer.enable_progress_bar=true", "trainer.val_check_interval=1000000", "samples.every_steps=0",
             "logger.csv.enabled=false", "logger.wandb.enabled=false", "checkpoint.every_minutes=1000")  # fmt: skip
    module, data, cfg, table = training_setup(f"trainer.max_steps={steps}", *quiet)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(cfg, Path(folder))
        trainer.callbacks.append(clock)
        trainer.fit(module, datamodule=data)
    start = asked["warmup"] - 1
    cuts = np.linspace(start, steps - 1, asked["repeats"] + 1).astype(int)
    windows = [rate(clock, a, b) for a, b in pairwise(cuts)]
    crystals = clock.crystals[-1] - clock.crystals[start]
    gflop = gflop_per_crystal(module, data)
    write("training", {
        "train_crystals_per_s_per_core": round(float(np.median(windows)), 2),
        "train_crystals_per_s_windows": [round(w, 2) for w in windows],
        "train_crystals_per_cpu_s": round(crystals / (clock.cpu_seconds[-1] - clock.cpu_seconds[start]), 2),
        "train_crystals_per_batch": round(crystals / asked["steps"], 1),
        "train_ms_per_step": round(1000 * (clock.seconds[-1] - clock.seconds[start]) / asked["steps"], 1),
        "train_gflop_per_crystal": round(gflop, 4),
        "parameters": sum(p.numel() for p in module.model.parameters()),
        "precision": str(cfg.trainer.precision), "max_tokens": int(cfg.loader.max_tokens), "training_table": table,
        "training_table_atoms": histogram(atoms_of_training_rows(data)), "peak_memory_gb": round(peak_memory_gb(), 3),
    })  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
