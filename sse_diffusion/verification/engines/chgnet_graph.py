"""CHGNet's crystal graph from a neighbour list that is kept while atoms move: a Verlet list with a skin.

Candidate pairs within cutoff + skin are searched once; while no pair from outside can have come within the cutoff, a new
configuration only selects among them. The graph holds exactly the pairs within CHGNet's cutoffs.
Both cutoffs are smooth (the radial basis vanishes there), and orders within the lists do not matter to sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

if TYPE_CHECKING:
    from ase import Atoms


class KeptGraph:
    """Neighbour list and graph of one system in motion.

    Args:
        atom_cutoff_A, bond_cutoff_A: CHGNet's cutoffs of pairs and of bonds that form angles.
        skin_A: how much further candidates are searched; 0 searches at every call.
    """

    def __init__(self, atom_cutoff_A: float, bond_cutoff_A: float, skin_A: float) -> None:
        """An empty list; the first call of :meth:`graph` fills it."""
        self.atom_cutoff_A, self.bond_cutoff_A, self.skin_A = atom_cutoff_A, bond_cutoff_A, skin_A
        self.builds = 0
        self._numbers: np.ndarray = np.empty(0, dtype=int)
        self._positions: np.ndarray = np.empty((0, 3))
        self._cell: np.ndarray = np.eye(3)
        self._pairs: np.ndarray = np.empty((0, 2), dtype=int)
        self._images: np.ndarray = np.empty((0, 3))

    def graph(self, atoms: Atoms) -> Any:
        """The ``chgnet.graph.CrystalGraph`` of these atoms.

        Raises:
            ValueError: an atom has no neighbour within the cutoff.
        """
        import torch
        from chgnet.graph import CrystalGraph

        positions, cell = atoms.positions, atoms.cell.array
        if not self._holds(atoms.numbers, positions, cell):
            self._search(atoms.numbers, positions, cell)
        i, j = self._pairs.T
        lengths = np.linalg.norm(positions[j] + self._images @ cell - positions[i], axis=1)
        near = lengths <= self.atom_cutoff_A
        pairs, images, lengths = self._pairs[near], self._images[near], lengths[near]
        # Undirected edge u is the directed edges 2u (i to j) and 2u + 1 (back).
        directed = np.stack([pairs, pairs[:, ::-1]], axis=1).reshape(-1, 2)
        if len(np.unique(directed[:, 0])) < len(atoms):
            raise ValueError("an atom has no neighbour within the cutoff")
        both = np.stack([images, -images], axis=1).reshape(-1, 3)
        angles = angle_list(directed[:, 0], np.repeat(lengths < self.bond_cutoff_A, 2))
        undirected = np.arange(len(pairs))
        return CrystalGraph(
            atomic_number=torch.tensor(atoms.numbers, dtype=torch.int32),
            atom_frac_coord=torch.tensor(positions @ np.linalg.inv(cell), dtype=torch.float32, requires_grad=True),
            atom_graph=torch.tensor(directed, dtype=torch.int32),
            neighbor_image=torch.tensor(both, dtype=torch.float32),
            directed2undirected=torch.tensor(np.repeat(undirected, 2), dtype=torch.int32),
            undirected2directed=torch.tensor(2 * undirected, dtype=torch.int32),
            bond_graph=torch.tensor(angles, dtype=torch.int32),
            lattice=torch.tensor(cell, dtype=torch.float32, requires_grad=True),
            composition="",
            atom_graph_cutoff=self.atom_cutoff_A,
            bond_graph_cutoff=self.bond_cutoff_A,
        )

    def _holds(self, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Whether no pair outside the list can be within the cutoff.

        A pair vector is d = d0 F + u_j - u_i with the affine map F of the cell, so |d| >= s |d0| - 2 max |u|, s the smallest
        singular value of F.
        """
        if self.skin_A <= 0 or not np.array_equal(numbers, self._numbers):
            return False
        affine = np.linalg.solve(self._cell, cell)
        moved = float(np.linalg.norm(positions - self._positions @ affine, axis=1).max())
        shrink = float(np.linalg.svd(affine, compute_uv=False)[-1])
        return shrink * (self.atom_cutoff_A + self.skin_A) - 2 * moved > self.atom_cutoff_A

    def _search(self, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> None:
        """Find the candidates; of i -> j and j -> i one is kept."""
        from pymatgen.optimization.neighbors import find_points_in_spheres

        coordinates = np.ascontiguousarray(positions, dtype=float)
        i, j, images, lengths = find_points_in_spheres(
            coordinates,
            coordinates,
            r=float(self.atom_cutoff_A + self.skin_A),
            pbc=np.ones(3, dtype=np.int64),
            lattice=np.ascontiguousarray(cell, dtype=float),
            tol=1e-8,
        )
        positive = images @ np.array([1e8, 1e4, 1.0]) > 0
        half = ((i < j) | ((i == j) & positive)) & (lengths > 1e-8)
        self._pairs, self._images = np.stack([i, j], axis=1)[half], images[half].astype(float)
        self._numbers, self._positions, self._cell = numbers.copy(), positions.copy(), cell.copy()
        self.builds += 1


def angle_list(centres: Int[np.ndarray, " E"], short: Bool[np.ndarray, " E"]) -> Int[np.ndarray, "A 5"]:
    """All ordered pairs of distinct short directed edges with one centre, as CHGNet's bond graph.

    Args:
        centres: centre of each directed edge; edges 2u and 2u + 1 are the two directions of undirected edge u.
        short: which edges take part.

    Returns:
        Columns: centre, undirected and directed index of the first edge, the same of the second.
    """
    edges = np.flatnonzero(short)
    edges = edges[np.argsort(centres[edges], kind="stable")]
    counts = np.bincount(centres[edges])
    counts = counts[counts > 0]
    # Edge e of a centre with n edges meets all n of them: repeat it n times, and lay the n partners beside it.
    repeats = np.repeat(counts, counts)
    first = np.repeat(np.arange(len(edges)), repeats)
    starts = np.repeat(np.repeat(np.cumsum(counts) - counts, counts), repeats)
    within = np.arange(len(first)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    second = starts + within
    distinct = first != second
    a, b = edges[first[distinct]], edges[second[distinct]]
    return np.stack([centres[a], a // 2, a, b // 2, b], axis=1)
