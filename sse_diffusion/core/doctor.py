"""Is this installation able to work? A list of checks, each with what was found and what to do about it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sse_diffusion.core.config import config_dir
from sse_diffusion.core.provenance import TRACKED_PACKAGES, sha256_of_file

CORE_PACKAGES = (*TRACKED_PACKAGES, "moyopy", "smact", "wandb")
MIN_PYTHON = (3, 11)
MIN_FREE_GB = 2.0


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: what was looked at.
        level: ``"ok"``, ``"note"`` (works, but differs from what was tested) or ``"fail"``.
        found: what is there.
        advice: what to do; empty when ``ok``.
    """

    name: str
    level: str
    found: str
    advice: str = ""


def check_all(out: Path, checkpoint: Path, data_path: Path | None) -> list[Check]:
    """Every check that needs no force field.

    Args:
        out: folder where results would be written (not created).
        checkpoint: a checkpoint folder, or a folder of them; the shipped ones are found when the current folder has none.
        data_path: structures table for training, or ``None`` when not used.
    """
    checks = [check_python(), *check_packages(find_constraints()), check_threads()]
    checks += [check_checkpoint(folder) for folder in find_checkpoints(checkpoint)]
    checks += [check_writable(out), check_disk(out)]
    if data_path is not None:
        checks.append(check_data(data_path))
    return checks


def check_python() -> Check:
    """Python >= 3.11."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < MIN_PYTHON:
        return Check("python", "fail", found, "install Python >= 3.11 and run `make setup`")
    return Check("python", "ok", found)


def find_constraints() -> Path | None:
    """``constraints.txt`` of the source checkout, if this is one."""
    path = Path(__file__).resolve().parents[2] / "constraints.txt"
    return path if path.is_file() else None


def read_pins(path: Path) -> dict[str, str]:
    """Exact pins of a constraints file: normalised package name -> version."""
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line.strip()):
            pins[_normalise(match[1])] = match[2]
    return pins


def check_packages(constraints: Path | None) -> list[Check]:
    """Core packages are installed, in the versions that were tested together (build tags such as ``+cpu`` do not count)."""
    pins = read_pins(constraints) if constraints else {}
    checks = []
    for name in CORE_PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            checks.append(Check(name, "fail", "not installed", "run `make setup`, or pip install -c constraints.txt -e ."))
            continue
        pinned = pins.get(_normalise(name), "")
        if pinned and version.split("+")[0] != pinned:
            checks.append(Check(name, "note", version, f"tested with {pinned}"))
        else:
            checks.append(Check(name, "ok", version))
    return checks


def check_threads() -> Check:
    """Threads and devices torch would use."""
    import torch

    cores = os.cpu_count() or 1
    devices = f", {torch.cuda.device_count()} CUDA device(s)" if torch.cuda.is_available() else ", no GPU"
    found = f"{torch.get_num_threads()} threads on {cores} cores{devices}"
    if torch.get_num_threads() > cores:
        return Check("compute", "note", found, "more threads than cores are slower: set OMP_NUM_THREADS")
    return Check("compute", "ok", found)


def find_checkpoints(path: Path) -> list[Path]:
    """Checkpoint folders at or right below ``path`` (taken from the package when the current folder lacks it)."""
    folder = path if path.is_dir() else config_dir().parent / path
    inner = sorted({file.parent for file in folder.glob("*/*.safetensors")})
    return inner if inner and not any(folder.glob("*.safetensors")) else [folder]


def check_checkpoint(folder: Path) -> Check:
    """A checkpoint folder holds readable safetensors weights; shows the first digits of their SHA-256."""
    from safetensors import SafetensorError, safe_open

    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        return Check(
            "checkpoint",
            "fail",
            f"no *.safetensors in {folder}",
            "train one with `sse train`, or get the folder from the repository",
        )
    try:
        with safe_open(weights[0], framework="numpy") as handle:
            n_tensors = len(list(handle.keys()))
    except (SafetensorError, OSError) as error:
        return Check(
            "checkpoint",
            "fail",
            f"{weights[0]} is not readable: {error}",
            "the file is truncated or not safetensors: get it again",
        )
    return Check("checkpoint", "ok", f"{folder.name}: {n_tensors} tensors, sha256 {sha256_of_file(weights[0])[:12]}")


def check_writable(out: Path) -> Check:
    """Results can be written to ``out`` or, when it does not exist yet, to its nearest existing parent."""
    problem = why_not_writable(out)
    return (
        Check("output folder", "fail", problem, "choose another folder with out=DIR")
        if problem
        else Check("output folder", "ok", str(out))
    )


def why_not_writable(out: Path) -> str:
    """Empty when ``out`` can be created and written; otherwise the reason."""
    parent = out.absolute()
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        return f"{parent} is a file, not a folder"
    return "" if os.access(parent, os.W_OK | os.X_OK) else f"{parent} is read-only"


def check_disk(out: Path) -> Check:
    """Free space where results would be written."""
    parent = out.absolute()
    while not parent.exists():
        parent = parent.parent
    free_GB = shutil.disk_usage(parent).free / 1e9
    if free_GB < MIN_FREE_GB:
        return Check(
            "disk", "fail", f"{free_GB:.1f} GB free", f"free at least {MIN_FREE_GB:.0f} GB or choose another folder with out=DIR"
        )
    return Check("disk", "ok", f"{free_GB:.0f} GB free")


def check_data(path: Path) -> Check:
    """The structures table for training exists; only `data=mp` needs it."""
    if not path.exists():
        return Check(
            "training table", "note", f"{path} is not there", "only needed for data=mp; data=prototypes needs no download"
        )
    return Check("training table", "ok", f"{path} ({path.stat().st_size / 1e6:.0f} MB)")


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
