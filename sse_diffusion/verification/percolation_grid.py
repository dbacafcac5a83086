"""At which energy does the open part of a periodic landscape on a grid connect to its own images, and in how many directions?"""

from __future__ import annotations

import itertools
import math
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

_VECTORS = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
"""Vectors to the 27 cells around a cell; entry k and entry 26 - k are opposite."""


def interpolate(sampled: NDArray[np.float64], refine: int, softening_eV: float = 1.0) -> NDArray[np.float64]:
    """Periodic cubic spline through the logarithm of a landscape, which tames the poles at the atoms.

    Args:
        sampled: (na + 1, nb + 1, nc + 1) energies; the last plane of each axis repeats the first.
        refine: points per interval of the sampled grid.
        softening_eV: log(E - E_min + softening) is interpolated.

    Returns:
        (refine na, refine nb, refine nc) energies above the lowest sampled one.
    """
    from scipy.interpolate import CubicSpline

    shifted = np.minimum(sampled - sampled.min(), 1e3)  # poles: far above every barrier that is looked for
    values = np.log(shifted + softening_eV) if refine > 1 else shifted
    for axis in range(3):
        periodic = np.take(values, range(values.shape[axis] - 1), axis)
        if refine > 1:
            knots = periodic.shape[axis]
            closed = np.concatenate([periodic, np.take(periodic, [0], axis)], axis)
            spline = CubicSpline(np.arange(knots + 1), closed, axis=axis, bc_type="periodic")
            periodic = spline(np.arange(knots * refine) / refine)
        values = periodic
    return np.exp(values) - softening_eV if refine > 1 else values


def percolation_thresholds(
    energy: NDArray[np.float64], max_barrier_eV: float = 10.0, tolerance_eV: float = 0.001
) -> tuple[float, float, float]:
    """Lowest energies above the minimum at which the open part of a periodic landscape percolates in >= 1, 2, 3 directions.

    The bisection of bvlain (same probes), with the periodic bookkeeping of :func:`percolation_dimension` instead of labelling a
    2 x 2 x 2 supercell, and probes shared by the three dimensions; infinite when there is no path below ``max_barrier_eV``.
    """
    energy = energy - energy.min()
    crossings = _crossings(energy.shape)

    @cache
    def dimension(threshold: float) -> int:
        return percolation_dimension(energy < threshold, crossings)

    def lowest(wanted: int) -> float:
        low, high, found = 0.0, max_barrier_eV, math.inf
        while high - low > tolerance_eV:
            probe = (low + high) / 2
            if dimension(probe) >= wanted:
                high = found = probe
            else:
                low = probe
        return found

    return lowest(1), lowest(2), lowest(3)


def percolation_dimension(is_open: NDArray[np.bool_], crossings: NDArray[np.int64] | None = None) -> int:
    """Number of independent directions (0-3) in which the open voxels of a periodic grid connect to their own images.

    Voxels are joined across faces, edges and corners, as in bvlain. Clusters within the cell are found first; a union-find over
    the cluster pairs that touch across the boundary then carries the cell vector of each cluster relative to its root, and a
    pair already joined closes a loop whose winding is a percolation direction.

    Args:
        is_open: (na, nb, nc).
        crossings: what :func:`_crossings` returns for this shape.
    """
    from scipy.ndimage import label

    crossings = _crossings(is_open.shape) if crossings is None else crossings
    labels, count = label(is_open, structure=np.ones((3, 3, 3)))
    flat = labels.ravel()
    first, second = flat[crossings[:, 0]], flat[crossings[:, 1]]
    touching = (first > 0) & (second > 0)
    code = (first[touching].astype(np.int64) * (count + 1) + second[touching]) * 27 + crossings[touching, 2]
    parent, offset = list(range(count + 1)), np.zeros((count + 1, 3), dtype=int)
    windings: dict[int, list[NDArray[np.int64]]] = {}
    for pair, vector in zip(*divmod(np.unique(code), 27), strict=True):
        (a, at_a), (b, at_b) = (_root(int(x), parent, offset) for x in divmod(pair, count + 1))
        step = at_a + _VECTORS[vector] - at_b
        if a != b:
            parent[b], offset[b] = a, step
            windings.setdefault(a, []).extend(windings.pop(b, []))
        elif step.any():
            windings.setdefault(a, []).append(step)
    return max((int(np.linalg.matrix_rank(np.array(loops))) for loops in windings.values() if loops), default=0)


def _root(node: int, parent: list[int], offset: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
    """The root of a cluster and the cell vector from the root to it; the path is shortened on the way."""
    at = np.zeros(3, dtype=int)
    start = node
    while parent[node] != node:
        at = at + offset[node]
        node = parent[node]
    parent[start], offset[start] = node, at
    return node, at


@lru_cache(maxsize=4)
def _crossings(shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """(m, 3) voxel pairs that touch across the boundary: flat index, flat index of the neighbour, number of its cell vector."""
    size = np.array(shape)[:, None]
    at = np.indices(shape).reshape(3, -1)
    edge = ((at == 0) | (at == size - 1)).any(0)
    at = at[:, edge]
    pairs = []
    for step in _VECTORS[len(_VECTORS) // 2 + 1 :]:
        cell, wrapped = np.divmod(at + step[:, None], size)
        out = (cell != 0).any(0)
        number = np.ravel_multi_index(tuple(cell[:, out] + 1), (3, 3, 3))
        ends = (np.ravel_multi_index(tuple(x[:, out]), shape) for x in (at, wrapped))
        pairs.append(np.stack([*ends, number], axis=1))
    return np.concatenate(pairs)
