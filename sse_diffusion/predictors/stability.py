"""Energy above the hull from composition alone: the funnel's cheapest screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from sse_diffusion.predictors.composition import CompositionPredictor, Target

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.core.results import Quantity

HULL = Target(name="energy_above_hull", unit="eV/atom", floor=0.0)
FORMATION = Target(name="formation_energy", unit="eV/atom")


class CompositionStability(CompositionPredictor):
    """Predicts, from the composition alone, how far above the hull its lowest known crystal lies.

    It cannot tell polymorphs apart: a bad structure of a good composition looks good. That is for the force field later.
    """

    kind: ClassVar[str] = "stability_composition"
    targets: ClassVar[tuple[Target, ...]] = (HULL, FORMATION)

    def predict_e_hull(self, structures: Sequence[Structure]) -> list[Quantity]:
        """Energy above the hull, eV/atom, never negative.

        ``provenance["signed_value"]`` is the value before it is cut at 0 (how far below the competing phases): it ranks
        compositions that are all predicted stable.
        """
        return self.quantities(structures, HULL)

    def predict_formation_energy(self, structures: Sequence[Structure]) -> list[Quantity]:
        """Formation energy from the elements, eV/atom (MP2020-corrected scheme)."""
        return self.quantities(structures, FORMATION)
