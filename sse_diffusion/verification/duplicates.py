"""Which crystals are the same as an earlier one: StructureMatcher within each reduced formula, the field's tolerances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    from sse_diffusion.core.candidate import Candidate


def field_matcher() -> StructureMatcher:
    """The matcher of the field's uniqueness, novelty and match-rate numbers (stol 0.5, angle_tol 10, ltol 0.3)."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)


def duplicate_of(structures: Sequence[Structure]) -> list[int | None]:
    """For each structure the index of the first earlier one that it matches, or ``None`` when it is the first of its kind.

    Only representatives (structures that are no duplicate themselves) are compared, and only within one reduced formula, so
    the cost is the number of kinds per formula, not the square of the number of structures.
    """
    matcher = field_matcher()
    representatives: dict[str, list[int]] = defaultdict(list)
    result: list[int | None] = []
    for index, structure in enumerate(structures):
        group = representatives[reduced_formula(structure)]
        first = next((k for k in group if matcher.fit(structures[k], structure)), None)
        if first is None:
            group.append(index)
        result.append(first)
    return result


def unique(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without those that repeat an earlier one; order kept."""
    marks = duplicate_of([c.structure for c in candidates])
    return [c for c, first in zip(candidates, marks, strict=True) if first is None]


class ReferenceMatcher:
    """Finds the reference crystal that a structure equals (same matcher as for duplicates).

    Args:
        references: (name, structure) pairs; only those whose reduced formula is in ``formulas`` are kept, so a table of tens of
            thousands of crystals costs no more memory than the few that can match.
        formulas: reduced formulas of the structures that will be asked about; ``None`` keeps all references.
    """

    def __init__(self, references: Iterable[tuple[str, Structure]], formulas: Iterable[str] | None = None) -> None:
        wanted = None if formulas is None else frozenset(formulas)
        self._matcher = field_matcher()
        self._by_formula: Mapping[str, list[tuple[str, Structure]]] = defaultdict(list)
        for name, structure in references:
            formula = reduced_formula(structure)
            if wanted is None or formula in wanted:
                self._by_formula[formula].append((name, structure))

    def match(self, structure: Structure) -> str | None:
        """Name of the first reference that the structure equals, or ``None`` when it is new."""
        for name, reference in self._by_formula.get(reduced_formula(structure), ()):
            if self._matcher.fit(reference, structure):
                return name
        return None


def reduced_formula(structure: Structure) -> str:
    """Reduced formula, elements ordered by electronegativity as pymatgen writes them."""
    return structure.composition.reduced_formula
