r"""Reaction of a crystal with what it touches: the most exothermic mixture of both, and what it turns into.

    dE(x) = E_hull(x c1 + (1 - x) c2) - x E_hull(c1) - (1 - x) E_hull(c2),      c1 crystal, c2 partner, x in atoms

dE is what the contact adds: the crystal's own decomposition is in its height above the hull already (Richards et al., Chem.
Mater. 28, 266 (2016); Xiao et al., Nat. Rev. Mater. 5, 105 (2020)). The minimum over x is at a kink of pymatgen's
``InterfacialReactivity``, or, where the phase diagram would be too large, the solution of the linear program in which x is one
more variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.errors import ChemistryError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.thermo.hull import MAX_DIAGRAM_ELEMENTS, lowest_mixture
from sse_diffusion.verification.stability.partners import CATHODES, partner_composition
from sse_diffusion.verification.stability.products import moles, spread, sum_words
from sse_diffusion.verification.stability.subject import Subject, missing_elements

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    from sse_diffusion.thermo.hull import ReferenceHull

UNIT = "eV/atom"
NO_REACTION_eV_PER_ATOM = -1e-3
"""Less exothermic mixtures count as no reaction: the energies of the table are not sharper."""


@dataclass(frozen=True)
class InterfaceReaction:
    """What happens between a crystal and one partner.

    Attributes:
        partner: as it was asked for.
        energy: of the most exothermic mixture, eV per atom of both; 0: nothing is gained by mixing. ``provenance`` says what a
            partner that is no phase of the table stands for.
        crystal_fraction: atoms of the crystal in that mixture (NaN: no reaction).
        equation: balanced, per formula unit of the crystal; empty when nothing reacts.
    """

    partner: str
    energy: Quantity
    crystal_fraction: float
    equation: str

    @property
    def reacts(self) -> bool:
        """Whether mixing gains energy (False also when it is unknown: look at ``energy.status``)."""
        return self.energy.status is not Status.FAILED and self.energy.value < NO_REACTION_eV_PER_ATOM


def reaction_with(hull: ReferenceHull, subject: Subject, partner: str, ion: str = "Li") -> InterfaceReaction:
    """The most exothermic reaction of a crystal with a partner.

    Args:
        hull: of the same engine.
        subject: the crystal.
        partner: ``metal``, a name of :data:`~sse_diffusion.verification.stability.partners.CATHODES`, or a formula.
        ion: whose metal is meant by ``metal``.

    Raises:
        ConfigError: unknown partner. EnergySchemeError: another engine's hull.
    """
    other = partner_composition(partner, ion)
    elements = subject.elements | other.chemical_system_set
    height, reason = subject.height(hull), missing_elements(hull, elements)
    if reason or height.status is Status.FAILED:
        return InterfaceReaction(partner, Quantity.failed(reason or height.reason, UNIT), float("nan"), "")
    entries = hull.entries(elements)
    if height.value < 0:
        entries = [*entries, subject.entry()]
    x = _best_fraction(hull, entries, subject, other, height.value < 0)
    ends = [_lowest(entries, composition) for composition in (subject.composition, other)]
    stands_for = sum_words(moles(ends[1], other.num_atoms))
    provenance: dict[str, Any] = {} if stands_for == other.reduced_formula else {"partner_energy_of": stands_for}
    mixture = _lowest(entries, _mixed(subject.composition, other, x))
    change = {entry: mixture.get(entry, 0.0) for entry in {**mixture, **ends[0], **ends[1]}}
    for end, share in zip(ends, (x, 1.0 - x), strict=True):
        for entry, amount in end.items():
            change[entry] -= share * amount
    gained = sum(amount * entry.energy_per_atom for entry, amount in change.items())
    if gained > NO_REACTION_eV_PER_ATOM:
        return InterfaceReaction(partner, Quantity(0.0, spread(change), UNIT, provenance=provenance), float("nan"), "")
    provenance["estimated_phases"] = [e.name for e in mixture if e.attribute.source == "estimated"]
    energy = Quantity(float(gained), spread(change), UNIT, provenance=provenance)
    written = CATHODES.get(partner, other.reduced_formula)
    return InterfaceReaction(partner, energy, x, _equation((subject.composition, other), written, x, mixture))


def _lowest(entries: Sequence[PDEntry], composition: Composition) -> dict[PDEntry, float]:
    """Lowest mixture of those entries that hold nothing foreign to the composition."""
    inside = set(composition.elements)
    return lowest_mixture([entry for entry in entries if set(entry.composition.elements) <= inside], composition)


def _mixed(first: Composition, second: Composition, x: float) -> Composition:
    return first.fractional_composition * x + second.fractional_composition * (1.0 - x)


def _best_fraction(
    hull: ReferenceHull, entries: Sequence[PDEntry], subject: Subject, other: Composition, changes_hull: bool
) -> float:
    """Atoms of the crystal in the most exothermic mixture, per atom; 1 when none gains energy."""
    elements = subject.elements | other.chemical_system_set
    if len(elements) > MAX_DIAGRAM_ELEMENTS:
        return best_fraction_by_program(entries, subject.composition, other)
    from pymatgen.analysis.interface_reactions import InterfacialReactivity
    from pymatgen.analysis.phase_diagram import PhaseDiagram

    diagram = PhaseDiagram(list(entries)) if changes_hull else hull.phase_diagram(elements)
    kinks = InterfacialReactivity(subject.composition, other, diagram, norm=True, use_hull_energy=True).get_kinks()
    _, x, *_ = min(kinks, key=lambda kink: kink[2])
    return float(x)


def best_fraction_by_program(entries: Sequence[PDEntry], first: Composition, second: Composition) -> float:
    """min over x and f of sum_k f_k E_k - x E_hull(c1) - (1 - x) E_hull(c2) with sum_k f_k A_k = x c1 + (1 - x) c2, f >= 0.

    Args:
        entries: phases covering every element of both compositions.
        first, second: the compositions.

    Returns:
        x, atoms of the first per atom of the mixture.

    Raises:
        ChemistryError: the program has no solution.
    """
    import numpy as np
    from scipy.optimize import linprog

    elements = sorted({*first.elements, *second.elements})
    phases = np.array([[entry.composition.get_atomic_fraction(el) for entry in entries] for el in elements])
    ends = np.array([[c.get_atomic_fraction(el) for c in (first, second)] for el in elements])
    hulls = [sum(e.energy_per_atom * f for e, f in _lowest(entries, c).items()) for c in (first, second)]
    cost = np.array([*(entry.energy_per_atom for entry in entries), *(-h for h in hulls)])
    # The two shares add up to one atom; then so do the phases.
    equalities = np.vstack([np.hstack([phases, -ends]), [*np.zeros(len(entries)), 1.0, 1.0]])
    solution = linprog(cost, A_eq=equalities, b_eq=[*np.zeros(len(elements)), 1.0], method="highs-ds")
    if not solution.success:
        raise ChemistryError(f"no mixture of {first.reduced_formula} and {second.reduced_formula} was found", solution.message)
    return float(solution.x[-2])


def _equation(pair: tuple[Composition, Composition], partner: str, x: float, mixture: dict[PDEntry, float]) -> str:
    """Balanced equation per formula unit of the crystal (of the partner when there is none of the crystal)."""
    first, second = x / pair[0].num_atoms, (1.0 - x) / pair[1].num_atoms
    unit = first if first > 0 else second
    reactants = sum_words([(pair[0].reduced_formula, first / unit), (partner, second / unit)])
    return f"{reactants} -> {sum_words(moles(mixture, 1.0 / unit))}"
