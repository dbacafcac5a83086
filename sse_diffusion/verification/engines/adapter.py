"""Bridges between the :class:`Potential` contract and ASE calculators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

if TYPE_CHECKING:
    from ase import Atoms

    from sse_diffusion.verification.potential import Evaluation, Potential


class PotentialCalculator(Calculator):
    """ASE calculator over any :class:`Potential`: energy (eV), forces (eV/A), stress (Voigt, eV/A^3)."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, potential: Potential, **kwargs: Any) -> None:
        """Wrap ``potential``; further keywords go to ASE's Calculator."""
        super().__init__(**kwargs)
        self.potential = potential

    def calculate(
        self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes
    ) -> None:
        """Evaluate ``atoms``."""
        super().calculate(atoms, properties, system_changes)
        self._store(self.potential.evaluate([self.atoms])[0])

    def keep(self, atoms: Atoms, result: Evaluation) -> None:
        """Take over what the engine found for ``atoms`` in a call for several; asked about them, it is answered from here."""
        self.atoms = atoms.copy()
        self._store(result)

    def _store(self, result: Evaluation) -> None:
        """All properties at once."""
        self.results = {
            "energy": result.energy_eV,
            "free_energy": result.energy_eV,
            "forces": result.forces_eV_per_A,
            "stress": full_3x3_to_voigt_6_stress(result.stress_eV_per_A3),
        }
