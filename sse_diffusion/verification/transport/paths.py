"""The paths of the mobile ions: what every transport analysis starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.errors import DataError
from sse_diffusion.verification.msd import relative_to_framework

if TYPE_CHECKING:
    from sse_diffusion.verification.dynamics.trajectory import Trajectory


@dataclass(frozen=True)
class IonPaths:
    """Unwrapped paths of M equal ions in T frames.

    Attributes:
        positions_A: (T, M, 3) float64, relative to the framework's centre of mass.
        frame_ps: time between frames.
        volume_A3: mean cell volume.
        temperature_K: of the thermostat.
        ion: element symbol.
        members_A: (T, N, 3) paths of the ions that a collective path sums up; ``None`` for ions of their own.
    """

    positions_A: np.ndarray
    frame_ps: float
    volume_A3: float
    temperature_K: float
    ion: str = "Li"
    members_A: np.ndarray | None = None

    @classmethod
    def of(cls, trajectory: Trajectory, ion: str, drop_ps: float = 0.0) -> IonPaths:
        """Paths of ``ion`` after the first ``drop_ps``; the drift of the framework and the breathing of the cell are taken out.

        Raises:
            DataError: the crystal has no such ion, or nothing is left.
        """
        mobile = trajectory.symbols == ion
        first = round(drop_ps / trajectory.frame_ps)
        if not mobile.any():
            raise DataError(f"the trajectory has no {ion}", f"it has {', '.join(sorted(set(trajectory.symbols)))}")
        if len(trajectory.positions_A) - first < 4:
            raise DataError(
                f"{trajectory.duration_ps:.2f} ps leave nothing after the first {drop_ps:g} ps", "run longer or drop less"
            )
        positions = relative_to_framework(trajectory.in_mean_cell(first), trajectory.masses, ~mobile)[:, mobile]
        return cls(positions, trajectory.frame_ps, float(trajectory.volumes_A3[first:].mean()), trajectory.target_K, ion)

    @property
    def duration_ps(self) -> float:
        """Time from the first to the last frame."""
        return (len(self.positions_A) - 1) * self.frame_ps

    @property
    def collective(self) -> IonPaths:
        """One particle that moves as sum_i r_i / sqrt(M): its diffusivity is the collective (charge) diffusivity D_J."""
        together = self.positions_A.sum(axis=1, keepdims=True) / np.sqrt(self.positions_A.shape[1])
        return replace(self, positions_A=together, members_A=self.positions_A)


def squared_displacements(positions: np.ndarray, lag: int) -> np.ndarray:
    """(T - lag, M) squared displacement of every ion over every window of ``lag`` frames."""
    moved = positions[lag:] - positions[:-lag]
    return np.einsum("tmc,tmc->tm", moved, moved)


def mean_squared_displacement(positions: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """(L,) mean over ions and windows at each lag (frames)."""
    return np.array([squared_displacements(positions, int(lag)).mean() for lag in lags])
