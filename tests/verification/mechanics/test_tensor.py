"""Algebra of elastic tensors against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.verification.mechanics.tensor import (
    cartesian_point_group,
    from_mandel,
    mandel_to_voigt,
    moduli,
    result_from_jackknife,
    symmetric_basis,
    to_mandel,
    voigt_to_mandel,
)


def cubic(c11, c12, c44):
    stiffness = np.diag([c11 - c12] * 3 + [c44] * 3).astype(float)
    stiffness[:3, :3] += c12
    return voigt_to_mandel(stiffness)


CELLS = {
    "cubic": (Structure.from_spacegroup(225, Lattice.cubic(5), ["Li", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]]), 3),
    "hexagonal": (Structure(Lattice.hexagonal(3.2, 5.2), ["Mg"] * 2, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]), 5),
    "tetragonal": (Structure(Lattice.tetragonal(4, 5), ["Li"], [[0, 0, 0]]), 6),
    "orthorhombic": (Structure(Lattice.orthorhombic(4, 5, 6), ["Li"], [[0, 0, 0]]), 9),
    "triclinic": (Structure(Lattice.from_parameters(4, 5, 6, 80, 95, 101), ["Li"], [[0, 0, 0]]), 21),
}


@pytest.mark.parametrize("name", CELLS)
def test_number_of_independent_constants(name):
    structure, expected = CELLS[name]
    rotations = cartesian_point_group(structure, 1e-3)
    basis = symmetric_basis(rotations)
    assert len(basis) == expected
    assert np.allclose(basis, basis.transpose(0, 2, 1))
    assert np.allclose(np.einsum("kij,lij->kl", basis, basis), np.eye(expected), atol=1e-9)


def test_mandel_is_an_isometry_and_rotates():
    tensor = np.random.default_rng(0).normal(size=(4, 3, 3))
    tensor = tensor + tensor.transpose(0, 2, 1)
    assert np.allclose(from_mandel(to_mandel(tensor)), tensor)
    assert np.allclose(np.linalg.norm(to_mandel(tensor), axis=1), np.linalg.norm(tensor, axis=(1, 2)))
    assert np.allclose(mandel_to_voigt(cubic(100, 30, 40))[3:, 3:], np.diag([40.0] * 3))


def test_moduli_of_a_cubic_crystal():
    # Copper: C11 168.4, C12 121.4, C44 75.4 GPa; Hill average by the textbook formulas.
    c11, c12, c44 = 168.4, 121.4, 75.4
    got = moduli(cubic(c11, c12, c44), 8.96, 11.8)
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    assert got["bulk_modulus"] == pytest.approx((c11 + 2 * c12) / 3)
    assert got["shear_modulus"] == pytest.approx((voigt + reuss) / 2)
    assert got["universal_anisotropy"] == pytest.approx(5 * voigt / reuss - 5)
    assert got["smallest_stiffness"] == pytest.approx(c11 - c12)
    assert got["debye_temperature"] == pytest.approx(344, rel=0.05)
    ratio = got["bulk_modulus"] / got["shear_modulus"]
    assert got["poisson_ratio"] == pytest.approx((3 * ratio - 2) / (6 * ratio + 2))


def test_isotropic_crystal_has_no_anisotropy():
    assert moduli(cubic(100, 40, 30), 3, 10)["universal_anisotropy"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("constants", [(50, 60, 20), (100, 40, -1), (30, -20, 10)])
def test_born_criteria(constants):
    got = moduli(cubic(*constants), 3, 10)
    assert got["smallest_stiffness"] < 0 and np.isnan(got["bulk_modulus"])


def test_jackknife_error_of_a_mean_is_the_standard_error():
    """A tensor that is the mean of ten measurements which differ in scale alone."""
    crystal, scales = CELLS["cubic"][0], 1 + 0.1 * np.random.default_rng(0).normal(size=10)
    left_out = np.stack([cubic(100, 40, 30) * np.delete(scales, i).mean() for i in range(10)])
    found = result_from_jackknife(cubic(100, 40, 30) * scales.mean(), left_out, crystal, {}).quantities["bulk_modulus"]
    assert found.value == pytest.approx(60 * scales.mean())
    assert found.uncertainty == pytest.approx(60 * scales.std(ddof=1) / np.sqrt(10))


@pytest.mark.parametrize(("c44", "stable"), [(5.0, True), (0.0, False), (-5.0, False)])
def test_a_shear_that_costs_nothing_is_not_stable(c44, stable):
    found = result_from_jackknife(cubic(100, 40, c44), cubic(100, 40, c44)[None], CELLS["cubic"][0], {})
    assert found.born_stable is stable
