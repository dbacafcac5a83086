"""Ionic charges of a composition whose amounts need not be whole: what electrostatics needs of a disordered crystal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Composition

IMBALANCE_WEIGHT = 10.0
"""Cost of one elementary charge per atom, against the mean negative log-probability of the states: 0.1 e per atom left over
weighs like states that are e times rarer."""
MAX_COMBINATIONS = 200_000
REFINEMENT_e_PER_ATOM = 0.01
"""A charge of the average crystal below this comes from rounded or imprecise occupancies."""


@dataclass(frozen=True)
class Charges:
    """Ionic charges.

    Attributes:
        of: element symbol -> charge in e; one per element, fractional where two states mix.
        per_atom: charge per atom that is left over, in e.
    """

    of: dict[str, float]
    per_atom: float


def guess_charges(composition: Composition) -> Charges:
    """The likeliest charges that balance a composition, by how often each state occurs in the ICSD.

    One state per element; when no choice balances, the element of several states that needs the smallest change takes the rest
    as a mean charge (mixed valence). What is still left is reported, not hidden.

    Args:
        composition: any amounts; oxidation states that it carries are kept as they are.
    """
    given = _given(composition)
    if given is not None:
        return given
    amounts = {e.symbol: float(n) for e, n in composition.element_composition.items()}
    symbols, numbers = list(amounts), np.array(list(amounts.values()))
    width = max(1, int(MAX_COMBINATIONS ** (1 / len(symbols))))
    states = [_states(symbol)[:width] for symbol in symbols]
    charges = np.array(list(product(*[[q for q, _ in s] for s in states])), dtype=np.float64)
    costs = np.array(list(product(*[[cost for _, cost in s] for s in states])), dtype=np.float64)
    total = numbers.sum()
    best = int(np.argmin((costs @ numbers + IMBALANCE_WEIGHT * np.abs(charges @ numbers)) / total))
    chosen = dict(zip(symbols, charges[best].tolist(), strict=True))
    return _balanced(chosen, amounts)


def _given(composition: Composition) -> Charges | None:
    """The charges that the species carry, when all do."""
    states = {sp: getattr(sp, "oxi_state", None) for sp in composition}
    if any(q is None for q in states.values()):
        return None
    symbols = {sp.symbol for sp in states}
    amounts = {s: sum(n for sp, n in composition.items() if sp.symbol == s) for s in symbols}
    sums = {s: sum(n * (states[sp] or 0.0) for sp, n in composition.items() if sp.symbol == s) for s in symbols}
    return Charges({s: sums[s] / amounts[s] for s in symbols}, sum(sums.values()) / sum(amounts.values()))


def _balanced(charges: dict[str, float], amounts: dict[str, float]) -> Charges:
    """The charges with the rest put on one element of several states, where its states allow that."""
    total = sum(amounts.values())
    rest = sum(charges[s] * n for s, n in amounts.items())
    if abs(rest) > REFINEMENT_e_PER_ATOM * total:
        changed = {s: charges[s] - rest / n for s, n in amounts.items()}
        allowed = [s for s, q in changed.items() if min(_range(s)) <= q <= max(_range(s))]
        if allowed:
            mixed = min(allowed, key=lambda s: abs(changed[s] - charges[s]))
            charges, rest = {**charges, mixed: changed[mixed]}, 0.0
    return Charges(charges, rest / total)


def _range(symbol: str) -> tuple[int, ...]:
    """States that a mean charge may lie between: those of one sign with the likeliest."""
    first = _states(symbol)[0][0]
    return tuple(q for q, cost in _states(symbol) if q * first > 0 and cost < 4.0) or (first,)


@lru_cache(maxsize=128)
def _states(symbol: str) -> tuple[tuple[int, float], ...]:
    """(charge, negative log of its share among this element's occurrences in the ICSD), likeliest first."""
    from pymatgen.core import Composition, Element, Species

    Composition("LiF").oxi_state_guesses()  # pymatgen reads its table of occurrences at the first guess
    element = Element(symbol)
    counts = {q: Composition.oxi_prob.get(Species(symbol, q), 0) for q in element.icsd_oxidation_states}
    counts = counts if sum(counts.values()) else dict.fromkeys(element.common_oxidation_states or (0,), 1)
    total = sum(counts.values()) + len(counts)
    found = [(int(q), -math.log((n + 1) / total)) for q, n in counts.items()]
    return tuple(sorted(found, key=lambda state: state[1]))
