r"""Electrochemical window of a crystal on the engine's own hull: where its phases neither take up nor give off ions.

The limits are those of :mod:`sse_diffusion.thermo.windows` for a hull that holds the crystal itself, so that a crystal above the
hull has the window of what it decomposes to. The half reaction at a limit is the change of the lowest mixture when ions are added
or taken away, and its estimated phases give the limit's uncertainty:

    V = -(dE_hull / dN - mu_metal) / z,       dE_hull / dN = sum_k (df_k / dN) E_k
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.thermo.hull_grid import HullGrid
from sse_diffusion.thermo.labels import HIGHEST_LIMIT_V
from sse_diffusion.thermo.phases import PhaseTable
from sse_diffusion.thermo.windows import ION_CHARGE, stability_windows
from sse_diffusion.verification.stability.products import moles, spread, sum_words
from sse_diffusion.verification.stability.subject import Subject, missing_elements

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry

    from sse_diffusion.thermo.hull import ReferenceHull

STEP = 1e-4
"""Ions added or taken away per atom when a half reaction is written: small against any compound, large against round-off."""
UNIT = "V"


@dataclass(frozen=True)
class Window:
    """Potentials against the ion's metal between which nothing happens.

    Attributes:
        ion: the mobile ion.
        reduction, oxidation: limits in V; failed with a reason where there is none. ``uncertainty`` is that of estimated phases.
        reduction_reaction, oxidation_reaction: what happens at the limits in words; the ion is written as its metal.
    """

    ion: str
    reduction: Quantity
    oxidation: Quantity
    reduction_reaction: str = ""
    oxidation_reaction: str = ""


def electrochemical_window(hull: ReferenceHull, subject: Subject, ion: str) -> Window:
    """Reduction and oxidation limit of one crystal, static energies.

    Raises:
        EnergySchemeError: another engine's hull.
    """
    height = subject.height(hull)
    reason = missing_elements(hull, {*subject.elements, ion}) if ion in ION_CHARGE else _no_ion(ion)
    if height.status is Status.FAILED:
        reason = reason or height.reason
    if reason:
        return Window(ion, Quantity.failed(reason, UNIT), Quantity.failed(reason, UNIT))
    entries = [*hull.entries({*subject.elements, ion}), subject.entry()]
    grid = _static_grid(hull, entries)
    found = stability_windows(grid, np.array([len(entries) - 1]), [ion])
    sides = []
    for limit, step in ((found.reduction_limit_V[0], STEP), (found.oxidation_limit_V[0], -STEP)):
        sides.append(_side(grid, entries, ion, float(limit), step, found.reasons[0]))
    (reduction, gain), (oxidation, loss) = sides
    return Window(ion, reduction, oxidation, gain, loss)


def _no_ion(ion: str) -> str:
    return "the crystal has no mobile ion" if ion == "none" else f"no charge is known for the ion {ion}"


def _static_grid(hull: ReferenceHull, entries: list[PDEntry]) -> HullGrid:
    """The entries as one static hull; the last is the crystal."""
    names = [f"{i}:{entry.name}" for i, entry in enumerate(entries)]
    formation = [hull.formation_energy(e.composition, e.energy_per_atom, hull.energy_scheme).value for e in entries]
    volumes = np.ones(len(entries))  # volumes play no part in a static hull
    return HullGrid.static(PhaseTable.from_formulas(names, [e.name for e in entries], formation, volumes, hull.energy_scheme))


def _side(grid: HullGrid, entries: list[PDEntry], ion: str, limit: float, step: float, reason: str) -> tuple[Quantity, str]:
    """One limit with its uncertainty, and its half reaction."""
    if not math.isfinite(limit):
        return Quantity.failed(reason, UNIT), ""
    if limit > HIGHEST_LIMIT_V:
        return Quantity.failed(f"{limit:.1f} V: a phase is missing from the table (above {HIGHEST_LIMIT_V:g} V)", UNIT), ""
    own = grid.table.fractions[len(entries) - 1]
    beside = own.copy()
    beside[grid.table.elements.index(ion)] += step
    before, after = _mixture(grid, own), _mixture(grid, beside)
    change = (after - before)[: len(entries)] / abs(step)
    changes = {entry: float(x) for entry, x in zip(entries, change, strict=True) if abs(x) > LEAST_CHANGE}
    estimated = [e.name for e in changes if e.attribute.source == "estimated"]
    sd = spread(changes) / ION_CHARGE[ion]
    return Quantity(limit, sd, UNIT, provenance={"estimated_phases": estimated}), _words(changes, ion, gain=step > 0)


LEAST_CHANGE = 2e-3
"""Below it a change is round-off: amounts under 1e-7 are cut, steps are 1e-4."""


def _mixture(grid: HullGrid, fractions: np.ndarray) -> np.ndarray:
    """(n,) atoms of each phase of the table in the lowest mixture at one composition."""
    (system,) = grid.systems(fractions[None])
    solution, phases = grid.solve(system, fractions[None])
    amounts = np.zeros(len(grid.table))
    np.add.at(amounts, phases[solution.phases[0]], solution.amounts[0])
    return amounts


def _words(changes: dict[PDEntry, float], ion: str, gain: bool) -> str:
    """The half reaction per formula unit of the phase that reacts (per ion when only the metal forms)."""
    consumed = moles({e: -x for e, x in changes.items() if x < 0})
    formed = moles({e: x for e, x in changes.items() if x > 0})
    unit = consumed[0][1] if consumed else 1.0
    if gain and not consumed:
        return f"none: {ion} metal is deposited instead"
    ions = [(ion, 1.0 / unit)]
    left, right = ([(name, x / unit) for name, x in side] for side in (consumed, formed))
    return f"{sum_words([*left, *ions] if gain else left)} -> {sum_words(right if gain else [*right, *ions])}"
