r"""The cell as the logarithm of its metric: rotation-free, unconstrained, with crystal families as linear subspaces.

    G = L L^T,     S = 1/2 log G  (symmetric 3x3),     k = coordinates of S in the basis below

    k0 = S12   k1 = S13   k2 = S23   k3 = (S11 - S22)/2   k4 = (S11 + S22 - 2 S33)/6   k5 = tr S / 3 = ln(volume)/3

Cubic cells have k = (0, 0, 0, 0, 0, k5); hexagonal ones k0 = -ln(3)/4; and so on. The same parametrisation, up to the side
of the polar decomposition, as DiffCSP++ (Jiao et al. 2024).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

N_CELL = 6
HEXAGONAL_K0 = -math.log(3.0) / 4.0

FAMILIES = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "hexagonal", "cubic")
_LAST_GROUP = (2, 15, 74, 142, 194, 230)
_FREE = ((1, 1, 1, 1, 1, 1), (0, 1, 0, 1, 1, 1), (0, 0, 0, 1, 1, 1), (0, 0, 0, 0, 1, 1), (0, 0, 0, 0, 1, 1), (0, 0, 0, 0, 0, 1))


def family_index() -> np.ndarray:
    """(231,) index into ``FAMILIES`` by space-group number; trigonal groups use hexagonal axes."""
    return np.searchsorted(np.array(_LAST_GROUP), np.arange(231))


def cell_free() -> np.ndarray:
    """(231, 6) bool: which components of k the space group leaves free."""
    return np.array(_FREE, dtype=bool)[family_index()]


def cell_fixed_value() -> np.ndarray:
    """(231, 6) the value of the components that are not free (zero where they are)."""
    value = np.zeros((231, N_CELL))
    value[family_index() == FAMILIES.index("hexagonal"), 0] = HEXAGONAL_K0
    return value


def lattice_to_log(lattice: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 6"]:
    """Row vectors in Angstrom -> k (dimensionless; k5 in ln Angstrom)."""
    metric = lattice @ lattice.mT
    values, vectors = torch.linalg.eigh(metric)
    s = 0.5 * (vectors * values.clamp_min(1e-12).log().unsqueeze(-2)) @ vectors.mT
    d0, d1, d2 = s[..., 0, 0], s[..., 1, 1], s[..., 2, 2]
    return torch.stack(
        [s[..., 0, 1], s[..., 0, 2], s[..., 1, 2], (d0 - d1) / 2, (d0 + d1 - 2 * d2) / 6, (d0 + d1 + d2) / 3], dim=-1
    )


def log_to_metric(k: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """k -> metric tensor G = exp(2 S), Angstrom^2."""
    return torch.linalg.matrix_exp(2.0 * log_matrix(k))


def log_matrix(k: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """k -> symmetric S."""
    k0, k1, k2, k3, k4, k5 = k.unbind(-1)
    rows = [
        torch.stack([k5 + k3 + k4, k0, k1], -1),
        torch.stack([k0, k5 - k3 + k4, k2], -1),
        torch.stack([k1, k2, k5 - 2 * k4], -1),
    ]
    return torch.stack(rows, dim=-2)


def log_to_lattice(k: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """k -> row vectors, Angstrom, in the standard orientation: a along x, b in the xy plane (lower triangular)."""
    # G = M M^T with M = exp(S), so M^T = Q R gives L = R^T: half the digits lost that a Cholesky factor of G would lose, and no
    # failure on cells so flat that G is not positive in floating point.
    triangle = torch.linalg.qr(torch.linalg.matrix_exp(log_matrix(k.double())).mT).R.mT
    sign = torch.where(triangle.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    return (triangle * sign.unsqueeze(-2)).to(k.dtype)
