"""Sites of a crystal as arrays, partial occupancies as they are, and the bonds between them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.symmetry import is_searchable_cell
from sse_diffusion.predictors.features import MAX_Z, PROPERTIES, element_table

if TYPE_CHECKING:
    from moyopy import MoyoDataset
    from pymatgen.core import Structure

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SYMPREC_A = 0.02
"""Distance tolerance of the symmetry search."""
BOND_CUTOFF_A = 6.0
"""Farthest neighbour that is looked for; the bond weights decide which of them count."""
OVERLAP_A = 0.5
"""Two sites nearer than this are one atom that was written twice."""
SPLIT_SITE_A = 2.0
"""Two sites of one element nearer than this are alternatives of one atom as long as their occupancies add up to at most one."""
CLASH = 0.6
"""Two sites of which one at least is partly filled are alternatives when nearer than this times the sum of their atomic radii."""
FULL = 0.995
"""Occupancy from which a site counts as full: refinements print 0.9999."""
MIN_WEIGHT = 1e-3
"""Bonds that weigh less are dropped."""


@dataclass(frozen=True)
class Bonds:
    """Directed bonds; each pair occurs once from either side.

    Attributes:
        centre, neighbour: (p,) sites.
        vector_A: (p, 3) from centre to neighbour.
        distance_A: (p,).
        weight: (p,) occupancy of the neighbour times exp(1 - (s / s_mean)^6), with s the distance over the sum of atomic radii:
            the effective coordination number (Hoppe, Z. Kristallogr. 150, 23 (1979)) is the sum over a centre.
    """

    centre: Index
    neighbour: Index
    vector_A: Array
    distance_A: Array
    weight: Array

    def coordination(self, n_sites: int) -> Array:
        """Effective coordination number (n,) of each site."""
        return np.bincount(self.centre, self.weight, n_sites).astype(float)

    def mean(self, values: Array, n_sites: int) -> Array:
        """Weighted mean (n,) over each site's bonds of ``values`` (p,); NaN without bonds."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.bincount(self.centre, self.weight * values, n_sites) / self.coordination(n_sites)


@dataclass(frozen=True)
class Sites:
    """A crystal: n sites that hold m species.

    Attributes:
        lattice_A: (3, 3) row vectors.
        cart_A: (n, 3).
        occupancy: (n,) atoms per site, above 0.
        entry_site, entry_z: (m,) site and atomic number of each species on a site.
        entry_amount: (m,) its occupancy.
        symmetry: what was found in the cell as it came; ``None`` where no search is possible (atoms on top of each other).
    """

    lattice_A: Array
    cart_A: Array
    occupancy: Array
    entry_site: Index
    entry_z: Index
    entry_amount: Array
    symmetry: MoyoDataset | None = None

    @classmethod
    def of(cls, structure: Structure) -> Sites:
        """Read a structure and reduce it to its primitive standard cell, so that nothing depends on the cell it came in.

        Raises:
            DataError: a species without atomic number in 1..MAX_Z, no atoms, or a cell without volume.
        """
        entries = [
            (i, int(getattr(species, "Z", 0)), float(amount))
            for i, site in enumerate(structure)
            for species, amount in site.species.items()
            if amount > 0
        ]
        if any(not 1 <= z <= MAX_Z for _, z, _ in entries):
            raise DataError("the crystal holds a species that is no element", "replace dummy species by elements")
        if not entries or not structure.volume > 0 or not np.isfinite(structure.frac_coords).all():
            raise DataError("the crystal has no atoms, no volume, or coordinates that are no numbers", "mend the file")
        site, z, amount = (np.array(column) for column in zip(*entries, strict=True))
        used, site = np.unique(site, return_inverse=True)  # sites that hold nothing are dropped
        lattice, cart = np.asarray(structure.lattice.matrix, dtype=float), np.asarray(structure.cart_coords, dtype=float)[used]
        occupancy = np.bincount(site, amount).astype(float)
        return cls(lattice, cart, occupancy, site.astype(np.int64), z.astype(np.int64), amount)._primitive()

    def _primitive(self) -> Sites:
        """The primitive standard cell; the cell as it came where no symmetry can be searched."""
        kinds, contents = self._kinds()
        found = self._search(kinds)
        if found is None:
            return self
        cell = found.prim_std_cell
        entries = [(i, z, amount) for i, kind in enumerate(cell.numbers) for z, amount in contents[kind]]
        site, z, amount = (np.array(column) for column in zip(*entries, strict=True))
        lattice = np.array(cell.basis)
        occupancy = np.bincount(site, amount).astype(float)
        return Sites(lattice, np.array(cell.positions) @ lattice, occupancy, site, z, amount, found)

    def _kinds(self) -> tuple[list[int], list[tuple[tuple[int, float], ...]]]:
        """One number per site, equal for equal species with equal occupancies (to 0.001), and what each number holds."""
        held: list[list[tuple[int, float]]] = [[] for _ in range(len(self))]
        for site, z, amount in zip(self.entry_site.tolist(), self.entry_z.tolist(), self.entry_amount.tolist(), strict=True):
            held[site].append((z, amount))
        numbers: dict[tuple[tuple[int, float], ...], int] = {}
        contents: list[tuple[tuple[int, float], ...]] = []
        kinds = []
        for species in map(sorted, held):
            rounded = tuple((z, round(amount, 3)) for z, amount in species)
            if rounded not in numbers:
                numbers[rounded] = len(contents)
                contents.append(tuple(species))
            kinds.append(numbers[rounded])
        return kinds, contents

    def _search(self, kinds: list[int]) -> MoyoDataset | None:
        from moyopy import Cell, MoyoDataset

        logging.getLogger("moyo").setLevel(logging.ERROR)
        centre, neighbour, image, _ = points_within(self.cart_A, self.cart_A, 4 * SYMPREC_A, self.lattice_A)
        if not is_searchable_cell(self.lattice_A) or ((centre != neighbour) | image.any(axis=1)).any():
            return None
        frac = self.cart_A @ np.linalg.inv(self.lattice_A)
        try:
            return MoyoDataset(Cell(self.lattice_A.tolist(), frac.tolist(), kinds), symprec=SYMPREC_A)
        except (ValueError, RuntimeError):
            return None

    def __len__(self) -> int:
        return len(self.occupancy)

    @cached_property
    def volume_A3(self) -> float:
        """Of the cell."""
        return float(abs(np.linalg.det(self.lattice_A)))

    @cached_property
    def n_atoms(self) -> float:
        """Atoms per cell, vacancies not counted."""
        return float(self.occupancy.sum())

    def site_mean(self, values: Array) -> Array:
        """Mean (n,) over the atoms of each site of an elemental quantity ``values`` (MAX_Z + 1,)."""
        sums = np.bincount(self.entry_site, self.entry_amount * values[self.entry_z], len(self))
        return np.asarray(sums / self.occupancy)

    def amount(self, numbers: Index) -> Array:
        """Atoms (n,) of the elements ``numbers`` on each site."""
        held = self.entry_amount * np.isin(self.entry_z, numbers)
        return np.bincount(self.entry_site, held, len(self)).astype(float)

    @cached_property
    def properties(self) -> Array:
        """(n, P) elemental properties (PROPERTIES) of each site, averaged over its atoms."""
        return np.stack([self.site_mean(column) for column in element_table().T.astype(float)], axis=1)

    def property(self, name: str) -> Array:
        """One of PROPERTIES, (n,)."""
        return np.asarray(self.properties[:, PROPERTIES.index(name)])

    @cached_property
    def neighbours(self) -> tuple[Index, Index, Array, Array]:
        """Centre, neighbour, image of the neighbour in cells and distance of all pairs within the cutoff."""
        centre, neighbour, image, distance = points_within(self.cart_A, self.cart_A, BOND_CUTOFF_A, self.lattice_A)
        other = (centre != neighbour) | image.any(axis=1)
        return centre[other], neighbour[other], image[other], distance[other]

    @cached_property
    def pairs(self) -> tuple[Index, Index, Array, Array]:
        """Centre, neighbour, vector and distance of all pairs within the cutoff that can be filled at the same time."""
        centre, neighbour, image, distance = self.neighbours
        both = self.occupancy[centre] + self.occupancy[neighbour]
        partly = np.minimum(self.occupancy[centre], self.occupancy[neighbour]) < FULL
        alike = self.main_z[centre] == self.main_z[neighbour]
        radius = self.property("atomic_radius_A")
        clash = distance < CLASH * (radius[centre] + radius[neighbour])
        alternatives = partly & (clash | (alike & (both < 2 - FULL) & (distance < SPLIT_SITE_A)))
        keep = (distance > OVERLAP_A) & ~alternatives
        centre, neighbour, distance = centre[keep], neighbour[keep], distance[keep]
        vector = self.cart_A[neighbour] + image[keep] @ self.lattice_A - self.cart_A[centre]
        return centre, neighbour, vector, distance

    @cached_property
    def main_z(self) -> Index:
        """(n,) element that fills most of each site."""
        order = np.lexsort((-self.entry_amount, self.entry_site))
        return self.entry_z[order[np.searchsorted(self.entry_site[order], np.arange(len(self)))]]

    @cached_property
    def bonds(self) -> Bonds:
        """Bonds to everything."""
        return self.bonds_to(self.occupancy)

    def bonds_to(self, present: Array) -> Bonds:
        """Bonds to atoms of which ``present`` (n,) are on each site; those that weigh less than MIN_WEIGHT are dropped."""
        centre, neighbour, vector, distance = self.pairs
        here = present[neighbour] > 0
        centre, neighbour, vector, distance = centre[here], neighbour[here], vector[here], distance[here]
        radius, amount = self.property("atomic_radius_A"), present[neighbour]
        scaled = distance / (radius[centre] + radius[neighbour])
        nearest = np.full(len(self), np.inf)
        np.minimum.at(nearest, centre, scaled)
        first = amount * np.exp(1 - (scaled / nearest[centre]) ** 6)
        with np.errstate(invalid="ignore", divide="ignore"):  # sites without neighbours have no pairs either
            average = np.bincount(centre, first * scaled, len(self)) / np.bincount(centre, first, len(self))
        weight = amount * np.exp(1 - (scaled / average[centre]) ** 6)
        keep = weight > MIN_WEIGHT
        return Bonds(centre[keep], neighbour[keep], vector[keep], distance[keep], weight[keep])

    @cached_property
    def anion(self) -> NDArray[np.bool_]:
        """(n,) sites that act as anions: non-metals more electronegative than what they are bonded to."""
        chi = self.property("electronegativity")
        around = self.bonds.mean(chi[self.bonds.neighbour], len(self))
        return (chi > np.nan_to_num(around, nan=np.inf)) & (self.amount(NON_METALS) > 0.5 * self.occupancy)

    @cached_property
    def radius_A(self) -> Array:
        """(n,) ionic radii (average over pymatgen's list) where bonds are polar, atomic radii where they are not, mixed by
        Pauling's ionic character 1 - exp(-dchi^2 / 4)."""
        chi, bonds = self.property("electronegativity"), self.bonds
        gap = np.nan_to_num(bonds.mean(np.abs(chi[bonds.neighbour] - chi[bonds.centre]), len(self)))
        ionic = 1 - np.exp(-(gap**2) / 4)
        cationic, anionic = (self.site_mean(column) for column in _ionic_radii().T)
        return np.asarray(ionic * np.where(self.anion, anionic, cationic) + (1 - ionic) * self.property("atomic_radius_A"))


NON_METALS = np.array([1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 51, 52, 53, 85])
"""Elements that can be anions."""


def weighted_mean(values: Array, weights: Array) -> float:
    """Mean over what is known and weighs something; NaN when nothing does."""
    known = np.isfinite(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else np.nan


def points_within(points: Array, centres: Array, radius_A: float, lattice_A: Array) -> tuple[Index, Index, Array, Array]:
    """Pairs of centres (c, 3) and periodic images of points (n, 3) within a radius.

    Returns:
        index of the centre, index of the point, image (p, 3) of the point in cells, distance in Angstrom.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    if not len(points) or not len(centres):  # the library cannot allocate nothing
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, np.empty((0, 3)), np.empty(0)
    points, centres, lattice = (np.ascontiguousarray(a, dtype=float) for a in (points, centres, lattice_A))
    found: tuple[Index, Index, Array, Array] = find_points_in_spheres(
        points, centres, radius_A, np.ones(3, dtype=np.int64), lattice, 1e-8
    )
    return found


@lru_cache(maxsize=1)
def _ionic_radii() -> Array:
    """(MAX_Z + 1, 2) mean cationic and anionic radii in Angstrom; the atomic radius where none is listed."""
    import warnings

    from pymatgen.core.periodic_table import Element

    atomic = element_table()[:, PROPERTIES.index("atomic_radius_A")].astype(float)
    radii = np.stack([atomic, atomic], axis=1)
    with warnings.catch_warnings():  # pymatgen warns once per gap
        warnings.simplefilter("ignore")
        for z in range(1, MAX_Z + 1):
            element = Element.from_Z(z)
            for column, value in enumerate((element.average_cationic_radius, element.average_anionic_radius)):
                if value > 0:
                    radii[z, column] = float(value)
    return radii
