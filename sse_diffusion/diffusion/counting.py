"""Exact counting on Wyckoff positions: which choices leave a crystal that can still be completed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sse_diffusion.core.wyckoff import N_GROUPS, wyckoff_table


@lru_cache(maxsize=1)
def fewest_atoms(max_orbits: int = 64) -> np.ndarray:
    """(231, max_orbits + 1) fewest atoms in the primitive cell of m orbits of each group.

    A position without free coordinates holds one orbit; the others hold any number.
    """
    table = wyckoff_table()
    fewest = np.zeros((N_GROUPS + 1, max_orbits + 1), dtype=np.int64)
    for group in range(1, N_GROUPS + 1):
        multiplicity = table.multiplicity[list(table.positions(group))] // table.centring[group]
        dof = table.dof[list(table.positions(group))]
        fixed, movable = np.sort(multiplicity[dof == 0]), multiplicity[dof > 0].min(initial=np.iinfo(np.int32).max)
        once = np.minimum(fixed, movable)
        costs = np.sort(np.concatenate([once, np.full(max_orbits, movable)]))[:max_orbits]
        fewest[group, 1:] = np.cumsum(np.minimum(costs, 10**6))
    return fewest


@lru_cache(maxsize=200_000)
def orbit_numbers(group: int, used: frozenset[int], count: int) -> int:
    """Bit mask of the numbers of orbits in which ``count`` atoms (primitive cell) of one element can be placed.

    Args:
        group: space group.
        used: positions that are taken or closed.
        count: atoms to place.

    Returns:
        Bit k is set when k orbits can hold them.
    """
    table = wyckoff_table()
    sums = [1] + [0] * count
    centring = int(table.centring[group])
    movable: set[int] = set()
    for position in table.positions(group):
        multiplicity = int(table.multiplicity[position]) // centring
        if position in used:
            continue
        if table.dof[position] > 0:
            movable.add(multiplicity)
        else:
            for total in range(count, multiplicity - 1, -1):  # once: descending
                sums[total] |= sums[total - multiplicity] << 1
    for multiplicity in movable:
        for total in range(multiplicity, count + 1):  # any number of times: ascending
            sums[total] |= sums[total - multiplicity] << 1
    return sums[count]


def can_complete(group: int, used: frozenset[int], remaining: tuple[int, ...], orbits: int) -> bool:
    """Whether ``orbits`` more orbits can hold the remaining atoms of every element exactly.

    Necessary, and sufficient but for elements that compete for the same fixed position; those dead ends are drawn again.
    """
    totals = 1
    for count in remaining:
        numbers, merged = orbit_numbers(group, used, count), 0
        while numbers:
            low = numbers & -numbers
            merged |= totals * low
            numbers ^= low
        totals = merged
    return bool(totals >> orbits & 1)


@dataclass
class Ledger:
    """Atoms still to place in one crystal whose composition is prescribed.

    Attributes:
        group: space group.
        remaining: atomic number -> atoms of the primitive cell.
        orbits: orbits still to fill.
        used: fixed positions that are taken.
    """

    group: int
    remaining: dict[int, int]
    orbits: int
    used: frozenset[int] = frozenset()

    @classmethod
    def start(cls, group: int, composition: Mapping[int, int], orbits: int) -> Ledger:
        """Nothing placed yet."""
        return cls(group, dict(composition), orbits)

    @property
    def feasible(self) -> bool:
        """Whether the crystal can be completed."""
        return can_complete(self.group, self.used, tuple(self.remaining.values()), self.orbits)

    def elements_at(self, position: int) -> list[int]:
        """Elements that may sit on a position so that the rest can be completed."""
        return [z for z in self.remaining if self.after(position, z) is not None]

    def after(self, position: int, z: int) -> Ledger | None:
        """The ledger with element z on ``position``; ``None`` when that cannot be completed."""
        table = wyckoff_table()
        multiplicity = int(table.multiplicity[position]) // int(table.centring[self.group])
        left = self.remaining.get(z, 0) - multiplicity
        fixed = table.dof[position] == 0
        if left < 0 or (fixed and position in self.used):
            return None
        used = self.used | {position} if fixed else self.used
        nxt = Ledger(self.group, {**self.remaining, z: left}, self.orbits - 1, used)
        return nxt if nxt.feasible else None
