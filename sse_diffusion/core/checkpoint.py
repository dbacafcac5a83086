"""Checkpoints: one folder with safetensors weights, a versioned JSON config, metrics and a model card. No pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import write_bytes_atomically
from sse_diffusion.core.errors import CheckpointError, did_you_mean
from sse_diffusion.core.provenance import sha256_of_file

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        path: the folder.
        kind: which class loads it, e.g. ``"crystal_model"``.
        config: architecture and everything needed to rebuild the module.
        tensors: weights by name.
        sha256: of the weights file.
    """

    path: Path
    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    sha256: str


def checkpoints_root() -> Path:
    """Folder of the shipped checkpoints: inside the installed wheel, or at the root of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "checkpoints"
    return inside if inside.is_dir() else package.parent / "checkpoints"


def checkpoint_dir(name_or_path: str | Path) -> Path:
    """Resolve a shipped checkpoint's name, or a path to a folder.

    Raises:
        CheckpointError: neither exists; lists the shipped names.
    """
    for candidate in (Path(name_or_path), checkpoints_root() / str(name_or_path)):
        if (candidate / CONFIG).is_file():
            return candidate
    shipped = [p.parent.name for p in checkpoints_root().glob(f"*/{CONFIG}")]
    raise CheckpointError(
        f"no checkpoint at {str(name_or_path)!r}",
        f"give a folder with {CONFIG} and {WEIGHTS}, or {did_you_mean(str(name_or_path), shipped)}",
    )


def save_checkpoint(path: str | Path, kind: str, version: int, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint folder; each file appears whole or not at all. The configuration records the weights' SHA-256.

    Raises:
        OutputError: the folder cannot be written.
    """
    from safetensors.torch import save

    folder = Path(path)
    weights = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    identity = {"format": "sse-diffusion", "kind": kind, "version": version, "weights_sha256": sha256(weights).hexdigest()}
    write_bytes_atomically(folder / WEIGHTS, weights)
    text = json.dumps({**identity, **config}, indent=1, default=_plain)
    write_bytes_atomically(folder / CONFIG, f"{text}\n".encode())


def read_config(name_or_path: str | Path, kind: str, version: int) -> dict[str, Any]:
    """The configuration of a checkpoint, without its weights.

    Raises:
        CheckpointError: missing, damaged, of another kind, or newer than this package.
    """
    folder = checkpoint_dir(name_or_path)
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no JSON, or no text at all
        raise CheckpointError(f"{folder / CONFIG} is not readable JSON ({error})", "copy the checkpoint again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / CONFIG} holds no JSON object", "copy the checkpoint again")
    if config.get("kind") != kind:
        raise CheckpointError(
            f"{folder} holds a {config.get('kind')!r}, not a {kind!r}", "give the folder of the right checkpoint"
        )
    if int(config.get("version", 0)) > version:
        raise CheckpointError(
            f"{folder} has format version {config['version']}, this package reads up to {version}", "upgrade sse-diffusion"
        )
    return config


def load_checkpoint(name_or_path: str | Path, kind: str, version: int) -> Checkpoint:
    """Read a checkpoint folder.

    Args:
        name_or_path: shipped name or folder.
        kind: what the caller can load.
        version: newest format version the caller understands.

    Raises:
        CheckpointError: missing, truncated, altered, of another kind, or newer than this package.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = checkpoint_dir(name_or_path)
    config = read_config(folder, kind, version)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} is missing or truncated ({error})",
            "copy the file again and compare its SHA-256 with metrics.json",
        ) from error
    found = sha256_of_file(folder / WEIGHTS)
    if config.get("weights_sha256", found) != found:
        raise CheckpointError(f"{folder / WEIGHTS} does not match the SHA-256 in {CONFIG}", "copy the checkpoint again")
    return Checkpoint(folder, kind, config, tensors, found)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
