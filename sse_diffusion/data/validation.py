"""Is this a crystal? Checks on elements, numbers, volume and distances, vectorised over a whole table.

Every refused crystal gets a :class:`Finding` with a category (counted) and a detail (read by a person).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNREADABLE = "unreadable row"
NO_ATOMS = "no atoms"
UNKNOWN_ELEMENT = "unknown element"
NON_FINITE = "non-finite numbers"
ABSURD_VOLUME = "absurd volume"
DUPLICATE_SITES = "duplicate sites"
PARTIAL_OCCUPANCY = "partial occupancy"
NOT_PERIODIC = "not periodic"
TOO_LARGE = "too many sites"
DUPLICATE_ID = "duplicate id"

_PAIRS_PER_CHUNK = 2_000_000
_MIN_PLANE_SPACING_A = 0.05


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Limits of a believable crystal.

    Attributes:
        min_distance_A: two sites (or a site and its own periodic image) nearer than this are duplicates.
        min_volume_A3_per_atom: lower limit of the volume per atom.
        max_volume_A3_per_atom: upper limit of the volume per atom.
        max_atomic_number: heaviest element the models know (94: plutonium, the heaviest in the Materials Project).
        max_sites: largest cell accepted; None for no limit.
    """

    min_distance_A: float = 0.5
    min_volume_A3_per_atom: float = 4.0
    max_volume_A3_per_atom: float = 100.0
    max_atomic_number: int = 94
    max_sites: int | None = None


@dataclass(frozen=True)
class Finding:
    """Why a crystal was refused: category and detail."""

    reason: str
    detail: str


def validate_crystals(
    species: Sequence[NDArray[np.int64]],
    frac: Sequence[NDArray[np.float64]],
    lattice: NDArray[np.float64],
    config: ValidationConfig | None = None,
) -> list[Finding | None]:
    """Check M crystals; the first failed check of each is reported.

    Args:
        species: M arrays of shape (N_i,), atomic numbers.
        frac: M arrays of shape (N_i, 3), fractional coordinates (any image).
        lattice: row vectors in Angstrom, shape (M, 3, 3).
        config: limits.

    Returns:
        M entries, None where the crystal is good.
    """
    config = config or ValidationConfig()
    findings: list[Finding | None] = [None] * len(species)
    with np.errstate(invalid="ignore"):
        volumes = np.abs(np.linalg.det(lattice)) if len(species) else np.zeros(0)
    by_size: dict[int, list[int]] = defaultdict(list)
    for i, (numbers, coords) in enumerate(zip(species, frac, strict=True)):
        findings[i] = _check_one(numbers, coords, lattice[i], volumes[i], config)
        if findings[i] is None:
            by_size[len(numbers)].append(i)
    for n_sites, members in by_size.items():
        chunk = max(1, _PAIRS_PER_CHUNK // (n_sites * n_sites))
        for start in range(0, len(members), chunk):
            index = members[start : start + chunk]
            found = _closest_pairs(np.stack([frac[i] for i in index]), lattice[index], config.min_distance_A)
            for i, finding in zip(index, found, strict=True):
                findings[i] = finding
    return findings


def _check_one(
    numbers: NDArray[np.int64], coords: NDArray[np.float64], cell: NDArray[np.float64], volume: float, config: ValidationConfig
) -> Finding | None:
    """The cheap checks on one crystal: everything except distances."""
    n_sites = len(numbers)
    if n_sites == 0:
        return Finding(NO_ATOMS, "the row lists no site")
    if coords.shape != (n_sites, 3):
        return Finding(UNREADABLE, f"{n_sites} atomic numbers but coordinates of shape {coords.shape}")
    if config.max_sites is not None and n_sites > config.max_sites:
        return Finding(TOO_LARGE, f"{n_sites} sites, limit {config.max_sites}")
    if numbers.min() < 1 or numbers.max() > config.max_atomic_number:
        bad = sorted({int(z) for z in numbers if z < 1 or z > config.max_atomic_number})
        return Finding(UNKNOWN_ELEMENT, f"atomic number {', '.join(map(str, bad))} outside 1-{config.max_atomic_number}")
    if not (np.isfinite(coords).all() and np.isfinite(cell).all()):
        return Finding(NON_FINITE, "cell or coordinates contain NaN or infinity (or the cell angles are impossible)")
    per_atom = volume / n_sites
    if not config.min_volume_A3_per_atom <= per_atom <= config.max_volume_A3_per_atom:
        limits = f"{config.min_volume_A3_per_atom:g}-{config.max_volume_A3_per_atom:g}"
        return Finding(ABSURD_VOLUME, f"{per_atom:.3g} A^3/atom, outside {limits}")
    return None


def _closest_pairs(frac: NDArray[np.float64], lattice: NDArray[np.float64], cutoff: float) -> list[Finding | None]:
    """Shortest periodic distance of B crystals with N sites each, against ``cutoff``.

    A pair nearer than ``cutoff`` differs by |dx_i| <= cutoff / d_i along axis i (d_i: spacing of the lattice planes). Where every
    d_i >= 2 cutoff this is below one half, so the image found by rounding is the only one that matters and the test is exact;
    the few thinner cells get an explicit search over images.
    """
    spacing = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=1)
    thick = (spacing >= 2.0 * cutoff).all(axis=1)
    findings: list[Finding | None] = [None] * len(frac)
    for b in np.flatnonzero(~thick):
        findings[b] = _search_images(frac[b], lattice[b], spacing[b], cutoff)
    n_sites = frac.shape[1]
    if n_sites < 2 or not thick.any():
        return findings
    first, second = np.triu_indices(n_sites, k=1)
    index = np.flatnonzero(thick)
    delta = frac[index][:, second] - frac[index][:, first]
    delta -= np.round(delta)
    squared = np.square(np.matmul(delta, lattice[index])).sum(axis=-1)
    nearest = squared.argmin(axis=1)
    shortest = np.sqrt(squared[np.arange(len(index)), nearest])
    for position in np.flatnonzero(shortest < cutoff):
        pair = nearest[position]
        findings[index[position]] = _too_close(first[pair], second[pair], shortest[position])
    return findings


def _search_images(
    frac: NDArray[np.float64], lattice: NDArray[np.float64], spacing: NDArray[np.float64], cutoff: float
) -> Finding | None:
    """Exact search over images for one thin cell."""
    if spacing.min() < _MIN_PLANE_SPACING_A:
        return Finding(ABSURD_VOLUME, f"flat cell: lattice planes only {spacing.min():.3g} A apart")
    reach = np.ceil(cutoff / spacing + 0.5).astype(int)
    images = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), axis=-1).reshape(-1, 3)
    delta = frac[None, :] - frac[:, None]
    delta -= np.round(delta)
    best, pair = np.inf, (0, 0)
    for image in images:
        distance = np.linalg.norm((delta + image) @ lattice, axis=-1)
        if not image.any():
            np.fill_diagonal(distance, np.inf)
        if distance.min() < best:
            best = float(distance.min())
            pair = divmod(int(distance.argmin()), distance.shape[1])
    return _too_close(pair[0], pair[1], best) if best < cutoff else None


def _too_close(first: int, second: int, distance: float) -> Finding:
    """The finding for two sites on top of each other."""
    if first == second:
        return Finding(DUPLICATE_SITES, f"site {first} is {distance:.3f} A from its own periodic image")
    return Finding(DUPLICATE_SITES, f"sites {first} and {second} are {distance:.3f} A apart")
