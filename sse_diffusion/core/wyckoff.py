"""Wyckoff positions of the 230 space groups as one set of arrays.

Position ``w`` (0..1730) of group ``group[w]`` maps free coordinates u to its images:  x_m = R_m u + t_m,
m = 0 .. multiplicity[w]-1, in the conventional cell of the standard ITA setting. The first image is the representative.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

N_GROUPS = 230
MAX_LETTERS = 27


@dataclass(frozen=True)
class WyckoffTable:
    """All Wyckoff positions, special ones first within a group (letter a, b, c, ...).

    Attributes:
        group: (W,) space-group number of each position.
        multiplicity: (W,) images in the conventional cell.
        dof: (W,) free coordinates, 0-3.
        image_start: (W + 1,) first row of each position in ``rotation`` and ``translation``.
        rotation: (I, 3, 3) integer matrices R.
        translation: (I, 3) vectors t, fractional.
        centring: (231,) lattice points per conventional cell, by group number (entry 0 unused).
        start: (232,) first position of each group number.
        free: (W, 3) bool, which components of u are free.
        left_inverse: (W, 3, 3) matrices P with P R_0 = diag(free): from a displacement of the representative to that of u.
    """

    group: np.ndarray
    multiplicity: np.ndarray
    dof: np.ndarray
    image_start: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    centring: np.ndarray
    start: np.ndarray
    free: np.ndarray
    left_inverse: np.ndarray

    def positions(self, group: int) -> range:
        """Indices of the positions of a group; the last one is the general position."""
        return range(int(self.start[group]), int(self.start[group + 1]))

    def letter(self, position: int) -> str:
        """Wyckoff letter; the 27th of group 47 is written ``A`` as in the International Tables."""
        index = position - int(self.start[self.group[position]])
        return "abcdefghijklmnopqrstuvwxyzA"[index]

    def images(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Rotations (m, 3, 3) and translations (m, 3) of one position."""
        rows = slice(int(self.image_start[position]), int(self.image_start[position + 1]))
        return self.rotation[rows], self.translation[rows]

    def label(self, position: int) -> str:
        """Multiplicity and letter, e.g. ``4a``."""
        return f"{self.multiplicity[position]}{self.letter(position)}"


def _left_inverse(rotation: np.ndarray) -> np.ndarray:
    """P with P R_0 = diag(free), built from rows of R_0 that hold one coordinate alone (every position has such rows).

    Least squares would do on the real line; on the torus the inverse must be integral, or shifts by a lattice vector
    would move u by a fraction.
    """
    inverse = np.zeros((3, 3))
    for k in np.flatnonzero(np.abs(rotation).sum(axis=0)):
        alone = [r for r in range(3) if np.count_nonzero(rotation[r]) == 1 and abs(rotation[r, k]) == 1]
        inverse[k, alone[0]] = rotation[alone[0], k]
    return inverse


@lru_cache(maxsize=1)
def wyckoff_table() -> WyckoffTable:
    """The table shipped with the package (made by ``scripts/build_wyckoff.py``)."""
    with resources.files("sse_diffusion.core").joinpath("assets/wyckoff.npz").open("rb") as handle:
        raw = {key: value for key, value in np.load(handle).items()}
    first = raw["rotation"][raw["image_start"][:-1]].astype(np.float64)
    return WyckoffTable(
        group=raw["group"].astype(np.int64),
        multiplicity=raw["multiplicity"].astype(np.int64),
        dof=raw["dof"].astype(np.int64),
        image_start=raw["image_start"].astype(np.int64),
        rotation=raw["rotation"].astype(np.float64),
        translation=raw["translation"].astype(np.float64) / 24.0,
        centring=raw["centring"].astype(np.int64),
        start=np.searchsorted(raw["group"], np.arange(N_GROUPS + 2)).astype(np.int64),
        free=np.abs(first).sum(axis=1) > 0,
        left_inverse=np.stack([_left_inverse(r) for r in first]),
    )
