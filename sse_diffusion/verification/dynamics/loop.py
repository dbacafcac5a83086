"""The dynamics loop: all replicas step together, so that an engine that batches sees them in one call.

Random numbers are a function of (seed, step), not of a stream that would have to be stored: a run that was killed and resumed
repeats the same numbers as one that was not, to the engine's own reproducibility.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.errors import SSEError
from sse_diffusion.verification.dynamics.config import DynamicsConfig
from sse_diffusion.verification.dynamics.replica import Replica
from sse_diffusion.verification.dynamics.trajectory import Trajectory
from sse_diffusion.verification.potential import EvaluationError

if TYPE_CHECKING:
    from ase import Atoms

    from sse_diffusion.verification.potential import Evaluation, Potential

WALL_CAP = "wall cap"
"""Start of the reason when the time limit cut the run; a higher one continues it."""

_NOT_IDENTITY = ("steps", "max_seconds", "seeds", "block_frames", "guards")
_ENGINE_ERRORS = (SSEError, ValueError, RuntimeError, ArithmeticError)


def run_dynamics(
    atoms: Atoms,
    potential: Potential,
    config: DynamicsConfig,
    folder: str | Path,
    mobile_ion: str = "",
    extra: Mapping[str, Any] | None = None,
    label: str = "md",
) -> list[Trajectory]:
    """Run to ``config.steps``, or go on from what is in ``folder``; one trajectory per seed, in ``folder/replica_<seed>``.

    A replica that a guard stopped carries the reason in ``stopped`` and the others go on. So does a run that the wall cap cut;
    that one is continued when the cap has been raised, and a stopped one when the guards are others than those that stopped it.

    Args:
        atoms: the start; not changed. Velocities are drawn from the Maxwell-Boltzmann distribution.
        potential: engine.
        config: protocol.
        folder: of this run.
        mobile_ion: element that may leave its place; all others are the framework that the melting guard watches.
        extra: plain values for ``meta.json``; part of the run's identity.
        label: text of the progress bar.

    Raises:
        OutputError: the folder cannot be written.
        EvaluationError: the engine cannot evaluate the start.
        KeyboardInterrupt and whatever else ends the process: at most the unfinished block is lost.
    """
    meta = _meta(atoms, potential, config, extra)
    folders = {seed: Path(folder) / f"replica_{seed}" for seed in config.seeds}
    replicas = [Replica(atoms, config, seed, path, mobile_ion, meta) for seed, path in folders.items()]
    if running := [replica for replica in replicas if replica.running]:
        _run(potential, replicas, running, config, label)
    return [_loaded(replica, config) for replica in replicas]


def _run(potential: Potential, replicas: list[Replica], running: list[Replica], config: DynamicsConfig, label: str) -> None:
    """Step the running replicas together until they are done, stopped, or out of time."""
    from tqdm import tqdm

    first = min(replica.step for replica in running)
    for replica in running:
        replica.rewind(first)
    spent = sum(replica.seconds for replica in replicas)
    started = time.monotonic()
    with tqdm(total=config.steps, initial=first, desc=label, unit="step", leave=False) as bar:
        for replica, result in zip(running, _evaluate(potential, running), strict=True):
            replica.begin(result)
        while running := [replica for replica in running if replica.running]:
            if spent + time.monotonic() - started >= config.max_seconds:
                break
            _one_frame(potential, running, config)
            bar.update(config.frame_every)
            share = (time.monotonic() - started) / len(running)
            for replica in running:
                if not replica.stopped:
                    replica.end_frame(share)
    for replica in replicas:
        replica.flush()


def _one_frame(potential: Potential, running: list[Replica], config: DynamicsConfig) -> None:
    """The steps between two stored frames."""
    for _ in range(min(config.frame_every, config.steps - running[0].step)):
        alive = [replica for replica in running if not replica.stopped]
        for replica in alive:
            replica.move()
        for replica, result in zip(alive, _evaluate(potential, alive), strict=True):
            replica.finish(result)


def _evaluate(potential: Potential, replicas: Sequence[Replica]) -> list[Evaluation | str]:
    """Forces of all replicas in one call; when that fails one by one, so that only those that cannot go on stop."""
    try:
        return list(potential.evaluate([replica.atoms for replica in replicas])) if replicas else []
    except _ENGINE_ERRORS:
        return [_evaluate_one(potential, replica.atoms) for replica in replicas]


def _evaluate_one(potential: Potential, atoms: Atoms) -> Evaluation | str:
    """The evaluation, or the engine's words why there is none."""
    try:
        return potential.evaluate([atoms])[0]
    except _ENGINE_ERRORS as error:
        return error.message if isinstance(error, SSEError) else f"{type(error).__name__}: {error}"


def _meta(atoms: Atoms, potential: Potential, config: DynamicsConfig, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the trajectory's readers need, and what makes a run the same run."""
    return {
        "symbols": atoms.get_chemical_symbols(),
        "masses": atoms.get_masses().tolist(),
        "frame_ps": config.frame_ps,
        **{k: v for k, v in asdict(config).items() if k not in _NOT_IDENTITY},
        "engine": potential.info.name,
        "engine_version": potential.info.version,
        "energy_scheme": potential.info.energy_scheme,
        "extra": dict(extra or {}),
    }


def _loaded(replica: Replica, config: DynamicsConfig) -> Trajectory:
    """The trajectory as it lies on disk; the wall cap as the reason when it is not finished.

    Raises:
        EvaluationError: the engine could not even evaluate the start, so there is none.
    """
    if replica.stopped and not any(replica.folder.glob("block_*.npz")):
        raise EvaluationError(f"the engine cannot evaluate the start: {replica.stopped}", "relax the crystal first")
    trajectory = Trajectory.load(replica.folder)
    if replica.running:
        ps = replica.step * config.timestep_fs / 1000.0
        return replace(trajectory, stopped=f"{WALL_CAP} of {config.max_seconds:g} s reached after {ps:.2f} ps")
    return trajectory
