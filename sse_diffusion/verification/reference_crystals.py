"""Reference phases written as crystallographic facts: elements and key compounds that public tables often lack.

Cells in Angstrom, angles in degrees, one representative per orbit; everything is relaxed before its energy is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class CrystalFact:
    """A published crystal structure.

    Attributes:
        name: stable id.
        space_group: number or Hermann-Mauguin symbol (with origin choice).
        cell: a, b, c (A), alpha, beta, gamma (degrees).
        orbits: (symbol, x, y, z) of one representative atom per orbit.
        reference: where the structure was published.
    """

    name: str
    space_group: int | str
    cell: tuple[float, float, float, float, float, float]
    orbits: tuple[tuple[str, float, float, float], ...]
    reference: str

    def structure(self) -> Structure:
        """Primitive cell with all images of the orbits."""
        from pymatgen.core import Lattice, Structure
        from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

        lattice = Lattice.from_parameters(*self.cell)
        species = [orbit[0] for orbit in self.orbits]
        coordinates = [orbit[1:] for orbit in self.orbits]
        conventional = Structure.from_spacegroup(self.space_group, lattice, species, coordinates)
        return SpacegroupAnalyzer(conventional).find_primitive()


WYCKOFF = "Wyckoff, Crystal Structures, 2nd ed. (1963)"

FACTS: tuple[CrystalFact, ...] = (
    CrystalFact(
        "In",
        139,
        (3.2523, 3.2523, 4.9461, 90, 90, 90),
        (("In", 0, 0, 0),),
        "Deshpande & Pawar, Acta Cryst. A 25, 415 (1969)",
    ),
    CrystalFact(
        "I2",
        64,
        (7.136, 4.686, 9.784, 90, 90, 90),
        (("I", 0, 0.15434, 0.11741),),
        "van Bolhuis, Koster & Migchelsen, Acta Cryst. 23, 90 (1967)",
    ),
    CrystalFact(
        "P-black",
        64,
        (3.3136, 10.478, 4.3763, 90, 90, 90),
        (("P", 0, 0.10168, 0.08056),),
        "Brown & Rundqvist, Acta Cryst. 19, 684 (1965)",
    ),
    CrystalFact(
        "Li3P",
        194,
        (4.273, 4.273, 7.594, 90, 90, 120),
        (("P", 1 / 3, 2 / 3, 0.25), ("Li", 0, 0, 0.25), ("Li", 1 / 3, 2 / 3, 0.583)),
        "Brauer & Zintl, Z. Phys. Chem. B 37, 323 (1937)",
    ),
    CrystalFact("LiCl", 225, (5.140, 5.140, 5.140, 90, 90, 90), (("Li", 0, 0, 0), ("Cl", 0.5, 0.5, 0.5)), WYCKOFF),
    CrystalFact("LiF", 225, (4.026, 4.026, 4.026, 90, 90, 90), (("Li", 0, 0, 0), ("F", 0.5, 0.5, 0.5)), WYCKOFF),
    CrystalFact("Li2O", 225, (4.619, 4.619, 4.619, 90, 90, 90), (("O", 0, 0, 0), ("Li", 0.25, 0.25, 0.25)), WYCKOFF),
    CrystalFact("Li2S", 225, (5.708, 5.708, 5.708, 90, 90, 90), (("S", 0, 0, 0), ("Li", 0.25, 0.25, 0.25)), WYCKOFF),
    CrystalFact("NiO", 225, (4.177, 4.177, 4.177, 90, 90, 90), (("Ni", 0, 0, 0), ("O", 0.5, 0.5, 0.5)), WYCKOFF),
    CrystalFact(
        "LiCoO2",
        166,
        (2.8161, 2.8161, 14.0536, 90, 90, 120),
        (("Li", 0, 0, 0), ("Co", 0, 0, 0.5), ("O", 0, 0, 0.23951)),
        "Akimoto, Gotoh & Oosawa, J. Solid State Chem. 141, 298 (1998)",
    ),
    CrystalFact(
        "LiNiO2",
        166,
        (2.878, 2.878, 14.19, 90, 90, 120),
        (("Li", 0, 0, 0), ("Ni", 0, 0, 0.5), ("O", 0, 0, 0.242)),
        "Dyer, Borie & Smith, J. Am. Chem. Soc. 76, 1499 (1954)",
    ),
    CrystalFact(
        "Li2MnO3",
        12,
        (4.937, 8.532, 5.030, 90, 109.46, 90),
        (
            ("Mn", 0, 0.1671, 0),
            ("Li", 0, 0.5, 0),
            ("Li", 0, 0, 0.5),
            ("Li", 0, 0.6606, 0.5),
            ("O", 0.2189, 0, 0.2273),
            ("O", 0.2540, 0.3214, 0.2233),
        ),
        "Strobel & Lambert-Andron, J. Solid State Chem. 75, 90 (1988)",
    ),
    CrystalFact(
        "LiFePO4",
        62,
        (10.3377, 6.0112, 4.6950, 90, 90, 90),
        (
            ("Li", 0, 0, 0),
            ("Fe", 0.28222, 0.25, 0.97472),
            ("P", 0.09486, 0.25, 0.41820),
            ("O", 0.0968, 0.25, 0.7428),
            ("O", 0.4571, 0.25, 0.2060),
            ("O", 0.1656, 0.0465, 0.2848),
        ),
        "Streltsov, Belokoneva, Tsirelson & Hansen, Acta Cryst. B 49, 147 (1993)",
    ),
)
"""Elements and cathodes missing from the tables, polymorphs that matter, and four salts as a check against the tables."""

ISOSTRUCTURAL: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("Li3InCl6", "lithium_yttrium_bromide", {"Y": "In", "Br": "Cl"}, "C2/m: Li et al., Angew. Chem. Int. Ed. 58, 16427 (2019)"),
    ("Li6PS5Br", "argyrodite", {"Cl": "Br"}, "Deiseroth et al., Angew. Chem. Int. Ed. 47, 755 (2008)"),
    ("Li6PS5I", "argyrodite", {"Cl": "I"}, "Deiseroth et al., Angew. Chem. Int. Ed. 47, 755 (2008)"),
    ("Li10SiP2S12", "lgps", {"Ge": "Si"}, "Whiteley et al., J. Electrochem. Soc. 161, A1812 (2014)"),
    ("Li10SnP2S12", "lgps", {"Ge": "Sn"}, "Bron et al., J. Am. Chem. Soc. 135, 15694 (2013)"),
)
"""Further electrolytes of a prototype's structure type: (name, prototype, parent element -> element, reference).

The cell is the parent's; the relaxation finds the volume.
"""
