"""Harmonic phonons of a crystal by finite displacements (phonopy): dynamic stability and vibrational free energy.

    Phi_ij = -dF_i / du_j,     D(q) e = omega^2 e,     F_vib(T) = sum_q w_q [ h nu / 2 + k T ln(1 - exp(-h nu / k T)) ]

(Togo and Tanaka, Scr. Mater. 108, 1 (2015).) An imaginary mode (omega^2 < 0, given as a negative frequency) says that the crystal
is no minimum of this force field's energy. Force fields that were trained near equilibrium soften phonons (docs/verification.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from sse_diffusion.core.errors import ConfigError, EngineError, SSEError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.thermo.vibrations import HarmonicModes
from sse_diffusion.verification.relax import RelaxConfig, relax

if TYPE_CHECKING:
    from phonopy import Phonopy
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import Potential

BATCH = 8
"""Displaced supercells per call of the engine."""
ACOUSTIC_THz = 0.05
"""Modes below are the rigid translations at the zone centre, and carry no free energy here."""


@dataclass(frozen=True, kw_only=True)
class PhononConfig:
    """Protocol of a phonon calculation.

    Attributes:
        relax_cell: relax cell and positions first, within the symmetry found; ``False`` takes the structure as it is.
        fmax_eV_per_A, max_steps, max_seconds: of that relaxation.
        pressure_GPa: of that relaxation.
        displacement_A: of one atom at a time.
        min_length_A: least distance between an atom and its image along each cell vector of the supercell.
        max_atoms: cap on the supercell.
        max_displacements: cap on the number of force evaluations.
        mesh_length_A: wave vectors: a mesh of ``mesh_length_A / |a_i|`` points along each reciprocal vector, at least one.
        imaginary_THz: a mode below minus this is imaginary; smaller ones are round-off of the force constants.
        symprec_A: tolerance of the primitive cell, and of the space group that saves displacements.
    """

    relax_cell: bool = True
    fmax_eV_per_A: float = 0.002
    max_steps: int = 500
    max_seconds: float = 600.0
    pressure_GPa: float = 0.0
    displacement_A: float = 0.02
    min_length_A: float = 9.0
    max_atoms: int = 300
    max_displacements: int = 200
    mesh_length_A: float = 40.0
    imaginary_THz: float = 0.3
    symprec_A: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse lengths that have no meaning (ConfigError)."""
        for name in ("displacement_A", "min_length_A", "mesh_length_A", "imaginary_THz", "symprec_A"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"phonons.{name} is {getattr(self, name):g}", "give a positive number")


@dataclass(frozen=True)
class PhononResult:
    """Phonons of one crystal.

    Attributes:
        lowest_THz: lowest frequency on the mesh (negative: imaginary), sd not known; ``unconverged`` when the relaxation was.
        stable: no imaginary mode; ``None`` when the calculation failed.
        modes: the spectrum, when all of it is real.
        structure: the relaxed primitive cell.
        phonopy: the calculation, to plot bands or to save (``result.phonopy.save("phonopy.yaml")``).
    """

    lowest_THz: Quantity
    stable: bool | None = None
    modes: HarmonicModes | None = None
    structure: Structure | None = None
    phonopy: Phonopy | None = None

    def free_energy(self, temperature_K: float) -> Quantity:
        """Harmonic F_vib(T), zero-point energy included, eV/atom; failed where a mode is imaginary."""
        unit, provenance = "eV/atom", {**self.lowest_THz.provenance, "temperature_K": temperature_K}
        if self.modes is None:
            return Quantity.failed(self.lowest_THz.reason, unit, **provenance)
        return Quantity(self.modes.free_energy_eV_per_atom(temperature_K), unit=unit, provenance=provenance)


def phonons(structure: Structure, potential: Potential, config: PhononConfig | None = None) -> PhononResult:
    """Phonons with a force field; never raises for a bad crystal.

    Args:
        structure: ordered crystal; its primitive cell is used.
        potential: the force field.
        config: see :class:`PhononConfig`.

    Raises:
        EngineError: phonopy is not installed.
    """
    config = config or PhononConfig()
    provenance = {"engine": f"{potential.info.name} {potential.info.version}", "displacement_A": config.displacement_A}
    try:
        cell, remark = _relaxed(structure, potential, config)
        calculation = force_constants(cell, potential, config)
    except EngineError:
        raise
    except SSEError as error:
        return PhononResult(Quantity.failed(error.message, "THz", **provenance))
    provenance |= {"supercell_atoms": len(calculation.supercell), "displacements": len(calculation.displacements)}
    frequencies, weights = spectrum(calculation, config)
    lowest = float(frequencies.min())
    if lowest < -config.imaginary_THz:
        share = float(weights[frequencies < -config.imaginary_THz].sum()) / 3.0
        reason = f"imaginary modes down to {lowest:.2f} THz ({100 * share:.1f} % of all): not a minimum of the energy"
        return PhononResult(Quantity(lowest, unit="THz", reason=reason, provenance=provenance), False, None, cell, calculation)
    kept = frequencies > ACOUSTIC_THz
    modes = HarmonicModes(frequencies[kept], weights[kept] * 3.0 / weights[kept].sum())
    found = Quantity(lowest, math.nan, "THz", Status.UNCONVERGED if remark else Status.OK, remark, provenance)
    return PhononResult(found, True, modes, cell, calculation)


def force_constants(cell: Structure, potential: Potential, config: PhononConfig) -> Phonopy:
    """A phonopy calculation with symmetrised force constants of a relaxed primitive cell.

    Raises:
        EngineError: phonopy is not installed. SSEError: too large, or the engine refuses a supercell.
    """
    try:
        from phonopy import Phonopy
        from phonopy.structure.atoms import PhonopyAtoms
    except ImportError as error:
        raise EngineError("phonons need phonopy, which is not installed", "pip install 'sse-diffusion[phonons]'") from error
    multiple = np.ceil(config.min_length_A / np.array(cell.lattice.abc) - 1e-6).astype(int)
    size = len(cell) * int(multiple.prod())
    if size > config.max_atoms:
        raise SSEError(f"the supercell would have {size} atoms (phonons.max_atoms={config.max_atoms})")
    atoms = PhonopyAtoms(
        symbols=[site.specie.symbol for site in cell], cell=cell.lattice.matrix, scaled_positions=cell.frac_coords
    )
    calculation = Phonopy(
        atoms, supercell_matrix=np.diag(multiple), primitive_matrix=np.eye(3), symprec=config.symprec_A, log_level=0
    )
    calculation.generate_displacements(distance=config.displacement_A)
    displaced = calculation.supercells_with_displacements or []
    if len(displaced) > config.max_displacements:
        raise SSEError(f"{len(displaced)} displacements (phonons.max_displacements={config.max_displacements})")
    calculation.forces = _forces(displaced, potential)
    calculation.produce_force_constants()
    calculation.symmetrize_force_constants()
    return calculation


def spectrum(calculation: Phonopy, config: PhononConfig) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Frequencies on the mesh, THz (imaginary ones negative), and modes per atom that each stands for (they add up to 3)."""
    lengths = np.linalg.norm(calculation.primitive.cell, axis=1)
    mesh = np.maximum(1, np.round(config.mesh_length_A / lengths)).astype(int)
    calculation.run_mesh(mesh, is_gamma_center=True)
    found: Any = calculation.get_mesh_dict()
    frequencies, weights = np.asarray(found["frequencies"]), np.asarray(found["weights"], dtype=float)
    shares = np.repeat(weights[:, None] / weights.sum() / len(calculation.primitive), frequencies.shape[1], axis=1)
    return frequencies.ravel(), shares.ravel()


def _forces(displaced: list[Any], potential: Potential) -> Float[np.ndarray, "n a 3"]:
    """Forces on all atoms of every displaced supercell, eV/A."""
    from ase import Atoms
    from tqdm import tqdm

    supercells = [Atoms(c.symbols, scaled_positions=c.scaled_positions, cell=c.cell, pbc=True) for c in displaced]
    found = []
    for first in tqdm(range(0, len(supercells), BATCH), desc="phonons", unit=f"x{BATCH} cells", leave=False):
        found += [e.forces_eV_per_A for e in potential.evaluate(supercells[first : first + BATCH])]
    return np.array(found)


def _relaxed(structure: Structure, potential: Potential, config: PhononConfig) -> tuple[Structure, str]:
    """The primitive cell, relaxed unless told otherwise, and what kept it from converging (SSEError when it failed)."""
    primitive = structure.get_primitive_structure(tolerance=config.symprec_A)  # the default, 0.25 A, averages distortions away
    if not config.relax_cell:
        return primitive, ""
    protocol = RelaxConfig(
        fmax_eV_per_A=config.fmax_eV_per_A,
        max_steps=config.max_steps,
        max_seconds=config.max_seconds,
        pressure_GPa=config.pressure_GPa,
        keep_symmetry=True,
    )
    result = relax(primitive, potential, protocol)
    energy = result.energy_eV_per_atom
    if energy.status is Status.FAILED:
        raise SSEError(f"relaxation before phonons: {energy.reason}")
    return result.structure, "" if energy.ok else f"relaxation before phonons: {energy.reason}"
