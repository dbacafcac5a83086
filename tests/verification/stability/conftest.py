"""A small Li-P-S-Cl-Co-O hull with hand-made energies."""

from __future__ import annotations

import pytest
from pymatgen.core import Composition

from sse_diffusion.thermo.hull import ReferenceHull, ReferencePhase
from sse_diffusion.verification.stability.subject import Subject

FORMATION = {
    "Li": 0.0, "P": 0.0, "S": 0.0, "Cl2": 0.0, "O2": 0.0, "Co": 0.0, "LiCl": -2.1, "Li2S": -1.5, "Li3P": -0.85, "LiP": -0.55,
    "Li3PS4": -1.1, "P2S5": -0.43, "Li2O": -2.05, "CoO": -1.25, "LiCoO2": -1.75, "Co3O4": -1.3, "CoS2": -0.5, "Li3PO4": -2.7,
}  # fmt: skip
LEVELS = {"Li": -1.9, "P": -5.3, "S": -4.1, "Cl": -1.8, "O": -4.9, "Co": -7.1}
SCHEME = "toy"


def total(formula: str, formation: float) -> float:
    """Total energy on a scale with other zeros for every element."""
    composition = Composition(formula).fractional_composition
    return formation + sum(LEVELS[el.symbol] * x for el, x in composition.items())


@pytest.fixture(scope="session")
def hull() -> ReferenceHull:
    """P2S5 is an estimate with 0.02 eV/atom."""
    return ReferenceHull(
        [
            ReferencePhase(f, total(f, e), 15.0, source, SCHEME, True, f, 0.02 * (source == "estimated"))
            for f, e in FORMATION.items()
            for source in ["estimated" if f == "P2S5" else "computed"]
        ]
    )


@pytest.fixture(scope="session")
def subject():
    """A crystal by formula and formation energy (that of the table when it is left out)."""

    def make(formula: str, formation: float | None = None) -> Subject:
        return Subject(formula, total(formula, FORMATION[formula] if formation is None else formation), SCHEME)

    return make
