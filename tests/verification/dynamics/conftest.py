"""Toy engines with known answers for the dynamics loop."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from sse_diffusion.verification.potential import Evaluation, EvaluationError, PotentialInfo

INFO = PotentialInfo("toy", "1", "MIT", "toy", "toy", frozenset({"Li", "Cl"}), "constant")


class ToyEngine:
    """Springs to the sites of the start (k in eV/A^2) and a volume spring; ``bulk=0`` and ``k=0`` give the ideal gas.

    U = k/2 sum |x - F site|^2 + bulk / 2 V0 (V/V0 - 1)^2 + shear / 2 V0 |dev ln(F F')/2|^2, F the deformation since the start;
    atoms that follow the cell feel no spring, so that the volume's distribution is known in closed form.
    """

    info = INFO

    def __init__(self, start: Atoms, k: float = 0.0, bulk: float = 0.0, shear: float = 0.0, fail_after: int | None = None):
        self.sites, self.cell = start.positions.copy(), start.cell.array.copy()
        self.k, self.bulk, self.shear, self.fail_after = k, bulk, shear, fail_after
        self.calls, self.batches = 0, []

    def evaluate(self, atoms):
        self.batches.append(len(atoms))
        return [self._one(a) for a in atoms]

    def _one(self, atoms):
        self.calls += 1
        if self.fail_after is not None and self.calls > self.fail_after:
            raise EvaluationError("the toy breaks here")
        inverse = np.linalg.inv(self.cell)
        deformation = inverse @ atoms.cell.array
        away = atoms.positions - self.sites @ deformation
        volume0, volume = abs(np.linalg.det(self.cell)), atoms.get_volume()
        pull = self.bulk * (volume / volume0 - 1.0)
        values, vectors = np.linalg.eigh(deformation.T @ deformation)
        strain = (vectors * (0.5 * np.log(values))) @ vectors.T
        strain -= np.trace(strain) / 3 * np.eye(3)
        energy = 0.5 * self.k * (away**2).sum() + 0.5 * self.bulk * volume0 * (volume / volume0 - 1) ** 2
        energy += 0.5 * self.shear * volume0 * (strain**2).sum()
        stress = pull * np.eye(3) + self.shear * volume0 / volume * strain
        stress = stress + self.k * away.T @ away / volume  # an affine strain scales the displacements too
        return Evaluation(float(energy), -self.k * away, stress)

    def calculator(self):
        raise NotImplementedError


@pytest.fixture
def crystal() -> Atoms:
    """Eight atoms on a 2 x 2 x 2 grid of 3 A."""
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3) * 3.0
    return Atoms("LiCl" * 4, positions=grid, cell=np.eye(3) * 6.0, pbc=True)


@pytest.fixture
def toy():
    """The engine class."""
    return ToyEngine
