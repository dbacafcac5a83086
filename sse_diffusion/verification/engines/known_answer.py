"""Known-answer test: four salts whose energies a healthy engine must reproduce.

Weights of another library version load without an error and give wrong energies (LiF +0.67 instead of -4.83 eV/atom was
seen), so every engine is tested when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sse_diffusion.core.errors import ConfigError, EngineError, did_you_mean

if TYPE_CHECKING:
    from ase import Atoms

    from sse_diffusion.verification.potential import Potential

SALTS: dict[str, tuple[str, float]] = {
    "LiF": ("rocksalt", 4.026),
    "LiCl": ("rocksalt", 5.140),
    "Li2O": ("fluorite", 4.619),
    "Li2S": ("fluorite", 5.708),
}
"""Formula -> (structure type, cubic lattice constant in Angstrom at room temperature; Wyckoff, Crystal Structures)."""


def salt(formula: str) -> Atoms:
    """Conventional cubic cell of one of :data:`SALTS` (8 atoms for rock salt, 12 for antifluorite)."""
    from ase.build import bulk

    structure_type, lattice_constant = SALTS[formula]
    if structure_type == "rocksalt":
        return bulk(formula, "rocksalt", a=lattice_constant, cubic=True)
    anion = formula.removeprefix("Li2")
    return bulk(f"{anion}Li2", "fluorite", a=lattice_constant, cubic=True)


def measure(potential: Potential) -> dict[str, float]:
    """Static energy in eV/atom of each of :data:`SALTS`."""
    cells = [salt(formula) for formula in SALTS]
    return {
        formula: result.energy_eV / len(cell)
        for formula, cell, result in zip(SALTS, cells, potential.evaluate(cells), strict=True)
    }


def check(potential: Potential, expected_eV_per_atom: Mapping[str, float], tolerance_eV_per_atom: float = 0.005) -> None:
    """Compare measured with expected energies; an empty ``expected`` passes.

    Raises:
        ConfigError: a formula that is not one of :data:`SALTS`.
        EngineError: any energy differs by more than the tolerance (eV/atom) or is not finite.
    """
    for formula in expected_eV_per_atom:
        if formula not in SALTS:
            raise ConfigError(f"no known-answer structure for {formula!r}", did_you_mean(formula, SALTS))
    if not expected_eV_per_atom:
        return
    measured = measure(potential)
    wrong = [
        f"{formula} {measured[formula]:.4f} instead of {expected:.4f}"
        for formula, expected in expected_eV_per_atom.items()
        if not abs(measured[formula] - expected) <= tolerance_eV_per_atom
    ]
    if wrong:
        raise EngineError(
            f"{potential.info.name} {potential.info.version} fails its known-answer test (eV/atom): {'; '.join(wrong)}",
            "the weights are damaged or belong to another version of the library; reinstall the versions in constraints.txt",
        )
