"""Proposals on disk, block by block, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sse_diffusion.core.atomic_files import read_json, standard_json, write_json_atomically
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.orbits import Orbits

SETTINGS = "settings.json"

Key = tuple[int, int]
"""(number of the reference row, shot)."""


class Shots:
    """Proposals by (row, shot) in ``folder/block-NNNNN.json``; each block appears whole or not at all.

    Args:
        folder: made when the first block is written.
        settings: everything that the proposals depend on.

    Attributes:
        crystals: what was proposed; ``None`` where sampling failed.
        seconds: wall time of all blocks.
        cpu_seconds: CPU time of all blocks, which other work on the machine does not change; NaN where one has none.

    Raises:
        ConfigError: the folder holds proposals of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._settings = json.loads(json.dumps(standard_json(dict(settings))))
        self.crystals: dict[Key, Orbits | None] = {}
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self._blocks = 0
        stored = read_json(folder / SETTINGS)
        if stored is not None and stored != self._settings:
            raise ConfigError(
                f"{folder} holds proposals of other settings ({_difference(stored, self._settings)})",
                "choose another folder with out=DIR, or delete that one",
            )
        if stored is not None:
            self._load()

    def _load(self) -> None:
        for path in sorted(self.folder.glob("block-*.json")):
            self._blocks = int(path.stem.removeprefix("block-")) + 1
            block = read_json(path)
            if block is None:  # damaged from outside; its crystals are sampled again
                continue
            self.seconds += block["seconds"]
            self.cpu_seconds += math.nan if block.get("cpu_seconds") is None else block["cpu_seconds"]
            self.crystals |= {(entry["row"], entry["shot"]): _from_record(entry["crystal"]) for entry in block["proposals"]}

    def add(self, crystals: Mapping[Key, Orbits | None], seconds: float, cpu_seconds: float = math.nan) -> None:
        """Keep a block of proposals that took ``seconds`` of wall time and ``cpu_seconds`` of this process."""
        if not self._blocks:
            write_json_atomically(self.folder / SETTINGS, self._settings)
        proposals = [{"row": row, "shot": shot, "crystal": _to_record(c)} for (row, shot), c in crystals.items()]
        block = {"seconds": seconds, "cpu_seconds": cpu_seconds, "proposals": proposals}
        write_json_atomically(self.folder / f"block-{self._blocks:05d}.json", block)
        self._blocks += 1
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds
        self.crystals |= crystals


def _difference(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    changed = [k for k in sorted({*stored, *asked}) if stored.get(k) != asked.get(k)]
    return "; ".join(f"{k}: {_short(stored.get(k))} there, {_short(asked.get(k))} asked" for k in changed)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:21]}..."


def _to_record(crystal: Orbits | None) -> dict[str, Any] | None:
    return None if crystal is None else {**vars(crystal)}


def _from_record(record: Mapping[str, Any] | None) -> Orbits | None:
    """Inverse of :func:`_to_record`; a number that was not finite (null) makes a crystal that nothing matches."""
    if record is None:
        return None
    arrays = {k: np.array(record[k], dtype=np.int64) for k in ("species", "wyckoff")}
    cell, free = (np.array(record[k], dtype=np.float64) for k in ("cell", "free"))
    return Orbits(int(record["group"]), cell, arrays["species"], arrays["wyckoff"], free.reshape(-1, 3))
