"""The Ewald sum as a matrix, so that the energy of any decoration of the same sites is a quadratic form."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

COULOMB_eV_A = 14.3996454784
ACCURACY = 4.2
"""erfc(4.2) = 3e-9: what is left out at the cutoffs, relative to a bare Coulomb term."""
CLOSEST_A = 0.2
"""Sites nearer than this (one atom refined twice) count as this far apart; they never hold two atoms anyway."""


def ewald_matrix(lattice_A: NDArray[np.float64], frac: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix M with ``E = q M q`` in eV for charges q in e on the sites of a periodic cell.

    P. P. Ewald, Ann. Phys. 369, 253 (1921); a cell with a net charge gets a uniform background.

    Args:
        lattice_A: (3, 3) row vectors, Angstrom. frac: (N, 3) fractional coordinates.

    Returns:
        (N, N) symmetric, half the interaction of each pair, self energies on the diagonal.
    """
    volume = abs(float(np.linalg.det(lattice_A)))
    cutoff = max(7.0, volume ** (1 / 3))
    alpha = ACCURACY / cutoff
    difference = frac[:, None] - frac[None]
    difference -= np.round(difference)
    matrix = _real_space(difference @ lattice_A, lattice_A, alpha, cutoff)
    matrix += _reciprocal(lattice_A, frac, alpha, volume)
    matrix -= math.pi / (2 * volume * alpha**2)
    matrix[np.diag_indices(len(frac))] -= alpha / math.sqrt(math.pi)
    return COULOMB_eV_A * matrix


def _real_space(vectors: NDArray[np.float64], lattice_A: NDArray[np.float64], alpha: float, cutoff: float) -> NDArray[np.float64]:
    """Screened Coulomb terms within the cutoff, over all images."""
    reach = cutoff + 0.5 * float(np.linalg.norm(np.abs(lattice_A).sum(axis=0)))
    total = np.zeros(vectors.shape[:2])
    for shift in _multiples(reach * np.linalg.norm(np.linalg.inv(lattice_A), axis=0)) @ lattice_A:
        if np.linalg.norm(shift) > reach:
            continue
        length = np.linalg.norm(vectors + shift, axis=-1)
        near = length < cutoff
        if not shift.any():
            np.fill_diagonal(near, False)
        r = np.maximum(length[near], CLOSEST_A)
        total[near] += 0.5 * erfc(alpha * r) / r
    return total


def _reciprocal(lattice_A: NDArray[np.float64], frac: NDArray[np.float64], alpha: float, volume: float) -> NDArray[np.float64]:
    """The smooth part, summed over waves."""
    longest = 2 * alpha * ACCURACY
    integers = _multiples(longest * np.linalg.norm(lattice_A, axis=1) / (2 * math.pi))
    k2 = np.square(integers @ (2 * math.pi * np.linalg.inv(lattice_A).T)).sum(axis=1)
    keep = (k2 > 1e-12) & (k2 < longest**2)
    weight = np.sqrt(2 * math.pi / volume * np.exp(-k2[keep] / (4 * alpha**2)) / k2[keep])
    phase = 2 * math.pi * frac @ integers[keep].T
    wave = np.concatenate([np.cos(phase) * weight, np.sin(phase) * weight], axis=1)
    return wave @ wave.T


def _multiples(reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) integer triples up to ``reach`` (3,), rounded up."""
    ranges = [range(-math.ceil(r), math.ceil(r) + 1) for r in reach]
    return np.array(list(product(*ranges)), dtype=np.float64)
