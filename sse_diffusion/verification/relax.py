"""Relaxation of a crystal at fixed or free cell, with caps on steps and time and a reason for every ending."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sse_diffusion.core.errors import ConfigError, SSEError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import eV_PER_A3_PER_GPa

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import Potential

logger = logging.getLogger(__name__)

UNIT = "eV/atom"
EXPLODED_VOLUME_RATIO = 4.0
"""A cell that grows beyond this times its first volume has fallen apart."""


@dataclass(frozen=True, kw_only=True)
class RelaxConfig:
    """Protocol of one relaxation: FIRE, on the cell as well through the Frechet cell filter.

    Attributes:
        fmax_eV_per_A: largest generalised force at convergence (forces, and cell gradient per ASE's FrechetCellFilter).
        max_steps: cap on optimiser steps.
        max_seconds: cap on wall time.
        cell: ``"free"`` relaxes cell and positions, ``"fixed"`` positions only.
        pressure_GPa: hydrostatic pressure on a free cell.
        keep_symmetry: project forces, stress and steps on the space group found at the start (ASE's FixSymmetry).
        symprec_A: tolerance with which that group is found.
    """

    fmax_eV_per_A: float = 0.05
    max_steps: int = 200
    max_seconds: float = 60.0
    cell: Literal["free", "fixed"] = "free"
    pressure_GPa: float = 0.0
    keep_symmetry: bool = False
    symprec_A: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values that have no meaning (ConfigError)."""
        if self.cell not in ("free", "fixed"):
            raise ConfigError(f"relax.cell is {self.cell!r}", "choose free or fixed")
        if not (self.fmax_eV_per_A > 0 and self.max_steps >= 0 and self.max_seconds > 0):
            raise ConfigError("relax needs fmax_eV_per_A > 0, max_steps >= 0 and max_seconds > 0")
        if not self.symprec_A > 0:
            raise ConfigError(f"relax.symprec_A is {self.symprec_A:g}", "give a positive tolerance in Angstrom, e.g. 0.01")


@dataclass(frozen=True)
class RelaxResult:
    """How a relaxation ended.

    Attributes:
        structure: last structure that could be evaluated (the input when none could).
        energy_eV_per_atom: potential energy without PV; status ``ok``, ``unconverged`` (a cap was met) or ``failed``.
        volume_A3_per_atom: of ``structure``.
        steps: optimiser steps done.
        fmax_eV_per_A: largest generalised force left; NaN when unknown.
        seconds: wall time.
    """

    structure: Structure
    energy_eV_per_atom: Quantity
    volume_A3_per_atom: float
    steps: int
    fmax_eV_per_A: float
    seconds: float

    @property
    def converged(self) -> bool:
        """True when ``fmax`` was reached within the caps."""
        return self.energy_eV_per_atom.ok

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the structure as pymatgen's dictionary."""
        return {
            "structure": self.structure.as_dict(),
            "energy_eV_per_atom": self.energy_eV_per_atom.to_dict(),
            "volume_A3_per_atom": self.volume_A3_per_atom,
            "steps": self.steps,
            "fmax_eV_per_A": self.fmax_eV_per_A if math.isfinite(self.fmax_eV_per_A) else None,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RelaxResult:
        """Inverse of :meth:`to_dict`."""
        from pymatgen.core import Structure

        energy = Quantity.from_dict(record["energy_eV_per_atom"])
        fmax = math.nan if record["fmax_eV_per_A"] is None else record["fmax_eV_per_A"]
        structure = Structure.from_dict(record["structure"])
        return cls(structure, energy, record["volume_A3_per_atom"], record["steps"], fmax, record["seconds"])


def relax(structure: Structure, potential: Potential, config: RelaxConfig | None = None) -> RelaxResult:
    """Relax one structure; never raises for a bad structure, the status and reason say what happened.

    Args:
        structure: ordered pymatgen structure.
        potential: the force field.
        config: see :class:`RelaxConfig`.
    """
    from pymatgen.io.ase import AseAtomsAdaptor

    config = config or RelaxConfig()
    provenance = {"engine": f"{potential.info.name} {potential.info.version}", "protocol": _protocol(config)}
    start = time.perf_counter()
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    atoms.calc = potential.calculator()
    run = _Run(atoms, atoms.get_volume())
    try:
        status, reason = run.minimise(config, start)
    except (SSEError, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        # One bad crystal must not end a funnel of hundreds; the reason travels with the result. Besides the engine's own
        # errors, the matrix logarithm of the cell filter fails on a cell that has turned inside out.
        status, reason = Status.FAILED, f"step {run.steps}: {getattr(error, 'message', error)}"
    seconds = time.perf_counter() - start
    if status is Status.FAILED:
        quantity = Quantity.failed(reason, UNIT, **provenance)
    else:
        quantity = Quantity(run.energy_eV / len(atoms), unit=UNIT, status=status, reason=reason, provenance=provenance)
    last = run.structure(structure)
    return RelaxResult(last, quantity, last.volume / len(last), run.steps, run.fmax, seconds)


class _Run:
    """One FIRE minimisation and the last state that could be evaluated."""

    def __init__(self, atoms: Atoms, volume: float) -> None:
        self.atoms = atoms
        self.first_volume = volume
        self.steps = 0
        self.fmax = math.nan
        self.energy_eV = math.nan
        self.positions: np.ndarray | None = None
        self.cell: np.ndarray | None = None

    def minimise(self, config: RelaxConfig, start: float) -> tuple[Status, str]:
        """Run FIRE until convergence or a cap; returns the status and its reason."""
        from ase.filters import FrechetCellFilter
        from ase.optimize import FIRE

        if config.keep_symmetry:
            self._keep_symmetry(config.symprec_A)
        target: Any = self.atoms
        if config.cell == "free":
            target = FrechetCellFilter(self.atoms, scalar_pressure=config.pressure_GPa * eV_PER_A3_PER_GPa)
        optimiser = FIRE(target, logfile=None)
        for converged in optimiser.irun(fmax=config.fmax_eV_per_A, steps=config.max_steps):
            self._record(target, optimiser.nsteps)
            if converged:
                return Status.OK, ""
            if self.atoms.get_volume() > EXPLODED_VOLUME_RATIO * self.first_volume:
                return Status.FAILED, f"step {self.steps}: the cell grew to {EXPLODED_VOLUME_RATIO:g} times its volume"
            if time.perf_counter() - start > config.max_seconds:
                return Status.UNCONVERGED, f"{config.max_seconds:g} s spent after {self.steps} steps, fmax {self.fmax:.3f} eV/A"
        return Status.UNCONVERGED, f"{self.steps} steps done, fmax {self.fmax:.3f} eV/A"

    def _keep_symmetry(self, symprec_A: float) -> None:
        """Constrain the atoms to their space group."""
        from ase.constraints import FixSymmetry
        from ase.spacegroup.symmetrize import check_symmetry

        if check_symmetry(self.atoms, symprec_A) is None:
            raise ValueError(f"no space group is found within {symprec_A:g} A")
        self.atoms.set_constraint(FixSymmetry(self.atoms, symprec=symprec_A))

    def _record(self, target: Any, steps: int) -> None:
        """Remember the state just evaluated (energies and forces are cached by the calculator)."""
        forces = np.asarray(target.get_forces())
        self.fmax = float(np.sqrt((forces**2).sum(axis=1)).max())
        self.energy_eV = float(self.atoms.get_potential_energy())
        self.positions, self.cell, self.steps = self.atoms.positions.copy(), self.atoms.cell.array.copy(), steps

    def structure(self, original: Structure) -> Structure:
        """Last recorded state as a pymatgen structure with the species of ``original``."""
        from pymatgen.core import Lattice, Structure

        if self.positions is None:
            return original
        return Structure(Lattice(self.cell), original.species, self.positions, coords_are_cartesian=True, to_unit_cell=True)


def _protocol(config: RelaxConfig) -> str:
    """One line for the provenance of a result."""
    cell = f"FrechetCellFilter at {config.pressure_GPa:g} GPa" if config.cell == "free" else "fixed cell"
    symmetry = f", symmetry kept ({config.symprec_A:g} A)" if config.keep_symmetry else ""
    return f"FIRE, {cell}, fmax {config.fmax_eV_per_A:g} eV/A, {config.max_steps} steps{symmetry}"
