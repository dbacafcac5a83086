"""Electrochemical stability windows and grand potentials: hulls open to one mobile ion.

The hull energy h(N) of a crystal's fixed other atoms with N ions is convex and piecewise linear. Beside its own N0

    mu_red = h'(N0+)      above it ions go in (reduction)        reduction_limit_V = -(mu_red - mu_metal) / z
    mu_ox  = h'(N0-)      below it ions come out (oxidation)     oxidation_limit_V = -(mu_ox - mu_metal) / z

which is the range of potentials against the metal where the phases of the hull at the crystal's composition neither take up nor
give off ions (Richards et al., Chem. Mater. 28, 266 (2016); pymatgen's element profile). A crystal above the hull gets the window
of what it decomposes to. At a given potential the driving force to decompose is the grand potential above its hull,

    dPhi(x; mu) = Phi(x) - min over mixtures with the same other atoms,      Phi = G - mu N.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.thermo.hull_grid import HullGrid, by_elements, content_key
from sse_diffusion.thermo.mixtures import lowest_mixtures

log = logging.getLogger(__name__)

STEP = 1e-6
"""How far beside a composition the slopes are taken, in atoms of ion per atom: far below any compound's next neighbour."""
ZERO_V = 1e-9
ION_CHARGE = {"Li": 1, "Na": 1, "K": 1, "Ag": 1, "Mg": 2, "Ca": 2, "Zn": 2, "Al": 3}
NO_ION = "it holds no mobile ion that could be extracted: no oxidation limit"


@dataclass(frozen=True, eq=False)
class StabilityWindows:
    """Windows of n crystals.

    Attributes:
        ions: (n,) the metal each potential is measured against.
        reduction_limit_V: (n,) against that metal; NaN without an answer.
        oxidation_limit_V: (n,) likewise; NaN also for a crystal without the ion.
        reasons: (n,) why a limit is NaN; empty when both are there.
    """

    ions: tuple[str, ...]
    reduction_limit_V: Float[np.ndarray, " n"]
    oxidation_limit_V: Float[np.ndarray, " n"]
    reasons: tuple[str, ...]

    def potentials_eV(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Limits of the ion's chemical potential relative to its metal, eV: (at reduction, at oxidation)."""
        charge = np.array([ION_CHARGE[ion] for ion in self.ions])
        return -charge * self.reduction_limit_V, -charge * self.oxidation_limit_V


def stability_windows(
    grid: HullGrid, rows: Int[np.ndarray, " n"], ions: Sequence[str], cache_dir: str | None = None
) -> StabilityWindows:
    """Windows of the phases in these rows of the table (-1: unknown).

    Args:
        grid: hulls at one state point: ``HullGrid.static(table)``, or ``HullGrid.at(table, T, P)`` with one (T, P).
        rows: of the crystals.
        ions: the mobile ion of each, one of :data:`ION_CHARGE`.
        cache_dir: where the limits are kept under a hash of everything they depend on; ``None``: nowhere.

    Raises:
        OutputError: the cache cannot be written.
        ConfigError: more than one state point, an ion without a charge or without a metal in the table.
    """
    if len(grid.energies) != 1:
        raise ConfigError(f"windows are computed at one state point, not {len(grid.energies)}", "make one grid for each")
    column = _ion_columns(grid, ions)
    path = None if cache_dir is None else Path(cache_dir) / f"windows-{content_key(grid, rows, column)}.npz"
    limits = _read(path)
    if limits is None:
        limits = _limits(grid, rows, column, np.array([ION_CHARGE[ion] for ion in ions]))
        if path is not None:
            with replacing(path) as temporary, temporary.open("wb") as handle:
                np.savez(handle, limits=limits)
    held = grid.table.fractions[rows, column] > 0
    reasons = [_reason(grid, *case) for case in zip(rows.tolist(), np.isfinite(limits[0]), held, ions, strict=True)]
    return StabilityWindows(tuple(ions), limits[0], limits[1], tuple(reasons))


def _limits(
    grid: HullGrid, rows: Int[np.ndarray, " n"], column: Int[np.ndarray, " n"], charge: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "2 n"]:
    """Reduction and oxidation limits, V; NaN without an answer."""
    kinds, which = np.unique(column, return_inverse=True)
    metal = np.array([_metal_energy(grid, int(c)) for c in kinds])[which]
    usable = np.flatnonzero((rows >= 0) & np.isfinite(grid.energies[0][rows]) & np.isfinite(metal))
    fractions = grid.table.fractions[rows[usable]]
    own = fractions[np.arange(len(usable)), column[usable]]
    limits = np.full((2, len(rows)), np.nan)
    for side, (step, who) in enumerate(((STEP, np.arange(len(usable))), (-STEP, np.flatnonzero(own > STEP)))):
        beside = fractions[who].copy()
        beside[np.arange(len(who)), column[usable[who]]] += step
        there = usable[who]
        limits[side, there] = (metal[there] - _ion_potential(grid, beside, column[there])) / charge[there]
    limits[np.abs(limits) < ZERO_V] = 0.0
    return limits


def _read(path: Path | None) -> Float[np.ndarray, "2 n"] | None:
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path) as stored:
            return np.asarray(stored["limits"])
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):
        log.warning("the cache %s is damaged and is computed again", path)
        return None


def grand_potential_above_hull(
    grid: HullGrid, rows: Int[np.ndarray, " n"], reservoirs: Mapping[str, float]
) -> Float[np.ndarray, "n s"]:
    """dPhi of phases of the table that exchange some elements with reservoirs, eV per atom (all atoms of the crystal).

    Args:
        grid: hulls at s state points.
        rows: of the crystals, all known.
        reservoirs: element -> chemical potential relative to its lowest own phase, eV (lithium at V volts: -V). Not positive.

    Raises:
        ConfigError: an unknown element, or a potential above that of the element's own phase.
    """
    table = grid.table
    open_columns = _ion_columns(grid, list(reservoirs), charged=False)
    if any(value > 0 for value in reservoirs.values()):
        raise ConfigError("a reservoir's chemical potential is above that of its own phase", "give eV relative to it, at most 0")
    closed = np.ones(len(table.elements), dtype=bool)
    closed[open_columns] = False
    energies = grid.energies.copy()
    for column, value in zip(open_columns, reservoirs.values(), strict=True):
        pure = table.fractions[:, column] == 1.0
        energies -= (np.nanmin(energies[:, pure], axis=1) + value)[:, None] * table.fractions[:, column]
    result = energies[:, rows].T.copy()
    content = np.where(closed, table.fractions, 0.0)
    for group in by_elements(content[rows]):
        columns = np.flatnonzero(group.present)
        if not len(columns):
            continue
        phases = grid.phases_of(np.union1d(columns, open_columns))
        phases = phases[content[phases].sum(1) > 0]
        targets = np.repeat(content[np.ix_(rows[group.rows], columns)], len(energies), axis=0)
        costs = np.tile(energies[:, phases], (len(group.rows), 1))
        solution = lowest_mixtures(targets, content[np.ix_(phases, columns)], costs)
        result[group.rows] -= solution.energies.reshape(len(group.rows), -1)
    return result


def _ion_potential(grid: HullGrid, fractions: Float[np.ndarray, "q e"], column: Int[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
    """Chemical potential of the ion at each composition."""
    found = np.empty(len(fractions))
    systems = grid.systems(fractions)
    for system in tqdm(systems, desc="stability windows", unit="system", disable=len(systems) < 500):
        solution, _ = grid.solve(system, fractions)
        place = np.searchsorted(system.columns, column[system.members])
        found[system.members] = solution.potentials[np.arange(len(place)), place]
    return found


def _ion_columns(grid: HullGrid, ions: Sequence[str], charged: bool = True) -> Int[np.ndarray, " n"]:
    """Column of each ion in the table."""
    columns = {symbol: i for i, symbol in enumerate(grid.table.elements)}
    for ion in sorted(set(ions)):
        if ion not in columns or (charged and ion not in ION_CHARGE):
            known = set(columns) & set(ION_CHARGE) if charged else columns
            raise ConfigError(f"no potential can be measured against {ion!r}", did_you_mean(ion, known))
    return np.array([columns[ion] for ion in ions], dtype=int)


def _metal_energy(grid: HullGrid, column: int) -> float:
    """Lowest energy of the element's own phases, eV/atom."""
    own = grid.energies[0, grid.table.fractions[:, column] == 1.0]
    return float(np.nanmin(own)) if own.size else float("nan")


def _reason(grid: HullGrid, row: int, answered: bool, held: bool, ion: str) -> str:
    if row < 0:
        return "the crystal is not in the phase table"
    if not answered:
        return grid.table.unmeasured_reason(row) or f"no metal of {ion} in the phase table"
    return "" if held else NO_ION
