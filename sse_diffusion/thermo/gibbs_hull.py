"""Gibbs energy above the hull of a whole table of crystals, at any (T, P), in milliseconds.

    dG_hull(x; T, P) = max_d [ G(x; T, P) - sum_k f_dk G_k(T, P) ]             d: balanced mixtures of phases, eV/atom

The right-hand side over all mixtures is the hull. The mixtures that win somewhere on a (T, P) grid are found once per crystal by
exact linear programs; afterwards a new state point costs one weighted sum per mixture. So what is interpolated is which phases a
crystal competes with, not a number: the answer is exact wherever the winning mixture won at some grid point as well, and else too
low by what the missed mixture would have added. Slopes in T and P are those of the winning mixture. Crystals are phases of the
hull themselves: no value is negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.units import eV_PER_A3_PER_GPa
from sse_diffusion.thermo import gibbs
from sse_diffusion.thermo.hull_grid import HullGrid, MixtureList, grid_mixtures
from sse_diffusion.thermo.phases import PhaseTable


@dataclass(frozen=True, kw_only=True)
class GibbsHullConfig:
    """Grid of exact hulls.

    Attributes:
        temperatures_K: grid temperatures within 300-2000 K.
        pressures_GPa: grid pressures within 0-10 GPa.
        cache_dir: where finished parts are kept, so that a build goes on where it stopped; ``None``: nowhere.
        systems_per_part: chemical systems between two writes.
    """

    temperatures_K: tuple[float, ...] = (300.0, 400.0, 500.0, 650.0, 800.0, 1000.0, 1200.0, 1450.0, 1700.0, 2000.0)
    pressures_GPa: tuple[float, ...] = (0.0, 0.5, 1.2, 2.5, 4.5, 7.0, 10.0)
    cache_dir: str | None = ".cache/sse_diffusion"
    systems_per_part: int = 2000

    def __post_init__(self) -> None:
        """ConfigError for an empty or impossible grid."""
        if not self.temperatures_K or not self.pressures_GPa or self.systems_per_part < 1:
            raise ConfigError("the hull grid is empty", "give at least one temperature, one pressure and one system per part")
        gibbs.check_temperature(np.array(self.temperatures_K))
        gibbs.check_pressure(np.array(self.pressures_GPa))

    def states(self) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
        """All grid points: temperatures and pressures."""
        t, p = np.meshgrid(self.temperatures_K, self.pressures_GPa, indexing="ij")
        return t.ravel(), p.ravel()


class GibbsHull:
    """dG_hull(T, P) of n crystals; build it with :meth:`build`.

    Args:
        table: the phases.
        rows: (n,) rows of ``table`` that are the crystals; -1 for a crystal that is not in it.
        mixtures: the mixtures each crystal competes with (indices into ``rows``).
    """

    def __init__(self, table: PhaseTable, rows: Int[np.ndarray, " n"], mixtures: MixtureList) -> None:
        """Turn the mixtures into coefficients of their energies."""
        self.table, self.rows, self.mixtures = table, rows, mixtures
        own = rows[mixtures.crystal]
        self._enthalpy, self._slope, self._volume = (
            column[own] - self._sum(column[mixtures.phase]) for column in (table.enthalpy, table.slope, table.volume)
        )
        # Measured parts: of the crystal (+1) and of the phases (-amount), as (mixture, column, coefficient).
        pairs = (np.arange(len(own)), own, np.ones(len(own))), (mixtures.mixture, mixtures.phase, -mixtures.amount)
        mixture, phase, weight = (np.concatenate(column) for column in zip(*pairs, strict=True))
        found = table.measured[phase] >= 0
        self._measured = mixture[found], table.measured[phase[found]], weight[found]
        self._starts = np.flatnonzero(np.diff(mixtures.crystal, prepend=-1))
        self._known = mixtures.crystal[self._starts]

    @classmethod
    def build(cls, table: PhaseTable, ids: Sequence[str], config: GibbsHullConfig | None = None) -> GibbsHull:
        """Find the mixtures of every crystal on the grid, or read them from the cache.

        Args:
            table: the phases, the crystals among them.
            ids: the crystals, in the order in which values are wanted; unknown ids get NaN and a reason.
            config: grid and cache.

        Raises:
            OutputError: the cache cannot be written.
        """
        config = config or GibbsHullConfig()
        rows = table.rows_of(ids)
        grid = HullGrid.at(table, *config.states())
        return cls(table, rows, grid_mixtures(grid, rows, config.cache_dir, config.systems_per_part))

    def above_hull(
        self, temperature_K: float | Float[np.ndarray, " n"], pressure_GPa: float | Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """dG_hull of every crystal, eV/atom, at one state point or at one for each; NaN where :meth:`reason` says why.

        Raises:
            ConfigError: a state point outside 300-2000 K, 0-10 GPa.
        """
        heights, _, _ = self._heights(temperature_K, pressure_GPa)
        return self._scatter(np.maximum(np.maximum.reduceat(heights, self._starts), 0.0) if len(heights) else heights)

    def slopes(
        self, temperature_K: float | Float[np.ndarray, " n"], pressure_GPa: float | Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Exact d(dG_hull)/dT in eV/atom/K and d(dG_hull)/dP in eV/atom/GPa (the volume of decomposition), with one mixture each.

        Raises:
            ConfigError: a state point out of range.
        """
        heights, t, _ = self._heights(temperature_K, pressure_GPa)
        winner = self._winners(heights)
        mixture, column, weight = self._measured
        own_t = t if t.ndim == 0 else t[mixture]
        rate = weight * (self._interpolate(column, own_t, rate=True) - 0.181 / own_t)
        by_t = self._slope + np.bincount(mixture, rate, minlength=len(heights))
        stable = heights[winner] < 0.0
        per_t, per_p = (np.where(stable, 0.0, v[winner]) for v in (by_t, self._volume * eV_PER_A3_PER_GPa))
        return self._scatter(per_t), self._scatter(per_p)

    def uses_estimates(
        self, temperature_K: float | Float[np.ndarray, " n"], pressure_GPa: float | Float[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """Whether the answer rests on a phase with an estimated volume (the crystal itself or one it decomposes to)."""
        winner = self._winners(self._heights(temperature_K, pressure_GPa)[0])
        estimated = self.table.volume_estimated
        flag = self._sum(estimated[self.mixtures.phase].astype(float)) > 0
        return np.nan_to_num(self._scatter((flag | estimated[self.rows[self.mixtures.crystal]])[winner].astype(float))) > 0

    def decomposition(self, crystal: int, temperature_K: float, pressure_GPa: float) -> dict[str, float]:
        """Ids and atom fractions of the phases that ``crystal`` competes with at a state point."""
        heights, _, _ = self._heights(temperature_K, pressure_GPa)
        mine = np.flatnonzero(self.mixtures.crystal == crystal)
        if not len(mine):
            return {}
        items = np.flatnonzero(self.mixtures.mixture == mine[heights[mine].argmax()])
        return {self.table.ids[self.mixtures.phase[i]]: float(self.mixtures.amount[i]) for i in items}

    def reason(self, crystal: int) -> str:
        """Why ``crystal`` has no value; empty when it has one."""
        row = int(self.rows[crystal])
        if row < 0:
            return "the crystal is not in the phase table"
        if self.table.unmeasured[row]:
            return self.table.unmeasured_reason(row)
        return "" if crystal in self._known else "no mixture of the table has its composition"

    def _heights(
        self, temperature_K: float | Float[np.ndarray, " n"], pressure_GPa: float | Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """G(crystal) - G(mixture) of every mixture, and the state point of each."""
        gibbs.check_temperature(temperature_K)
        gibbs.check_pressure(pressure_GPa)
        crystal = self.mixtures.crystal
        t, p = (v if v.ndim == 0 else v[crystal] for v in (np.asarray(temperature_K, float), np.asarray(pressure_GPa, float)))
        mixture, column, weight = self._measured
        own_t = t if t.ndim == 0 else t[mixture]
        measured = weight * (self._interpolate(column, own_t) - gibbs.g_delta_common(own_t))
        heights = self._enthalpy + t * self._slope + (p * eV_PER_A3_PER_GPa) * self._volume
        return heights + np.bincount(mixture, measured, minlength=len(heights)), t, p

    @cached_property
    def _nodes(self) -> Float[np.ndarray, "t c"]:
        """Measured Gibbs energies at the nodes between which they are linear."""
        grid = np.arange(gibbs.MIN_TEMPERATURE_K, gibbs.MAX_TEMPERATURE_K + 1.0, gibbs.MEASURED_STEP_K)
        return gibbs.measured_gibbs(self.table.elements, grid)

    def _interpolate(
        self, column: Int[np.ndarray, " l"], temperature_K: Float[np.ndarray, "..."], rate: bool = False
    ) -> Float[np.ndarray, " l"]:
        """Measured Gibbs energy (or its rate per K) of each column at its temperature."""
        place = (temperature_K - gibbs.MIN_TEMPERATURE_K) / gibbs.MEASURED_STEP_K
        low = np.minimum(place.astype(int), len(self._nodes) - 2)
        left, right = self._nodes[low, column], self._nodes[low + 1, column]
        return (right - left) / gibbs.MEASURED_STEP_K if rate else left + (place - low) * (right - left)

    def _winners(self, heights: Float[np.ndarray, " m"]) -> Int[np.ndarray, " k"]:
        """The mixture with the greatest height of each crystal that has any."""
        order = np.lexsort((-heights, self.mixtures.crystal))
        return order[self._starts]

    def _sum(self, values: Float[np.ndarray, " l"]) -> Float[np.ndarray, " m"]:
        """Amount-weighted sum over the phases of each mixture."""
        return np.bincount(self.mixtures.mixture, self.mixtures.amount * values, minlength=len(self.mixtures.crystal))

    def _scatter(self, values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " n"]:
        """Values of the crystals that have mixtures, NaN for the others."""
        result = np.full(len(self.rows), np.nan)
        result[self._known] = values
        return result
