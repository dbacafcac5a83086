"""Charge balance of a composition by the field's SMACT check: is there one oxidation state per element that adds up to zero?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from math import gcd, inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure


def imbalance(composition: Structure | Composition | Mapping[str, int]) -> str:
    """Why a composition fails CDVAE's SMACT check; empty when it passes.

    Elements and all-metal alloys pass. Oxidation states are SMACT's original list (Davies et al., Chem 1, 617 (2016);
    ``oxidation_states_smact14``), one state per element, anions more electronegative than cations. The published code
    (Xie et al., ICLR 2022) enumerates every combination with ``smact.neutral_ratios``, whose return value changed in smact 4;
    here the same conditions prune a depth-first search, which gives the same verdict without the combinatorial cost.
    """
    symbols, counts = _reduced_counts(composition)
    return _imbalance(symbols, counts)


@lru_cache(maxsize=100_000)
def _imbalance(symbols: tuple[str, ...], counts: tuple[int, ...]) -> str:
    if len(symbols) == 1:
        return ""
    states, electronegativities, metal = zip(*(_element_data(s) for s in symbols), strict=True)
    if all(metal):
        return ""
    unknown = [s for s, ox in zip(symbols, states, strict=True) if not ox]
    if unknown:
        return f"no oxidation state is known for {', '.join(unknown)}"
    if any(chi is None for chi in electronegativities):
        missing = [s for s, chi in zip(symbols, electronegativities, strict=True) if chi is None]
        return f"no Pauling electronegativity is known for {', '.join(missing)}"
    if _neutral_assignment_exists(counts, states, electronegativities):
        return ""
    formula = "".join(f"{s}{n if n > 1 else ''}" for s, n in zip(symbols, counts, strict=True))
    return f"{formula}: no charge-neutral assignment of oxidation states with anions more electronegative than cations"


def _reduced_counts(composition: Structure | Composition | Mapping[str, int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Element symbols and their counts divided by the greatest common divisor."""
    comp = getattr(composition, "composition", composition)
    amounts = comp.get_el_amt_dict() if hasattr(comp, "get_el_amt_dict") else dict(comp)
    counts = [round(n) for n in amounts.values()]
    divisor = gcd(*counts)
    return tuple(amounts), tuple(n // divisor for n in counts)


@lru_cache(maxsize=128)
def _element_data(symbol: str) -> tuple[tuple[int, ...], float | None, bool]:
    """(oxidation states of the smact14 list, Pauling electronegativity or None, is a metal) of one element."""
    import smact

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # smact warns about elements that lack data in lists which are not used here
        element = smact.Element(symbol)
    return tuple(element.oxidation_states_smact14 or ()), element.pauling_eneg, symbol in smact.metals


def _neutral_assignment_exists(
    counts: tuple[int, ...], states: tuple[tuple[int, ...], ...], electronegativities: tuple[float, ...]
) -> bool:
    """Depth-first search over one state per element; cut when the charge cannot return to zero or Pauling's rule breaks."""
    n = len(counts)
    lowest, highest = [0] * (n + 1), [0] * (n + 1)
    for k in range(n - 1, -1, -1):
        lowest[k] = lowest[k + 1] + counts[k] * min(states[k])
        highest[k] = highest[k + 1] + counts[k] * max(states[k])

    def search(k: int, charge: int, cation_max: float, anion_min: float) -> bool:
        """Whether elements k and after can be given states, from the charge and the extremes reached so far."""
        if not charge + lowest[k] <= 0 <= charge + highest[k]:
            return False
        if k == n:
            return True
        chi = electronegativities[k]
        for state in states[k]:
            cations = max(cation_max, chi) if state > 0 else cation_max
            anions = min(anion_min, chi) if state < 0 else anion_min
            if cations < anions and search(k + 1, charge + state * counts[k], cations, anions):
                return True
        return False

    return search(0, 0, -inf, inf)
