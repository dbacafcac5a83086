"""Langevin dynamics in the BAOAB splitting, and the stochastic barostat.

Units are ASE's: eV, Angstrom, atomic mass unit; times in sqrt(amu A^2 / eV).
"""

from __future__ import annotations

import math

import numpy as np


def advance(
    positions: np.ndarray,
    velocities: np.ndarray,
    forces: np.ndarray,
    masses: np.ndarray,
    step: float,
    friction: float,
    kT_eV: float,
    noise: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The B, A, O, A of one BAOAB step (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34); :func:`kick` is the last B.

    Half a kick, half a drift, the exact Ornstein-Uhlenbeck map of the velocities, half a drift. Configurations are sampled with
    an error of order step^4 in harmonic wells at any friction; ``friction = 0`` is velocity Verlet.

    Args:
        positions, velocities, forces: (N, 3).
        masses: (N, 1).
        step: time step.
        friction: per unit of time.
        kT_eV: thermal energy.
        noise: (N, 3) standard normal numbers.

    Returns:
        New positions, and velocities that lack the last half kick.
    """
    velocities = kick(velocities, forces, masses, step)
    positions = positions + 0.5 * step * velocities
    decay = math.exp(-friction * step)
    velocities = decay * velocities + np.sqrt((1.0 - decay**2) * kT_eV / masses) * noise
    return positions + 0.5 * step * velocities, velocities


def kick(velocities: np.ndarray, forces: np.ndarray, masses: np.ndarray, step: float) -> np.ndarray:
    """B: half a step of acceleration."""
    return velocities + 0.5 * step * forces / masses


def cell_deformation(
    cell: np.ndarray,
    stress: np.ndarray,
    n_atoms: int,
    step: float,
    kT_eV: float,
    pressure: float,
    compressibility: float,
    relaxation: float,
    isotropic: bool,
    noise: np.ndarray,
) -> np.ndarray:
    """(3, 3) matrix exp(A) by which the row vectors of cell and positions are multiplied in one step of stochastic cell
    rescaling.

        A = (c / kT) (P_int - P I) dt + sqrt(2 c dt / V) sym(G),      c = beta_T kT / (3 tau),     P_int = N kT / V I - stress

    Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020) for the isotropic case, Del Tatto et al., Appl. Sci. 12, 1139 (2022) for
    the full cell. Two choices of ours: the kinetic part of the pressure is its thermal mean, so velocities need no rescaling
    (positions and momenta are independent in the canonical ensemble), and the noise is multiplied on through the matrix
    exponential. Then the generator is f^-1 d_A (c/V f d_A) with f = V^(N+1) exp(-(U + P V) / kT) over the invariant measure of
    the strains, that is, the volume has the density V^N exp(-(U + P V) / kT): <V> of an ideal gas is (N + 1) kT / P.

    Args:
        cell: (3, 3) row vectors.
        stress: (3, 3) dE/dstrain / V, eV/A^3.
        n_atoms: N.
        step, relaxation: times.
        kT_eV: thermal energy.
        pressure: eV/A^3.
        compressibility: A^3/eV.
        isotropic: keep the shape.
        noise: (3, 3) standard normal numbers.
    """
    volume = abs(float(np.linalg.det(cell)))
    mobility = compressibility * kT_eV / (3.0 * relaxation)
    internal = n_atoms * kT_eV / volume * np.eye(3) - stress
    strain = mobility / kT_eV * step * (internal - pressure * np.eye(3))
    strain = strain + math.sqrt(2.0 * mobility * step / volume) * noise
    strain = 0.5 * (strain + strain.T)
    if isotropic:
        # the projection on I / sqrt(3) keeps one of the nine unit-variance directions
        strain = np.trace(strain) / 3.0 * np.eye(3)
    values, vectors = np.linalg.eigh(strain)
    return (vectors * np.exp(values)) @ vectors.T
