"""A force field whose phase transition under pressure is known: point charges and a Born-Mayer repulsion between unlike ions.

    E = sum_{i<j} z_i z_j e^2 / (4 pi eps0 r_ij) + sum_{unlike pairs} A exp(-r_ij / rho)

(Born and Mayer, Z. Phys. 75, 1 (1932).) For a binary crystal with all cation-anion distances set by one length the energy per
formula unit is -M k / r + sum_shells n A exp(-s r / rho) with the Madelung constant M, so that enthalpies and the pressure at
which they cross follow by minimising over r alone: :func:`crossing_pressure_GPa`. With the default numbers (fitted to r = 3.14
Angstrom, as in KCl) rock salt gives way to the CsCl structure near 2.3 GPa; KCl does near 2 GPa.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from sse_diffusion.core.units import eV_PER_A3_PER_GPa
from sse_diffusion.verification.engines.adapter import PotentialCalculator
from sse_diffusion.verification.potential import Evaluation, EvaluationError, PotentialInfo

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

COULOMB_eV_A = 14.399645
CUTOFF_A, SPLIT_PER_A, LONGEST_WAVE_PER_A = 9.0, 0.38, 2.9


@dataclass(frozen=True)
class Lattice:
    """Cubic AB crystal: Madelung constant, volume per formula unit over r^3, unlike shells as (neighbours, distance over r)."""

    madelung: float
    volume: float
    shells: tuple[tuple[int, float], ...]


ROCK_SALT = Lattice(1.7475645946, 2.0, ((6, 1.0), (8, math.sqrt(3.0)), (24, math.sqrt(5.0))))
CESIUM_CHLORIDE = Lattice(
    1.7626747731, 8.0 / math.sqrt(27.0), ((8, 1.0), (24, math.sqrt(11.0 / 3.0)), (24, math.sqrt(19.0 / 3.0)))
)


class RigidIons:
    """The model as a :class:`~sse_diffusion.verification.potential.Potential`; Coulomb energies by Ewald's sum.

    Args:
        charges: of each element; a cell must be neutral.
        range_A: rho.
        distance_A: r of rock salt at zero pressure, which fixes A (nearest neighbours only).
    """

    def __init__(self, charges: Mapping[str, float] | None = None, range_A: float = 0.28, distance_A: float = 3.14) -> None:
        self.charges = dict(charges or {"K": 1.0, "Cl": -1.0})
        self.range_A = range_A
        slope = ROCK_SALT.madelung * COULOMB_eV_A / distance_A**2
        self.repulsion_eV = slope * range_A / ROCK_SALT.shells[0][0] * math.exp(distance_A / range_A)
        elements = frozenset(self.charges)
        self.info = PotentialInfo("rigid ions", "1", "MIT", "Born-Mayer", "Born-Mayer", elements, "quadratic in atoms")

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Evaluation]:
        """See :meth:`sse_diffusion.verification.potential.Potential.evaluate`."""
        return [self._evaluate(each) for each in atoms]

    def calculator(self) -> Calculator:
        """A fresh ASE calculator."""
        return PotentialCalculator(self)

    def _evaluate(self, atoms: Atoms) -> Evaluation:
        volume = abs(float(np.linalg.det(atoms.cell.array)))
        if volume < 5.0 * len(atoms):
            raise EvaluationError(f"{atoms.get_chemical_formula()}: the cell has collapsed", "use a larger cell")
        charge = torch.tensor([self.charges[s] for s in atoms.get_chemical_symbols()], dtype=torch.float64)
        strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        positions = torch.tensor(atoms.positions, requires_grad=True)
        energy = self._energy(positions, torch.tensor(atoms.cell.array), strain, charge)
        gradient, stress = torch.autograd.grad(energy, [positions, strain])
        return Evaluation(float(energy.detach()), -gradient.numpy(), (0.5 * (stress + stress.T)).numpy() / volume)

    def _energy(self, positions: torch.Tensor, cell: torch.Tensor, strain: torch.Tensor, charge: torch.Tensor) -> torch.Tensor:
        """Total energy of the strained cell, eV."""
        deform = torch.eye(3, dtype=torch.float64) + strain
        reciprocal = 2 * math.pi * torch.linalg.inv(cell).T  # rows
        images = _integers(CUTOFF_A * reciprocal.norm(dim=1) / (2 * math.pi) + 1) @ cell
        x, cell, images = positions @ deform, cell @ deform, images @ deform
        with torch.no_grad():
            square = (x[:, None, None] - x[None, :, None] + images).square().sum(-1)
            i, j, image = torch.nonzero((square > 1e-6) & (square < CUTOFF_A**2), as_tuple=True)
        length = (x[i] - x[j] + images[image]).square().sum(-1).sqrt()
        pair = charge[i] * charge[j]
        coulomb = COULOMB_eV_A * pair * torch.erfc(SPLIT_PER_A * length) / length
        real = 0.5 * (coulomb + self.repulsion_eV * (pair < 0) * torch.exp(-length / self.range_A)).sum()
        waves = _integers(LONGEST_WAVE_PER_A * torch.linalg.norm(cell.detach(), dim=1) / (2 * math.pi))
        k = waves[waves.abs().sum(1) > 0] @ (2 * math.pi * torch.linalg.inv(cell).T)
        k2 = k.square().sum(1)
        phase = x @ k.T
        factor = (charge @ phase.cos()).square() + (charge @ phase.sin()).square()
        volume = torch.linalg.det(cell).abs()
        long = 2 * math.pi * COULOMB_eV_A / volume * (torch.exp(-k2 / (4 * SPLIT_PER_A**2)) / k2 * factor).sum()
        return real + long - COULOMB_eV_A * SPLIT_PER_A / math.sqrt(math.pi) * charge.square().sum()

    def enthalpy_eV(self, lattice: Lattice, pressure_GPa: float) -> float:
        """Lowest enthalpy per formula unit of a lattice at a pressure, from its lattice sums alone."""
        from scipy.optimize import minimize_scalar

        def enthalpy(r: float) -> float:
            repulsion = sum(n * math.exp(-s * r / self.range_A) for n, s in lattice.shells)
            work = pressure_GPa * eV_PER_A3_PER_GPa * lattice.volume * r**3
            return -lattice.madelung * COULOMB_eV_A / r + self.repulsion_eV * repulsion + work

        return float(minimize_scalar(enthalpy, bounds=(2.0, 5.0), method="bounded", options={"xatol": 1e-9}).fun)

    def crossing_pressure_GPa(self) -> float:
        """Pressure at which rock salt and the CsCl structure have the same enthalpy."""
        from scipy.optimize import brentq

        def gap(pressure_GPa: float) -> float:
            return self.enthalpy_eV(ROCK_SALT, pressure_GPa) - self.enthalpy_eV(CESIUM_CHLORIDE, pressure_GPa)

        return float(brentq(gap, -1.0, 20.0))


def _integers(reach: torch.Tensor) -> torch.Tensor:
    """All integer triples up to ``reach`` (3,) in each direction, rounded up; (n, 3)."""
    axes = [torch.arange(-math.ceil(float(n)), math.ceil(float(n)) + 1, dtype=torch.float64) for n in reach]
    return torch.cartesian_prod(*axes)
