"""What a disordered cell leaves open: groups of alike sites, the species that share them, and how many whole atoms of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.verification.disorder.charges import REFINEMENT_e_PER_ATOM

if TYPE_CHECKING:
    from pymatgen.core import PeriodicSite, Structure

FULL = 0.999
"""Occupancies from here on count as full, those below ``1 - FULL`` as empty."""
CHARGE_WEIGHT = 3.0
"""One elementary charge of the cell weighs like this many misplaced atoms when occupancies are rounded to whole atoms."""


SharesKey = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Group:
    """Sites with the same partial occupancies.

    Attributes:
        sites: (n,) indices in the structure.
        species: symbols that share the sites; the last is ``""``, the empty site, where the occupancies leave room.
        occupancies: (k,) share of each, summing to one.
        key: the shares that all sites have, rounded; finds the same group in a supercell.
    """

    sites: NDArray[np.int64]
    species: tuple[str, ...]
    occupancies: NDArray[np.float64]
    key: SharesKey


def site_species(site: PeriodicSite) -> dict[str, float]:
    """Element symbol -> occupancy of one site; vanishing ones left out, nearly full ones made full, excess scaled to one."""
    shares: dict[str, float] = defaultdict(float)
    for specie, amount in site.species.items():
        if amount > 1.0 - FULL:
            shares[specie.symbol] += float(amount)
    total = sum(shares.values())
    return {s: x / total for s, x in shares.items()} if total >= FULL else dict(shares)


def partial_groups(structure: Structure) -> list[Group]:
    """Groups of the sites that are not full of one species, in the order of their first site."""
    by_shares: dict[SharesKey, list[int]] = defaultdict(list)
    for index, site in enumerate(structure):
        shares = site_species(site)
        if shares and len(shares) == 1 and sum(shares.values()) >= FULL:
            continue
        by_shares[tuple(sorted((s, round(x, 3)) for s, x in shares.items()))].append(index)
    return [_group(structure, sites, key) for key, sites in by_shares.items()]


def _group(structure: Structure, sites: Sequence[int], key: SharesKey) -> Group:
    """The group with its mean occupancies."""
    shares = [site_species(structure[i]) for i in sites]
    species = sorted(shares[0])
    mean = [float(np.mean([share[s] for share in shares])) for s in species]
    empty = 1.0 - sum(mean)
    if empty > 1.0 - FULL:
        species, mean = [*species, ""], [*mean, empty]
    return Group(np.array(sites), tuple(species), np.array(mean) / sum(mean), key)


def full_sites(structure: Structure) -> dict[int, str]:
    """Index -> symbol of the sites that hold one whole atom."""
    shares = {index: site_species(site) for index, site in enumerate(structure)}
    return {i: next(iter(s)) for i, s in shares.items() if len(s) == 1 and sum(s.values()) >= FULL}


@dataclass(frozen=True)
class Counts:
    """Whole atoms on each group.

    Attributes:
        of: per group, (k,) atoms of each of its species.
        deviation: atoms by which they differ from the occupancies, summed over groups and species (empty sites included).
        charge: of the whole cell, in e.
    """

    of: tuple[NDArray[np.int64], ...]
    deviation: float
    charge: float


def whole_counts(
    groups: Sequence[Group], multiple: int, fixed_charge: float, charges: Mapping[str, float], n_atoms: float
) -> Counts:
    """Round the occupancies of ``multiple`` cells to whole atoms, as neutral and as near to them as possible.

    Every count is its target rounded down or up; among all such choices (found by dynamic programming over the total charge) the
    one with the smallest ``deviation + CHARGE_WEIGHT * |charge - wanted|`` is taken. Wanted is a neutral cell, unless the
    average crystal itself is charged by more than ``REFINEMENT_e_PER_ATOM``: then something is missing in it that no rounding
    can add.

    Args:
        groups: of one cell. multiple: number of cells.
        fixed_charge: of the full sites of one cell, in e. charges: by symbol, in e. n_atoms: of one cell.
    """
    own = fixed_charge + sum(len(g.sites) * charges.get(s, 0.0) * x for g in groups for s, x in zip(g.species, g.occupancies))
    wanted = multiple * own if abs(own) > REFINEMENT_e_PER_ATOM * n_atoms else 0.0
    reached: dict[float, tuple[float, tuple[NDArray[np.int64], ...]]] = {round(multiple * fixed_charge, 3): (0.0, ())}
    for group in groups:
        target = group.occupancies * len(group.sites) * multiple
        q = np.array([charges.get(s, 0.0) for s in group.species])
        following: dict[float, tuple[float, tuple[NDArray[np.int64], ...]]] = {}
        for counts in _roundings(target):
            off = float(np.abs(counts - target).sum())
            for charge, (deviation, chosen) in reached.items():
                total = round(charge + float(q @ counts), 3)
                if total not in following or deviation + off < following[total][0]:
                    following[total] = (deviation + off, (*chosen, counts))
        reached = following
    charge = min(reached, key=lambda c: reached[c][0] + CHARGE_WEIGHT * abs(c - wanted))
    deviation, chosen = reached[charge]
    return Counts(chosen, deviation, charge)


def _roundings(target: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """All whole numbers next to the targets with their sum."""
    low = np.floor(target + 1e-6).astype(np.int64)
    missing = round(float(target.sum())) - int(low.sum())
    open_ones = np.flatnonzero(target - low > 1e-6)
    choices = []
    for raised in combinations(open_ones.tolist(), missing):
        counts = low.copy()
        counts[list(raised)] += 1
        choices.append(counts)
    return choices or [low]
