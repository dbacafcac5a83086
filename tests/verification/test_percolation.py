"""Bond-valence percolation: known conductors, invariances, the library's own answer, and a reason for everything that fails."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Status
from sse_diffusion.verification import percolation
from sse_diffusion.verification.percolation import PercolationConfig, percolation_barriers, site_energy
from sse_diffusion.verification.percolation_grid import interpolate, percolation_dimension, percolation_thresholds

FAST = PercolationConfig(points=2000, finest_A=0.3)


def rocksalt(cation: str, anion: str, a: float) -> Structure:
    """A rocksalt crystal, primitive cell."""
    return Structure(Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]]), [cation, anion], [[0] * 3, [0.5] * 3])


@pytest.fixture(scope="module")
def li3n() -> Structure:
    """alpha-Li3N, P6/mmm: a layered fast ion conductor."""
    sites = [[0, 0, 0.5], [1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0], [0, 0, 0]]
    return Structure(Lattice.hexagonal(3.648, 3.875), ["Li", "Li", "Li", "N"], sites)


@pytest.fixture(scope="module")
def licoo2() -> Structure:
    """LiCoO2, R-3m: lithium moves within layers between CoO2 slabs."""
    return Structure.from_spacegroup(
        "R-3m", Lattice.hexagonal(2.816, 14.05), ["Li", "Co", "O"], [[0, 0, 0.5], [0, 0, 0], [0, 0, 0.26]]
    )


def test_a_known_conductor_lies_below_the_rocksalts(li3n: Structure) -> None:
    """Li3N conducts at 1e-3 S/cm; LiF and LiCl are insulators."""
    conductor = percolation_barriers(li3n, "Li")
    assert conductor.status is Status.OK and conductor.reason == ""
    assert conductor.e1d_eV == pytest.approx(0.18, abs=0.03) and conductor.migration_barrier_eV == conductor.e3d_eV
    assert conductor.e1d_eV == conductor.e2d_eV <= conductor.e3d_eV  # in the plane first
    for anion, a in (("F", 4.03), ("Cl", 5.14)):
        assert percolation_barriers(rocksalt("Li", anion, a), "Li").e1d_eV > conductor.e1d_eV + 0.2


def test_layers_percolate_in_two_dimensions_only(licoo2: Structure) -> None:
    result = percolation_barriers(licoo2, "Li", FAST)
    assert result.e1d_eV == result.e2d_eV < 3.0
    assert math.isinf(result.e3d_eV) and result.status is Status.OK


def test_supercell_order_and_origin_do_not_matter(li3n: Structure) -> None:
    reference = percolation_barriers(li3n, "Li")
    shuffled = Structure.from_sites([li3n[i] for i in (3, 1, 0, 2)])
    shifted = li3n.copy().translate_sites(range(4), [0.13, 0.21, 0.37])
    for other in (li3n * (2, 1, 1), shuffled, shifted):
        result = percolation_barriers(other, "Li")
        assert result.e1d_eV == pytest.approx(reference.e1d_eV, abs=0.03)
        assert result.e3d_eV == pytest.approx(reference.e3d_eV, abs=0.03)


def test_same_answer_as_the_library(licoo2: Structure) -> None:
    """Same landscape, same bisection: the numbers of bvlain's own percolation search."""
    from bvlain import Lain

    for crystal in (licoo2, rocksalt("Li", "Cl", 5.14)):
        lain = Lain(verbose=False)
        lain.read_structure(crystal)
        landscape = lain.bvse_distribution("Li1+", resolution=0.4)
        theirs = tuple(float(e) for e in lain.percolation_barriers().values())
        ours = percolation_thresholds(interpolate(landscape, refine=1), max_barrier_eV=10.0, tolerance_eV=0.01)
        assert [round(e, 4) for e in ours] == list(theirs)


def test_interpolation_replaces_a_finer_grid() -> None:
    """The coarse interpolated landscape is nearer to a fine one than the coarse one itself."""
    crystal, errors = rocksalt("Li", "Cl", 5.14), {}
    fine = PercolationConfig(points=10**9, finest_A=0.12, coarsest_A=0.12, refine=1)
    exact = percolation_barriers(crystal, "Li", fine).e1d_eV
    for refine in (1, 2):
        errors[refine] = abs(percolation_barriers(crystal, "Li", PercolationConfig(refine=refine)).e1d_eV - exact)
    assert errors[2] < 0.02 < errors[1]


@pytest.mark.parametrize("wraps", [0, 1, 2, 3])
def test_dimension_of_straight_channels(wraps: int) -> None:
    is_open = np.zeros((6, 7, 8), dtype=bool)
    for axis in range(wraps):
        line: list[int | slice] = [3, 3, 3]
        line[axis] = slice(None)
        is_open[tuple(line)] = True
    assert percolation_dimension(is_open) == wraps


def test_a_diagonal_channel_is_one_dimension_and_a_blocked_one_none() -> None:
    is_open = np.zeros((6, 6, 6), dtype=bool)
    is_open[range(6), range(6), range(6)] = True  # along [111]: crosses three faces, percolates in one direction
    assert percolation_dimension(is_open) == 1
    is_open[2, 2, 2] = False
    assert percolation_dimension(is_open) == 0


def test_a_helix_that_closes_after_two_cells_percolates() -> None:
    """Two strands that swap places at the boundary: a 2 x 2 x 2 supercell (parity of the winding) cannot see this."""
    is_open = np.zeros((8, 12, 12), dtype=bool)
    is_open[:3, 2, 2] = is_open[2, 2, 2:9] = is_open[2:6, 2, 8] = is_open[5, 2:9, 8] = is_open[5:, 8, 8] = True
    assert percolation_dimension(is_open) == 0  # one strand ends where the other has to start
    is_open[:3, 8, 8] = is_open[2, 8, 2:9] = is_open[2:6, 8, 2] = is_open[5, 2:9, 2] = is_open[5:, 2, 2] = True
    assert percolation_dimension(is_open) == 1


def walked_dimension(is_open: np.ndarray) -> int:
    """Voxel by voxel: walk through each cluster with unwrapped coordinates; a voxel met again elsewhere closes a loop."""
    place: dict[tuple[int, ...], np.ndarray] = {}
    best = 0
    for seed in map(tuple, np.argwhere(is_open)):
        if seed in place:
            continue
        place[seed], stack, loops = np.array(seed), [np.array(seed)], [np.zeros(3, dtype=int)]
        while stack:
            at = stack.pop()
            for step in itertools.product((-1, 0, 1), repeat=3):
                there = at + step
                voxel = tuple(int(i) for i in there % is_open.shape)
                if is_open[voxel] and voxel not in place:
                    place[voxel] = there
                    stack.append(there)
                elif is_open[voxel]:
                    loops.append(there - place[voxel])
        best = max(best, int(np.linalg.matrix_rank(np.array(loops))))
    return best


def test_dimension_of_random_grids() -> None:
    """Sparse random grids, where clusters wind, merge across the boundary and fall apart in every way."""
    rng, seen = np.random.default_rng(0), set()
    for density in np.repeat([0.06, 0.08, 0.1, 0.12], 15):
        is_open = rng.random((5, 6, 7)) < density
        expected = walked_dimension(is_open)
        assert percolation_dimension(is_open) == expected
        seen.add(expected)
    assert seen == {0, 1, 2, 3}


def test_threshold_of_a_cosine_saddle() -> None:
    """E = sum of 1 - cos along x, y with heights 1, 2 eV (z blocked by 50 eV): saddles at exactly these energies."""
    x, y, z = np.meshgrid(*(2 * np.pi * np.arange(24) / 24,) * 3, indexing="ij")
    energy = 0.5 * (1 - np.cos(x)) + 1.0 * (1 - np.cos(y)) + 25.0 * (1 - np.cos(z))
    one, two, three = percolation_thresholds(energy)
    assert one == pytest.approx(1.0, abs=0.002) and two == pytest.approx(2.0, abs=0.002) and math.isinf(three)


def test_every_failure_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(structure: Structure, ion: str, config: PercolationConfig = FAST) -> str:
        result = percolation_barriers(structure, ion, config)
        assert result.status is Status.FAILED and not math.isfinite(result.migration_barrier_eV)
        return result.reason

    salt = rocksalt("Na", "Cl", 5.64)
    assert "holds no Li" in reason(salt, "Li")
    assert "oxidation states" in reason(rocksalt("Li", "Ag", 5.0), "Li")
    phosphide = Structure.from_spacegroup("Fm-3m", Lattice.cubic(6.0), ["Li", "Li", "P"], [[0.25] * 3, [0.5] * 3, [0] * 3])
    assert reason(phosphide, "Li") == "no bond-valence parameters for Li with P3-"
    assert "no percolation below 0.1 eV" in reason(salt, "Na", PercolationConfig(points=2000, finest_A=0.3, max_barrier_eV=0.1))
    assert "on top of each other" in reason(Structure(salt.lattice, ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.001]]), "Na")
    partial = Structure(salt.lattice, [{"Na": 0.5}, "Cl"], [[0] * 3, [0.5] * 3])
    assert "partial occupancies" in reason(partial, "Na")
    monkeypatch.setattr(percolation, "interpolate", lambda *_: time.sleep(5))
    start = time.perf_counter()
    assert "not finished within 0.5 s" in reason(salt, "Na", PercolationConfig(timeout_s=0.5))
    assert time.perf_counter() - start < 3
    with pytest.raises(ConfigError, match="did you mean 'Na'"):
        percolation_barriers(salt, "NA")


def test_landscape_is_periodic_and_bounded_in_memory() -> None:
    """Cells of every size get about as many points, between the finest and the coarsest spacing."""
    config = PercolationConfig()
    assert [config.spacing_A(v) for v in (1.0, 324.0, 1e5)] == pytest.approx([0.2, 0.3, 0.4])
    energy = site_energy(rocksalt("Li", "F", 4.03), "Li", FAST)
    assert energy.ndim == 3 and abs(energy.min()) < 0.2 and min(energy.shape) >= 8
    with pytest.raises(ConfigError, match="positive"):
        PercolationConfig(points=0)


def test_an_ion_of_another_charge_is_no_carrier():
    """Silver is doubly charged in AgF2: the parameters are those of Ag+."""
    fluoride = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.4), ["Ag", "F"], [[0, 0, 0], [0.25] * 3])
    found = percolation_barriers(fluoride, "Ag")
    assert found.status is Status.FAILED and "Ag has the oxidation state 2, not 1" in found.reason
