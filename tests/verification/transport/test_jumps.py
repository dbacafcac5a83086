"""Sites, jumps and densities on paths whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.core.results import Status
from sse_diffusion.verification.transport.jumps import density_sites, histogram, jump_statistics

CELL = np.array([[6.0, 0, 0], [2.0, 5.5, 0], [0.5, 1.0, 6.5]])
SITES = np.array([[0.0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0.5, 0.5, 0.5]])


def hopping(rng: np.random.Generator, frames: int = 2000, rate: float = 0.02) -> tuple[np.ndarray, np.ndarray, int]:
    """Two ions that jump between the sites (unwrapped through periodic images); positions, sites visited, number of jumps."""
    at = np.array([0, 3])
    place = SITES[at] @ CELL
    path, visited, jumps = np.zeros((frames, 2, 3)), np.zeros((frames, 2), int), 0
    for t in range(frames):
        for ion in range(2):
            if rng.random() < rate:
                target = rng.choice([s for s in range(4) if s != at[ion]])
                away = SITES[target] - SITES[at[ion]] + rng.integers(-1, 2, 3)
                place[ion] += away @ CELL
                at[ion], jumps = target, jumps + 1
        path[t], visited[t] = place, at
    return path + 0.15 * rng.normal(size=path.shape), visited, jumps


def test_jumps_occupancies_and_stays():
    path, visited, jumps = hopping(np.random.default_rng(0))
    found = jump_statistics(path, CELL, SITES, frame_ps=0.1)
    assert found.jumps == jumps == found.counts.sum() == len(found.lengths_A) and found.unassigned == 0
    np.testing.assert_allclose(found.occupancy, np.bincount(visited.ravel(), minlength=4) / 2000, atol=2e-3)
    assert found.occupancy.sum() == pytest.approx(2.0)
    assert found.residence_ps.value == pytest.approx(5.0, abs=3 * found.residence_ps.uncertainty)
    assert found.rate_per_ion_per_ps.value * found.residence_ps.value == pytest.approx(1.0)
    assert found.lengths_A.min() > 2.5 and np.diag(found.counts).sum() == 0


def test_an_excursion_that_turns_back_is_no_jump():
    path = np.zeros((100, 1, 3))
    path[30:50, 0, 0] = 1.8  # past the middle between site 0 and site 1 at 3 A, outside both cores
    still = jump_statistics(path, CELL, SITES, 0.1)
    assert still.jumps == 0 and still.rate_per_ion_per_ps.status is Status.UPPER_BOUND
    assert still.rate_per_ion_per_ps.value == pytest.approx(0.3) and "longer than 3.33 ps" in still.residence_ps.reason
    path[60:, 0, 0] = 3.0
    assert jump_statistics(path, CELL, SITES, 0.1).jumps == 1


def test_a_jump_has_a_direction_and_arriving_from_nowhere_is_none():
    path = np.zeros((100, 1, 3))
    path[:20] = 0.25 * CELL.sum(axis=0)  # near no site
    path[60:, 0, 0] = 3.0
    found = jump_statistics(path, CELL, SITES, 0.1)
    assert found.jumps == 1 and found.counts[0, 1] == 1 and found.counts[1, 0] == 0 and found.unassigned == pytest.approx(0.2)


def test_sites_from_the_density():
    path, _, _ = hopping(np.random.default_rng(1), rate=0.05)
    found = density_sites(path, CELL)
    assert len(found) == 4
    away = found[:, None] - SITES
    assert np.linalg.norm((away - np.rint(away)) @ CELL, axis=2).min(axis=0).max() < 0.3


def test_histogram_counts_every_ion_once():
    path, _, _ = hopping(np.random.default_rng(2), frames=200)
    assert histogram(path, CELL, 0.4).sum() == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["density.cube", "CHGCAR"])
def test_pathways_open_in_other_programs(tmp_path, name):
    from pymatgen.io.common import VolumetricData
    from pymatgen.io.vasp import Chgcar

    from sse_diffusion.verification.dynamics.trajectory import Trajectory
    from sse_diffusion.verification.transport.pathways import write_pathways

    ions, _, _ = hopping(np.random.default_rng(3), frames=400)
    framework = np.array([[3.0, 3.0, 3.0]]) + 0.05 * np.random.default_rng(0).normal(size=(400, 1, 3))
    drift = np.linspace(0, 30, 400)[:, None, None] * np.ones((1, 1, 3))
    positions = np.concatenate([ions, framework], axis=1) + drift
    run = Trajectory(
        np.array(["Li", "Li", "Cl"]), np.array([6.9, 6.9, 35.5]), 0.1, 500.0, positions.astype(np.float32),
        np.zeros_like(positions, dtype=np.float32), np.tile(CELL, (400, 1, 1)), np.zeros(400), np.zeros(400), np.zeros(400),
        0.0, "", {},
    )  # fmt: skip
    density = write_pathways(run, "Li", tmp_path / name, spacing_A=0.5)
    volume = abs(np.linalg.det(CELL))
    assert density.mean() * volume == pytest.approx(2.0)
    if name == "CHGCAR":
        read = Chgcar.from_file(str(tmp_path / name))
        np.testing.assert_allclose(read.data["total"] / volume, density, atol=1e-6)
    else:
        read = VolumetricData.from_cube(str(tmp_path / name))
        assert read.data["total"].shape == density.shape
    assert read.structure.composition.formula == "Cl1"
    # the drift is out: the ions are where the sites are, next to the framework's own place
    assert np.sort(density.ravel())[-40:].sum() * volume / density.size > 1.0


def test_pathways_have_the_origin_of_the_crystal(tmp_path):
    """An ion at rest is found where it is in the crystal, and so is the framework, which may drift."""
    from pymatgen.io.vasp import Chgcar

    from sse_diffusion.verification.dynamics.trajectory import Trajectory
    from sse_diffusion.verification.transport.pathways import write_pathways

    rng, frames = np.random.default_rng(0), 50
    places = np.array([[0.25, 0.75, 0.5], [0.7, 0.2, 0.1]]) @ CELL
    positions = places + np.linspace(0, 10, frames)[:, None, None] + 0.01 * rng.normal(size=(frames, 2, 3))
    still = np.zeros(frames)
    run = Trajectory(
        np.array(["Li", "Cl"]), np.array([6.9, 35.5]), 0.1, 500.0, positions.astype(np.float32),
        np.zeros_like(positions, dtype=np.float32), np.tile(CELL, (frames, 1, 1)), still, still, still, 0.0, "", {},
    )  # fmt: skip
    density = write_pathways(run, "Li", tmp_path / "CHGCAR", spacing_A=0.2)
    highest = (np.array(np.unravel_index(density.argmax(), density.shape)) + 0.5) / density.shape
    away = highest - [0.25, 0.75, 0.5]
    assert np.linalg.norm((away - np.rint(away)) @ CELL) < 0.3
    chlorine = Chgcar.from_file(str(tmp_path / "CHGCAR")).structure[0]
    assert chlorine.distance_and_image_from_frac_coords([0.7, 0.2, 0.1])[0] < 0.1
