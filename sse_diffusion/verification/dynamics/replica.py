"""One seed of a run: its state, its steps, and the frames that go to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.atomic_files import standard_json, write_json_atomically
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K, GPa_PER_eV_PER_A3, eV_PER_A3_PER_GPa
from sse_diffusion.verification.dynamics import trajectory as files
from sse_diffusion.verification.dynamics.config import DynamicsConfig
from sse_diffusion.verification.dynamics.guards import frame_problem, framework_problem, framework_shift
from sse_diffusion.verification.dynamics.integrator import advance, cell_deformation, kick

if TYPE_CHECKING:
    from ase import Atoms

    from sse_diffusion.verification.potential import Evaluation


class Replica:
    """Atoms (positions, cell), velocities and forces of one seed; frames wait in memory until their block is full.

    Args:
        atoms: the start; copied.
        config: protocol.
        seed: of start velocities and noise.
        folder: of this replica.
        mobile_ion: what is not framework; empty for no framework guard.
        meta: written to ``meta.json``; decides whether what is in the folder is continued.
    """

    def __init__(
        self, atoms: Atoms, config: DynamicsConfig, seed: int, folder: Path, mobile_ion: str, meta: dict[str, Any]
    ) -> None:
        """Open the folder; take the state from its newest block, or draw start velocities."""
        from ase import units

        self.config, self.seed, self.folder, self.limits = config, seed, folder, standard_json(asdict(config.guards))
        self.start = atoms.copy()
        self.per_ps = 1000.0 * units.fs  # ASE's unit of time, times this, is one ps
        self.kT = BOLTZMANN_eV_PER_K * config.temperature_K
        self.masses = atoms.get_masses()[:, None]
        self.kinds = atoms.get_atomic_numbers()
        self.framework = (np.array(atoms.get_chemical_symbols()) != mobile_ion) & bool(mobile_ion)
        place = {"positions": np.round(atoms.positions, 5).tolist(), "cell": np.round(atoms.cell.array, 5).tolist()}
        meta = {**meta, "seed": seed, "mobile_ion": mobile_ion}
        files.open_folder(folder, hash_of_config({**meta, "start": place}), meta)
        self.stopped = files.read_stopped(folder, self.limits)
        if not self.stopped:  # or by other limits than these
            (folder / files.STOPPED).unlink(missing_ok=True)
        self.restore()

    def restore(self) -> None:
        """State of the newest block; of the start when there is none."""
        self.pending: list[dict[str, Any]] = []
        self.forces: np.ndarray | None = None
        self.frames = 0
        self.reference: np.ndarray | None = None
        self.atoms = self.start.copy()
        last: dict[str, np.ndarray] = {}
        for _, last in files.read_blocks(self.folder):
            self._count(last)
        if last:
            self.step, self.seconds = int(last["step"]), float(last["seconds"])
            self.atoms.set_cell(last["state_cell"])
            self.atoms.positions[:], self.velocities = last["state_positions"], last["state_velocities"]
        else:
            self.step, self.seconds = 0, 0.0
            velocities = np.sqrt(self.kT / self.masses) * self._random(0, len(self.atoms))
            self.velocities = velocities - (self.masses * velocities).sum(axis=0) / self.masses.sum()
        self.seconds_before = self.seconds
        files.discard_after(self.folder, self.step if last else -1)

    def rewind(self, step: int) -> None:
        """Go back to the newest block at or before ``step``, so that all replicas go on together."""
        if self.step > step:
            files.discard_after(self.folder, step)
            self.restore()

    @property
    def running(self) -> bool:
        """True while there are steps to do."""
        return not self.stopped and self.step < self.config.steps

    def begin(self, result: Evaluation | str) -> None:
        """Take the forces at the state to go on from; store the start as frame 0 of a new run."""
        if self._accept(result) and self.frames == 0:
            self.end_frame(0.0)
            self.flush()

    def move(self) -> None:
        """Everything of a step that comes before the new forces."""
        config, dt = self.config, self.config.timestep_fs / 1000.0 * self.per_ps
        noise = self._random(self.step + 1, len(self.atoms) + 3)
        assert self.forces is not None
        self.atoms.positions[:], self.velocities = advance(
            self.atoms.positions, self.velocities, self.forces, self.masses, dt, config.friction / self.per_ps, self.kT, noise[3:]
        )
        if config.ensemble == "npt":
            deformation = cell_deformation(
                self.atoms.cell.array,
                self.stress,
                len(self.atoms),
                dt,
                self.kT,
                config.pressure_GPa * eV_PER_A3_PER_GPa,
                config.compressibility_per_GPa * GPa_PER_eV_PER_A3,
                config.barostat_ps * self.per_ps,
                config.cell_shape == "isotropic",
                noise[:3],
            )
            self.atoms.set_cell(self.atoms.cell.array @ deformation)
            self.atoms.positions[:] = self.atoms.positions @ deformation

    def finish(self, result: Evaluation | str) -> None:
        """Take the new forces and end the step."""
        if self._accept(result):
            assert self.forces is not None
            self.velocities = kick(self.velocities, self.forces, self.masses, self.config.timestep_fs / 1000.0 * self.per_ps)
            self.step += 1

    def end_frame(self, seconds: float) -> None:
        """Store the frame, look at the guards, write the block when it is full.

        Args:
            seconds: wall time of this session so far that belongs to this replica.
        """
        n, cell = len(self.atoms), self.atoms.cell.array.copy()
        temperature = float((self.masses * self.velocities**2).sum()) / (3 * n * BOLTZMANN_eV_PER_K)
        self.seconds = self.seconds_before + seconds
        self.pending.append(
            {
                "positions_A": self.atoms.positions.astype(np.float32),
                "velocities_A_per_ps": (self.velocities * self.per_ps).astype(np.float32),
                "cells_A": cell,
                "potential_eV": self.energy,
                "temperature_K": temperature,
                "pressure_GPa": (n * self.kT / self.atoms.get_volume() - np.trace(self.stress) / 3.0) * GPa_PER_eV_PER_A3,
            }
        )
        guards, first_cell = self.config.guards, self.start.cell.array
        self.stop(frame_problem(guards, self.atoms.positions, cell, first_cell, temperature, self.config.temperature_K))
        if len(self.pending) >= self.config.block_frames and not self.stopped:
            self.flush()

    def flush(self) -> None:
        """Write the waiting frames with the state to go on from; look whether the framework is in place."""
        if not self.pending:
            return
        block = {name: np.array([f[name] for f in self.pending], dtype=kind) for name, kind in files.FRAME_FIELDS.items()}
        state = {"positions": self.atoms.positions, "velocities": self.velocities, "cell": self.atoms.cell.array}
        files.write_block(
            self.folder, self.step, {**block, **{f"state_{k}": v for k, v in state.items()}, "seconds": self.seconds}
        )
        self.pending = []
        now = self._count(block)
        if self.reference is not None and self.framework.any():
            cell = self.atoms.cell.array
            places = self.reference @ cell, now @ cell
            shift = framework_shift(*places, cell, self.masses[:, 0], self.kinds, self.framework)
            self.stop(framework_problem(self.config.guards.framework_shift, shift))

    def stop(self, reason: str) -> None:
        """End the run for good when there is a reason."""
        if reason and not self.stopped:
            self.stopped = reason
            self.flush()
            write_json_atomically(self.folder / files.STOPPED, {"reason": reason, "step": self.step, "guards": self.limits})

    def _accept(self, result: Evaluation | str) -> bool:
        """Store forces, stress and energy; a step that cannot be evaluated ends the run with the engine's own words."""
        if isinstance(result, str):
            self.stop(f"the engine stopped at step {self.step}: {result}")
            return False
        self.forces, self.stress, self.energy = result.forces_eV_per_A, result.stress_eV_per_A3, result.energy_eV
        return True

    def _count(self, block: Mapping[str, np.ndarray]) -> np.ndarray:
        """(N, 3) mean fractional positions of a block, the framework's reference from its time on; counts the frames."""
        inverse = np.linalg.inv(block["cells_A"])
        mean: np.ndarray = np.einsum("tni,tij->nj", block["positions_A"].astype(np.float64), inverse) / len(inverse)
        self.frames += len(inverse)
        if self.reference is None and self.frames > round(self.config.guards.framework_from_ps / self.config.frame_ps):
            self.reference = mean
        return mean

    def _random(self, step: int, rows: int) -> np.ndarray:
        """(rows, 3) standard normal numbers that depend on seed and step alone."""
        return np.random.default_rng([self.seed, step]).standard_normal((rows, 3))
