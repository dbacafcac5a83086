"""Algebra of elastic tensors: Voigt and Mandel matrices, crystal symmetry, Born stability, Voigt-Reuss-Hill moduli.

Voigt order xx, yy, zz, yz, xz, xy. In Mandel's scaling (shear components times sqrt 2) stress, strain and stiffness are an
ordinary vector space, so that rotations are orthogonal 6 x 6 matrices and eigenvalues of the stiffness do not depend on the axes
(Mehrabadi and Cowin, Q. J. Mech. Appl. Math. 43, 15 (1990)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.thermo.vibrations import DebyeModel

ROWS, COLUMNS = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])
MANDEL = np.array([1.0, 1.0, 1.0, 2**0.5, 2**0.5, 2**0.5])
UNITS = {
    "bulk_modulus": "GPa",
    "shear_modulus": "GPa",
    "youngs_modulus": "GPa",
    "poisson_ratio": "",
    "universal_anisotropy": "",
    "debye_temperature": "K",
    "smallest_stiffness": "GPa",
}
"""What :func:`moduli` gives -> unit."""
STABLE_FRACTION = 1e-3
"""A smallest eigenvalue below this part of the largest is not told from zero by finite strains in single precision."""


def to_mandel(tensor: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 6"]:
    """Symmetric second-rank tensors (stress or strain) as Mandel vectors."""
    return tensor[..., ROWS, COLUMNS] * MANDEL


def from_mandel(vector: Float[np.ndarray, "*batch 6"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Inverse of :func:`to_mandel`."""
    tensor = np.empty((*vector.shape[:-1], 3, 3))
    tensor[..., ROWS, COLUMNS] = tensor[..., COLUMNS, ROWS] = vector / MANDEL
    return tensor


def mandel_to_voigt(stiffness: Float[np.ndarray, "*batch 6 6"]) -> Float[np.ndarray, "*batch 6 6"]:
    """Stiffness (not compliance) with the components C_ij of the literature."""
    return stiffness / np.outer(MANDEL, MANDEL)


def voigt_to_mandel(stiffness: Float[np.ndarray, "*batch 6 6"]) -> Float[np.ndarray, "*batch 6 6"]:
    """Inverse of :func:`mandel_to_voigt`."""
    return stiffness * np.outer(MANDEL, MANDEL)


def symmetric_basis(rotations: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "k 6 6"]:
    """Orthonormal basis of the stiffness matrices (Mandel) that a point group leaves unchanged: k = 21 down to 3 (cubic).

    Args:
        rotations: Cartesian matrices of the point group; the identity alone for none.
    """
    units = from_mandel(np.eye(6))
    representation = to_mandel(np.einsum("nij,ujk,nlk->nuil", rotations, units, rotations)).transpose(0, 2, 1)
    average = np.einsum("nij,nkl->ikjl", representation, representation).reshape(36, 36) / len(rotations)
    swap = np.eye(36).reshape(6, 6, 36).transpose(1, 0, 2).reshape(36, 36)
    values, vectors = np.linalg.eigh(0.25 * (np.eye(36) + swap) @ (average + average.T))
    # Both are commuting projectors, so their product is one: eigenvalues 0 and 1 only.
    return vectors[:, values > 0.5].T.reshape(-1, 6, 6)


def cartesian_point_group(structure: Any, symprec_A: float) -> Float[np.ndarray, "n 3 3"]:
    """Rotations of the point group of a pymatgen structure in its own Cartesian axes."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    operations = SpacegroupAnalyzer(structure, symprec=symprec_A).get_point_group_operations(cartesian=True)
    return np.array([operation.rotation_matrix for operation in operations])


@dataclass(frozen=True)
class ElasticResult:
    """An elastic tensor and what follows from it.

    Attributes:
        stiffness_GPa: (6, 6) Voigt matrix in the axes of the structure; NaN when it could not be computed.
        quantities: a :class:`Quantity` per name of :data:`UNITS`.
    """

    stiffness_GPa: Float[np.ndarray, "6 6"]
    quantities: Mapping[str, Quantity]

    @property
    def born_stable(self) -> bool:
        """Whether every homogeneous strain costs energy (the tensor is positive definite)."""
        return bool(self.quantities["smallest_stiffness"].value > STABLE_FRACTION * np.abs(self.stiffness_GPa).max())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        stiffness = self.stiffness_GPa.tolist() if np.isfinite(self.stiffness_GPa).all() else None
        return {"stiffness_GPa": stiffness, "born_stable": self.born_stable} | {
            name: quantity.to_dict() for name, quantity in self.quantities.items()
        }

    @classmethod
    def failed(cls, reason: str, provenance: Mapping[str, Any]) -> ElasticResult:
        """No tensor, for this reason."""
        return cls(np.full((6, 6), np.nan), {n: Quantity.failed(reason, u, **provenance) for n, u in UNITS.items()})


def moduli(stiffness: Float[np.ndarray, "6 6"], density_g_per_cm3: float, volume_A3_per_atom: float) -> dict[str, float]:
    """Hill averages of K and G, and what follows from them (GPa, K); NaN but for the smallest eigenvalue if that is not positive.

    Voigt: K = tr(P C) / 3 with P the projector on pressure, G from the rest of the trace 3 K + 10 G; Reuss: the same of the
    inverse (Hill, Proc. Phys. Soc. A 65, 349 (1952)).
    Universal anisotropy 5 G_V/G_R + K_V/K_R - 6 (Ranganathan and Ostoja-Starzewski, Phys. Rev. Lett. 101, 055504 (2008)).

    Args:
        stiffness: Mandel matrix, GPa.
        density_g_per_cm3, volume_A3_per_atom: for the Debye temperature.
    """
    eigenvalues = np.linalg.eigvalsh(stiffness)
    if not eigenvalues[0] > STABLE_FRACTION * eigenvalues[-1]:
        return dict.fromkeys(UNITS, np.nan) | {"smallest_stiffness": float(eigenvalues[0])}
    compliance = np.linalg.inv(stiffness)
    bulk_voigt, bulk_reuss = stiffness[:3, :3].sum() / 9, 1 / compliance[:3, :3].sum()
    shear_voigt = (np.trace(stiffness) - 3 * bulk_voigt) / 10
    shear_reuss = 2.5 / (np.trace(compliance) - 1 / (3 * bulk_reuss))
    bulk, shear = 0.5 * (bulk_voigt + bulk_reuss), 0.5 * (shear_voigt + shear_reuss)
    young = 9 * bulk * shear / (3 * bulk + shear)
    return {
        "bulk_modulus": float(bulk),
        "shear_modulus": float(shear),
        "youngs_modulus": float(young),
        "poisson_ratio": float(young / (2 * shear) - 1),
        "universal_anisotropy": float(5 * shear_voigt / shear_reuss + bulk_voigt / bulk_reuss - 6),
        "debye_temperature": DebyeModel.from_moduli(bulk, shear, density_g_per_cm3, volume_A3_per_atom).temperature_K,
        "smallest_stiffness": float(eigenvalues[0]),
    }


def result_from_jackknife(
    stiffness: Float[np.ndarray, "6 6"],
    left_out: Float[np.ndarray, "n 6 6"],
    structure: Any,
    provenance: Mapping[str, Any],
    unconverged: str = "",
) -> ElasticResult:
    """Moduli with standard errors from leave-one-out estimates of the tensor.

    Args:
        stiffness: best estimate, Mandel, GPa.
        left_out: the estimate without the i-th piece of data.
        structure: pymatgen structure, for density and volume.
        provenance: of every quantity.
        unconverged: why the numbers are not to be trusted; empty when they are.
    """
    density, volume = float(structure.density), structure.volume / len(structure)
    best = moduli(stiffness, density, volume)
    replicas = [moduli(each, density, volume) for each in left_out]
    n = len(replicas)
    unstable = f"Born-unstable: the smallest eigenvalue of the stiffness is {best['smallest_stiffness']:.1f} GPa"
    quantities = {}
    for name, unit in UNITS.items():
        if not np.isfinite(best[name]):
            quantities[name] = Quantity.failed(unstable, unit, **provenance)
            continue
        error = float(np.sqrt((n - 1) * np.var([replica[name] for replica in replicas])))
        status = Status.UNCONVERGED if unconverged else Status.OK
        quantities[name] = Quantity(best[name], error, unit, status, unconverged, dict(provenance))
    return ElasticResult(mandel_to_voigt(stiffness), quantities)
