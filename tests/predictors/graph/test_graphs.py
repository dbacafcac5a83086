"""Crystals as graphs of symmetry orbits: the same surroundings whatever cell describes the crystal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import DummySpecies, Lattice, Structure

from sse_diffusion.core.errors import DataError
from sse_diffusion.predictors.graph.graphs import CrystalGraphs, GraphConfig, structure_graph
from sse_diffusion.testing.predictor import rock_salt


def perovskite() -> Structure:
    """Cubic SrTiO3: five atoms, three orbits."""
    frac = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(3.9), ["Sr", "Ti", "O", "O", "O"], frac)


def test_one_node_per_orbit_with_its_share_of_the_atoms() -> None:
    graph = structure_graph(perovskite(), GraphConfig())
    share = dict(zip(graph.species.tolist(), graph.weight.tolist(), strict=True))
    assert share == pytest.approx({8: 0.6, 22: 0.2, 38: 0.2})


@pytest.mark.parametrize("cutoff", [3.0, 5.0])
def test_bonds_are_the_neighbours_of_each_representative(cutoff: float) -> None:
    """Against pymatgen's own neighbour lists, distance by distance and species by species."""
    crystal = perovskite()
    graph = structure_graph(crystal, GraphConfig(cutoff_A=cutoff))
    lengths = np.linalg.norm(graph.vector, axis=1)
    for node, z in enumerate(graph.species):
        site = next(i for i, s in enumerate(crystal) if z == s.specie.Z)
        expected = sorted((n.specie.Z, round(n.nn_distance, 3)) for n in crystal.get_neighbors(crystal[site], cutoff + 1e-6))
        mine = graph.centre == node
        found = zip(graph.species[graph.neighbour[mine]].tolist(), np.round(lengths[mine].astype(float), 3).tolist(), strict=True)
        assert sorted(found) == expected


def test_supercells_and_centred_cells_give_the_same_graph() -> None:
    primitive = rock_salt("Na", "Cl", 5.6)
    conventional = primitive.copy()
    conventional.make_supercell([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    long = primitive.copy()
    long.make_supercell([3, 1, 1])
    reference = structure_graph(primitive, GraphConfig())
    for other in (conventional, long):
        graph = structure_graph(other, GraphConfig())
        assert graph.nodes == reference.nodes == [2]
        assert graph.bonds == reference.bonds


def test_species_that_share_a_site_are_nodes_with_their_occupancies() -> None:
    crystal = rock_salt("Na", "Cl", 5.6)
    mixed = Structure(crystal.lattice, [{"Na": 0.5, "Li": 0.3}, "Cl"], crystal.frac_coords)
    graph = structure_graph(mixed, GraphConfig())
    occupancy = dict(zip(graph.species.tolist(), graph.occupancy.tolist(), strict=True))
    assert occupancy == pytest.approx({3: 0.3, 11: 0.5, 17: 1.0})
    share = dict(zip(graph.species.tolist(), graph.weight.tolist(), strict=True))
    assert share == pytest.approx({3: 0.3 / 1.8, 11: 0.5 / 1.8, 17: 1.0 / 1.8})
    ordered = structure_graph(crystal, GraphConfig())
    assert (ordered.occupancy == 1.0).all()

    def bonds(found: CrystalGraphs, neighbour: int) -> int:
        return int(((found.species[found.centre] == 17) & (found.species[found.neighbour] == neighbour)).sum())

    assert bonds(graph, 3) == bonds(graph, 11) == bonds(ordered, 11)
    assert bonds(graph, 17) == bonds(ordered, 17)


def test_split_sites_are_not_bonded() -> None:
    """Two places of one ion, 0.8 A apart: a bond between them only where both can be filled."""

    def shortest(occupancy: float) -> float:
        sites = [{"Li": occupancy}, {"Li": occupancy}, "O"]
        crystal = Structure(Lattice.cubic(5.0), sites, [[0, 0, 0], [0.16, 0, 0], [0.5, 0.5, 0.5]])
        return float(np.linalg.norm(structure_graph(crystal, GraphConfig()).vector, axis=1).min())

    assert shortest(1.0) == pytest.approx(0.8, abs=1e-3)
    assert shortest(0.5) > 3.0


def test_oxidation_states_of_one_element_are_one_node() -> None:
    crystal = rock_salt("Fe", "O", 4.3)
    mixed = Structure(crystal.lattice, [{"Fe2+": 0.4, "Fe3+": 0.6}, "O2-"], crystal.frac_coords)
    assert structure_graph(mixed, GraphConfig()).occupancy.tolist() == pytest.approx([1.0, 1.0])


def test_batches_point_to_their_own_crystals() -> None:
    graphs = CrystalGraphs.join(structure_graph(s, GraphConfig()) for s in (rock_salt("Li", "F"), perovskite()))
    batch = graphs.batch([1, 0, 1])
    assert batch.num_graphs == 3
    assert batch.node_type.tolist() == [38, 22, 8, 3, 9, 38, 22, 8]
    assert (batch.batch[batch.edge_index[0]] == batch.batch[batch.edge_index[1]]).all()
    ones = batch.mean(torch.ones(len(batch.batch), 1))
    assert np.allclose(ones, 1.0)
    alone = graphs.take([1])
    assert np.array_equal(alone.vector, graphs.vector[graphs.bonds[0] :])


def test_graphs_survive_a_file(tmp_path: Path) -> None:
    graphs = CrystalGraphs.join([structure_graph(perovskite(), GraphConfig())] * 2)
    graphs.save(tmp_path / "graphs.npz")
    again = CrystalGraphs.read(tmp_path / "graphs.npz")
    assert all(np.array_equal(getattr(graphs, name), getattr(again, name)) for name in graphs.__dataclass_fields__)


def test_what_has_no_graph_says_why() -> None:
    with pytest.raises(DataError, match="not an element"):
        structure_graph(Structure(Lattice.cubic(4.0), [DummySpecies("X")], [[0, 0, 0]]), GraphConfig())
    with pytest.raises(DataError, match="no volume"):
        structure_graph(Structure(Lattice.cubic(0.1), ["Li"], [[0, 0, 0]]), GraphConfig())
    with pytest.raises(DataError, match="no atoms"):
        structure_graph(Structure(Lattice.cubic(4.0), [], []), GraphConfig())
