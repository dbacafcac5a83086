"""Crystals as graphs with one node per symmetry orbit: the same numbers as one node per atom, at a third of the cost.

Atoms that the space group maps onto each other have the same surroundings, so a network of invariant messages gives them the
same features. One representative stands for each orbit: its neighbours within the cutoff are found among all atoms and point to
the orbits that they belong to, and averages over the crystal weigh each node by its share of the atoms. In the training table
6.6 nodes stand for 18.9 atoms. Supercells and centred cells give the same graph as the primitive cell.

Partial occupancies are kept: a site that several species share is one node per species, and a neighbour's message counts by its
occupancy, so the messages that an atom receives are their mean over random occupations of the sites around it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.core.errors import DataError
from sse_diffusion.core.symmetry import is_searchable
from sse_diffusion.predictors.features import MAX_Z

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

SAME_POINT_A = 1e-3
"""Neighbours closer than this are the atom itself."""

SPLIT_SITE_A = 1.9
"""Partially occupied sites closer than this, which together hold one atom at most, are never filled at once: no bond."""

FILLED = 1.05
"""One atom, and what refined occupancies of split sites may add up to beyond it."""

MIN_VOLUME_A3_PER_ATOM = 0.5
"""Cells with less are broken: neighbours within the cutoff would fill the memory."""


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """How a crystal becomes a graph.

    Attributes:
        cutoff_A: neighbours within this distance, Angstrom.
        symprec_A: tolerance of the symmetry search: atoms are one orbit when their surroundings agree to about this.
    """

    cutoff_A: float = 4.5
    symprec_A: float = 0.01


@dataclass(frozen=True)
class GraphBatch:
    """Graphs as tensors. Attribute names are those that matgl's layers and models read.

    Attributes:
        node_type: (n,) atomic numbers.
        weight: (n,) share of the crystal's atoms that the node stands for; sums to 1 over a crystal.
        occupancy: (n,) of the node's site by the node's species, 1 in ordered crystals.
        batch: (n,) crystal of each node.
        edge_index: (2, e) centre and neighbour of each bond; sorted by centre.
        bond_vec: (e, 3) from the centre to the neighbour, Angstrom.
        num_graphs: crystals.
    """

    node_type: Int[Tensor, " n"]
    weight: Float[Tensor, " n"]
    occupancy: Float[Tensor, " n"]
    batch: Int[Tensor, " n"]
    edge_index: Int[Tensor, "2 e"]
    bond_vec: Float[Tensor, "e 3"]
    num_graphs: int

    def to(self, device: torch.device | str) -> GraphBatch:
        """The same on a device."""
        moved = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "num_graphs"}
        return GraphBatch(**{name: tensor.to(device) for name, tensor in moved.items()}, num_graphs=self.num_graphs)

    def mean(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "b d"]:
        """Average over the atoms of each crystal."""
        total = features.new_zeros(self.num_graphs, features.shape[1])
        return total.index_add_(0, self.batch, features * self.weight[:, None].to(features.dtype))


@dataclass(frozen=True)
class CrystalGraphs:
    """Graphs of c crystals, their n nodes and e bonds one after the other.

    Attributes:
        species: (n,) atomic numbers.
        weight: (n,) share of the crystal's atoms.
        occupancy: (n,) of the node's site by the node's species.
        centre, neighbour: (e,) nodes of each bond, counted within the crystal.
        vector: (e, 3) from centre to neighbour, Angstrom.
        nodes, bonds: (c,) of each crystal.
    """

    species: Int[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    occupancy: Float[np.ndarray, " n"]
    centre: Int[np.ndarray, " e"]
    neighbour: Int[np.ndarray, " e"]
    vector: Float[np.ndarray, "e 3"]
    nodes: Int[np.ndarray, " c"]
    bonds: Int[np.ndarray, " c"]

    def __len__(self) -> int:
        """Number of crystals."""
        return len(self.nodes)

    @classmethod
    def join(cls, graphs: Iterable[CrystalGraphs]) -> CrystalGraphs:
        """All crystals in one."""
        parts = list(graphs)
        names = cls.__dataclass_fields__
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts or [_EMPTY]]) for name in names})

    def take(self, rows: Int[np.ndarray, " b"]) -> CrystalGraphs:
        """The crystals ``rows``."""
        rows = np.asarray(rows, dtype=np.int64)
        node, bond = _ranges(self._node_start[rows], self.nodes[rows]), _ranges(self._bond_start[rows], self.bonds[rows])
        ends, vectors = (self.centre[bond], self.neighbour[bond]), self.vector[bond]
        of_nodes = (self.species[node], self.weight[node], self.occupancy[node])
        return CrystalGraphs(*of_nodes, *ends, vectors, self.nodes[rows], self.bonds[rows])

    def batch(self, rows: Sequence[int] | Int[np.ndarray, " b"]) -> GraphBatch:
        """The crystals ``rows`` as tensors."""
        rows = np.asarray(rows, dtype=np.int64)
        nodes, bonds = self.nodes[rows].astype(np.int64), self.bonds[rows].astype(np.int64)
        node_index = _ranges(self._node_start[rows], nodes)
        bond_index = _ranges(self._bond_start[rows], bonds)
        offset = np.repeat(np.cumsum(nodes) - nodes, bonds)
        ends = np.stack([self.centre[bond_index] + offset, self.neighbour[bond_index] + offset])
        return GraphBatch(
            torch.from_numpy(self.species[node_index].astype(np.int64)),
            torch.from_numpy(self.weight[node_index]),
            torch.from_numpy(self.occupancy[node_index]),
            torch.from_numpy(np.repeat(np.arange(len(rows)), nodes)),
            torch.from_numpy(ends),
            torch.from_numpy(self.vector[bond_index]),
            len(rows),
        )

    @cached_property
    def _node_start(self) -> Int[np.ndarray, " c"]:
        return np.cumsum(self.nodes, dtype=np.int64) - self.nodes

    @cached_property
    def _bond_start(self) -> Int[np.ndarray, " c"]:
        return np.cumsum(self.bonds, dtype=np.int64) - self.bonds

    def save(self, path: Path) -> None:
        """Write a compressed NumPy file."""
        with replacing(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, **{name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def read(cls, path: Path) -> CrystalGraphs:
        """Inverse of :meth:`save`."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def crystal_graph(
    species: Int[np.ndarray, " n"],
    frac: Float[np.ndarray, "n 3"],
    lattice: Float[np.ndarray, "3 3"],
    config: GraphConfig,
    symmetric: bool = True,
    site: Int[np.ndarray, " n"] | None = None,
    occupancy: Float[np.ndarray, " n"] | None = None,
) -> CrystalGraphs:
    """Graph of one crystal.

    Args:
        species: atomic numbers.
        frac: fractional coordinates; species of one site repeat them.
        lattice: row vectors, Angstrom.
        config: cutoff and tolerance.
        symmetric: look for symmetry; otherwise every atom is a node.
        site: that each atom is on, 0, 1, ... in order; by default every atom has its own.
        occupancy: of the site by the atom; by default 1.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    site = np.arange(len(species)) if site is None else site
    occupancy = np.ones(len(species)) if occupancy is None else occupancy
    orbit_of_site = np.arange(site[-1] + 1)
    if symmetric:
        positions = frac[np.unique(site, return_index=True)[1]]
        orbit_of_site = find_orbits(_contents(species, site, occupancy), positions, lattice, config.symprec_A)
    key = orbit_of_site[site] * (MAX_Z + 1) + species
    _, first, orbit, size = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    lattice = np.ascontiguousarray(lattice, dtype=np.float64)
    points = np.ascontiguousarray(frac @ lattice)
    periodic = np.ones(3, dtype=np.int64)
    centre, atom, image, distance = find_points_in_spheres(
        points, points[first].copy(), r=float(config.cutoff_A), pbc=periodic, lattice=lattice, tol=1e-8
    )
    filled = np.bincount(site, occupancy)[site]
    split = (distance < SPLIT_SITE_A) & (filled[first[centre]] + filled[atom] <= FILLED)
    kept = np.flatnonzero((distance > SAME_POINT_A) & ~split)
    kept = kept[np.lexsort((distance[kept], centre[kept]))]
    centre, atom, image = centre[kept], atom[kept], image[kept]
    vector = (frac[atom] + image - frac[first[centre]]) @ lattice
    return CrystalGraphs(
        np.asarray(species)[first].astype(np.int16),
        (size * occupancy[first] / occupancy.sum()).astype(np.float32),
        occupancy[first].astype(np.float32),
        centre.astype(np.int16),
        orbit[atom].astype(np.int16),
        vector.astype(np.float32),
        np.array([len(first)], dtype=np.int32),
        np.array([len(centre)], dtype=np.int32),
    )


def structure_graph(structure: Structure, config: GraphConfig) -> CrystalGraphs:
    """Graph of a structure, with its partial occupancies.

    Raises:
        DataError: no atoms, a species that is no element, or a cell without volume.
    """
    if not len(structure):
        raise DataError("the structure has no atoms", "give a crystal")
    amounts = [_amounts(place.species) for place in structure]
    species, occupancy = (np.array(column) for column in zip(*(pair for found in amounts for pair in found.items()), strict=True))
    site = np.repeat(np.arange(len(amounts)), [len(found) for found in amounts])
    lattice, frac = np.asarray(structure.lattice.matrix), np.asarray(structure.frac_coords)
    strange = (species < 1) | (species > MAX_Z)
    if strange.any():
        raise DataError(f"{structure[int(site[strange][0])].species_string} is not an element", "replace dummy species")
    finite = np.isfinite(frac).all() and np.isfinite(lattice).all()
    if not finite or structure.volume < MIN_VOLUME_A3_PER_ATOM * occupancy.sum():
        raise DataError("the cell has no volume or a coordinate is no number", "check the structure file")
    symmetric = is_searchable(structure, config.symprec_A)
    return crystal_graph(species, frac[site], lattice, config, symmetric, site, occupancy)


def _amounts(content: Composition) -> dict[int, float]:
    """Occupancy of a site by atomic number; 0 for what is no element."""
    amounts: dict[int, float] = {}
    for species, amount in content.items():
        z = int(getattr(species, "Z", 0))
        amounts[z] = amounts.get(z, 0.0) + float(amount)
    return amounts


def _contents(
    species: Int[np.ndarray, " n"], site: Int[np.ndarray, " n"], occupancy: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " s"]:
    """A number per site: the same where the same species share it in the same way."""
    content = np.zeros((site[-1] + 1, MAX_Z + 1))
    content[site, species] = occupancy
    return np.unique(content.round(3), axis=0, return_inverse=True)[1].ravel()


def find_orbits(
    species: Int[np.ndarray, " n"], frac: Float[np.ndarray, "n 3"], lattice: Float[np.ndarray, "3 3"], symprec: float
) -> Int[np.ndarray, " n"]:
    """Orbit of each atom; every atom is its own where the search fails."""
    from moyopy import Cell, MoyoDataset

    _quiet_symmetry_search()
    try:
        cell = Cell(np.asarray(lattice).tolist(), np.asarray(frac).tolist(), [int(z) for z in species])
        return np.asarray(MoyoDataset(cell, symprec=symprec).orbits)
    except (ValueError, RuntimeError):
        return np.arange(len(species))


@cache
def _quiet_symmetry_search() -> None:
    """The search warns about every supercell that its operations are those of the primitive cell: it is what we want."""
    logging.getLogger("moyo").setLevel(logging.ERROR)


def _ranges(start: Int[np.ndarray, " b"], length: Int[np.ndarray, " b"]) -> Int[np.ndarray, " t"]:
    """start[0], start[0] + 1, ..., then those of start[1], ..."""
    ends = np.cumsum(length, dtype=np.int64)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - (ends - length), length)


_EMPTY = CrystalGraphs(
    np.zeros(0, np.int16), np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.int16), np.zeros(0, np.int16),
    np.zeros((0, 3), np.float32), np.zeros(0, np.int32), np.zeros(0, np.int32),
)  # fmt: skip
