"""Room for an ion in a framework: points that are far enough from every atom, by covalent radii."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.framework_views import Framework, View

POINTS = 256
"""Trial points on each Wyckoff position with free coordinates."""
ENOUGH_TO_START, ENOUGH = 0.9, 0.75
"""Distances, over the sum of the two covalent radii (Li-O 1.94, Li-S 2.33, Li-Li 2.56 Angstrom), that starting points and
finished ions must keep. Of 400 training crystals the smallest is 0.82 and one in fifty is below 0.9."""


@dataclass(frozen=True)
class Room:
    """Where ions fit between the atoms of a framework.

    Attributes:
        framework: the atoms that stay.
        ion: atomic number of the ion.
    """

    framework: Framework
    ion: int
    _kept: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, repr=False)

    @cached_property
    def _radii(self) -> np.ndarray:
        from ase.data import covalent_radii

        return np.asarray(covalent_radii)

    def points(self, view: View, position: int) -> np.ndarray:
        """(k, 3) free coordinates of random points on a position that have room; the one point of a fixed position, or none."""
        key = (id(view), position)
        if key not in self._kept:
            table = wyckoff_table()
            free = np.random.default_rng(position).random((POINTS if table.dof[position] else 1, 3)) * table.free[position]
            at = view.representatives(position, free)
            images = self.framework.distances(view.images(at) - at[:, None])
            own = np.where(images > 1e-3, images, np.inf).min(-1) / (2 * self._radii[self.ion])
            room = np.minimum(self._beside_framework(at), own)
            # where all is tight, the roomiest points will do
            self._kept[key] = free[room > max(ENOUGH, min(ENOUGH_TO_START, 0.95 * room.max()))]
        return self._kept[key]

    def beside(self, view: View, position: int, ions: np.ndarray) -> np.ndarray:
        """(k, 3) those of :meth:`points` that have room beside ions (n, 3) already placed."""
        points = self.points(view, position)
        if not len(points) or not len(ions):
            return points
        apart = self.framework.distances(view.representatives(position, points)[:, None] - ions)
        return points[apart.min(-1) / (2 * self._radii[self.ion]) > ENOUGH_TO_START]

    def is_enough(self, ions: np.ndarray) -> bool:
        """Whether finished ions (n, 3) keep their distance from the framework and from each other."""
        apart = self.framework.distances(ions[:, None] - ions) + 1e3 * np.eye(len(ions))
        return bool(min(self._beside_framework(ions).min(), apart.min() / (2 * self._radii[self.ion])) > ENOUGH)

    def _beside_framework(self, at: np.ndarray) -> np.ndarray:
        """(k,) smallest distance to an atom of the framework over the sum of radii."""
        apart = self.framework.distances(at[:, None] - self.framework.ideal[0])
        return (apart / (self._radii[self.ion] + self._radii[self.framework.species])).min(-1)
