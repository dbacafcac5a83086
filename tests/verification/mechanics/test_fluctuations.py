"""Elastic tensor from cell fluctuations: cells drawn from a known tensor give it back."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.results import Status
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K, GPa_PER_eV_PER_A3
from sse_diffusion.verification.mechanics.fluctuations import elastic_from_cells
from sse_diffusion.verification.mechanics.tensor import from_mandel, moduli, voigt_to_mandel

CRYSTAL = Structure.from_spacegroup(225, Lattice.cubic(8.0), ["Li", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]])
VOIGT = np.diag([60.0] * 3 + [35.0] * 3)
VOIGT[:3, :3] += 40.0


def cells(n, rotate=False, temperature_K=400.0, lattice=CRYSTAL.lattice.matrix):
    rng = np.random.default_rng(5)
    covariance = np.linalg.inv(voigt_to_mandel(VOIGT) / GPa_PER_eV_PER_A3) * BOLTZMANN_eV_PER_K * temperature_K / CRYSTAL.volume
    strain = from_mandel(rng.multivariate_normal(np.zeros(6), covariance, size=n))
    # A cell with this Lagrangian strain: F = sqrt(1 + 2 e).
    values, vectors = np.linalg.eigh(np.eye(3) + 2 * strain)
    stretch = np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(values), vectors)
    if rotate:
        turns = np.linalg.qr(np.eye(3) + 0.05 * rng.normal(size=(n, 3, 3)))[0]
        stretch = stretch @ turns
    return lattice @ stretch


def test_known_tensor_comes_back_with_its_error():
    result = elastic_from_cells(cells(20_000), 400.0, CRYSTAL)
    expected = moduli(voigt_to_mandel(VOIGT), CRYSTAL.density, CRYSTAL.volume / len(CRYSTAL))
    for name in ("bulk_modulus", "shear_modulus", "youngs_modulus"):
        quantity = result.quantities[name]
        assert quantity.ok and abs(quantity.value - expected[name]) < max(4 * quantity.uncertainty, 0.03 * expected[name])
        assert 0 < quantity.uncertainty < 0.05 * quantity.value
    assert np.allclose(result.stiffness_GPa, VOIGT, atol=4)


def test_symmetry_makes_a_cubic_tensor():
    stiffness = elastic_from_cells(cells(2000), 400.0, CRYSTAL, symprec_A=0.01).stiffness_GPa
    assert np.allclose(stiffness[0, 3:], 0, atol=1e-9) and stiffness[0, 0] == pytest.approx(stiffness[1, 1])


def test_short_run_is_unconverged_and_bad_input_refused():
    short = elastic_from_cells(cells(24), 400.0, CRYSTAL, n_blocks=2)
    assert short.quantities["bulk_modulus"].status is Status.UNCONVERGED
    for bad in (cells(20), np.full((100, 3, 3), np.nan), np.repeat(CRYSTAL.lattice.matrix[None], 100, axis=0)):
        with pytest.raises(DataError):
            elastic_from_cells(bad, 400.0, CRYSTAL)


def test_the_tensor_does_not_depend_on_the_shape_or_the_turning_of_the_cell():
    skew = Lattice.from_parameters(7.0, 8.5, 9.5, 75, 98, 110)
    skew = skew.scale(CRYSTAL.volume).matrix
    runs = (cells(3000), cells(3000, lattice=skew), cells(3000, rotate=True))
    cube, oblique, turning = (elastic_from_cells(run, 400.0, CRYSTAL).stiffness_GPa for run in runs)
    assert np.allclose(oblique, cube, atol=1e-6) and np.allclose(turning[:3, :3], cube[:3, :3], rtol=0.02)
