"""Decorations of low electrostatic energy with given counts: all of them for small cells, annealing by swaps for large ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

CLASH_eV = 30.0
"""Energy of a pair of atoms on sites of which only one can be filled: above any electrostatic gain of a swap."""
HOT_eV, COLD_eV = 3.0, 0.02
REPLICAS = 24


@dataclass(frozen=True)
class Decoration:
    """The combinatorial problem over n open sites with up to k options each.

    Attributes:
        groups: per group the positions (among the open sites) that share its options and counts.
        counts: per group the number of sites of each option.
        charge: (n, k) charge of each option in e; filled: (n, k) 1 where the option is an atom, 0 where it is the empty site.
        coupling: (n, n) Ewald matrix, eV/e^2; field: (n,) potential of the fixed atoms, eV/e.
        clash: (n, n) 1 where two sites exclude each other, symmetric, zero diagonal.
        blocked: (n,) number of fixed atoms too near to a site.
        constant_eV: energy of the fixed atoms alone.
    """

    groups: tuple[NDArray[np.int64], ...]
    counts: tuple[NDArray[np.int64], ...]
    charge: NDArray[np.float64]
    filled: NDArray[np.float64]
    coupling: NDArray[np.float64]
    field: NDArray[np.float64]
    clash: NDArray[np.float64]
    blocked: NDArray[np.float64]
    constant_eV: float = 0.0

    @property
    def size(self) -> int:
        """Number of open sites."""
        return len(self.field)

    def arrangements(self) -> float:
        """Number of decorations, symmetry not used; infinite when it does not fit a float."""
        logs = [math.lgamma(c.sum() + 1) - sum(math.lgamma(k + 1) for k in c) for c in self.counts]
        return math.exp(sum(logs)) if sum(logs) < 700 else math.inf

    def energies(self, states: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(R,) electrostatic energy in eV and (R,) number of clashes of (R, n) states (option of each site)."""
        rows = np.arange(self.size)
        q, o = self.charge[rows, states], self.filled[rows, states]
        energy = np.einsum("ri,ri->r", q @ self.coupling, q) + q @ self.field + self.constant_eV
        clashes = 0.5 * np.einsum("ri,ri->r", o @ self.clash, o) + o @ self.blocked
        return energy, clashes

    def random_states(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(R, n) states with the wanted counts."""
        states = np.zeros((number, self.size), dtype=np.int64)
        for group, counts in zip(self.groups, self.counts, strict=True):
            deck = np.repeat(np.arange(len(counts)), counts)
            states[:, group] = rng.permuted(np.tile(deck, (number, 1)), axis=1)
        return states

    def without_charges(self) -> Decoration:
        """The same with clashes only."""
        return replace(self, charge=np.zeros_like(self.charge))


def all_states(problem: Decoration) -> NDArray[np.int64]:
    """Every state, (K, n); for problems whose :meth:`Decoration.arrangements` is small."""
    per_group = [_fillings(len(group), counts) for group, counts in zip(problem.groups, problem.counts, strict=True)]
    states = np.zeros((math.prod(len(f) for f in per_group), problem.size), dtype=np.int64)
    for row, parts in enumerate(product(*per_group)):
        for group, part in zip(problem.groups, parts, strict=True):
            states[row, group] = part
    return states


def _fillings(sites: int, counts: Sequence[int] | NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """All ways to put ``counts`` of each option on the sites of one group."""
    partial = [np.full(sites, -1, dtype=np.int64)]
    for option, count in enumerate(counts):
        longer = []
        for filling in partial:
            for chosen in combinations(np.flatnonzero(filling < 0).tolist(), int(count)):
                new = filling.copy()
                new[list(chosen)] = option
                longer.append(new)
        partial = longer
    return partial


def anneal(problem: Decoration, rng: np.random.Generator, replicas: int = REPLICAS) -> NDArray[np.int64]:
    """Final states (R, n) of independent annealings by swaps within groups (S. Kirkpatrick et al., Science 220, 671 (1983)).

    The potential on every site is kept and updated after each accepted swap, so a step costs n operations per replica.
    """
    states = problem.random_states(replicas, rng)
    mixed = [g for g, c in zip(problem.groups, problem.counts, strict=True) if np.count_nonzero(c) > 1]
    if not mixed:
        return states
    rows, places = np.arange(replicas), np.arange(problem.size)
    q, o = problem.charge[places, states], problem.filled[places, states]
    potential = 2 * q @ problem.coupling + problem.field
    crowding = CLASH_eV * (o @ problem.clash + problem.blocked)
    self_energy = np.diag(problem.coupling)
    open_sites = np.concatenate(mixed)
    owner = np.concatenate([np.full(len(g), k) for k, g in enumerate(mixed)])
    starts, sizes = np.cumsum([0, *map(len, mixed[:-1])]), np.array([len(g) for g in mixed])
    steps = int(np.clip(60 * len(open_sites), 1500, 12000))
    for temperature in np.geomspace(HOT_eV, COLD_eV, steps):
        first = rng.integers(len(open_sites), size=replicas)
        group = owner[first]
        i, j = open_sites[first], open_sites[starts[group] + (rng.random(replicas) * sizes[group]).astype(np.int64)]
        dq, do = q[rows, j] - q[rows, i], o[rows, j] - o[rows, i]
        change = dq * (potential[rows, i] - potential[rows, j])
        change += dq**2 * (self_energy[i] + self_energy[j] - 2 * problem.coupling[i, j])
        change += do * (crowding[rows, i] - crowding[rows, j]) - CLASH_eV * do**2 * problem.clash[i, j]
        accepted = np.flatnonzero((change <= 0) | (rng.random(replicas) < np.exp(-np.maximum(change, 0) / temperature)))
        accepted = accepted[states[accepted, i[accepted]] != states[accepted, j[accepted]]]
        if not len(accepted):
            continue
        i, j, dq, do = i[accepted], j[accepted], dq[accepted], do[accepted]
        for array in (states, q, o):
            array[accepted, i], array[accepted, j] = array[accepted, j], array[accepted, i]
        potential[accepted] += 2 * dq[:, None] * (problem.coupling[i] - problem.coupling[j])
        crowding[accepted] += CLASH_eV * do[:, None] * (problem.clash[i] - problem.clash[j])
    return states


def distinct(states: NDArray[np.int64], permutations: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the states that no symmetry operation maps onto an earlier one.

    Args:
        states: (K, n). permutations: (G, n), image of each open site under each operation.

    Every (site, option) gets a random 64-bit number; the sum over a state is a fingerprint, and the smallest fingerprint over all
    images of a state is the same for equivalent states.
    """
    options = int(states.max(initial=0)) + 1
    numbers = np.random.default_rng(0).integers(-(2**62), 2**62, size=(states.shape[1], options), dtype=np.int64)
    smallest = np.full(len(states), np.iinfo(np.int64).max)
    places = np.arange(states.shape[1])
    for image in permutations:
        smallest = np.minimum(smallest, numbers[image[places], states].sum(axis=1))  # sums wrap around, the same way for all
    return np.sort(np.unique(smallest, return_index=True)[1])
