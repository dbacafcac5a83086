"""Neighbour sums of the denoiser against a brute-force neighbour list, on crystals of every kind of cell.

Physics rather than snapshots: the hats share each distance linearly, so their sums count neighbours and reproduce distances.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from sse_diffusion.core.lattice import log_to_lattice
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.geometry import OrbitGeometry

CUTOFF, N_RADIAL = 6.0, 24
WIDTH = CUTOFF / N_RADIAL


def position(group: int, label: str) -> int:
    table = wyckoff_table()
    return next(w for w in table.positions(group) if table.label(w) == label)


def rock_salt() -> Orbits:
    wyckoff = np.array([position(225, "4a"), position(225, "4b")])
    return Orbits(225, np.array([0, 0, 0, 0, 0, np.log(5.64)]), np.array([11, 17]), wyckoff, np.zeros((2, 3)))


def wurtzite() -> Orbits:
    """ZnS, P6_3mc, a = 3.82, c = 6.26 Angstrom: k of a hexagonal cell follows from its metric."""
    from pymatgen.core import Lattice

    from sse_diffusion.core.lattice import lattice_to_log

    k = lattice_to_log(torch.tensor(Lattice.hexagonal(3.82, 6.26).matrix.copy())).numpy()
    free = np.array([[0, 0, 0.0], [0, 0, 0.3748]])
    return Orbits(186, k, np.array([30, 16]), np.array([position(186, "2b")] * 2), free)


def triclinic() -> Orbits:
    k = np.array([-0.12, 0.05, 0.16, 0.1, -0.06, np.log(96.0) / 3])
    free = np.array([[0.13, 0.21, 0.34], [0.61, 0.72, 0.18], [0.37, 0.55, 0.82]])
    wyckoff = np.array([position(2, "2i"), position(2, "2i"), position(2, "2i")])
    return Orbits(2, k, np.array([3, 8, 16]), wyckoff, free)


CRYSTALS = {"rock salt": rock_salt, "wurtzite": wurtzite, "triclinic": triclinic}


def neighbours(crystal: Orbits) -> dict[tuple[int, int], list[np.ndarray]]:
    """Brute force: (orbit i, orbit j) -> Cartesian vectors from the representative of i to the atoms of j."""
    structure: Structure = crystal.to_structure(primitive=False)
    orbit = crystal.expand()[2]
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for i in range(len(crystal.species)):
        centre = int(np.flatnonzero(orbit == i)[0])  # the first image is the representative
        for neighbour in structure.get_neighbors(structure[centre], CUTOFF):
            found.setdefault((i, int(orbit[neighbour.index])), []).append(neighbour.coords - structure[centre].coords)
    return found


def hats(distance: float) -> np.ndarray:
    """Shares of one distance on the radial basis."""
    centres = (np.arange(N_RADIAL) + 0.5) * WIDTH
    return np.clip(1 - np.abs(distance - centres) / WIDTH, 0, None)


@pytest.mark.parametrize("name", CRYSTALS)
def test_neighbour_sums_equal_brute_force(name: str) -> None:
    crystal = CRYSTALS[name]()
    geometry = OrbitGeometry(CUTOFF, N_RADIAL)
    sums = geometry(OrbitBatch.from_orbits([crystal]))
    scale = geometry.shell_scale.numpy()
    lattice = crystal.lattice()
    edge = np.exp(crystal.cell[5])
    compared = 0
    for (i, j), vectors in neighbours(crystal).items():
        lengths = [np.linalg.norm(v) for v in vectors]
        count = sum(hats(r) for r in lengths)
        np.testing.assert_allclose(sums.count[0, i, j].numpy() / scale, count, atol=2e-3)
        fractional = [v @ np.linalg.inv(lattice) for v in vectors]
        vector = sum(np.outer(hats(r), d) * edge / r for r, d in zip(lengths, fractional, strict=True))
        np.testing.assert_allclose(sums.vector[0, i, j].numpy() / scale[:, None], vector, atol=2e-3)
        compared += len(vectors)
    assert compared > 60
    assert sums.count.sum().item() > 0


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_volume_stretches_every_distance_alike(name: str) -> None:
    """d ln r / d k5 = 1 for every pair of every crystal."""
    sums = OrbitGeometry(CUTOFF, N_RADIAL)(OrbitBatch.from_orbits([CRYSTALS[name]()]))
    torch.testing.assert_close(sums.strain[..., 5], sums.count, atol=1e-4, rtol=1e-4)


def test_strain_sums_are_the_logarithmic_derivatives_of_the_distances() -> None:
    """By finite differences of the cell, in a cube (where the metric commutes with the basis) without any symmetry."""
    cubic = np.array([0, 0, 0, 0, 0, np.log(4.6)])
    crystal = Orbits(1, cubic, np.array([3, 8, 16]), np.array([position(1, "1a")] * 3), triclinic().free)
    geometry = OrbitGeometry(CUTOFF, N_RADIAL)
    strain = geometry(OrbitBatch.from_orbits([crystal])).strain[0].numpy() / geometry.shell_scale.numpy()[:, None]
    inverse, step = np.linalg.inv(crystal.lattice()), 1e-4
    for (i, j), vectors in neighbours(crystal).items():
        expected = np.zeros((N_RADIAL, 6))
        for c in range(6):
            ends = [log_to_lattice(torch.tensor(cubic + sign * step * np.eye(6)[c])).numpy() for sign in (1, -1)]
            for v in vectors:
                longer, shorter = (np.linalg.norm(v @ inverse @ end) for end in ends)
                expected[:, c] += hats(float(np.linalg.norm(v))) * np.log(longer / shorter) / (2 * step)
        np.testing.assert_allclose(strain[i, j], expected, atol=5e-3)


def test_rock_salt_shells_by_hand() -> None:
    """Six unlike neighbours at a/2, twelve like at a/sqrt2, eight unlike at a sqrt3/2, six like at a."""
    crystal, geometry = rock_salt(), OrbitGeometry(CUTOFF, N_RADIAL)
    counts = geometry(OrbitBatch.from_orbits([crystal])).count[0].numpy() / geometry.shell_scale.numpy()
    a = 5.64
    unlike = 6 * hats(a / 2) + 8 * hats(a * np.sqrt(3) / 2)
    like = 12 * hats(a / np.sqrt(2)) + 6 * hats(a)
    for i in range(2):
        np.testing.assert_allclose(counts[i, i], like, atol=2e-3)
        np.testing.assert_allclose(counts[i, 1 - i], unlike, atol=2e-3)


def test_cell_parameters_by_hand() -> None:
    """k5 = ln(a) of a cube; k0 = -ln(3)/4 of a hexagonal cell; the volume is exp(3 k5) whatever the shape."""
    cube = log_to_lattice(torch.tensor([0, 0, 0, 0, 0, np.log(5.64)])).numpy()
    np.testing.assert_allclose(cube, 5.64 * np.eye(3), atol=1e-9)
    assert wurtzite().cell[0] == pytest.approx(-np.log(3) / 4, abs=1e-9)
    assert np.linalg.det(triclinic().lattice()) == pytest.approx(96.0, rel=1e-9)
