"""Mixtures and reactions of phases in words: moles, estimated phases flagged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sse_diffusion.core.results import Status
from sse_diffusion.thermo.hull import lowest_mixture

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry

    from sse_diffusion.thermo.hull import ReferenceHull
    from sse_diffusion.verification.stability.subject import Subject

LEAST = 1e-3
"""Smaller moles are not written."""
ON_HULL_eV_PER_ATOM = 5e-4
"""Closer than half a millielectronvolt per atom counts as on the hull."""


def decomposition_words(hull: ReferenceHull, subject: Subject) -> str:
    """What the crystal is worth, e.g. ``"decomposes to 2 Li2S + P2S5 (estimated), 35 meV/atom"``; a reason when unknown.

    Raises:
        EnergySchemeError: another engine's hull.
    """
    height = subject.height(hull)
    if height.status is Status.FAILED:
        return f"unknown: {height.reason}"
    mixture = lowest_mixture(hull.entries(subject.elements), subject.composition)
    words = sum_words(moles(mixture, subject.composition.num_atoms))
    meV = 1000.0 * height.value
    if abs(height.value) <= ON_HULL_eV_PER_ATOM:
        return f"on the hull, at the energy of {words}"
    if height.value < 0:
        return f"stable, {-meV:.0f} meV/atom below {words}"
    same = len(mixture) == 1 and next(iter(mixture)).name == subject.composition.reduced_formula
    return f"turns into another {words}, {meV:.0f} meV/atom" if same else f"decomposes to {words}, {meV:.0f} meV/atom"


def moles(amounts: Mapping[PDEntry, float], atoms: float = 1.0) -> list[tuple[str, float]]:
    """Atoms of each phase (per atom of the whole) -> (name with its flag, formula units per ``atoms`` atoms), largest first."""
    rows = [(_name(entry), atoms * amount / _formula_atoms(entry)) for entry, amount in amounts.items()]
    return sorted(rows, key=lambda row: (-round(row[1], 6), row[0]))


def sum_words(terms: Iterable[tuple[str, float]]) -> str:
    """``"2 Li2S + P2S5"``; amounts to three significant digits, those below :data:`LEAST` left out."""
    parts = []
    for name, amount in terms:
        if amount >= LEAST:
            number = f"{amount:.3g}"
            parts.append(name if number == "1" else f"{number} {name}")
    return " + ".join(parts)


def spread(amounts: Mapping[PDEntry, float]) -> float:
    """One standard deviation of sum_k amount_k E_k, eV: that of the estimated phases, taken as independent."""
    return math.sqrt(sum((amount * entry.attribute.uncertainty_eV_per_atom) ** 2 for entry, amount in amounts.items()))


def _name(entry: PDEntry) -> str:
    return f"{entry.name} (estimated)" if entry.attribute.source == "estimated" else str(entry.name)


def _formula_atoms(entry: PDEntry) -> float:
    """Atoms in the formula that ``entry.name`` writes (``O2``: two)."""
    from pymatgen.core import Composition

    return float(Composition(entry.name).num_atoms)
