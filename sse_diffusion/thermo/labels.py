"""Training labels that depend on the phases a crystal competes with, and on the temperature and pressure it is judged at.

Which crystals are good answers changes with the state point, so training shows every crystal at another one in every epoch:

    T = T_min (T_max / T_min)^u, or 300 K for a share of the crystals          uniform in log T
    P exponential of mean P_0 below 10 GPa, or ambient for a share             GPa

and labels it with dG_hull(T, P) there (:mod:`~sse_diffusion.thermo.gibbs_hull`). Stability windows are those of the static hull.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.units import AMBIENT_PRESSURE_GPa
from sse_diffusion.thermo.gibbs import MAX_TEMPERATURE_K, MIN_TEMPERATURE_K, MAX_PRESSURE_GPa
from sse_diffusion.thermo.gibbs_hull import GibbsHull, GibbsHullConfig
from sse_diffusion.thermo.hull_grid import HullGrid
from sse_diffusion.thermo.phases import PhaseTable
from sse_diffusion.thermo.windows import stability_windows

log = logging.getLogger(__name__)

HIGHEST_LIMIT_V = 7.3
"""Oxidation limits above it come from phases that the table lacks (docs/thermodynamics.md)."""


@dataclass(frozen=True, kw_only=True)
class PhasesConfig:
    """Which phases crystals compete with, and how state points are drawn.

    Attributes:
        structures: table of crystals, see :meth:`PhaseTable.from_files`.
        formation_energies: longer list of formation energies of the same scheme; ``None``: the crystals alone.
        cache_dir: where hulls and windows are kept; ``None`` computes them anew (a minute).
        room_share: share of crystals shown at 300 K.
        ambient_share: share of crystals shown at ambient pressure.
        mean_pressure_GPa: mean of the other pressures.
    """

    structures: str
    formation_energies: str | None = None
    cache_dir: str | None = ".cache/sse_diffusion"
    room_share: float = 0.3
    ambient_share: float = 0.4
    mean_pressure_GPa: float = 2.0

    def __post_init__(self) -> None:
        """ConfigError for shares outside 0-1 and pressures that are not positive."""
        if not (0.0 <= self.room_share <= 1.0 and 0.0 <= self.ambient_share <= 1.0 and self.mean_pressure_GPa > 0.0):
            raise ConfigError("phases: the distribution of state points is impossible", "give shares of 0-1, a positive pressure")


class PhaseLabels:
    """Labels of n crystals.

    Args:
        hull: of the crystals.
        windows: label -> (n,) values that do not depend on the state point; NaN where there is none.
        config: how state points are drawn.
    """

    def __init__(self, hull: GibbsHull, windows: dict[str, Float[np.ndarray, " n"]], config: PhasesConfig) -> None:
        self.hull, self.windows, self.config = hull, windows, config

    @classmethod
    def load(cls, config: PhasesConfig, ids: Sequence[str], ions: Sequence[str]) -> PhaseLabels:
        """Read the phases and find the hulls of the crystals, or read them from the cache.

        Args:
            config: where the phases are.
            ids: crystals; those that the phases do not hold get no labels (counted in the log).
            ions: mobile ion of each, or ``"none"`` (no stability window).

        Raises:
            DataError, OutputError: a file is missing or the cache cannot be written.
        """
        table = PhaseTable.from_files(config.structures, config.formation_energies)
        hull = GibbsHull.build(table, ids, GibbsHullConfig(cache_dir=config.cache_dir))
        lost = int((hull.rows < 0).sum())
        if lost:
            log.warning(
                "%d of %d crystals are not among the phases of %s: no dG_hull for them", lost, len(ids), config.structures
            )
        return cls(hull, _windows(table, hull, ions, config.cache_dir), config)

    def state_points(self, seed: int, epoch: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Temperature (K) and pressure (GPa) of every crystal in one epoch; the same for the same numbers."""
        rng = np.random.default_rng((seed, epoch))
        u = rng.random((3, len(self.hull.rows)))
        temperature = MIN_TEMPERATURE_K * (MAX_TEMPERATURE_K / MIN_TEMPERATURE_K) ** u[0]
        temperature = np.where(u[1] < self.config.room_share, MIN_TEMPERATURE_K, temperature)
        pressure = np.minimum(rng.exponential(self.config.mean_pressure_GPa, u.shape[1]), MAX_PRESSURE_GPa)
        return temperature, np.where(u[2] < self.config.ambient_share, AMBIENT_PRESSURE_GPa, pressure)

    def at(
        self, temperature_K: Float[np.ndarray, " n"], pressure_GPa: Float[np.ndarray, " n"]
    ) -> dict[str, Float[np.ndarray, " n"]]:
        """The ``state:`` labels of every crystal at its own state point."""
        return {
            "state:temperature_K": temperature_K,
            "state:pressure_GPa": pressure_GPa,
            "state:gibbs_above_hull_eV_per_atom": self.hull.above_hull(temperature_K, pressure_GPa),
        }


def _windows(
    table: PhaseTable, hull: GibbsHull, ions: Sequence[str], cache_dir: str | None
) -> dict[str, Float[np.ndarray, " n"]]:
    """The ``phases:`` labels: limits of the crystals that hold a mobile ion."""
    limits = np.full((2, len(ions)), np.nan)
    mobile = np.flatnonzero(np.array(ions) != "none")
    if len(mobile):
        found = stability_windows(HullGrid.static(table), hull.rows[mobile], [ions[i] for i in mobile.tolist()], cache_dir)
        limits[0, mobile], limits[1, mobile] = found.reduction_limit_V, found.oxidation_limit_V
    limits[1, limits[1] > HIGHEST_LIMIT_V] = np.nan
    return {"phases:reduction_limit_V": limits[0], "phases:oxidation_limit_V": limits[1]}
