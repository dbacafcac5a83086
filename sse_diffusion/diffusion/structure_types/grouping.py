r"""Sort crystals into structure types: same space group, same sites by role, and the same arrangement.

The *role* of an element is its place in a type, whatever the element: in perovskites A, B and X. Two crystals are of one type
when some permutation of equally frequent elements lays the one over the other (:mod:`.alignment`).

Members are laid over the first one and averaged, so a type holds the mean of its members and their scatter, no single crystal.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.structure_types.alignment import Overlay, Sites, overlay

SAME_ARRANGEMENT = 0.03
"""Largest root mean square distance, in the same units, at which roles count as exchangeable."""

CLOSE_ENOUGH = 0.08
"""Root mean square distance of the sites, in units of (V/N)^(1/3), at which the search for a closer type ends."""

MAX_PERMUTATIONS = 24
"""Ways to hand equally frequent elements their roles that are tried; crystals with more of them have no type."""


@dataclass
class Kind:
    """One structure type while it is being collected.

    Attributes:
        first: the crystal that the others are laid over.
        labels: (orbits,) of its orbits, see :func:`labels_of`.
        members: crystal numbers.
        elements: for each member the elements in the order of the roles.
        overlays: of each member.
    """

    first: Sites
    labels: np.ndarray
    members: list[int] = field(default_factory=list)
    elements: list[tuple[int, ...]] = field(default_factory=list)
    overlays: list[Overlay] = field(default_factory=list)


def primitive_counts(crystal: Orbits) -> dict[int, int]:
    """Atoms of each element in the primitive cell."""
    table = wyckoff_table()
    counts: Counter[int] = Counter()
    for z, w in zip(crystal.species.tolist(), crystal.wyckoff.tolist(), strict=True):
        counts[z] += int(table.multiplicity[w]) // int(table.centring[crystal.group])
    return dict(counts)


def site_kinds(crystal: Orbits) -> dict[int, tuple[tuple[int, int], ...]]:
    """For each element the sizes and freedoms of its sites: what elements of one role share."""
    table = wyckoff_table()
    kinds: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for z, w in zip(crystal.species.tolist(), crystal.wyckoff.tolist(), strict=True):
        kinds[z].append((int(table.multiplicity[w]), int(table.dof[w])))
    return {z: tuple(sorted(sites)) for z, sites in kinds.items()}


def key_of(crystal: Orbits) -> tuple[object, ...]:
    """What crystals of one type have in common for certain: the group, and the sites of each element."""
    return (crystal.group, *sorted(site_kinds(crystal).values()))


def role_orders(counts: dict[int, int]) -> list[tuple[int, ...]]:
    """Orders of the elements with ascending frequency, equally frequent ones in every order; empty when there are too many."""
    ties: dict[int, list[int]] = defaultdict(list)
    for z in sorted(counts):
        ties[counts[z]].append(z)
    if np.prod([float(np.prod(range(1, len(t) + 1))) for t in ties.values()]) > MAX_PERMUTATIONS:
        return []
    parts = [itertools.permutations(ties[n]) for n in sorted(ties)]
    return [tuple(itertools.chain(*choice)) for choice in itertools.product(*parts)]


def labels_of(crystal: Orbits, order: Sequence[int]) -> np.ndarray:
    """(orbits,) role of each orbit; ``order[r]`` is the element of role r."""
    return np.array([order.index(int(z)) for z in crystal.species])


def sort_into_kinds(crystals: Sequence[Orbits], numbers: Sequence[int]) -> list[Kind]:
    """Types among crystals that share one :func:`key_of`; every crystal joins the closest type or founds one.

    Args:
        crystals: the crystals.
        numbers: their numbers, kept in ``Kind.members``.
    """
    kinds: list[Kind] = []
    for number, crystal in zip(numbers, crystals, strict=True):
        orders = role_orders(primitive_counts(crystal))
        if not orders:
            continue
        sites = Sites.of(crystal)
        found = _closest(kinds, sites, orders)
        if found is not None:
            kind, laid, order = found
        else:
            order = orders[0]
            kind = Kind(sites, labels_of(crystal, order))
            kinds.append(kind)
            laid = Overlay(0.0, np.zeros_like(crystal.free), np.asarray(crystal.cell))
        kind.members.append(number)
        kind.elements.append(order)
        kind.overlays.append(laid)
    return kinds


def _closest(
    kinds: Sequence[Kind], sites: Sites, orders: Sequence[tuple[int, ...]]
) -> tuple[Kind, Overlay, tuple[int, ...]] | None:
    """The type a crystal lies closest to; the first that is close enough, the popular ones first, ends the search."""
    best: tuple[Kind, Overlay, tuple[int, ...]] | None = None
    for kind in sorted(kinds, key=lambda k: -len(k.members)):
        fit = best_overlay(kind, sites, orders)
        if fit is not None and (best is None or fit[0].rms < best[1].rms):
            best = (kind, *fit)
            if fit[0].rms < CLOSE_ENOUGH:
                break
    return best


def best_overlay(kind: Kind, sites: Sites, orders: Sequence[tuple[int, ...]]) -> tuple[Overlay, tuple[int, ...]] | None:
    """The closest way to lay a crystal over a type, and which elements take which roles in it."""
    first_kinds, kinds = site_kinds(kind.first.crystal), site_kinds(sites.crystal)
    wanted = [first_kinds[z] for z in kind.elements[0]]
    best: tuple[Overlay, tuple[int, ...]] | None = None
    for order in orders:
        if [kinds[z] for z in order] == wanted:
            laid = overlay(kind.first, sites, kind.labels, labels_of(sites.crystal, order))
            if laid is not None and (best is None or laid.rms < best[0].rms - 1e-6):
                best = (laid, order)
    return best


def automorphisms(kind: Kind) -> list[tuple[int, ...]]:
    """Permutations of the roles that give the same type again (sodium and chlorine of rock salt); the identity is one."""
    elements = kind.elements[0]
    first_kinds = site_kinds(kind.first.crystal)
    found = []
    for order in role_orders(primitive_counts(kind.first.crystal)):
        same_sites = all(first_kinds[z] == first_kinds[e] for z, e in zip(order, elements, strict=True))
        laid = overlay(kind.first, kind.first, kind.labels, labels_of(kind.first.crystal, order)) if same_sites else None
        if laid is not None and laid.rms < SAME_ARRANGEMENT:
            found.append(tuple(elements.index(z) for z in order))
    return found


def buckets(crystals: Sequence[Orbits], numbers: Sequence[int]) -> Iterator[tuple[list[Orbits], list[int]]]:
    """Crystals by :func:`key_of`, the largest set first."""
    by_key: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for position, crystal in enumerate(crystals):
        by_key[key_of(crystal)].append(position)
    for positions in sorted(by_key.values(), key=len, reverse=True):
        yield [crystals[p] for p in positions], [numbers[p] for p in positions]
