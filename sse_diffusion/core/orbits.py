"""A crystal as space group, cell and Wyckoff orbits: the representation the generative model works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from sse_diffusion.core.lattice import log_to_lattice
from sse_diffusion.core.wyckoff import wyckoff_table

if TYPE_CHECKING:
    from pymatgen.core import Structure

SAME_SITE = 1e-4
"""Fractional distance under which two images of an orbit are one atom."""


@dataclass(frozen=True)
class Orbits:
    """One crystal ``(G, cell, orbits)`` in the standard conventional setting.

    Attributes:
        group: space-group number, 1-230.
        cell: (6,) logarithmic cell k of :mod:`sse_diffusion.core.lattice`.
        species: (M,) atomic numbers.
        wyckoff: (M,) indices into :class:`~sse_diffusion.core.wyckoff.WyckoffTable`.
        free: (M, 3) free coordinates u in [0, 1); components that the position fixes are zero.
    """

    group: int
    cell: np.ndarray
    species: np.ndarray
    wyckoff: np.ndarray
    free: np.ndarray

    @property
    def n_conventional(self) -> int:
        """Atoms in the conventional cell."""
        return int(wyckoff_table().multiplicity[self.wyckoff].sum())

    @property
    def n_primitive(self) -> int:
        """Atoms in the primitive cell."""
        return self.n_conventional // int(wyckoff_table().centring[self.group])

    def lattice(self) -> np.ndarray:
        """(3, 3) row vectors of the conventional cell, Angstrom."""
        return log_to_lattice(torch.from_numpy(np.asarray(self.cell, dtype=np.float64))).numpy()

    def expand(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All atoms of the conventional cell.

        Returns:
            species (n,), fractional coordinates (n, 3) in [0, 1), orbit index (n,).
        """
        table, species, frac, orbit = wyckoff_table(), [], [], []
        for index, (z, w, u) in enumerate(zip(self.species, self.wyckoff, self.free, strict=True)):
            rotation, translation = table.images(int(w))
            frac.append(np.mod(rotation @ u + translation, 1.0))
            species.append(np.full(len(rotation), z))
            orbit.append(np.full(len(rotation), index))
        return np.concatenate(species), np.concatenate(frac), np.concatenate(orbit)

    def to_structure(self, primitive: bool = True) -> Structure:
        """pymatgen structure of the primitive (default) or conventional cell."""
        from pymatgen.core import Lattice, Structure

        species, frac, _ = self.expand()
        lattice = self.lattice()
        centring = int(wyckoff_table().centring[self.group])
        if primitive and centring > 1:
            lattice, species, frac = to_primitive(lattice, species, frac, self.group)
        return Structure(Lattice(lattice), [int(z) for z in species], frac)


def centring_vectors(group: int) -> np.ndarray:
    """(c, 3) lattice translations of the conventional cell, the zero vector first.

    Read off the general position: the images whose rotation is the identity.
    """
    table = wyckoff_table()
    rotation, translation = table.images(table.positions(group)[-1])
    pure = np.all(rotation == np.eye(3), axis=(1, 2))
    shifts = np.mod(translation[pure], 1.0)
    return shifts[np.argsort(shifts.sum(axis=1), kind="stable")]


def primitive_transform(group: int) -> np.ndarray:
    """(3, 3) matrix T with primitive row vectors = T @ conventional row vectors; the identity for P groups."""
    shifts = centring_vectors(group)
    if len(shifts) == 1:
        return np.eye(3)
    # The shortest independent lattice vectors among centring shifts and cell edges; a determinant of 1/c makes a basis.
    corners = np.array([[i, j, k] for i in (0, -1) for j in (0, -1) for k in (0, -1)], dtype=float)
    vectors = np.concatenate([(shifts[1:, None] + corners[None]).reshape(-1, 3), np.eye(3)])
    for i in range(len(vectors)):
        for j in range(i):
            pair = np.stack([vectors[i], vectors[j]])
            volume = vectors @ np.cross(pair[0], pair[1])
            hit = np.flatnonzero(np.isclose(np.abs(volume), 1.0 / len(shifts)))
            if len(hit):
                basis = np.stack([vectors[hit[0]], pair[0], pair[1]])
                return basis if np.linalg.det(basis) > 0 else -basis
    raise RuntimeError(f"no primitive basis found for space group {group}")  # unreachable: every centring has one


def to_primitive(
    lattice: np.ndarray, species: np.ndarray, frac: np.ndarray, group: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reduce a conventional cell by its centring; exact, no tolerance search."""
    transform = primitive_transform(group)
    reduced = np.mod(frac @ np.linalg.inv(transform), 1.0)
    reduced[reduced > 1.0 - SAME_SITE / 10] = 0.0
    kept: list[int] = []
    for i in range(len(reduced)):
        difference = reduced[kept] - reduced[i]
        difference -= np.round(difference)
        same = (np.abs(difference).max(axis=1) < SAME_SITE) & (species[kept] == species[i]) if kept else np.zeros(0, dtype=bool)
        if not same.any():
            kept.append(i)
    return transform @ lattice, species[kept], reduced[kept]
