"""Constant-temperature molecular dynamics in blocks, with a checkpoint after each and guards that stop a run gone wrong.

Thermostat: Langevin with weak friction (Vanden-Eijnden and Ciccotti, Chem. Phys. Lett. 429, 310 (2006)). It brings every mode to
temperature by itself within the dropped picosecond; a global thermostat (velocity rescaling, Nose-Hoover) leaves weakly coupled
sublattices at different temperatures for much longer. At 5/ps it lowers the diffusivity of a fast lithium ion by 5-10 %, below
the gate's error bar. The drift of the cell is taken out in the analysis (displacements relative to the framework).
"""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.atomic_files import write_bytes_atomically

if TYPE_CHECKING:
    from ase import Atoms

logger = logging.getLogger(__name__)

Guard = Callable[["Trajectory"], str]
"""Looks at the trajectory after each block; a non-empty text stops the run and is the reason."""


@dataclass(frozen=True, kw_only=True)
class NVTConfig:
    """Protocol of one run.

    Attributes:
        temperature_K: target temperature.
        timestep_fs: 2 fs suits cells without hydrogen; use 0.5 fs with it.
        steps: number of steps in all.
        frame_every: steps between stored frames.
        block_steps: steps between checkpoints (what a kill can lose).
        friction_per_ps: friction of the thermostat.
        max_seconds: wall time over all sessions of this run.
        max_temperature_factor: a frame hotter than this times the target stops the run.
        min_distance_A: atoms closer than this stop the run.
        seed: start velocities and thermostat noise.
    """

    temperature_K: float = 1000.0
    timestep_fs: float = 2.0
    steps: int = 1500
    frame_every: int = 10
    block_steps: int = 100
    friction_per_ps: float = 5.0
    max_seconds: float = 400.0
    max_temperature_factor: float = 5.0
    min_distance_A: float = 0.5
    seed: int = 0


@dataclass
class Trajectory:
    """What a checkpoint holds.

    Attributes:
        frames_A: (T, N, 3) unwrapped positions, float32; frame 0 is the start.
        temperatures_K: (T,) instantaneous temperatures.
        step: steps done.
        positions, velocities: (N, 3) float64 state of the last step (ASE units).
        rng_state: JSON of the generator's state.
        seconds: wall time so far.
        stopped: why the run ended early; empty otherwise.
    """

    frames_A: np.ndarray
    temperatures_K: np.ndarray
    step: int
    positions: np.ndarray
    velocities: np.ndarray
    rng_state: str
    seconds: float = 0.0
    stopped: str = ""

    def save(self, path: Path, key: str) -> None:
        """Write atomically; ``key`` names the protocol and start, so that a checkpoint of another run is never continued."""
        buffer = io.BytesIO()
        np.savez(buffer, key=key, **vars(self))
        write_bytes_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, key: str) -> Trajectory | None:
        """The checkpoint, or ``None`` when there is none for this key (or it cannot be read: the run then starts over)."""
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as data:
                if str(data["key"]) != key:
                    return None
                values: dict[str, Any] = {k: data[k] for k in cls.__dataclass_fields__}
        except (OSError, ValueError, KeyError, EOFError) as error:
            logger.warning("checkpoint %s is unreadable (%s); starting over", path, error)
            return None
        scalars = {k: values[k].item() for k in ("step", "rng_state", "seconds", "stopped")}
        return cls(**{**values, **scalars})


def run_nvt(atoms: Atoms, config: NVTConfig, checkpoint: Path, key: str, guard: Guard, label: str = "md") -> Trajectory:
    """Run to ``config.steps`` from the start or from the checkpoint.

    Interrupted at any moment and called again it gives the same trajectory as without interruption (to the engine's own
    reproducibility). A run that a guard or the wall cap stopped carries the reason in ``stopped``; a wall cap that has since been
    raised continues.

    Args:
        atoms: the cell with its calculator; moved in place.
        config: protocol.
        checkpoint: ``.npz`` file, rewritten after every block.
        key: identity of the run.
        guard: see :data:`Guard`.
        label: text of the progress bar.

    Raises:
        OutputError: the checkpoint cannot be written.
    """
    from ase import units
    from ase.md.langevin import Langevin
    from tqdm import tqdm

    rng = np.random.default_rng(config.seed)
    state = Trajectory.load(checkpoint, key) or _start(atoms, config, rng)
    if state.stopped and not (state.stopped.startswith(_WALL) and state.seconds < config.max_seconds):
        return state
    state.stopped = ""
    atoms.set_positions(state.positions)
    atoms.set_velocities(state.velocities)
    rng.bit_generator.state = json.loads(state.rng_state)
    friction = config.friction_per_ps / (1000.0 * units.fs)
    dynamics = Langevin(
        atoms, config.timestep_fs * units.fs, temperature_K=config.temperature_K, friction=friction, fixcm=False, rng=rng
    )
    with tqdm(total=config.steps, initial=state.step, desc=label, unit="step", leave=False) as bar:
        while state.step < config.steps and not state.stopped:
            before = state.step
            _run_block(dynamics, atoms, config, state)
            state.rng_state = json.dumps(rng.bit_generator.state)
            state.stopped = state.stopped or guard(state)
            if not state.stopped and state.seconds >= config.max_seconds and state.step < config.steps:
                state.stopped = (
                    f"{_WALL} of {config.max_seconds:g} s reached after {state.step * config.timestep_fs / 1000:.2f} ps"
                )
            state.save(checkpoint, key)
            bar.update(state.step - before)
    return state


_WALL = "wall cap"


def _start(atoms: Atoms, config: NVTConfig, rng: np.random.Generator) -> Trajectory:
    """Maxwell-Boltzmann velocities without drift of the centre of mass."""
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

    MaxwellBoltzmannDistribution(atoms, temperature_K=config.temperature_K, rng=rng)
    Stationary(atoms)
    frames = atoms.get_positions()[None].astype(np.float32)
    temperatures = np.array([atoms.get_temperature()])
    rng_state = json.dumps(rng.bit_generator.state)
    return Trajectory(frames, temperatures, 0, atoms.get_positions(), atoms.get_velocities(), rng_state)


def _run_block(dynamics: Any, atoms: Atoms, config: NVTConfig, state: Trajectory) -> None:
    """Advance ``state`` by one block; a step that cannot be evaluated ends the run with the engine's own words."""
    from sse_diffusion.core.errors import SSEError

    started = time.monotonic()
    frames, temperatures = [], []
    for _ in range(min(config.block_steps, config.steps - state.step) // config.frame_every):
        try:
            dynamics.run(config.frame_every)
        except (SSEError, ValueError, RuntimeError, ArithmeticError) as error:
            state.stopped = f"the engine stopped at step {state.step}: {error}"
            break
        state.step += config.frame_every
        frames.append(atoms.get_positions().astype(np.float32))
        temperatures.append(atoms.get_temperature())
        state.stopped = _gone_wrong(atoms, temperatures[-1], config)
        if state.stopped or state.seconds + time.monotonic() - started >= config.max_seconds:
            break
    if frames:
        state.frames_A = np.concatenate([state.frames_A, np.stack(frames)])
        state.temperatures_K = np.concatenate([state.temperatures_K, temperatures])
    state.positions, state.velocities = atoms.get_positions(), atoms.get_velocities()
    state.seconds += time.monotonic() - started


def _gone_wrong(atoms: Atoms, temperature_K: float, config: NVTConfig) -> str:
    """Reason to stop at this frame, or an empty text."""
    if not (np.isfinite(atoms.positions).all() and np.isfinite(temperature_K)):
        return "positions or velocities are not finite numbers"
    if temperature_K > config.max_temperature_factor * config.temperature_K:
        return f"the temperature exploded to {temperature_K:.0f} K (target {config.temperature_K:g} K)"
    nearest = nearest_distance(atoms)
    if nearest < config.min_distance_A:
        return f"two atoms came within {nearest:.2f} A of each other (< {config.min_distance_A} A)"
    return ""


def nearest_distance(atoms: Atoms, chosen: np.ndarray | None = None) -> float:
    """Smallest distance between two atoms under periodic images, Angstrom (inf for fewer than two atoms).

    Args:
        atoms: periodic cell.
        chosen: (N,) bool; only these atoms count.
    """
    from ase.geometry import get_distances

    positions = atoms.positions if chosen is None else atoms.positions[chosen]
    if len(positions) < 2:
        return float("inf")
    distances = get_distances(positions, cell=atoms.cell, pbc=True)[1]
    return float(distances[~np.eye(len(distances), dtype=bool)].min())
