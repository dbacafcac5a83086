"""A framework in its own symmetry and in lower ones: which space groups may the ions that are placed in it leave?

The framework keeps the cell it was given in. Its symmetry operations form a finite group G modulo that cell; every subgroup H
of G (one of each class of conjugates) is a view: the same framework as a crystal of H, its orbits split where H is too small to
join them, down to P1. A general orbit of dummy atoms under H leaves exactly the symmetry H, which is how a view is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.orbits import SYMMETRY_TOLERANCES, parse_orbits

if TYPE_CHECKING:
    from moyopy import MoyoDataset

EXACT_A = 1e-4
"""Tolerance with which the idealised framework is searched for symmetry, Angstrom."""
DUMMY = 118
"""Atomic number of the dummy atoms: beyond every element that the model knows."""
MAX_OPERATIONS = 48
"""Groups up to this order are searched for all subgroups."""
_GENERAL = np.array([0.1372, 0.2919, 0.0613])


@dataclass(frozen=True)
class View:
    """The framework as a crystal of a group H.

    Attributes:
        orbits: framework orbits in the standard setting of H.
        rotation, shift: from standard to given fractional coordinates, ``x_given = rotation @ x + shift``.
        operations: rotations (h, 3, 3) and translations (h, 3) of H modulo the given cell, in given coordinates.
        cells: primitive cells of H in the given cell.
    """

    orbits: Orbits
    rotation: np.ndarray
    shift: np.ndarray
    operations: tuple[np.ndarray, np.ndarray]
    cells: int

    def representatives(self, position: int, free: np.ndarray) -> np.ndarray:
        """(..., 3) given coordinates of the representatives with free coordinates (..., 3) on a Wyckoff position."""
        rotation, translation = wyckoff_table().images(position)
        return (free @ rotation[0].T + translation[0]) @ self.rotation.T + self.shift

    def images(self, representatives: np.ndarray) -> np.ndarray:
        """(..., h, 3) given coordinates of all images under H; special positions come several times."""
        rotation, translation = self.operations
        return np.mod(np.einsum("hij,...j->...hi", rotation, representatives) + translation, 1.0)

    def atoms(self, position: int, free: np.ndarray) -> np.ndarray:
        """(k, 3) distinct atoms of one orbit in the given cell."""
        images = self.images(self.representatives(position, free))
        k = int(wyckoff_table().multiplicity[position]) // int(wyckoff_table().centring[self.orbits.group]) * self.cells
        # images of one atom are equal in number; those nearest to the first copy collapse onto it
        kept = images[:1]
        for image in images[1:]:
            if np.abs(_wrapped(kept - image)).max(-1).min() > 1e-5:
                kept = np.concatenate([kept, image[None]])
        if len(kept) != k:
            raise DataError(f"an orbit of {k} atoms has {len(kept)} images in the cell", "report the structure file")
        return kept

    def all_atoms(self, positions: np.ndarray, free: np.ndarray) -> np.ndarray:
        """(n, 3) atoms of several orbits in the given cell, orbit by orbit."""
        return np.concatenate([self.atoms(int(w), u) for w, u in zip(positions, free, strict=True)])


@dataclass(frozen=True)
class Framework:
    """Atoms that stay, in the cell as given.

    Attributes:
        species: (n,) atomic numbers.
        frac: (n, 3) fractional coordinates as given.
        lattice: (3, 3) row vectors as given, Angstrom.
    """

    species: np.ndarray
    frac: np.ndarray
    lattice: np.ndarray

    def counts(self) -> dict[str, int]:
        """Atoms of each element in the given cell."""
        from pymatgen.core import Element

        z, n = np.unique(self.species, return_counts=True)
        return {Element.from_Z(int(k)).symbol: int(c) for k, c in zip(z, n, strict=True)}

    @cached_property
    def operations(self) -> tuple[np.ndarray, np.ndarray]:
        """Symmetry operations modulo the given cell, at the loosest tolerance that the orbits reproduce.

        Raises:
            DataError: no tolerance gives a symmetry description of the framework.
        """
        reason = ""
        for tolerance in SYMMETRY_TOLERANCES:
            try:
                parse_orbits(self.species, self.frac, self.lattice, (tolerance,))
                dataset = _moyo(self.species, self.frac, self.lattice, tolerance)
            except (DataError, ValueError, RuntimeError) as error:
                reason = str(error)
                continue
            return np.asarray(dataset.operations.rotations, dtype=float), np.asarray(dataset.operations.translations)
        raise DataError(f"the framework has no symmetry description: {reason}", "check it for overlapping or misplaced atoms")

    @cached_property
    def ideal(self) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (n, 3) and lattice (3, 3) averaged over the operations, so that these are exact."""
        rotation, translation = self.operations
        images = np.einsum("hij,nj->hni", rotation, self.frac) + translation[:, None]
        apart = _wrapped(images[:, :, None] - self.frac)  # (h, n, n, 3)
        squared = np.linalg.norm(apart @ self.lattice, axis=-1) + 1e3 * (self.species[:, None] != self.species)
        onto = squared.argmin(-1)
        moved = np.take_along_axis(apart, onto[..., None, None], axis=2)[:, :, 0]
        frac = self.frac.copy()
        np.add.at(frac, onto.ravel(), moved.reshape(-1, 3) / len(rotation))
        metric = self.lattice @ self.lattice.T
        mean = np.einsum("hia,ij,hjb->ab", rotation, metric, rotation) / len(rotation)
        return frac, np.linalg.cholesky(mean)

    @cached_property
    def _reduced(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrix to the coordinates of a reduced cell, and the vectors to its 27 nearest lattice points."""
        from pymatgen.core import Lattice

        lattice = self.ideal[1]
        reduced = Lattice(lattice).get_lll_reduced_lattice().matrix
        steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
        return lattice @ np.linalg.inv(reduced), steps @ reduced

    def distances(self, difference: np.ndarray) -> np.ndarray:
        """(...) shortest periodic distance of differences (..., 3) of given coordinates, Angstrom."""
        turn, points = self._reduced
        near = _wrapped(difference @ turn) @ np.linalg.solve(turn, self.ideal[1])
        return np.sqrt(((near[..., None, :] + points) ** 2).sum(-1).min(-1))

    def ion_rms(self, ions: np.ndarray, others: np.ndarray) -> float:
        """Root-mean-square distance of two sets of n ions in the framework, Angstrom; infinite when their numbers differ.

        The smallest over the framework's own symmetry operations, ions paired at least cost.
        """
        from scipy.optimize import linear_sum_assignment

        if len(ions) != len(others):
            return np.inf
        rotation, translation = self.operations
        images = np.einsum("hij,nj->hni", rotation, ions) + translation[:, None]
        squared = self.distances(images[:, :, None] - others) ** 2
        return float(min(np.sqrt(cost[linear_sum_assignment(cost)].mean()) for cost in squared))

    def view(self, members: np.ndarray) -> View | None:
        """The view in the subgroup of operations ``members``; ``None`` when no orbits describe it."""
        rotation, translation = self.operations[0][members], self.operations[1][members]
        frac, lattice = self.ideal
        dummies = np.mod(rotation @ _GENERAL + translation, 1.0)
        species = np.concatenate([self.species, np.full(len(dummies), DUMMY)])
        everything = np.concatenate([frac, dummies])
        try:
            found = parse_orbits(species, everything, lattice, (EXACT_A,))
            dataset = _moyo(species, everything, lattice, EXACT_A)
        except (DataError, ValueError, RuntimeError):
            return None
        keep = found.species != DUMMY
        orbits = Orbits(found.group, found.cell, found.species[keep], found.wyckoff[keep], found.free[keep])
        cells = int((np.abs(rotation - np.eye(3)).max((1, 2)) < 0.5).sum())
        return View(orbits, np.asarray(dataset.std_linear), np.asarray(dataset.std_origin_shift), (rotation, translation), cells)

    def views(self, lower: bool, limit: int = 48) -> list[View]:
        """Views from the highest symmetry down; the first alone when ``lower`` is false. The last one is P1."""
        everything = np.arange(len(self.operations[0]))
        if not lower:
            return [v for v in (self.view(everything),) if v is not None]
        chosen = subgroups(*self.operations)
        chosen = chosen if len(chosen) <= limit else [*chosen[: limit - 1], chosen[-1]]
        return [v for v in map(self.view, chosen) if v is not None]


def subgroups(rotation: np.ndarray, translation: np.ndarray) -> list[np.ndarray]:
    """Subgroups of a finite group of operations modulo a cell, one of each class of conjugates, the largest first.

    Those with at most three generators are found, which is all of them for the crystallographic point groups. In a group of more
    than 48 operations (a cell that is not primitive) only those that hold all its pure translations are, and the trivial one.

    Args:
        rotation: (h, 3, 3) integer matrices.
        translation: (h, 3) translations, modulo 1.
    """
    table = _products(rotation, translation)
    pure = np.flatnonzero(np.abs(rotation - np.eye(3)).max((1, 2)) < 0.5)
    identity = int(pure[np.abs(_wrapped(translation[pure])).max(1).argmin()])
    if len(table) <= MAX_OPERATIONS:
        return _one_of_each_class(table, _generated(table, identity), identity)
    coset = table[:, pure].min(1)  # each operation stands for its coset of pure translations
    names, index = np.unique(coset, return_inverse=True)
    quotient = index[table[np.ix_(names, names)]]
    unit = int(index[identity])
    found = _one_of_each_class(quotient, _generated(quotient, unit), unit)
    return [*(np.flatnonzero(np.isin(index, members)) for members in found), np.array([identity])]


def _products(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """(h, h) index of operation i after operation j, read off their action on a general point."""
    points = np.mod(rotation @ _GENERAL + translation, 1.0)
    table = np.empty((len(points), len(points)), dtype=np.int64)
    for i, (w, t) in enumerate(zip(rotation, translation, strict=True)):
        apart = np.abs(_wrapped((points @ w.T + t)[:, None] - points)).max(-1)
        table[i] = apart.argmin(-1)
    return table


def _generated(table: np.ndarray, identity: int) -> np.ndarray:
    """(s, h) all subgroups with at most three generators, as membership."""
    h = len(table)
    generators = np.full((1, 3), identity)
    found = _closures(table, generators, identity)
    for k in range(3):
        more = np.repeat(generators, h, axis=0)
        more[:, k] = np.tile(np.arange(h), len(generators))
        found, first = np.unique(_closures(table, more, identity), axis=0, return_index=True)
        generators = more[first]
    return found


def _closures(table: np.ndarray, generators: np.ndarray, identity: int) -> np.ndarray:
    """(p, h) what the generators (p, 3) generate."""
    members = np.zeros((len(generators), len(table)), dtype=bool)
    members[:, identity] = True
    while True:
        before = members.sum()
        for k in range(generators.shape[1]):
            row, x = np.nonzero(members)
            members[row, table[x, generators[row, k]]] = True
        if members.sum() == before:
            return members


def _one_of_each_class(table: np.ndarray, found: np.ndarray, identity: int) -> list[np.ndarray]:
    inverse = np.argmax(table == identity, axis=1)
    conjugate = table[table, inverse[:, None]]  # [g, x] = g x g^-1
    seen: set[bytes] = set()
    kept = []
    for row in found[np.argsort(-found.sum(1), kind="stable")]:
        if row.tobytes() in seen:
            continue
        kept.append(np.flatnonzero(row))
        for g in range(len(table)):
            turned = np.zeros_like(row)
            turned[conjugate[g, kept[-1]]] = True
            seen.add(turned.tobytes())
    return kept


def _wrapped(difference: np.ndarray) -> np.ndarray:
    return difference - np.round(difference)


def _moyo(species: np.ndarray, frac: np.ndarray, lattice: np.ndarray, tolerance: float) -> MoyoDataset:
    from moyopy import Cell, MoyoDataset, Setting

    cell = Cell(lattice.tolist(), frac.tolist(), [int(z) for z in species])
    return MoyoDataset(cell, symprec=tolerance, setting=Setting.standard())
