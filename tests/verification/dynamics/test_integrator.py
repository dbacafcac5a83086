"""The integrator and the barostat against closed forms, without an engine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sse_diffusion.verification.dynamics.integrator import advance, cell_deformation, kick


def harmonic(steps: int, friction: float, step: float = 0.5, kT: float = 0.05, wells: int = 3000) -> tuple[np.ndarray, ...]:
    """Potential and total energy per well (k = 1, m = 1) after each step."""
    rng = np.random.default_rng(0)
    positions, velocities, masses = np.zeros((wells, 3)), rng.normal(size=(wells, 3)) * math.sqrt(kT), np.ones((wells, 1))
    potential, total = [], []
    for _ in range(steps):
        noise = rng.normal(size=(wells, 3))
        positions, velocities = advance(positions, velocities, -positions, masses, step, friction, kT, noise)
        velocities = kick(velocities, -positions, masses, step)
        potential.append(0.5 * (positions**2).sum(axis=1))
        total.append(potential[-1] + 0.5 * (velocities**2).sum(axis=1))
    return np.array(potential), np.array(total)


@pytest.mark.parametrize("friction", [0.3, 3.0])
def test_baoab_samples_harmonic_wells_exactly_at_large_steps(friction):
    """<U> = 3/2 kT and Var U = 3/2 (kT)^2 per well, at half a radian per step, where other splittings err by 6 %."""
    potential = harmonic(400, friction)[0][100:]
    assert potential.mean() == pytest.approx(1.5 * 0.05, rel=0.01)
    assert potential.var() == pytest.approx(1.5 * 0.05**2, rel=0.03)


def test_no_friction_is_velocity_verlet():
    coarse, fine = (harmonic(round(40 / h), 0.0, h, wells=200)[1] for h in (0.1, 0.05))
    assert coarse.mean(axis=1).max() / coarse.mean(axis=1).min() < 1.003
    assert fine.std(axis=0).mean() / coarse.std(axis=0).mean() == pytest.approx(0.25, rel=0.05), "the ringing is second order"


@pytest.mark.parametrize(("isotropic", "shear"), [(True, 0.0), (False, 0.02)])
def test_barostat_volume_of_the_ideal_gas(isotropic, shear):
    """p(V) ~ V^N exp(-PV/kT): <V> = (N+1) kT/P and Var V = (N+1) (kT/P)^2; an elastic energy of the shape changes neither."""
    n, kT, pressure = 15, 0.05, 0.001
    cell, rng, volumes = np.eye(3) * ((n + 1) * kT / pressure) ** (1 / 3), np.random.default_rng(1), []
    for _ in range(15_000):
        volume = np.linalg.det(cell)
        values, vectors = np.linalg.eigh(cell.T @ cell)
        strain = (vectors * (0.5 * np.log(values))) @ vectors.T
        stress = shear / volume * 800.0 * (strain - np.trace(strain) / 3 * np.eye(3)) * 0.2
        cell = cell @ cell_deformation(
            cell, stress, n, 0.02, kT, pressure, 1.0 / pressure, 1.0, isotropic, rng.standard_normal((3, 3))
        )
        volumes.append(volume)
    volumes = np.array(volumes[500:])
    assert volumes.mean() == pytest.approx((n + 1) * kT / pressure, rel=0.05)
    assert volumes.std() == pytest.approx(math.sqrt(n + 1) * kT / pressure, rel=0.12)
    assert isotropic == np.allclose(cell / cell[0, 0], np.eye(3))
