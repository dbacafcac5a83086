"""The ions that decorate prototypes: elements by formal oxidation state."""

from __future__ import annotations

IONS: dict[int, tuple[str, ...]] = {
    1: ("Li", "Na", "K", "Rb", "Cs", "Cu", "Ag", "Tl"),
    2: ("Be", "Mg", "Ca", "Sr", "Ba", "Mn", "Fe", "Co", "Ni", "Zn", "Cd", "Eu", "Pb"),
    3: ("Al", "Ga", "In", "Sc", "Y", "La", "Nd", "Gd", "Ho", "Er", "Yb", "Lu", "Ti", "V", "Cr", "Fe", "Co", "Sb", "Bi", "B"),
    4: ("C", "Si", "Ge", "Sn", "Pb", "Ti", "Zr", "Hf", "Mn", "Ce", "Th", "Pt"),
    5: ("N", "P", "As", "Sb", "V", "Nb", "Ta"),
    6: ("S", "Se", "Te", "Mo", "W"),
    7: ("Re", "I"),
    -1: ("F", "Cl", "Br", "I"),
    -2: ("O", "S", "Se", "Te"),
    -3: ("N", "P"),
}
"""Charge -> elements. Oxidation states common in solids; only ions with an ionic radius in the tables used."""

MOBILE_WEIGHT: dict[str, float] = {"Li": 4.0, "Na": 3.0, "K": 2.0, "Mg": 2.0, "Ag": 2.0}
"""Preference for crystals that contain an ion which batteries move, when a prototype has more decorations than are kept."""
