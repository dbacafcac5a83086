"""Stress-strain elastic tensors: exact constants of a toy, symmetry, instability, reasons."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Status
from sse_diffusion.core.units import GPa_PER_eV_PER_A3
from sse_diffusion.verification.mechanics.elastic import ElasticConfig, elastic_tensor, strains_for
from sse_diffusion.verification.mechanics.tensor import from_mandel, symmetric_basis
from sse_diffusion.verification.potential import load_potential


@pytest.fixture(scope="module")
def emt():
    return load_potential({"name": "ase", "calculator": "ase.calculators.emt:EMT"})


def metal(name, lattice, a):
    return AseAtomsAdaptor.get_structure(bulk(name, lattice, a=a))


def test_bulk_modulus_is_the_curvature_of_the_energy(emt):
    result = elastic_tensor(metal("Cu", "fcc", 3.6), emt)
    volumes, energies = [], []
    for a in np.linspace(3.53, 3.65, 9):
        atoms = bulk("Cu", "fcc", a=a)
        volumes.append(atoms.get_volume())
        energies.append(emt.evaluate([atoms])[0].energy_eV)
    curve = np.polynomial.Polynomial.fit(volumes, energies, 4)
    lowest = min(volumes, key=lambda v: curve(v))
    lowest -= curve.deriv()(lowest) / curve.deriv(2)(lowest)
    expected = lowest * curve.deriv(2)(lowest) * GPa_PER_eV_PER_A3
    assert result.quantities["bulk_modulus"].value == pytest.approx(expected, rel=0.01)
    assert result.born_stable
    assert abs(result.stiffness_GPa[0, 3]) < 1e-9 and result.stiffness_GPa[0, 0] == pytest.approx(result.stiffness_GPa[2, 2])


def test_symmetry_saves_strains_and_changes_nothing(emt):
    copper = metal("Cu", "fcc", 3.6)
    few = elastic_tensor(copper, emt)
    many = elastic_tensor(copper, emt, ElasticConfig(symmetry=False))
    assert few.quantities["bulk_modulus"].provenance["strained_cells"] == "8"
    assert many.quantities["bulk_modulus"].provenance["strained_cells"] == "24"
    assert np.allclose(few.stiffness_GPa, many.stiffness_GPa, atol=0.5)


def test_relaxed_ions_are_softer(emt):
    hexagonal = AseAtomsAdaptor.get_structure(bulk("Cu", "hcp", a=2.55, c=4.16))
    relaxed = elastic_tensor(hexagonal, emt)
    clamped = elastic_tensor(hexagonal, emt, ElasticConfig(relax_ions=False))
    assert relaxed.quantities["shear_modulus"].value < clamped.quantities["shear_modulus"].value


def test_bcc_copper_is_born_unstable(emt):
    result = elastic_tensor(metal("Cu", "bcc", 2.87), emt)
    assert not result.born_stable
    modulus = result.quantities["shear_modulus"]
    assert modulus.status is Status.FAILED and "Born-unstable" in modulus.reason
    assert result.to_dict()["shear_modulus"]["value"] is None


def test_failures_and_caps_have_reasons(emt):
    unknown = elastic_tensor(Structure(Lattice.cubic(3.0), ["U"], [[0, 0, 0]]), emt)
    assert unknown.quantities["bulk_modulus"].status is Status.FAILED and not unknown.born_stable
    capped = elastic_tensor(metal("Cu", "fcc", 3.9), emt, ElasticConfig(max_steps=1))
    assert capped.quantities["bulk_modulus"].status is Status.UNCONVERGED
    with pytest.raises(ConfigError, match="pairs"):
        ElasticConfig(normal_strains=(0.01,))
    with pytest.raises(ConfigError, match="pairs"):
        ElasticConfig(shear_strains=(0.01, 0.02))


def test_every_direction_without_symmetry():
    strains = strains_for(symmetric_basis(np.eye(3)[None]), ElasticConfig())
    assert np.linalg.matrix_rank(strains) == 6 and len(strains) == 24


def test_an_engineering_shear_is_twice_the_tensor_component():
    strains = from_mandel(strains_for(symmetric_basis(np.eye(3)[None]), ElasticConfig()))
    assert np.abs(strains[:, [0, 1, 2], [0, 1, 2]]).max() == pytest.approx(0.01)
    assert np.abs(strains[:, [1, 0, 0], [2, 2, 1]]).max() == pytest.approx(0.02 / 2)


def test_a_crystal_under_its_own_stress_has_the_error_of_its_slopes_alone(emt):
    """The stress of the unstrained cell is no response to a strain: left in, every cell left out would shift the tensor."""
    pressed = elastic_tensor(metal("Cu", "fcc", 3.45), emt, ElasticConfig(relax_cell=False))
    bulk_modulus = pressed.quantities["bulk_modulus"]
    assert bulk_modulus.ok and bulk_modulus.uncertainty < 0.02 * bulk_modulus.value


def test_ions_of_a_strained_cell_are_free_of_the_symmetry_that_the_strain_broke(emt):
    """Strains below the tolerance of the space-group search: the atoms still relax as without any symmetry."""
    hexagonal = AseAtomsAdaptor.get_structure(bulk("Cu", "hcp", a=2.55, c=4.16))
    small = {"normal_strains": (-0.002, 0.002), "shear_strains": (-0.003, 0.003), "fmax_eV_per_A": 2e-4}
    few, many = (elastic_tensor(hexagonal, emt, ElasticConfig(**small, symmetry=s)) for s in (True, False))
    assert np.allclose(few.stiffness_GPa, many.stiffness_GPa, atol=2.0)
