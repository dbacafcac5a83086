r"""Lay one crystal over another of the same space group: the affine map x -> W x + s that brings their sites together.

Two settings of one arrangement differ by an element of the group's normaliser. Its rotations W are searched among those of the
lattice's holohedry that keep the cell's shape, its shifts s among those that bring one site of the rarest kind onto another.
Distances are in units of (V/N)^(1/3), both crystals scaled to one atom per unit volume.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sse_diffusion.core.lattice import lattice_to_log
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table

LENGTH_TOLERANCE = 0.3
ANGLE_TOLERANCE_DEG = 10.0
SITE_TOLERANCE = 0.3
"""Largest distance of any two sites that are laid over each other, in units of (V/N)^(1/3)."""

MAX_TRIALS = 8
"""Shifts that fit the representatives and are tried on all sites."""

LARGEST_BLOCK = 4_000_000
"""Numbers in one array of trial distances."""


@dataclass(frozen=True)
class Sites:
    """All atoms of the conventional cell of one crystal.

    Attributes:
        crystal: its orbits.
        frac: (n, 3) fractional coordinates.
        orbit: (n,) orbit of each atom.
        metric: (3, 3) metric of the cell, scaled to one atom per unit volume.
        lattice: (3, 3) row vectors, Angstrom.
    """

    crystal: Orbits
    frac: np.ndarray
    orbit: np.ndarray
    metric: np.ndarray
    lattice: np.ndarray

    @classmethod
    def of(cls, crystal: Orbits) -> Sites:
        """Expand a crystal."""
        _, frac, orbit = crystal.expand()
        lattice = crystal.lattice()
        scale = abs(np.linalg.det(lattice)) / len(frac)
        return cls(crystal, frac, orbit, lattice @ lattice.T / scale ** (2 / 3), lattice)


@dataclass(frozen=True)
class Overlay:
    """One crystal laid over another.

    Attributes:
        rms: root mean square distance of the sites, in units of (V/N)^(1/3).
        shift: (orbits, 3) displacement of the free coordinates of the first crystal that leads to the second.
        k: (6,) logarithmic cell of the second in the setting of the first.
    """

    rms: float
    shift: np.ndarray
    k: np.ndarray


def overlay(first: Sites, second: Sites, first_label: np.ndarray, second_label: np.ndarray) -> Overlay | None:
    """Lay ``second`` over ``first``; ``None`` when their cells differ or some sites stay further apart than the tolerance.

    Args:
        first, second: crystals of one space group with equally many atoms.
        first_label, second_label: (orbits,) numbers; only sites of equal label may coincide.
    """
    a, b = first_label[first.orbit], second_label[second.orbit]
    if not np.array_equal(np.bincount(a, minlength=64), np.bincount(b, minlength=64)):
        return None
    rotations = [w for w in settings(first.crystal.group) if _same_shape(first.metric, _turned(second.metric, w))]
    if not rotations:
        return None
    # Sites alone may fit in several settings: among these the one whose cell is closest.
    rotations.sort(key=lambda w: round(float(np.abs(first.metric - _turned(second.metric, w)).max()), 6))
    rarest = int(np.argmin(np.where(np.bincount(a) > 0, np.bincount(a), 10**9)))
    anchor = first.frac[a == rarest][0]
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for w in rotations:
        turned = second.frac @ w.T
        found = _best_shift(first, turned, a, b, anchor - turned[b == rarest])
        if found is not None and (best is None or found[0] < best[0] - 1e-6):
            best = (*found, w)
    if best is None:
        return None
    return _describe(first, second, a, b, best[1], best[2])


def _best_shift(
    first: Sites, turned: np.ndarray, a: np.ndarray, b: np.ndarray, shifts: np.ndarray
) -> tuple[float, np.ndarray] | None:
    """The shift that brings the representatives of the first crystal closest to sites of the second."""
    heads = np.unique(first.orbit, return_index=True)[1]
    blocks = max(1, LARGEST_BLOCK // (len(heads) * len(turned) * 3))
    best: tuple[float, np.ndarray] | None = None
    for low in range(0, len(shifts), blocks):
        some = shifts[low : low + blocks]
        difference = turned[None, None] + some[:, None, None] - first.frac[heads][None, :, None]
        difference -= np.round(difference)
        squared = np.einsum("cijx,xy,cijy->cij", difference, first.metric, difference)
        squared[:, a[heads][:, None] != b[None, :]] = np.inf
        nearest = squared.min(-1)
        cost = np.where(nearest.max(-1) <= SITE_TOLERANCE**2, nearest.sum(-1), np.inf)
        for chosen in np.argsort(cost, kind="stable")[:MAX_TRIALS]:
            if not cost[chosen] < (np.inf if best is None else best[0]):
                break
            # A shift beyond the normaliser may fit the representatives and miss their images.
            if _paired(first, turned + some[chosen], a, b) is not None:
                best = (float(cost[chosen]), some[chosen])
                break
    return best


def _describe(first: Sites, second: Sites, a: np.ndarray, b: np.ndarray, s: np.ndarray, w: np.ndarray) -> Overlay | None:
    """Read off the displacements and the cell."""
    d = _paired(first, second.frac @ w.T + s, a, b)
    if d is None:
        return None
    d = d - d.mean(0)
    rms = float(np.sqrt(np.einsum("ix,xy,iy->i", d, first.metric, d).mean()))
    inverse = np.linalg.inv(w)
    lattice = np.linalg.cholesky(inverse.T @ (second.lattice @ second.lattice.T) @ inverse)
    return Overlay(rms, _orbit_shift(first, d), _log_cell(lattice))


def _paired(first: Sites, moved: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """(n, 3) displacement of each site to the one of the second crystal that it pairs with; ``None`` unless one to one."""
    difference = moved[None] - first.frac[:, None]
    difference -= np.round(difference)
    squared = np.einsum("ijx,xy,ijy->ij", difference, first.metric, difference)
    squared[a[:, None] != b[None, :]] = np.inf
    partner = squared.argmin(-1)
    if len(np.unique(partner)) < len(partner) or squared.min(-1).max() > SITE_TOLERANCE**2:
        return None
    paired: np.ndarray = difference[np.arange(len(partner)), partner]
    return paired


def _orbit_shift(first: Sites, d: np.ndarray) -> np.ndarray:
    """(orbits, 3) least-squares du = (stack_m R_m)^+ (stack_m d_m); what breaks the symmetry drops out."""
    table = wyckoff_table()
    shift = np.zeros((len(first.crystal.wyckoff), 3))
    for orbit, position in enumerate(first.crystal.wyckoff):
        if table.dof[position] > 0:
            rotation, _ = table.images(int(position))
            shift[orbit] = np.linalg.lstsq(rotation.reshape(-1, 3), d[first.orbit == orbit].reshape(-1), rcond=None)[0]
    return shift * table.free[first.crystal.wyckoff]


def _log_cell(lattice: np.ndarray) -> np.ndarray:
    import torch

    return lattice_to_log(torch.from_numpy(lattice)).numpy()


def _turned(metric: np.ndarray, w: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(w)
    return inverse.T @ metric @ inverse


def _same_shape(one: np.ndarray, other: np.ndarray) -> bool:
    """Edges and angles of two cells of equal volume per atom agree within the tolerances."""
    p, q = np.sqrt(np.diag(one)), np.sqrt(np.diag(other))
    if (np.maximum(p / q, q / p) > 1 + LENGTH_TOLERANCE).any():
        return False
    i, j = [1, 0, 0], [2, 2, 1]
    cosines = np.clip([one[i, j] / (p[i] * p[j]), other[i, j] / (q[i] * q[j])], -1, 1)
    return bool((np.abs(np.degrees(np.arccos(cosines[0]) - np.arccos(cosines[1]))) <= ANGLE_TOLERANCE_DEG).all())


@lru_cache(maxsize=230)
def settings(group: int) -> tuple[np.ndarray, ...]:
    """Rotations of the lattice's holohedry, one of each coset of the group's own rotations, the identity first."""
    table = wyckoff_table()
    own = np.unique(table.images(table.positions(group)[-1])[0], axis=0)
    chosen: list[np.ndarray] = []
    covered: set[bytes] = set()
    for w in _holohedry(group):
        if (w + 0.0).tobytes() not in covered:
            chosen.append(w)
            covered |= {(r @ w + 0.0).tobytes() for r in own}
    return tuple(chosen)


def _holohedry(group: int) -> list[np.ndarray]:
    """Candidate rotations, as integer matrices on fractional coordinates; the identity first."""
    if 143 <= group <= 194:
        turn, flip = np.array([[1.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
        turns = [np.linalg.matrix_power(turn, n) @ f for n in range(6) for f in (np.eye(3), flip)]
        return sorted([i * w for w in turns for i in (1.0, -1.0)], key=lambda w: -np.trace(w))
    signed = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            w = np.zeros((3, 3))
            w[range(3), order] = signs
            signed.append(w)
    return signed
