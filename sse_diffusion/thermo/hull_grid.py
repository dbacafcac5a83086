"""Exact hulls of many chemical systems of a phase table: what :class:`~sse_diffusion.thermo.gibbs_hull.GibbsHull` is built from.

One batch of linear programs per chemical system, for all its compositions and all state points together.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.thermo.mixtures import Mixtures, lowest_mixtures
from sse_diffusion.thermo.phases import PhaseTable

log = logging.getLogger(__name__)

FORMAT = 1
"""Changes when files of an older version of this module must not be read."""


class MixtureList(NamedTuple):
    """m mixtures of in all l phases, ragged.

    Attributes:
        crystal: (m,) crystal whose composition a mixture has, ascending.
        mixture: (l,) mixture that an item belongs to, ascending.
        phase: (l,) row of the phase table.
        amount: (l,) atoms of the phase per atom of crystal.
    """

    crystal: Int[np.ndarray, " m"]
    mixture: Int[np.ndarray, " l"]
    phase: Int[np.ndarray, " l"]
    amount: Float[np.ndarray, " l"]

    @classmethod
    def joined(cls, parts: Sequence[MixtureList]) -> MixtureList:
        """All mixtures of several lists, in the order of the crystals."""
        if not parts:
            return cls(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), np.zeros(0))
        offsets = np.cumsum([0, *(len(part.crystal) for part in parts[:-1])])
        crystal = np.concatenate([part.crystal for part in parts])
        owner = np.concatenate([part.mixture + offset for part, offset in zip(parts, offsets, strict=True)])
        order = np.argsort(crystal, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        items = np.argsort(place[owner], kind="stable")
        phase, amount = (np.concatenate([part[i] for part in parts]) for i in (2, 3))
        return cls(crystal[order], place[owner][items], phase[items], amount[items])


@dataclass(frozen=True, eq=False)
class System:
    """One chemical system.

    Attributes:
        columns: (n,) its elements, as columns of the phase table.
        members: (q,) the compositions asked for that have exactly these elements.
    """

    columns: Int[np.ndarray, " n"]
    members: Int[np.ndarray, " q"]


@dataclass(frozen=True, eq=False)
class HullGrid:
    """Hulls of a phase table at s state points.

    Attributes:
        table: the phases.
        energies: (s, n) of every phase at every state point, eV/atom; NaN where a phase has none.
    """

    table: PhaseTable
    energies: Float[np.ndarray, "s n"]

    @classmethod
    def at(cls, table: PhaseTable, temperature_K: Float[np.ndarray, " s"], pressure_GPa: Float[np.ndarray, " s"]) -> HullGrid:
        """Gibbs energies at state points; raises ConfigError for one out of range."""
        return cls(table, table.gibbs(temperature_K, pressure_GPa))

    @classmethod
    def static(cls, table: PhaseTable) -> HullGrid:
        """One state: static formation energies (0 K, no zero-point motion, no pressure)."""
        return cls(table, table.formation_energy[None])

    @cached_property
    def _phases(self) -> dict[bytes, Int[np.ndarray, " k"]]:
        """Phases by their set of elements, without those that have a lower polymorph at every state point."""
        _, group = _groups(np.round(self.table.fractions, 6))
        useful = np.zeros(len(self.table), dtype=bool)
        for values in self.energies:
            lowest = np.full(group.max() + 1, np.inf)
            np.fmin.at(lowest, group, values)
            useful |= values <= lowest[group]  # never true for NaN
        rows = np.flatnonzero(useful)
        return {_key(members): rows[members.rows] for members in by_elements(self.table.fractions[rows])}

    def systems(self, fractions: Float[np.ndarray, "q e"]) -> list[System]:
        """Compositions (over the table's elements) grouped by the elements they hold."""
        return [System(np.flatnonzero(g.present), g.rows) for g in by_elements(fractions)]

    def solve(self, system: System, fractions: Float[np.ndarray, "q e"]) -> tuple[Mixtures, Int[np.ndarray, " k"]]:
        """Lowest mixtures of one system.

        Args:
            system: one of :meth:`systems`.
            fractions: all compositions (the system picks its own).

        Returns:
            q * s solutions (state point fastest), and the table rows that their phase indices point to.

        Raises:
            ChemistryError: an element has no phase of its own.
        """
        phases = self.phases_of(system.columns)
        states = len(self.energies)
        targets = np.repeat(fractions[np.ix_(system.members, system.columns)], states, axis=0)
        energies = np.tile(self.energies[:, phases], (len(system.members), 1))
        return lowest_mixtures(targets, self.table.fractions[np.ix_(phases, system.columns)], energies), phases

    def phases_of(self, columns: Int[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
        """Table rows of the competing phases within a set of elements."""
        found = []
        for size in range(1, len(columns) + 1):
            for subset in combinations(columns.tolist(), size):
                present = np.zeros(len(self.table.elements), dtype=bool)
                present[list(subset)] = True
                found.append(self._phases.get(np.packbits(present).tobytes(), np.zeros(0, dtype=int)))
        return np.concatenate(found)

    def mixtures(self, system: System, fractions: Float[np.ndarray, "q e"]) -> MixtureList:
        """The different mixtures that each composition of a system has over all state points."""
        solution, phases = self.solve(system, fractions)
        n = len(system.columns)
        named = np.where(solution.amounts > 0, phases[solution.phases], -1)
        order = np.argsort(named, axis=1)
        named, amounts = (np.take_along_axis(a, order, 1) for a in (named, solution.amounts))
        member = np.repeat(system.members, len(self.energies))
        first, _ = _groups(np.column_stack([member, named]))
        first = first[np.argsort(member[first], kind="stable")]
        owner = np.repeat(np.arange(len(first)), n)
        present = named[first].ravel() >= 0
        return MixtureList(member[first], owner[present], named[first].ravel()[present], amounts[first].ravel()[present])


def exact_above_hull(
    table: PhaseTable,
    candidates: PhaseTable,
    temperature_K: Float[np.ndarray, " s"],
    pressure_GPa: Float[np.ndarray, " s"],
) -> tuple[Float[np.ndarray, "q s"], list[str]]:
    """Gibbs energy above the hull of any crystals, by linear programming, eV/atom.

    Args:
        table: the reference phases. A candidate is not one of them: below zero means more stable than all of them.
        candidates: what to place on the hull, of the same energy scheme (``PhaseTable.from_formulas(..., complete=False)``).
        temperature_K, pressure_GPa: state points.

    Returns:
        heights (NaN without an answer), and for each candidate the reason (empty when there is an answer).

    Raises:
        EnergySchemeError: two schemes. ConfigError: a state point out of range.
    """
    table.check_scheme(candidates.energy_scheme)
    place = {symbol: i for i, symbol in enumerate(table.elements)}
    unknown = np.array([symbol not in place for symbol in candidates.elements])
    fractions = np.zeros((len(candidates), len(table.elements)))
    kept = [i for i, symbol in enumerate(candidates.elements) if symbol in place]
    fractions[:, [place[candidates.elements[i]] for i in kept]] = candidates.fractions[:, kept]
    lost = (candidates.fractions[:, unknown] > 0).any(1)
    reasons = _reasons(candidates, lost | candidates.unmeasured, unknown)
    heights = candidates.gibbs(temperature_K, pressure_GPa).T.copy()
    heights[lost] = np.nan
    answerable = np.flatnonzero(~np.isnan(heights[:, 0]))
    grid = HullGrid.at(table, temperature_K, pressure_GPa)
    for system in tqdm(grid.systems(fractions[answerable]), desc="exact hulls", unit="system", disable=len(answerable) < 500):
        solution, _ = grid.solve(system, fractions[answerable])
        heights[answerable[system.members]] -= solution.energies.reshape(len(system.members), -1)
    return heights, reasons


def grid_mixtures(
    grid: HullGrid, rows: Int[np.ndarray, " n"], cache_dir: str | None = None, systems_per_part: int = 2000
) -> MixtureList:
    """Mixtures of the crystals in these table rows (-1 or a phase without energy: none), resumable and with a progress bar.

    Args:
        grid: state points at which hulls are computed.
        rows: of the crystals.
        cache_dir: finished parts are kept here under a hash of table, rows and energies, and never computed again.
        systems_per_part: chemical systems between two writes.

    Raises:
        OutputError: the cache cannot be written. DataError: an element of a crystal has no phase of its own.
    """
    table = grid.table
    usable = np.flatnonzero((rows >= 0) & np.isfinite(grid.energies).all(0)[rows])
    distinct, composition = _groups(np.round(table.fractions[rows[usable]], 6))
    fractions = table.fractions[rows[usable[distinct]]]
    systems = grid.systems(fractions)
    name = f"hull-{content_key(grid, rows)}"
    parts = []
    with tqdm(total=len(systems), desc="hulls on the (T, P) grid", unit="system", disable=len(systems) < 500) as bar:
        for start in range(0, len(systems), systems_per_part):
            chunk = systems[start : start + systems_per_part]
            path = Path(cache_dir) / f"{name}-{start:06d}-{len(chunk)}.npz" if cache_dir is not None else None
            part = _read_part(path)
            if part is None:
                part = MixtureList.joined([_watched(grid, system, fractions, bar) for system in chunk])
                _write_part(path, part)
            else:
                bar.update(len(chunk))
            parts.append(part)
    return _shared(MixtureList.joined(parts), usable, composition)


def content_key(grid: HullGrid, *arrays: Int[np.ndarray, " n"]) -> str:
    """16 hex digits over a grid, the arrays of a question, and the format of the answer's file."""
    digest = hashlib.sha256(f"{FORMAT} {grid.table.content_hash}".encode())
    for array in (grid.energies, *arrays):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _watched(grid: HullGrid, system: System, fractions: Float[np.ndarray, "q e"], bar: tqdm) -> MixtureList:
    bar.update()
    return grid.mixtures(system, fractions)


def _shared(found: MixtureList, usable: Int[np.ndarray, " u"], composition: Int[np.ndarray, " u"]) -> MixtureList:
    """Give every polymorph the mixtures of its composition."""
    first = np.searchsorted(found.crystal, np.arange(composition.max(initial=-1) + 2))
    counts = np.diff(first)[composition]
    crystal = np.repeat(usable, counts)
    source = np.repeat(first[composition], counts) + _within(counts)
    start = np.searchsorted(found.mixture, np.arange(len(found.crystal) + 1))
    sizes = np.diff(start)[source]
    item = np.repeat(start[source], sizes) + _within(sizes)
    return MixtureList(crystal, np.repeat(np.arange(len(source)), sizes), found.phase[item], found.amount[item])


def _within(counts: Int[np.ndarray, " g"]) -> Int[np.ndarray, " t"]:
    """0, 1, ... within each of g groups of the given sizes."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _read_part(path: Path | None) -> MixtureList | None:
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path) as stored:
            return MixtureList(*(stored[field] for field in MixtureList._fields))
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):
        log.warning("the cache %s is damaged and is computed again", path)
        return None


def _write_part(path: Path | None, part: MixtureList) -> None:
    if path is not None:
        with replacing(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, **part._asdict())


def _reasons(candidates: PhaseTable, failed: Bool[np.ndarray, " q"], unknown: Bool[np.ndarray, " e"]) -> list[str]:
    reasons = [""] * len(candidates)
    for row in np.flatnonzero(failed):
        lacking = [s for s, x, u in zip(candidates.elements, candidates.fractions[row], unknown, strict=True) if x > 0 and u]
        why = f"no reference phase for {', '.join(lacking)}: the hull is not bounded" if lacking else ""
        reasons[row] = why or candidates.unmeasured_reason(int(row))
    return reasons


class _Group(NamedTuple):
    present: Bool[np.ndarray, " e"]
    rows: Int[np.ndarray, " r"]


def _key(group: _Group) -> bytes:
    return np.packbits(group.present).tobytes()


def by_elements(fractions: Float[np.ndarray, "q e"]) -> list[_Group]:
    """Rows by the set of elements they hold."""
    present = fractions > 0
    first, group = _groups(np.packbits(present, axis=1))
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(group, minlength=len(first)))[:-1]) if len(first) else []
    return [_Group(present[rows[0]], rows) for rows in parts]


def _groups(rows: np.ndarray) -> tuple[Int[np.ndarray, " g"], Int[np.ndarray, " r"]]:
    """First row of each set of equal rows, and the set of every row (compared as bytes: fast)."""
    plain = np.ascontiguousarray(rows + 0)  # -0.0 and 0.0 are the same
    _, first, group = np.unique(plain.view(f"V{plain.strides[0]}").ravel(), return_index=True, return_inverse=True)
    return first, group
