"""What every engine must satisfy: inherit :class:`PotentialConformance` in a test class and give ``make_potential``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

    from sse_diffusion.verification.potential import Potential


class PotentialConformance:
    """Test mixin for a :class:`~sse_diffusion.verification.potential.Potential`.

    Class attributes may be overridden by an engine of other precision or other chemistry.
    """

    force_tolerance_eV_per_A = 0.02
    stress_tolerance_eV_per_A3 = 5e-4
    energy_tolerance_eV_per_atom = 1e-5
    step_A = 0.01
    strain_step = 2e-3
    nve_drift_eV_per_atom_ps = 1e-3
    nve_fs, nve_temperature_K, nve_steps = 1.0, 300.0, 200
    known_eV_per_atom: ClassVar[dict[str, float]] = {}
    """Static energies of salts (``engines.known_answer``) that the engine must give; empty skips the test."""
    _engine: ClassVar[Potential]

    def make_potential(self) -> Potential:
        """The engine under test."""
        raise NotImplementedError

    def make_atoms(self) -> Atoms:
        """A low-symmetry periodic structure that the engine supports; strained, rattled Li2S unless overridden."""
        from sse_diffusion.verification.engines.known_answer import salt

        atoms = salt("Li2S")
        atoms.rattle(0.08, seed=3)
        shear = np.array([[0.01, 0.02, 0.0], [0.0, -0.01, 0.015], [0.0, 0.0, 0.005]])
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + shear), scale_atoms=True)
        return atoms

    def test_shapes_and_info(self) -> None:
        """Declared fields are filled; arrays have the promised shapes."""
        potential, atoms = self._potential(), self.make_atoms()
        result = potential.evaluate([atoms, atoms])[1]
        assert result.forces_eV_per_A.shape == (len(atoms), 3)
        assert result.stress_eV_per_A3.shape == (3, 3)
        assert potential.info.name and potential.info.energy_scheme
        assert potential.info.elements >= set(atoms.get_chemical_symbols())

    def test_forces_are_minus_the_gradient(self) -> None:
        """Central differences of the energy along random directions."""
        potential, atoms = self._potential(), self.make_atoms()
        forces = potential.evaluate([atoms])[0].forces_eV_per_A
        rng = np.random.default_rng(0)
        for _ in range(3):
            direction = rng.normal(size=(len(atoms), 3))
            direction /= np.linalg.norm(direction)
            slope = self._slope(potential, [_moved(atoms, s * self.step_A * direction) for s in (1, -1)], self.step_A)
            assert abs(slope + float((forces * direction).sum())) < self.force_tolerance_eV_per_A

    def test_stress_is_the_strain_gradient(self) -> None:
        """Central differences of the energy under each of six symmetric strains."""
        potential, atoms = self._potential(), self.make_atoms()
        stress, volume = potential.evaluate([atoms])[0].stress_eV_per_A3, atoms.get_volume()
        for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
            strain = np.zeros((3, 3))
            strain[i, j] += 0.5
            strain[j, i] += 0.5
            slope = self._slope(potential, [_strained(atoms, s * self.strain_step * strain) for s in (1, -1)], self.strain_step)
            assert abs(slope / volume - stress[i, j]) < self.stress_tolerance_eV_per_A3

    def test_translation_rotation_permutation(self) -> None:
        """The energy does not change; forces turn and permute with the atoms."""
        potential, atoms = self._potential(), self.make_atoms()
        base = potential.evaluate([atoms])[0]
        moved = _moved(atoms, np.array([0.37, -1.1, 2.3]))
        turned = atoms.copy()
        turned.rotate(37.0, (1.0, 2.0, -0.5), rotate_cell=True)
        order = np.random.default_rng(1).permutation(len(atoms))
        shifted, rotated, permuted = potential.evaluate([moved, turned, atoms[order]])
        tolerance = self.energy_tolerance_eV_per_atom * len(atoms)
        for other in (shifted, rotated, permuted):
            assert abs(other.energy_eV - base.energy_eV) < tolerance
        rotation = np.linalg.lstsq(atoms.cell.array, turned.cell.array, rcond=None)[0]
        assert np.allclose(rotated.forces_eV_per_A, base.forces_eV_per_A @ rotation, atol=1e-3)
        assert np.allclose(permuted.forces_eV_per_A, base.forces_eV_per_A[order], atol=1e-3)

    def test_energy_is_extensive(self) -> None:
        """A 2 x 1 x 1 supercell has twice the energy and the same stress."""
        potential, atoms = self._potential(), self.make_atoms()
        single, double = potential.evaluate([atoms, atoms.repeat((2, 1, 1))])
        assert abs(double.energy_eV - 2 * single.energy_eV) < 2 * self.energy_tolerance_eV_per_atom * len(atoms)
        assert np.allclose(double.stress_eV_per_A3, single.stress_eV_per_A3, atol=1e-5)

    def test_calculator_agrees_with_evaluate(self) -> None:
        """The ASE calculator returns the same numbers."""
        potential, atoms = self._potential(), self.make_atoms()
        result = potential.evaluate([atoms])[0]
        atoms.calc = potential.calculator()
        assert abs(atoms.get_potential_energy() - result.energy_eV) < self.energy_tolerance_eV_per_atom * len(atoms)
        assert np.allclose(atoms.get_forces(), result.forces_eV_per_A, atol=1e-5)
        assert np.allclose(atoms.get_stress(voigt=False), result.stress_eV_per_A3, atol=1e-6)

    def test_nve_conserves_energy(self) -> None:
        """Velocity Verlet: the slope of the total energy over time, per atom, stays below the limit (1 meV/atom/ps)."""
        from ase import units
        from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
        from ase.md.verlet import VelocityVerlet

        atoms = self.make_atoms()
        MaxwellBoltzmannDistribution(atoms, temperature_K=self.nve_temperature_K, rng=np.random.default_rng(4))
        atoms.calc = self._potential().calculator()
        dynamics = VelocityVerlet(atoms, timestep=self.nve_fs * units.fs)
        energies = [atoms.get_total_energy() for _ in dynamics.irun(self.nve_steps)]
        times_ps = 1e-3 * self.nve_fs * np.arange(len(energies))
        drift = float(np.polyfit(times_ps, np.array(energies) / len(atoms), 1)[0])
        assert abs(drift) <= self.nve_drift_eV_per_atom_ps
        assert np.ptp(energies) / len(atoms) < 0.05, "the total energy jumps"

    def test_known_energies_and_refusal(self) -> None:
        """Known answers are met, and an engine whose energies are off by 20 meV/atom is refused."""
        import pytest

        from sse_diffusion.core.errors import EngineError
        from sse_diffusion.verification.engines import known_answer

        if not self.known_eV_per_atom:
            pytest.skip("no known energies given")
        known_answer.check(self._potential(), self.known_eV_per_atom)
        with pytest.raises(EngineError, match="known-answer"):
            known_answer.check(self._potential(), {f: e + 0.02 for f, e in self.known_eV_per_atom.items()})

    @classmethod
    def _potential(cls) -> Potential:
        """One engine per test class: loading weights takes longer than the tests."""
        if "_engine" not in vars(cls):
            cls._engine = cls().make_potential()
        return cls._engine

    @staticmethod
    def _slope(potential: Potential, pair: list[Atoms], step: float) -> float:
        plus, minus = potential.evaluate(pair)
        return (plus.energy_eV - minus.energy_eV) / (2 * step)


def _moved(atoms: Atoms, displacement: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.positions += displacement
    return moved


def _strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    strained = atoms.copy()
    strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return strained
