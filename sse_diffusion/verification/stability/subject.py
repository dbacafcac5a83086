"""A crystal with an engine's energy, and the phases of the same engine's hull that it competes with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sse_diffusion.core.results import Quantity
from sse_diffusion.thermo.hull import ReferencePhase

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    from sse_diffusion.thermo.hull import ReferenceHull

CANDIDATE = "candidate"
"""Source of the crystal's own entry beside those of the table."""


@dataclass(frozen=True)
class Subject:
    """The crystal that questions are asked about.

    Attributes:
        formula: any formula pymatgen reads.
        energy_eV_per_atom: total energy of the relaxed crystal.
        energy_scheme: the engine's ``PotentialInfo.energy_scheme``; must be the hull's.
    """

    formula: str
    energy_eV_per_atom: float
    energy_scheme: str

    @cached_property
    def composition(self) -> Composition:
        """Of one formula unit."""
        from pymatgen.core import Composition

        return Composition(Composition(self.formula).reduced_formula)

    @property
    def elements(self) -> frozenset[str]:
        """Symbols."""
        return frozenset(self.composition.chemical_system_set)

    def height(self, hull: ReferenceHull) -> Quantity:
        """Energy above the hull, eV/atom; negative: below every mixture of reference phases.

        Raises:
            EnergySchemeError: another engine's hull.
        """
        return hull.energy_above_hull(self.composition, self.energy_eV_per_atom, self.energy_scheme)

    def entry(self) -> PDEntry:
        """The crystal as a phase."""
        from pymatgen.analysis.phase_diagram import PDEntry

        own = ReferencePhase(self.formula, self.energy_eV_per_atom, math.nan, CANDIDATE, self.energy_scheme)
        energy = self.energy_eV_per_atom * self.composition.num_atoms
        return PDEntry(self.composition, energy, name=self.composition.reduced_formula, attribute=own)


def missing_elements(hull: ReferenceHull, elements: Iterable[str]) -> str:
    """Why a chemical system has no hull in this table, and what to do; empty when it has one."""
    missing = sorted(set(elements) - hull.elements)
    if not missing:
        return ""
    return f"the hull table has no reference energy for {', '.join(missing)} (hull=chgnet-0.3.0-all knows 89 elements)"
