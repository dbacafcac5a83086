"""Sites, occupancies, residence times and jumps of the mobile ions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sse_diffusion.core.results import Quantity, Status


@dataclass(frozen=True)
class JumpStatistics:
    """What the ions do on a set of S sites.

    Attributes:
        sites_frac: (S, 3) fractional coordinates.
        occupancy: (S,) mean number of ions on each site.
        counts: (S, S) jumps from row to column, all ions together.
        jumps: number of jumps. lengths_A: (jumps,) distance of each.
        residence_ps: mean stay, with its error (stays end like a Poisson process).
        rate_per_ion_per_ps: jumps per ion and ps.
        unassigned: share of ion-frames before the ion first came near a site.
    """

    sites_frac: np.ndarray
    occupancy: np.ndarray
    counts: np.ndarray
    jumps: int
    lengths_A: np.ndarray
    residence_ps: Quantity
    rate_per_ion_per_ps: Quantity
    unassigned: float


def density_sites(positions: np.ndarray, cell: np.ndarray, spacing_A: float = 0.25, separation_A: float = 1.2) -> np.ndarray:
    """(S, 3) fractional coordinates of the maxima of the ions' density, for crystals whose sites are not known beforehand.

    The highest voxel of the smoothed density is a site, its neighbourhood of ``separation_A`` is taken out, and so on, until
    what is left is below a tenth of the highest.

    Args:
        positions: (T, M, 3) Cartesian, fixed to the framework.
        cell: (3, 3) row vectors.
        spacing_A: grid spacing.
        separation_A: sites lie at least this far apart.
    """
    from scipy.ndimage import gaussian_filter

    density = gaussian_filter(histogram(positions, cell, spacing_A), 1.0, mode="wrap")
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in density.shape], indexing="ij"), -1).reshape(-1, 3)
    left, sites = density.ravel().copy(), []
    floor = 0.1 * left.max()
    while left.max() > floor:
        best = grid[int(left.argmax())]
        sites.append(best)
        away = grid - best
        left[np.linalg.norm((away - np.rint(away)) @ cell, axis=1) < separation_A] = 0.0
    return np.array(sites)


def histogram(positions: np.ndarray, cell: np.ndarray, spacing_A: float) -> np.ndarray:
    """(A, B, C) share of ion-frames in each voxel of the cell; sums to the number of ions."""
    shape = np.maximum(1, np.ceil(np.linalg.norm(cell, axis=1) / spacing_A).astype(int))
    frac = (positions.reshape(-1, 3) @ np.linalg.inv(cell)) % 1.0
    index = np.minimum((frac * shape).astype(int), shape - 1)
    counts = np.bincount(np.ravel_multi_index(tuple(index.T), shape), minlength=int(shape.prod()))
    return counts.reshape(shape) / len(positions)


def jump_statistics(
    positions: np.ndarray, cell: np.ndarray, sites_frac: np.ndarray, frame_ps: float, core_A: float = 0.8
) -> JumpStatistics:
    """Assign ions to sites by core sets: an ion belongs to a site until it comes within ``core_A`` of another one.

    Crossings of the line between two sites that turn back are then no jumps (Buchete and Hummer, J. Phys. Chem. B 112, 6057
    (2008)).

    Args:
        positions: (T, M, 3) Cartesian, fixed to the framework.
        cell: (3, 3) row vectors (mean cell).
        sites_frac: (S, 3) fractional coordinates, occupied or vacant.
        frame_ps: time between frames.
        core_A: radius of the cores; less than half the distance between sites.
    """
    label = _core_sets(positions, cell, sites_frac, core_A)
    frames, n = len(label), len(sites_frac)
    known = label >= 0
    before, after = label[:-1], label[1:]
    moved = (before >= 0) & (before != after)
    counts = np.zeros((n, n), dtype=np.int64)
    np.add.at(counts, (before[moved], after[moved]), 1)
    away = sites_frac[after[moved]] - sites_frac[before[moved]]
    lengths = np.linalg.norm((away - np.rint(away)) @ cell, axis=1)
    jumps, stayed_ps = int(moved.sum()), float(known.sum()) * frame_ps
    facts = {"jumps": jumps, "sites": n, "core_A": core_A}
    if jumps:
        relative = 1.0 / math.sqrt(jumps)
        stay = Quantity(stayed_ps / jumps, stayed_ps / jumps * relative, "ps", provenance=facts)
        rate = Quantity(jumps / stayed_ps, jumps / stayed_ps * relative, "1/ps", provenance=facts)
    else:
        # rule of three: no event in a time t means a rate below 3 / t at 95 %
        reason = f"no jump in {stayed_ps:.1f} ion ps"
        stay = Quantity.failed(f"{reason}: the stay is longer than {stayed_ps / 3.0:.3g} ps (95 %)", "ps", **facts)
        rate = Quantity(3.0 / max(stayed_ps, frame_ps), math.nan, "1/ps", Status.UPPER_BOUND, reason, facts)
    occupancy = np.bincount(label[known], minlength=n) / frames
    return JumpStatistics(sites_frac, occupancy, counts, jumps, lengths, stay, rate, float(1.0 - known.mean()))


def _core_sets(positions: np.ndarray, cell: np.ndarray, sites_frac: np.ndarray, core_A: float) -> np.ndarray:
    """(T, M) index of the last site whose core each ion was in; -1 before the first."""
    from scipy.spatial import cKDTree

    images = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    tree = cKDTree(((sites_frac % 1.0)[None] + images).reshape(-1, 3) @ cell)
    wrapped = (positions.reshape(-1, 3) @ np.linalg.inv(cell)) % 1.0 @ cell
    distance, index = tree.query(wrapped, distance_upper_bound=core_A)
    inside = np.isfinite(distance).reshape(positions.shape[:2])
    site = np.where(inside, index.reshape(inside.shape) % len(sites_frac), -1)
    last = np.maximum.accumulate(np.where(inside, np.arange(len(site))[:, None], -1), axis=0)
    return np.where(last >= 0, np.take_along_axis(site, np.maximum(last, 0), axis=0), -1)
