"""Elastic tensor of a crystal from the stresses of strained cells with relaxed ions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from sse_diffusion.core.errors import ConfigError, SSEError
from sse_diffusion.core.results import Status
from sse_diffusion.core.units import GPa_PER_eV_PER_A3
from sse_diffusion.verification.mechanics.tensor import (
    MANDEL,
    ElasticResult,
    cartesian_point_group,
    from_mandel,
    result_from_jackknife,
    symmetric_basis,
    to_mandel,
)
from sse_diffusion.verification.relax import RelaxConfig, relax

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import Potential

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ElasticConfig:
    """Protocol of an elastic tensor.

    Attributes:
        normal_strains: along xx, yy, zz; pairs of both signs cancel the third-order constants.
        shear_strains: engineering shears (twice the tensor component).
        relax_ions: ``False`` clamps the ions at their affine positions (upper bound of the stiffness).
        relax_cell: relax the given crystal first; ``False`` takes it as it is and reports its tensor under its own stress.
        symmetry: use the point group: fewer strains, exact zeros.
        symprec_A: tolerance of the point group.
        fmax_eV_per_A: of every relaxation.
        max_steps, max_seconds: caps of one relaxation.
        pressure_GPa: pressure of the reference state.
    """

    normal_strains: tuple[float, ...] = (-0.01, -0.005, 0.005, 0.01)
    shear_strains: tuple[float, ...] = (-0.02, -0.01, 0.01, 0.02)
    relax_ions: bool = True
    relax_cell: bool = True
    symmetry: bool = True
    symprec_A: float = 0.02
    fmax_eV_per_A: float = 0.005
    max_steps: int = 300
    max_seconds: float = 600.0
    pressure_GPa: float = 0.0

    def __post_init__(self) -> None:
        """Refuse strains that cannot give a slope (ConfigError)."""
        for name in ("normal_strains", "shear_strains"):
            values = np.asarray(getattr(self, name), dtype=float)
            if (
                len(values) < 2
                or not np.isclose(values.sum(), 0.0)
                or not (np.abs(values) > 0).all()
                or np.abs(values).max() > 0.1
            ):
                raise ConfigError(f"elastic.{name} is {values.tolist()}", "give pairs +-e with 0 < e <= 0.1, e.g. -0.01, 0.01")


def elastic_tensor(structure: Structure, potential: Potential, config: ElasticConfig | None = None) -> ElasticResult:
    """Stiffness by least squares of Cauchy stress against small strain; never raises for a bad crystal.

        sigma(e) - sigma(0) = C e,   C = sum_k c_k B_k over the basis of matrices allowed by the point group

    At a pressure these are the stress-strain coefficients of Barron and Klein (Proc. Phys. Soc. 85, 523 (1965)), the ones whose
    positive definiteness decides stability. Uncertainty: jackknife over the strained cells (it measures how well the stresses
    follow a straight line, not the error of the force field).

    Args:
        structure: ordered pymatgen structure; a primitive cell is cheapest.
        potential: the force field.
        config: see :class:`ElasticConfig`.
    """
    config = config or ElasticConfig()
    provenance = {"engine": f"{potential.info.name} {potential.info.version}", "protocol": _protocol(config)}
    notes: list[str] = []
    try:
        reference = _relaxed(structure, potential, config, "free", notes) if config.relax_cell else structure
        rotations = cartesian_point_group(reference, config.symprec_A) if config.symmetry else np.eye(3)[None]
        basis = symmetric_basis(rotations)
        strains = strains_for(basis, config)
        stresses = _stresses(reference, strains, potential, config, notes)
    except SSEError as error:
        return ElasticResult.failed(error.message, provenance)
    provenance |= {"independent_constants": str(len(basis)), "strained_cells": str(len(strains))}
    keep = ~np.eye(len(strains), dtype=bool)
    left_out = np.stack([fit(basis, strains[rows], stresses[rows]) for rows in keep])
    return result_from_jackknife(fit(basis, strains, stresses), left_out, reference, provenance, "; ".join(notes))


def strains_for(basis: Float[np.ndarray, "k 6 6"], config: ElasticConfig) -> Float[np.ndarray, "n 6"]:
    """The fewest Voigt directions that determine all coefficients of ``basis``, at every magnitude, as Mandel vectors.

    Greedy: the direction that raises the rank of the linear system most comes next (cubic xx, yz; hexagonal xx, zz, yz).
    """
    chosen: list[int] = []
    rank = 0
    while rank < len(basis):
        ranks = [np.linalg.matrix_rank(_design(basis, np.eye(6)[[*chosen, d]]), tol=1e-6) for d in range(6)]
        chosen.append(int(np.argmax(ranks)))
        rank = int(max(ranks))
    magnitudes = [np.asarray(config.normal_strains if d < 3 else config.shear_strains) for d in sorted(chosen)]
    # An engineering shear g is the Mandel component g / sqrt 2.
    return np.concatenate([np.outer(m, np.eye(6)[d]) / MANDEL[d] for m, d in zip(magnitudes, sorted(chosen), strict=True)])


def fit(
    basis: Float[np.ndarray, "k 6 6"], strains: Float[np.ndarray, "n 6"], stresses: Float[np.ndarray, "n 6"]
) -> Float[np.ndarray, "6 6"]:
    """Least-squares stiffness (Mandel, unit of the stresses) within the span of ``basis``."""
    coefficients = np.linalg.lstsq(_design(basis, strains), stresses.ravel(), rcond=None)[0]
    return np.einsum("k,kij->ij", coefficients, basis)


def _design(basis: np.ndarray, strains: np.ndarray) -> Float[np.ndarray, "m k"]:
    """Matrix that maps coefficients on all stress components of all strains."""
    return np.einsum("kij,nj->nik", basis, strains).reshape(-1, len(basis))


def _stresses(
    reference: Structure, strains: Float[np.ndarray, "n 6"], potential: Potential, config: ElasticConfig, notes: list[str]
) -> Float[np.ndarray, "n 6"]:
    """Cauchy stress of each strained cell minus that of the reference, GPa, Mandel."""
    from pymatgen.core import Lattice, Structure
    from pymatgen.io.ase import AseAtomsAdaptor
    from tqdm import tqdm

    cells: list[Structure] = [reference]
    for strain in tqdm(from_mandel(strains), desc="elastic tensor", unit="strain", leave=False):
        lattice = Lattice(reference.lattice.matrix @ (np.eye(3) + strain))
        cell = Structure(lattice, reference.species, reference.frac_coords)
        cells.append(_relaxed(cell, potential, config, "fixed", notes) if config.relax_ions else cell)
    evaluations = potential.evaluate([AseAtomsAdaptor.get_atoms(cell, msonable=False) for cell in cells])
    stresses = to_mandel(np.stack([evaluation.stress_eV_per_A3 for evaluation in evaluations])) * GPa_PER_eV_PER_A3
    return stresses[1:] - stresses[0]


def _relaxed(structure: Structure, potential: Potential, config: ElasticConfig, cell: str, notes: list[str]) -> Structure:
    """Relaxed structure; a cap that was met goes into ``notes``, a failure raises SSEError."""
    protocol = RelaxConfig(
        fmax_eV_per_A=config.fmax_eV_per_A,
        max_steps=config.max_steps,
        max_seconds=config.max_seconds,
        cell="free" if cell == "free" else "fixed",
        pressure_GPa=config.pressure_GPa,
        keep_symmetry=cell == "free" and config.symmetry,
    )
    result = relax(structure, potential, protocol)
    energy = result.energy_eV_per_atom
    if energy.status is Status.FAILED:
        raise SSEError(f"{'reference' if cell == 'free' else 'strained'} cell: {energy.reason}")
    if not energy.ok:
        notes.append(f"{'reference' if cell == 'free' else 'strained'} cell: {energy.reason}")
    return result.structure


def _protocol(config: ElasticConfig) -> str:
    """One line for the provenance."""
    ions = f"ions relaxed to {config.fmax_eV_per_A:g} eV/A" if config.relax_ions else "clamped ions"
    normal, shear = _percent(config.normal_strains), _percent(config.shear_strains)
    return f"stress-strain at {config.pressure_GPa:g} GPa, {ions}, normal {normal} %, engineering shear {shear} %"


def _percent(strains: Sequence[float]) -> str:
    """Strains in percent."""
    return ", ".join(f"{100 * strain:+g}" for strain in strains)
