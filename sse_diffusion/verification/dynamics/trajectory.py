"""Trajectories on disk: a folder of numbered compressed blocks and one ``meta.json``; reading them back as arrays.

A block is an ``.npz`` named after its last step, written whole or not at all. It holds its frames and the state (float64) that
the next step starts from, so that a run killed at any moment loses the unfinished block and nothing else. Beside time-dependent
arrays there is nothing to keep in step: the newest block is the checkpoint. ``stopped.json`` says why a run ended early.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from sse_diffusion.core.atomic_files import read_json, write_bytes_atomically, write_json_atomically
from sse_diffusion.core.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

logger = logging.getLogger(__name__)

FRAME_FIELDS = {
    "positions_A": np.float32,
    "velocities_A_per_ps": np.float32,
    "cells_A": np.float64,
    "potential_eV": np.float64,
    "temperature_K": np.float64,
    "pressure_GPa": np.float64,
}
"""What a frame holds: name -> type on disk."""

META = "meta.json"
STOPPED = "stopped.json"


@dataclass(frozen=True)
class Trajectory:
    """One replica as arrays.

    Attributes:
        symbols: (N,) chemical symbols. masses: (N,) in amu.
        frame_ps: time between frames; frame 0 is the start.
        target_K: temperature of the thermostat.
        positions_A: (T, N, 3) float32, unwrapped Cartesian.
        velocities_A_per_ps: (T, N, 3) float32.
        cells_A: (T, 3, 3) row vectors.
        potential_eV, temperature_K, pressure_GPa: (T,); the pressure is the instantaneous one, virial and N kT / V.
        seconds: wall time so far.
        stopped: why the run ended early; empty otherwise.
        meta: ``meta.json``: protocol, seed, engine, what the caller added.
    """

    symbols: np.ndarray
    masses: np.ndarray
    frame_ps: float
    target_K: float
    positions_A: np.ndarray
    velocities_A_per_ps: np.ndarray
    cells_A: np.ndarray
    potential_eV: np.ndarray
    temperature_K: np.ndarray
    pressure_GPa: np.ndarray
    seconds: float
    stopped: str
    meta: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Trajectory:
        """Read a replica's folder.

        Raises:
            DataError: there is no trajectory in ``folder``.
        """
        folder = Path(folder)
        meta: dict[str, Any] = read_json(folder / META) or {}
        blocks = [content for _, content in read_blocks(folder)] if meta else []
        if not blocks:
            raise DataError(f"{folder} holds no trajectory", f"a trajectory is a folder with {META} and block_*.npz")
        frames = {name: np.concatenate([b[name] for b in blocks]) for name in FRAME_FIELDS}
        last = blocks[-1]
        return cls(
            symbols=np.array(meta["symbols"]),
            masses=np.array(meta["masses"]),
            frame_ps=float(meta["frame_ps"]),
            target_K=float(meta["temperature_K"]),
            **frames,
            seconds=float(last["seconds"]),
            stopped=read_stopped(folder),
            meta=meta,
        )

    @property
    def duration_ps(self) -> float:
        """Time from the first to the last frame."""
        return (len(self.positions_A) - 1) * self.frame_ps

    @property
    def volumes_A3(self) -> np.ndarray:
        """(T,) cell volumes."""
        return np.abs(np.linalg.det(self.cells_A))

    def in_mean_cell(self, first: int = 0) -> np.ndarray:
        """(T - first, N, 3) float64 unwrapped positions with the breathing of the cell taken out.

        Fractional positions times the mean cell: atoms far from the origin are not counted as moving when the barostat scales the
        cell (the artefact described by von Buelow, Bullerjahn and Hummer, J. Chem. Phys. 153, 021101 (2020)).
        """
        cells = self.cells_A[first:]
        positions = self.positions_A[first:].astype(np.float64)
        if np.ptp(cells, axis=0).max() == 0.0:
            return positions
        return np.einsum("tni,tij,jk->tnk", positions, np.linalg.inv(cells), cells.mean(axis=0), optimize=True)

    def to_ase(self, every: int = 1) -> list[Atoms]:
        """Frames as ASE Atoms with velocities (positions unwrapped)."""
        from ase import Atoms, units

        return [
            Atoms(
                self.symbols,
                positions=self.positions_A[t],
                cell=self.cells_A[t],
                pbc=True,
                masses=self.masses,
                velocities=self.velocities_A_per_ps[t] / (1000.0 * units.fs),
                info={"time_ps": t * self.frame_ps, "potential_eV": float(self.potential_eV[t])},
            )
            for t in range(0, len(self.positions_A), every)
        ]

    def write_extxyz(self, path: str | Path, every: int = 1) -> None:
        """Export for OVITO, ASE and others."""
        from ase.io import write

        write(str(path), self.to_ase(every), format="extxyz")


def read_blocks(folder: Path) -> list[tuple[Path, dict[str, np.ndarray]]]:
    """The readable blocks of a folder in order; a damaged one and those after it are left out with a warning."""
    blocks: list[tuple[Path, dict[str, np.ndarray]]] = []
    for path in sorted(folder.glob("block_*.npz")):
        try:
            with np.load(path, allow_pickle=False) as content:
                blocks.append((path, {name: content[name] for name in content.files}))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            logger.warning("%s is unreadable (%s); the run goes on from the block before it", path, error)
            break
    return blocks


def write_block(folder: Path, step: int, content: Mapping[str, Any]) -> None:
    """Write one block atomically.

    Raises:
        OutputError: the folder cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, step=step, **content)
    write_bytes_atomically(folder / f"block_{step:010d}.npz", buffer.getvalue())


def discard_after(folder: Path, step: int) -> None:
    """Remove the blocks that end after ``step`` (-1: all)."""
    for path in folder.glob("block_*.npz"):
        if int(path.stem.removeprefix("block_")) > step:
            path.unlink()


def open_folder(folder: Path, key: str, meta: Mapping[str, Any]) -> None:
    """Make ``folder`` hold the run named ``key``: blocks of another run are removed, ``meta.json`` is written.

    Raises:
        OutputError: the folder cannot be written.
    """
    old = read_json(folder / META)
    if not isinstance(old, dict) or old.get("key") != key:
        if folder.is_dir():
            discard_after(folder, -1)
            (folder / STOPPED).unlink(missing_ok=True)
        write_json_atomically(folder / META, {"key": key, **meta})


def read_stopped(folder: Path, guards: Mapping[str, Any] | None = None) -> str:
    """Why the run in ``folder`` ended early; empty when it did not, or when the limits that stopped it were not ``guards``."""
    record = read_json(folder / STOPPED)
    if not isinstance(record, dict) or (guards is not None and record.get("guards") != guards):
        return ""
    return str(record.get("reason", ""))
