"""A proposed crystal on its way to its labels: as sampled, then as the force field leaves it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sse_diffusion.core.results import Quantity

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Sample:
    """One crystal and the state point it is judged at.

    Attributes:
        id: its name.
        structure: as sampled.
        temperature_K, pressure_GPa: state point of the request.
    """

    id: str
    structure: Structure
    temperature_K: float
    pressure_GPa: float


@dataclass(frozen=True)
class Relaxed:
    """What the force field makes of a sample.

    Attributes:
        sample: what was asked.
        structure: relaxed (as sampled where ``energy`` failed).
        energy: total energy, eV/atom; ``unconverged`` when a cap was met (then an upper bound), ``failed`` with the reason.
        energy_scheme: of ``energy``; empty when it failed.
    """

    sample: Sample
    structure: Structure
    energy: Quantity
    energy_scheme: str = ""

    @property
    def volume_A3_per_atom(self) -> float:
        """Of the relaxed structure; NaN where the relaxation failed."""
        return self.structure.volume / len(self.structure) if math.isfinite(self.energy.value) else math.nan
