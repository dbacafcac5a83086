"""The graph network: matgl's convolution computed faster, and invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from sse_diffusion.predictors.features import element_table
from sse_diffusion.predictors.graph.graphs import CrystalGraphs, GraphConfig, structure_graph
from sse_diffusion.predictors.graph.network import CrystalNetwork, NetworkConfig, convolve
from sse_diffusion.predictors.graph.predictor import standardised
from sse_diffusion.testing.predictor import rock_salt


@pytest.fixture(scope="module")
def network() -> CrystalNetwork:
    torch.manual_seed(0)
    return CrystalNetwork(NetworkConfig(width=16, blocks=2, hidden=1, radial=8), 5.0, standardised(element_table()), 2).eval()


def general_crystal() -> Structure:
    """Six atoms in a triclinic cell, nothing special about their places."""
    rng = np.random.default_rng(3)
    frac = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.25, 0.25, 0.25], [0.75, 0.7, 0.72]])
    lattice = Lattice.from_parameters(5.0, 5.4, 6.1, 85, 97, 101)
    return Structure(lattice, ["Li", "Li", "O", "O", "P", "S"], frac + 0.05 * rng.random((6, 3)))


def output(network: CrystalNetwork, structure: Structure, symprec: float = 0.01) -> np.ndarray:
    graph = structure_graph(structure, GraphConfig(symprec_A=symprec))
    with torch.no_grad():
        return network(graph.batch([0]))[0].numpy()


@pytest.mark.parametrize("hidden", [0, 1, 2])
def test_convolution_is_matgls(hidden: int) -> None:
    """The first layer multiplied per node gives what matgl computes per bond."""
    from matgl.layers import CHGNetGraphConv

    torch.manual_seed(1)
    width, n, e = 8, 5, 40
    layer = CHGNetGraphConv.from_dims(torch.nn.SiLU(), [3 * width, *[width] * (hidden + 1)])
    nodes, bond, weight = torch.randn(n, width), torch.randn(e, width), torch.randn(e, width)
    centre, neighbour = torch.randint(0, n, (2, e))
    # matgl sums messages at the end of a bond, in features [start, bond, end]
    updated, _, _ = layer(torch.stack([neighbour, centre]), nodes, bond, None, None, None, weight, None)
    mine = nodes + convolve(layer, nodes, bond, weight, torch.stack([centre, neighbour]))
    assert torch.allclose(mine, updated, atol=1e-5)


def test_turned_moved_and_reordered_crystals_are_the_same(network: CrystalNetwork) -> None:
    crystal = general_crystal()
    expected = output(network, crystal)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = Structure(Lattice(crystal.lattice.matrix @ rotation), crystal.species, crystal.frac_coords)
    moved = Structure(crystal.lattice, crystal.species, crystal.frac_coords + [0.31, 0.77, 0.13])
    order = [3, 0, 5, 1, 4, 2]
    reordered = Structure(crystal.lattice, [crystal.species[i] for i in order], crystal.frac_coords[order])
    for other in (turned, moved, reordered):
        assert output(network, other) == pytest.approx(expected, abs=1e-5)


def test_orbits_give_what_all_atoms_give(network: CrystalNetwork) -> None:
    """Switching the symmetry search off changes the cost, not the prediction."""
    crystal = rock_salt("Na", "Cl", 5.6)
    crystal.make_supercell([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    every_atom = _all_atoms(crystal)
    with torch.no_grad():
        slow = network(every_atom.batch([0]))[0].numpy()
    assert every_atom.nodes[0] == 8
    assert output(network, crystal) == pytest.approx(slow, abs=1e-5)


def test_partial_occupancies_lie_between_full_and_empty(network: CrystalNetwork) -> None:
    """A nearly full site is a full one, a nearly empty one is not there, and half of each is something else."""
    crystal = general_crystal()

    def filled(occupancy: float) -> np.ndarray:
        content = [{"Li": occupancy}, *[site.specie for site in crystal][1:]]
        return output(network, Structure(crystal.lattice, content, crystal.frac_coords))

    whole, without = output(network, crystal), output(network, Structure.from_sites(crystal[1:]))
    assert filled(1.0 - 1e-6) == pytest.approx(whole, abs=1e-4)
    assert filled(1e-6) == pytest.approx(without, abs=1e-4)
    assert np.abs(filled(0.5) - whole).max() > 1e-4
    assert np.abs(filled(0.5) - without).max() > 1e-4


def test_messages_are_the_mean_over_occupations(network: CrystalNetwork) -> None:
    """What a cation receives from anion sites shared by two species: the mean of what it receives from either."""
    crystal = rock_salt("Na", "Cl", 5.6)

    def received(anions: dict[str, float]) -> np.ndarray:
        graphs = structure_graph(Structure(crystal.lattice, ["Na", anions], crystal.frac_coords), GraphConfig()).batch([0])
        told: list[torch.Tensor] = []
        out = network.convolutions[0].node_out_func.register_forward_pre_hook(lambda _, given: told.append(given[0]))
        with torch.no_grad():
            network(graphs)
        out.remove()
        return told[0][graphs.node_type == 11].numpy()

    both = received({"Cl": 0.25, "Br": 0.75})
    assert both == pytest.approx(0.25 * received({"Cl": 1.0}) + 0.75 * received({"Br": 1.0}), abs=1e-5)


def test_supercells_of_disordered_crystals_are_the_same(network: CrystalNetwork) -> None:
    crystal = rock_salt("Na", "Cl", 5.6)
    mixed = Structure(crystal.lattice, [{"Na": 0.6, "Li": 0.2}, "Cl"], crystal.frac_coords)
    double = mixed.copy()
    double.make_supercell([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    assert output(network, double) == pytest.approx(output(network, mixed), abs=1e-5)


def _all_atoms(crystal: Structure) -> CrystalGraphs:
    """One node per atom: no two atoms count as equivalent at a tolerance of zero displacement after a tiny, unequal shift."""
    rng = np.random.default_rng(0)
    shifted = Structure(crystal.lattice, crystal.species, crystal.frac_coords + 1e-6 * rng.random((len(crystal), 3)))
    return structure_graph(shifted, GraphConfig(symprec_A=1e-8))


def test_structure_matters(network: CrystalNetwork) -> None:
    """Polymorphs of one composition differ."""
    caesium_chloride = Structure(Lattice.cubic(3.5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert np.abs(output(network, caesium_chloride) - output(network, rock_salt("Na", "Cl", 5.6))).max() > 1e-3
