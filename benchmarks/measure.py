"""What the speed benchmarks share: one pinned core, the machine in words, the table they use, and where numbers go.

Every benchmark writes ``results/<name>.json`` with flat keys and adds them to ``results/speed.json``.
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.provenance import git_commit
from sse_diffusion.data.datamodule import CrystalDataModule
from sse_diffusion.diffusion.lightning_module import DiffusionModule

RESULTS = Path(__file__).parent / "results"
EDGES = (1, 5, 9, 13, 17, 21, 29, 41, 53)
"""Bins of the atom histograms."""


def one_core() -> None:
    """Pin this process to the last core it may use, with one thread: what is measured is per core.

    The last one, because interrupts and whoever else is at work tend to sit on the first.
    """
    import torch

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)


def machine() -> dict[str, Any]:
    """Processor, cores, load by others, versions and threads."""
    import torch

    from sse_diffusion.verification.metrics.record import machine as in_words

    return {
        "machine": in_words(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "torch": str(torch.__version__),
        "commit": git_commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def peak_memory_gb() -> float:
    """Largest resident memory of this process so far, GB (10^9 bytes; Linux counts in kibibytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def options(arguments: Sequence[str], **defaults: float | str) -> dict[str, Any]:
    """``key=value`` arguments over defaults, each read as the type of its default."""
    given = dict(a.split("=", 1) for a in arguments)
    unknown = set(given) - set(defaults)
    if unknown:
        raise SystemExit(f"unknown option {sorted(unknown)[0]!r}; known: {', '.join(defaults)}")
    return {name: type(value)(given.get(name, value)) for name, value in defaults.items()}


def training_setup(*overrides: str) -> tuple[DiffusionModule, CrystalDataModule, Any, str]:
    """Module, data and configuration of ``experiment=mp_base``, and the name of the table that was found.

    Without the structures table the embedded prototypes stand in: the speeds then belong to that table.
    """
    from sse_diffusion.core.compose import compose
    from sse_diffusion.diffusion.train import build_training

    no_phases = ["conditions=[band_gap_eV,elements,mobile_ion]"]  # prototypes have nothing to compete with
    for data, further in (("mp", []), ("prototypes", no_phases)):
        cfg = compose(
            "train", ["experiment=mp_base", f"data={data}", *further, "threads=1", "checkpoint.start_from=null", *overrides]
        )
        try:
            module, loader = build_training(cfg)
        except DataError as error:
            if data == "mp" and "data.path" in str(error):
                continue
            raise
        return module, loader, cfg, data
    raise AssertionError("the embedded prototypes need no file")


def histogram(atoms: np.ndarray) -> dict[str, float]:
    """Shares of crystals by number of atoms in the primitive cell."""
    counts, _ = np.histogram(atoms, EDGES)
    names = [f"{a}-{b - 1}" for a, b in pairwise(EDGES)]
    return {**{n: round(float(c) / len(atoms), 4) for n, c in zip(names, counts)}, "mean": round(float(np.mean(atoms)), 2)}


def write(name: str, record: Mapping[str, Any], speed: bool = True) -> None:
    """``results/<name>.json``; speeds also in ``results/speed.json`` (the peak memory there is the largest of all)."""
    RESULTS.mkdir(exist_ok=True)
    record = {**record, **machine()}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    if not speed:
        return
    whole = RESULTS / "speed.json"
    merged = json.loads(whole.read_text()) if whole.is_file() else {}
    peaks = {**merged.get("peak_memory_gb_by_benchmark", {}), name: record.get("peak_memory_gb", 0.0)}
    merged |= {**record, "peak_memory_gb_by_benchmark": peaks, "peak_memory_gb": max(peaks.values())}
    whole.write_text(json.dumps(merged, indent=1) + "\n")
