"""What stops a run gone wrong: numbers, temperature, collisions, evaporation, a framework that leaves its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sse_diffusion.verification.msd import relative_to_framework

MELTED = "the framework is not intact"
"""Start of the reason when the framework moved away."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Limits that a frame must keep.

    Attributes:
        max_temperature_factor: hotter than this times the target is an explosion.
        min_distance_A: atoms closer than this have collided.
        max_isolation_A: an atom whose nearest neighbour is farther than this has evaporated.
        max_volume_factor: a cell that grew or shrank by more than this factor has evaporated or collapsed.
        framework_msd_A2: mean squared displacement of the framework since the reference frame above which it has melted.
        framework_from_ps: time of the reference frame (after the start-up kick).
    """

    max_temperature_factor: float = 5.0
    min_distance_A: float = 0.5
    max_isolation_A: float = 6.0
    max_volume_factor: float = 1.6
    framework_msd_A2: float = 6.0
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


def framework_problem(
    config: GuardConfig, reference: np.ndarray, now: np.ndarray, masses: np.ndarray, framework: np.ndarray
) -> str:
    """Reason when the framework has left its place, or an empty text.

    Args:
        config: limits.
        reference, now: (N, 3) unwrapped positions.
        masses: (N,).
        framework: (N,) bool; nothing is checked when it is empty.
    """
    if not framework.any():
        return ""
    first, last = relative_to_framework(np.stack([reference, now]).astype(np.float64), masses, framework)[:, framework]
    moved = float(np.square(last - first).sum(axis=1).mean())
    return f"{MELTED}: it moved {moved:.1f} A^2 (> {config.framework_msd_A2:g})" if moved > config.framework_msd_A2 else ""
