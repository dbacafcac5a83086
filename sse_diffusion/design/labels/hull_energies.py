"""Formation energy, static and Gibbs energy above the hull, and stability window, on one engine's own hull."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.design.labels.sample import Relaxed
from sse_diffusion.thermo.conditions import mobile_ion_of
from sse_diffusion.thermo.hull import ReferenceHull
from sse_diffusion.thermo.hull_grid import exact_above_hull
from sse_diffusion.thermo.phases import PhaseTable
from sse_diffusion.verification.stability.subject import Subject
from sse_diffusion.verification.stability.window import electrochemical_window

log = logging.getLogger(__name__)

ENERGY, VOLTAGE = "eV/atom", "V"


class HullEnergies:
    """Places relaxed crystals on a table of reference phases of the same energy scheme; a crystal is not a phase of its own hull.

    Args:
        hull: name of a shipped table, or a CSV file.
    """

    def __init__(self, hull: str) -> None:
        """Read the table; the columns for Gibbs energies are made when they are first needed."""
        self.reference = ReferenceHull.load(hull)

    @cached_property
    def phases(self) -> PhaseTable:
        """The reference phases as columns."""
        return PhaseTable.from_reference_hull(self.reference)

    def formation_energy(self, crystals: Sequence[Relaxed]) -> list[Quantity]:
        """Static formation energy from the elements of the table, eV/atom."""
        return [self._placed(self.reference.formation_energy, crystal) for crystal in crystals]

    def above_hull(self, crystals: Sequence[Relaxed]) -> list[Quantity]:
        """Static energy above the hull, eV/atom; negative: below every mixture of reference phases."""
        return [self._placed(self.reference.energy_above_hull, crystal) for crystal in crystals]

    def _placed(self, question: Callable[..., Quantity], crystal: Relaxed) -> Quantity:
        if not _known(crystal):
            return _failed(crystal)
        return question(crystal.structure.composition, crystal.energy.value, crystal.energy_scheme)

    def gibbs_above_hull(self, crystals: Sequence[Relaxed]) -> list[Quantity]:
        """Gibbs energy above the hull at each crystal's own state point, eV/atom.

        Raises:
            ConfigError: a state point outside 300-2000 K, 0-10 GPa.
        """
        results = [_failed(c) for c in crystals]
        states: dict[tuple[float, float], list[int]] = defaultdict(list)
        for i, (crystal, formation) in enumerate(zip(crystals, self.formation_energy(crystals), strict=True)):
            if formation.ok:
                states[crystal.sample.temperature_K, crystal.sample.pressure_GPa].append(i)
            elif _known(crystal):
                results[i] = formation
        for state, members in states.items():
            candidates = self._candidates([crystals[i] for i in members])
            heights, reasons = exact_above_hull(self.phases, candidates, *(np.array([value]) for value in state))
            for i, height, reason in zip(members, heights[:, 0].tolist(), reasons, strict=True):
                results[i] = Quantity(height, unit=ENERGY) if math.isfinite(height) else Quantity.failed(reason, ENERGY)
        return results

    def windows(self, crystals: Sequence[Relaxed]) -> list[tuple[Quantity, Quantity]]:
        """Reduction and oxidation limit of each crystal against its own mobile ion, V; above the hull: of its decomposition."""
        return [self._window(crystal) for crystal in crystals]

    def _window(self, crystal: Relaxed) -> tuple[Quantity, Quantity]:
        if not _known(crystal):
            return (Quantity.failed(crystal.energy.reason, VOLTAGE),) * 2
        composition = crystal.structure.composition
        subject = Subject(composition.reduced_formula, crystal.energy.value, crystal.energy_scheme)
        found = electrochemical_window(self.reference, subject, mobile_ion_of(composition.chemical_system_set))
        return found.reduction, found.oxidation

    def _candidates(self, crystals: Sequence[Relaxed]) -> PhaseTable:
        """Crystals with a formation energy as columns."""
        energies = [q.value for q in self.formation_energy(crystals)]
        volumes = [c.volume_A3_per_atom for c in crystals]
        formulas = [c.structure.composition.formula.replace(" ", "") for c in crystals]
        ids = [f"sample:{i}" for i in range(len(crystals))]
        return PhaseTable.from_formulas(ids, formulas, energies, volumes, crystals[0].energy_scheme, complete=False)


def _known(crystal: Relaxed) -> bool:
    return crystal.energy.status is not Status.FAILED


def _failed(crystal: Relaxed) -> Quantity:
    return Quantity.failed(crystal.energy.reason, ENERGY)
