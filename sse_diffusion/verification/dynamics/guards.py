"""What stops a run gone wrong: numbers, temperature, collisions, evaporation, a framework that leaves its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sse_diffusion.verification.msd import relative_to_framework

MELTED = "the framework is not intact"
"""Start of the reason when the framework moved away."""

MOLTEN_SHIFT = 0.25
"""Limit of :func:`framework_shift`. Liquids against the crystal they came from: 0.29-0.46 (points placed at random, with and
without a distance that they keep); crystals with turning groups up to 0.2."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Limits that a frame must keep.

    Attributes:
        max_temperature_factor: hotter than this times the target is an explosion.
        min_distance_A: atoms closer than this have collided.
        max_isolation_A: an atom whose nearest neighbour is farther than this has evaporated.
        max_volume_factor: a cell that grew or shrank by more than this factor has evaporated or collapsed.
        framework_shift: :func:`framework_shift` from the reference above which the framework has melted.
        framework_from_ps: time of the reference (after the start-up kick).
    """

    max_temperature_factor: float = 5.0
    min_distance_A: float = 0.5
    max_isolation_A: float = 6.0
    max_volume_factor: float = 1.6
    framework_shift: float = MOLTEN_SHIFT
    framework_from_ps: float = 1.0


def neighbour_range(positions: np.ndarray, cell: np.ndarray) -> tuple[float, float]:
    """Smallest and largest nearest-neighbour distance (Angstrom) of periodic atoms; (inf, 0) for fewer than two.

    Args:
        positions: (N, 3).
        cell: (3, 3) row vectors.
    """
    from ase.geometry import get_distances

    if len(positions) < 2:
        return float("inf"), 0.0
    distances = get_distances(positions, cell=cell, pbc=True)[1]
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    return float(nearest.min()), float(nearest.max())


def frame_problem(
    config: GuardConfig, positions: np.ndarray, cell: np.ndarray, first_cell: np.ndarray, temperature_K: float, target_K: float
) -> str:
    """Reason to stop at this frame, or an empty text."""
    if not (np.isfinite(positions).all() and np.isfinite(cell).all() and np.isfinite(temperature_K)):
        return "positions or velocities are not finite numbers"
    if temperature_K > config.max_temperature_factor * target_K:
        return f"the temperature exploded to {temperature_K:.0f} K (target {target_K:g} K)"
    growth = abs(np.linalg.det(cell) / np.linalg.det(first_cell))
    if not 1.0 / config.max_volume_factor < growth < config.max_volume_factor:
        return f"the volume went to {growth:.2f} times that of the start (limit: a factor of {config.max_volume_factor:g})"
    closest, loneliest = neighbour_range(positions, cell)
    if closest < config.min_distance_A:
        return f"two atoms came within {closest:.2f} A of each other (< {config.min_distance_A:g} A)"
    if loneliest > config.max_isolation_A:
        return f"an atom evaporated: its nearest neighbour is {loneliest:.1f} A away (> {config.max_isolation_A:g} A)"
    return ""


def framework_shift(
    reference: np.ndarray, now: np.ndarray, cell: np.ndarray, masses: np.ndarray, kinds: np.ndarray, framework: np.ndarray
) -> float:
    r"""How far the framework's atoms are from its places, whoever of an element now holds them, over their spacing.

        1/n sum over elements k  min over permutations p  sum over i in k  |x_i - X_p(i)|^2 / a_k^2,      a_k^3 = V / n_k

    (nearest images, drift taken out): 0 in a crystal, about 0.3 in a liquid of any density. A PS4 group that turns by a third
    moves three sulfur atoms by 3.3 A to one another's places: the mean squared displacement sees a melt, this does not.

    Args:
        reference, now: (N, 3) unwrapped positions in ``cell``, averaged over some vibrations.
        cell: (3, 3) row vectors.
        masses: (N,).
        kinds: (N,) element of each atom.
        framework: (N,) bool, not empty.
    """
    from scipy.optimize import linear_sum_assignment

    places, atoms = relative_to_framework(np.stack([reference, now]).astype(np.float64), masses, framework)
    inverse, volume, total = np.linalg.inv(cell), abs(float(np.linalg.det(cell))), 0.0
    for kind in np.unique(kinds[framework]):
        own = framework & (kinds == kind)
        apart = (atoms[own][:, None] - places[own][None]) @ inverse
        squared = np.square((apart - np.round(apart)) @ cell).sum(axis=-1)
        total += float(squared[linear_sum_assignment(squared)].sum()) / (volume / own.sum()) ** (2 / 3)
    return total / int(framework.sum())


def framework_problem(limit: float, shift: float) -> str:
    """Reason when the framework is further from its places (:func:`framework_shift`) than the limit, or an empty text."""
    if not shift > limit:
        return ""
    return f"{MELTED}: its atoms are {shift:.2f} squared spacings from its places (> {limit:g}; 0.3: a liquid)"
