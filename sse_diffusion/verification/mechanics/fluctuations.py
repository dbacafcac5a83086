"""Elastic tensor at temperature from the strain fluctuations of an NPT trajectory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K, GPa_PER_eV_PER_A3
from sse_diffusion.verification.mechanics.tensor import (
    ElasticResult,
    cartesian_point_group,
    result_from_jackknife,
    symmetric_basis,
    to_mandel,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

MIN_CELLS_PER_BLOCK = 12
"""A covariance of six strains needs more samples than it has rows."""
MAX_RELATIVE_ERROR = 0.1
"""Beyond this standard error of K or G the trajectory is too short."""


def elastic_from_cells(
    cells_A: Float[np.ndarray, "T 3 3"],
    temperature_K: float,
    structure: Structure,
    *,
    n_blocks: int = 5,
    symprec_A: float | None = None,
) -> ElasticResult:
    """Isothermal stiffness from the cells of an NPT run (Parrinello and Rahman, J. Chem. Phys. 76, 2662 (1982)).

        e = (h0^-1 h h^T h0^-T - 1) / 2,   S = V / (k T) cov(e),   C = S^-1

    The barostat must sample the isostress ensemble with a fully flexible cell (Parrinello-Rahman, MTK, stochastic rescaling);
    Berendsen's damps the fluctuations and gives a crystal that is too stiff. Uncertainty: jackknife over consecutive blocks.

    Args:
        cells_A: cell of each frame after equilibration, row vectors, Angstrom.
        temperature_K: of the thermostat.
        structure: any frame: density, number of atoms, and the point group.
        n_blocks: consecutive blocks for the uncertainty.
        symprec_A: average over the point group of ``structure`` (give the ideal crystal); ``None`` for none.

    Raises:
        DataError: fewer than two blocks of :data:`MIN_CELLS_PER_BLOCK` cells, cells that are not finite, or a constant cell.
    """
    cells = np.asarray(cells_A, dtype=float)
    if n_blocks < 2 or len(cells) < n_blocks * MIN_CELLS_PER_BLOCK or not np.isfinite(cells).all() or not temperature_K > 0:
        raise DataError(
            f"{len(cells)} cells in {n_blocks} blocks at {temperature_K:g} K give no elastic tensor",
            f"give at least 2 blocks of {MIN_CELLS_PER_BLOCK} finite cells of an NPT run and a positive temperature",
        )
    inverse = np.linalg.inv(cells.mean(axis=0))
    metric = cells @ cells.transpose(0, 2, 1)
    strains = to_mandel(0.5 * (inverse @ metric @ inverse.T - np.eye(3)))
    rotations = np.eye(3)[None] if symprec_A is None else cartesian_point_group(structure, symprec_A)
    basis = symmetric_basis(rotations)
    volume = float(np.abs(np.linalg.det(cells)).mean())
    scale = volume / (BOLTZMANN_eV_PER_K * temperature_K)

    def stiffness(sample: np.ndarray) -> np.ndarray:
        """C in GPa of some of the strains; the compliance is what symmetry averages."""
        compliance = scale * np.cov(sample, rowvar=False)
        compliance = np.einsum("kij,kab,ab->ij", basis, basis, compliance)
        if not np.linalg.eigvalsh(compliance)[0] > 0:
            raise DataError("the cell does not fluctuate in every direction", "run NPT with a fully flexible cell")
        return np.linalg.inv(compliance) * GPa_PER_eV_PER_A3

    blocks = np.array_split(np.arange(len(strains)), n_blocks)
    left_out = np.stack([stiffness(np.delete(strains, block, axis=0)) for block in blocks])
    provenance = {
        "protocol": f"strain fluctuations at {temperature_K:g} K, {len(cells)} cells, {n_blocks} blocks",
        "independent_constants": str(len(basis)),
    }
    result = result_from_jackknife(stiffness(strains), left_out, structure, provenance)
    moduli = [result.quantities[name] for name in ("bulk_modulus", "shear_modulus")]
    if all(q.uncertainty <= MAX_RELATIVE_ERROR * q.value for q in moduli):
        return result
    reason = f"standard error of K or G above {100 * MAX_RELATIVE_ERROR:g} %: the trajectory is too short"
    return result_from_jackknife(stiffness(strains), left_out, structure, provenance, reason)
