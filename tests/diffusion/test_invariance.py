"""The denoiser's outputs follow the symmetries of the problem: orbit order, representative, origin, padding, cell choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.orbits import parse_orbits
from sse_diffusion.diffusion.denoiser import ContinuousOutput
from sse_diffusion.diffusion.model import CrystalModel


def outputs(model: CrystalModel, crystals: list[Orbits], t: float = 0.4) -> ContinuousOutput:
    batch = OrbitBatch.from_orbits(crystals, model.null_conditions(len(crystals)))
    x = model.cell_noise.standardise(batch.cell, batch.group, model.atoms(batch))
    with torch.no_grad():
        times = torch.full((len(crystals),), t)
        return model.denoiser.continuous(batch, x, times, 0.5 * times)


def random_crystal(group: int, rng: np.random.Generator, n_orbits: int = 3) -> Orbits:
    """Orbits on positions with free coordinates, in a cell of sensible size."""
    table = wyckoff_table()
    free = [w for w in table.positions(group) if table.dof[w] > 0]
    chosen = np.array([free[-1], *rng.choice(free, n_orbits - 1)])
    u = rng.random((n_orbits, 3)) * table.free[chosen]
    cell = np.zeros(6)
    cell[5] = np.log(table.multiplicity[chosen].sum() * 15.0) / 3
    if 143 <= group <= 194:
        cell[0] = -np.log(3) / 4
    return Orbits(group, cell, rng.integers(3, 60, n_orbits), chosen, u)


GROUPS = [1, 2, 5, 14, 19, 62, 82, 141, 148, 152, 166, 186, 198, 205, 216, 227]


@pytest.mark.parametrize("group", GROUPS)
def test_the_choice_of_representative_only_turns_the_output(random_model: CrystalModel, group: int) -> None:
    """x' = R_m x + t_m describes the same orbit: the displacement of its representative must be R_m times the old one."""
    rng = np.random.default_rng(group)
    crystal = random_crystal(group, rng)
    rotation, translation = wyckoff_table().images(int(crystal.wyckoff[0]))  # general position: u is x itself
    m = int(rng.integers(len(rotation)))
    moved = crystal.free.copy()
    moved[0] = np.mod(rotation[m] @ crystal.free[0] + translation[m], 1.0)
    a = outputs(random_model, [crystal])
    b = outputs(random_model, [Orbits(crystal.group, crystal.cell, crystal.species, crystal.wyckoff, moved)])
    expected = torch.tensor(rotation[m], dtype=torch.float32) @ a.free[0, 0]
    assert a.free[0].abs().max() > 1e-3  # the test would be empty on zeros
    torch.testing.assert_close(b.free[0, 0], expected, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(b.free[0, 1:], a.free[0, 1:], atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(b.cell, a.cell, atol=2e-4, rtol=1e-3)


def test_orbit_order_permutes_the_output(random_model: CrystalModel) -> None:
    crystal = random_crystal(62, np.random.default_rng(0), 4)
    order = np.array([2, 0, 3, 1])
    permuted = Orbits(crystal.group, crystal.cell, crystal.species[order], crystal.wyckoff[order], crystal.free[order])
    a, b = outputs(random_model, [crystal]), outputs(random_model, [permuted])
    torch.testing.assert_close(b.free[0], a.free[0][torch.from_numpy(order)], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(b.cell, a.cell, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("group", "shift"), [(1, (0.31, 0.77, 0.12)), (2, (0.5, 0.0, 0.5)), (4, (0.0, 0.37, 0.5)), (62, (0.5, 0.5, 0.0))]
)
def test_the_origin_does_not_matter(random_model: CrystalModel, group: int, shift: tuple[float, float, float]) -> None:
    """Translations of the Euclidean normaliser map the group onto itself."""
    crystal = random_crystal(group, np.random.default_rng(1), 1)
    crystal = Orbits(
        group, crystal.cell, crystal.species.repeat(3), crystal.wyckoff.repeat(3), np.random.default_rng(2).random((3, 3))
    )
    moved = Orbits(group, crystal.cell, crystal.species, crystal.wyckoff, np.mod(crystal.free + shift, 1.0))
    a, b = outputs(random_model, [crystal]), outputs(random_model, [moved])
    torch.testing.assert_close(b.free, a.free, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(b.cell, a.cell, atol=2e-4, rtol=1e-3)


def test_padding_and_batch_do_not_matter(random_model: CrystalModel) -> None:
    small, large = random_crystal(2, np.random.default_rng(3), 2), random_crystal(14, np.random.default_rng(4), 6)
    alone, together = outputs(random_model, [small]), outputs(random_model, [small, large])
    torch.testing.assert_close(together.free[0, :2], alone.free[0], atol=1e-4, rtol=1e-3)
    assert together.free[0, 2:].abs().max() == 0.0


def test_fixed_coordinates_and_cell_components_get_no_output(random_model: CrystalModel) -> None:
    """Rock salt has nothing free but its volume."""
    table = wyckoff_table()
    a, b = table.positions(225)[0], table.positions(225)[1]
    salt = Orbits(225, np.array([0, 0, 0, 0, 0, np.log(5.64)]), np.array([11, 17]), np.array([a, b]), np.zeros((2, 3)))
    out = outputs(random_model, [salt])
    assert out.free.abs().max() == 0.0
    assert out.cell[0, :5].abs().max() == 0.0
    assert out.cell[0, 5].abs() > 0.0


def test_the_cell_a_crystal_is_given_in_does_not_matter() -> None:
    """Conventional, primitive, doubled and sheared descriptions of spinel parse to the same orbits."""
    from pymatgen.core import Lattice, Structure

    spinel = Structure.from_spacegroup("Fd-3m", Lattice.cubic(8.08), ["Mg", "Al", "O"], [[0.125] * 3, [0.5] * 3, [0.2624] * 3])
    sheared = spinel.get_primitive_structure()
    sheared.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    for view in (spinel, spinel.get_primitive_structure(), sheared, spinel * (2, 1, 1)):
        orbits = parse_orbits(np.array(view.atomic_numbers), view.frac_coords, view.lattice.matrix)
        assert (orbits.group, orbits.n_primitive, len(orbits.species)) == (227, 14, 3)
        assert np.exp(orbits.cell[5]) == pytest.approx(8.08, abs=1e-3)
