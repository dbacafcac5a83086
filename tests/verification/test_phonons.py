"""Phonons against closed forms: nearest-neighbour springs on the face-centred cubic lattice."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import ConfigError, EngineError
from sse_diffusion.core.results import Status
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K
from sse_diffusion.verification.engines.adapter import PotentialCalculator
from sse_diffusion.verification.phonons import PhononConfig, phonons, spectrum
from sse_diffusion.verification.potential import Evaluation, EvaluationError, PotentialInfo

pytest.importorskip("phonopy")

EDGE, SPRING = 4.0, 2.0
BOND = EDGE / math.sqrt(2)
AS_IT_IS = PhononConfig(relax_cell=False, min_length_A=8.0, mesh_length_A=40.0)


class Springs:
    """Nearest neighbours joined by springs of stiffness k and natural length b: E = sum k (r - b)^2 / 2."""

    def __init__(
        self, length_A: float = BOND, fails: bool = False, stiffness: float = SPRING, noise_eV_per_A: float = 0.0
    ) -> None:
        self.length_A, self.fails, self.stiffness = length_A, fails, stiffness
        self.noise, self.random = noise_eV_per_A, np.random.default_rng(0)
        self.info = PotentialInfo("springs", "1", "MIT", "none", "springs", frozenset({"Ar"}), "none")

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Evaluation]:
        if self.fails:
            raise EvaluationError("no")
        return [self._one(a) for a in atoms]

    def _one(self, atoms: Atoms) -> Evaluation:
        i, d, vectors = neighbor_list("idD", atoms, 1.2 * BOND)
        energy = 0.25 * self.stiffness * float(((d - self.length_A) ** 2).sum())
        pull = self.stiffness * (1.0 - self.length_A / d)[:, None] * vectors
        forces = self.noise * self.random.normal(size=(len(atoms), 3))
        np.add.at(forces, i, pull)
        stress = 0.5 * vectors.T @ pull / atoms.get_volume()
        return Evaluation(energy, forces, stress)

    def calculator(self) -> PotentialCalculator:
        return PotentialCalculator(self)


def fcc(edge: float = EDGE) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), ["Ar"], [[0, 0, 0]])


def test_frequencies_of_springs_on_the_fcc_lattice() -> None:
    # longitudinal mode at X: omega^2 = 8 k / m, the highest of the spectrum; in THz with k in eV/A^2, m in amu
    result = phonons(fcc(), Springs(), AS_IT_IS)
    unit = math.sqrt(9648.5332) / (2 * math.pi)  # sqrt(eV / A^2 / amu) in THz
    highest = math.sqrt(8 * SPRING / 39.948) * unit
    assert result.stable and result.modes is not None
    assert result.modes.frequencies_THz.max() == pytest.approx(highest, rel=2e-3)
    assert abs(result.lowest_THz.value) < 0.02
    # trace of the dynamical matrix: mean omega^2 = 12 bonds * k / 3 / m
    squares = (result.modes.weights * result.modes.frequencies_THz**2).sum() / 3
    assert squares == pytest.approx(4 * SPRING / 39.948 * unit**2, rel=5e-3)


def test_soft_modes_count() -> None:
    # a hundredth of the stiffness: a tenth of every frequency, and as many modes
    stiff, soft = (phonons(fcc(), Springs(stiffness=k), AS_IT_IS).modes for k in (SPRING, 0.01 * SPRING))
    assert stiff is not None and soft is not None
    assert np.allclose(soft.frequencies_THz, 0.1 * stiff.frequencies_THz, rtol=1e-3)


def test_noise_of_the_forces_leaves_translations_free() -> None:
    noisy = phonons(fcc(), Springs(noise_eV_per_A=1e-3), AS_IT_IS)
    assert abs(noisy.lowest_THz.value) < 0.01


def test_the_relaxation_finds_the_springs_length() -> None:
    result = phonons(fcc(1.02 * EDGE), Springs(), PhononConfig(min_length_A=8.0))
    assert result.structure is not None and len(result.structure) == 1
    assert result.structure.volume == pytest.approx(EDGE**3 / 4, rel=1e-3)


def test_a_small_distortion_is_not_averaged_away() -> None:
    # four atoms, one 0.1 A off its site: the crystal is no longer face-centred, and no primitive cell is smaller
    distorted = fcc()
    distorted.translate_sites([0], [0.1, 0, 0], frac_coords=False)
    result = phonons(distorted, Springs(), AS_IT_IS)
    assert result.structure is not None and len(result.structure) == 4


def test_a_relaxation_that_was_cut_is_said() -> None:
    result = phonons(fcc(1.02 * EDGE), Springs(), PhononConfig(min_length_A=8.0, max_steps=1))
    assert result.stable and result.lowest_THz.status is Status.UNCONVERGED and "relaxation" in result.lowest_THz.reason


def test_compressed_springs_buckle() -> None:
    # r < b: the transverse stiffness k (1 - b / r) is negative
    result = phonons(fcc(), Springs(1.35 * BOND), AS_IT_IS)
    assert result.stable is False and result.lowest_THz.value < -0.5
    free = result.free_energy(300.0)
    assert free.status is Status.FAILED and "imaginary" in free.reason
    assert result.phonopy is not None
    frequencies, weights = spectrum(result.phonopy, AS_IT_IS)
    share = weights[frequencies < -AS_IT_IS.imaginary_THz].sum() / weights.sum()
    assert 0.1 < share < 1.0 and f"({100 * share:.1f} % of all)" in free.reason
    tolerant = replace(AS_IT_IS, imaginary_THz=1.1 * abs(result.lowest_THz.value))
    assert phonons(fcc(), Springs(1.35 * BOND), tolerant).stable, "what is below the threshold is round-off"


def test_classical_limit_of_the_free_energy() -> None:
    # F -> kT sum ln(h nu / kT), the entropy of classical oscillators; 3 modes per atom
    result = phonons(fcc(), Springs(), AS_IT_IS)
    assert result.modes is not None
    kt = BOLTZMANN_eV_PER_K * 2000.0
    classical = kt * float((result.modes.weights * np.log(4.135667696e-3 * result.modes.frequencies_THz / kt)).sum())
    assert result.free_energy(2000.0).value == pytest.approx(classical, rel=1e-3)


def test_what_cannot_be_computed_is_a_reason() -> None:
    too_large = phonons(fcc(), Springs(), PhononConfig(relax_cell=False, max_atoms=10))
    assert too_large.stable is None and "64 atoms" in too_large.lowest_THz.reason
    distorted = fcc()
    distorted.translate_sites([0], [0.1, 0.07, 0.03], frac_coords=False)
    many = phonons(distorted, Springs(), replace(AS_IT_IS, max_displacements=3))
    assert many.stable is None and "displacements (phonons.max_displacements=3)" in many.lowest_THz.reason
    refused = phonons(fcc(), Springs(fails=True), AS_IT_IS)
    assert refused.free_energy(300.0).status is Status.FAILED
    with pytest.raises(ConfigError, match="displacement_A"):
        PhononConfig(displacement_A=0.0)


def test_a_long_cell_is_not_repeated_along_its_length() -> None:
    distorted = fcc().make_supercell([1, 1, 2], in_place=False)
    distorted.translate_sites([0], [0, 0, 0.1], frac_coords=False)
    result = phonons(distorted, Springs(), AS_IT_IS)
    assert result.structure is not None and len(result.structure) == 8
    assert result.lowest_THz.provenance["supercell_atoms"] == 2 * 2 * 8


def test_without_phonopy_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonopy", None)
    with pytest.raises(EngineError, match="phonopy, which is not installed"):
        phonons(fcc(), Springs(), AS_IT_IS)
