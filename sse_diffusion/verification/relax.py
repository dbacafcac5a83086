"""Relaxation of a crystal at fixed or free cell, with caps on steps and time and a reason for every ending."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sse_diffusion.core.errors import ConfigError, SSEError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import eV_PER_A3_PER_GPa

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import Potential

logger = logging.getLogger(__name__)

UNIT = "eV/atom"
EXPLODED_VOLUME_RATIO = 4.0
"""A cell that grows beyond this times its first volume has fallen apart."""

_ENGINE_ERRORS = (SSEError, ValueError, ArithmeticError, np.linalg.LinAlgError)
"""Besides the engine's own errors: the matrix logarithm of the cell filter fails on a cell that has turned inside out."""


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
        seconds: wall time; of calls in company a share by atoms.
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
    return next(relax_together([structure], potential, config))[1]


def relax_together(
    structures: Iterable[Structure], potential: Potential, config: RelaxConfig | None = None, together: int = 1
) -> Iterator[tuple[int, RelaxResult]]:
    """Relax many, as many as ``together`` in every call of the engine; when one has ended the next takes its place.

    Each walks the path that it would walk alone, to the engine's own reproducibility. An engine that batches gains where one
    structure does not fill the processor: on a GPU, and with cells of a dozen atoms on a CPU core, too (docs/verification.md).

    Args:
        structures: ordered pymatgen structures; taken one by one, when there is a place.
        potential: the force field.
        config: see :class:`RelaxConfig`; ``max_seconds`` counts a structure's own time and its share, by atoms, of common calls.
        together: places.

    Yields:
        Number of the structure and its result, in the order in which they end.
    """
    config = config or RelaxConfig()
    waiting = enumerate(structures)
    running: dict[int, _Run] = {}
    while True:
        running |= {i: _Run(s, potential, config, together > 1) for i, s in islice(waiting, together - len(running))}
        if not running:
            return
        if len(running) > 1:
            _evaluate_together(potential, list(running.values()))
        for i, run in list(running.items()):
            if (result := run.advance()) is not None:
                del running[i]
                yield i, result


def _evaluate_together(potential: Potential, runs: Sequence[_Run]) -> None:
    """One call for all; when it fails each is evaluated by its own calculator, and the bad one alone says what is wrong."""
    start = time.perf_counter()
    try:
        found = potential.evaluate([run.atoms for run in runs])
    except _ENGINE_ERRORS:
        found = []
    share = (time.perf_counter() - start) / sum(len(run.atoms) for run in runs)
    for run in runs:
        run.seconds += share * len(run.atoms)
    for run, evaluation in zip(runs, found, strict=False):
        run.atoms.calc.keep(run.atoms, evaluation)


class _Run:
    """One FIRE minimisation, a step at a time, and the last state that could be evaluated."""

    def __init__(self, structure: Structure, potential: Potential, config: RelaxConfig, in_company: bool) -> None:
        from pymatgen.io.ase import AseAtomsAdaptor

        from sse_diffusion.verification.engines.adapter import PotentialCalculator

        start = time.perf_counter()
        self.original, self.config = structure, config
        self.provenance = {"engine": f"{potential.info.name} {potential.info.version}", "protocol": _protocol(config)}
        self.atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        self.atoms.calc = PotentialCalculator(potential) if in_company else potential.calculator()
        self.first_volume = self.atoms.get_volume()
        self.target: Any = None
        self.optimiser: Any = None
        self.moves = self.steps = 0
        self.fmax = self.energy_eV = math.nan
        self.positions: np.ndarray | None = None
        self.cell: np.ndarray | None = None
        self.seconds = time.perf_counter() - start

    def advance(self) -> RelaxResult | None:
        """Look at the present state, then end or move on."""
        start = time.perf_counter()
        try:
            ending = self._advance()
        except _ENGINE_ERRORS as error:
            # One bad crystal must not end a funnel of hundreds; the reason travels with the result.
            ending = Status.FAILED, f"step {self.steps}: {getattr(error, 'message', error)}"
        self.seconds += time.perf_counter() - start
        return None if ending is None else self._result(*ending)

    def _advance(self) -> tuple[Status, str] | None:
        """Status and reason of the end; ``None`` after a step."""
        config = self.config
        if self.optimiser is None:
            self._begin()
        self._record()
        if self.fmax < config.fmax_eV_per_A:
            return Status.OK, ""
        if self.atoms.get_volume() > EXPLODED_VOLUME_RATIO * self.first_volume:
            return Status.FAILED, f"step {self.steps}: the cell grew to {EXPLODED_VOLUME_RATIO:g} times its volume"
        if self.steps >= config.max_steps:
            return Status.UNCONVERGED, f"{self.steps} steps done, fmax {self.fmax:.3f} eV/A"
        if self.seconds > config.max_seconds:
            return Status.UNCONVERGED, f"{config.max_seconds:g} s spent after {self.steps} steps, fmax {self.fmax:.3f} eV/A"
        self.optimiser.step()
        self.moves += 1
        return None

    def _begin(self) -> None:
        """What the optimiser works on: the atoms, or atoms and cell; on their space group when it is to be kept."""
        from ase.filters import FrechetCellFilter
        from ase.optimize import FIRE

        if self.config.keep_symmetry:
            self._keep_symmetry(self.config.symprec_A)
        self.target = self.atoms
        if self.config.cell == "free":
            self.target = FrechetCellFilter(self.atoms, scalar_pressure=self.config.pressure_GPa * eV_PER_A3_PER_GPa)
        self.optimiser = FIRE(self.target, logfile=None)

    def _keep_symmetry(self, symprec_A: float) -> None:
        """Constrain the atoms to their space group."""
        from ase.constraints import FixSymmetry
        from ase.spacegroup.symmetrize import check_symmetry

        if check_symmetry(self.atoms, symprec_A) is None:
            raise ValueError(f"no space group is found within {symprec_A:g} A")
        self.atoms.set_constraint(FixSymmetry(self.atoms, symprec=symprec_A))

    def _record(self) -> None:
        """Evaluate the present state, unless that was done in company, and remember it."""
        forces = np.asarray(self.target.get_forces())
        self.fmax = float(np.sqrt((forces**2).sum(axis=1)).max())
        self.energy_eV = float(self.atoms.get_potential_energy())
        self.positions, self.cell, self.steps = self.atoms.positions.copy(), self.atoms.cell.array.copy(), self.moves

    def _result(self, status: Status, reason: str) -> RelaxResult:
        """The result of a run that ended so."""
        if status is Status.FAILED:
            energy = Quantity.failed(reason, UNIT, **self.provenance)
        else:
            energy = Quantity(
                self.energy_eV / len(self.atoms), unit=UNIT, status=status, reason=reason, provenance=self.provenance
            )
        last = self._structure()
        return RelaxResult(last, energy, last.volume / len(last), self.steps, self.fmax, self.seconds)

    def _structure(self) -> Structure:
        """Last recorded state as a pymatgen structure with the species of the original."""
        from pymatgen.core import Lattice, Structure

        if self.positions is None:
            return self.original
        return Structure(Lattice(self.cell), self.original.species, self.positions, coords_are_cartesian=True, to_unit_cell=True)


def _protocol(config: RelaxConfig) -> str:
    """One line for the provenance of a result."""
    cell = f"FrechetCellFilter at {config.pressure_GPa:g} GPa" if config.cell == "free" else "fixed cell"
    symmetry = f", symmetry kept ({config.symprec_A:g} A)" if config.keep_symmetry else ""
    return f"FIRE, {cell}, fmax {config.fmax_eV_per_A:g} eV/A, {config.max_steps} steps{symmetry}"
