"""Compounds of complex anions: phosphates, silicates, carbonates, tungstates, garnets."""

from __future__ import annotations

from sse_diffusion.data.prototypes.prototype import Prototype, Role, Site, cubic, hexagonal, orthorhombic, tetragonal

POLYANION = (
    Prototype(
        "olivine", "Pnma", 62, orthorhombic(10.332, 6.010, 4.692),
        {"A": Role("Li", 1), "M": Role("Fe", 2), "T": Role("P", 5), "X": Role("O", -2)},
        (
            Site("A", "4a", 0, 0, 0), Site("M", "4c", 0.2822, 0.25, 0.9747), Site("T", "4c", 0.0949, 0.25, 0.4182),
            Site("X", "4c", 0.0968, 0.25, 0.7428), Site("X", "4c", 0.4571, 0.25, 0.2060), Site("X", "8d", 0.1656, 0.0465, 0.2848),
        ),
        "LiFePO4: V. A. Streltsov, E. L. Belokoneva, V. G. Tsirelson, N. K. Hansen, Acta Cryst. B 49, 147 (1993)",
        ((1, 3, 4, -2), (2, 2, 4, -2), (1, 1, 6, -2)),
    ),
    Prototype(
        "nasicon", "R-3c", 167, hexagonal(8.8043, 22.7585),
        {"A": Role("Na", 1), "M": Role("Zr", 4), "T": Role("P", 5), "X": Role("O", -2)},
        (
            Site("A", "6b", 0, 0, 0), Site("M", "12c", 0, 0, 0.14568), Site("T", "18e", 0.2909, 0, 0.25),
            Site("X", "36f", 0.1856, -0.0136, 0.19496), Site("X", "36f", 0.1916, 0.1678, 0.0868),
        ),
        "NaZr2(PO4)3: L.-O. Hagman, P. Kierkegaard, Acta Chem. Scand. 22, 1822 (1968)",
    ),
    Prototype(
        "garnet", "Ia-3d", 230, cubic(11.848),
        {"A": Role("Ca", 2), "M": Role("Al", 3), "T": Role("Si", 4), "X": Role("O", -2)},
        (
            Site("A", "24c", 0.125, 0, 0.25), Site("M", "16a", 0, 0, 0), Site("T", "24d", 0.375, 0, 0.25),
            Site("X", "96h", 0.0381, 0.0449, 0.6514),
        ),
        "grossular Ca3Al2(SiO4)3: G. A. Novak, G. V. Gibbs, Am. Mineral. 56, 791 (1971); the Li3Nd3Te2O12 type "
        "is its decoration with charges 3, 6, 1: M. P. O'Callaghan et al., Chem. Mater. 18, 4681 (2006)",
        ((3, 6, 1, -2), (3, 3, 3, -2), (1, 3, 1, -1)),
    ),
    Prototype(
        "tetragonal_llzo", "I4_1/acd", 142, tetragonal(13.134, 12.663),
        {"A": Role("Li", 1), "L": Role("La", 3), "M": Role("Zr", 4), "X": Role("O", -2)},
        (
            Site("A", "8a", 0, 0.25, 0.375), Site("A", "16f", 0.1813, 0.4313, 0.125), Site("A", "32g", 0.0796, 0.0863, 0.8099),
            Site("L", "8b", 0, 0.25, 0.125), Site("L", "16e", 0.1270, 0, 0.25), Site("M", "16c", 0, 0, 0),
            Site("X", "32g", -0.0335, 0.0546, 0.1528), Site("X", "32g", 0.0537, 0.8527, 0.5332),
            Site("X", "32g", 0.1496, 0.0277, 0.4458),
        ),
        "Li7La3Zr2O12: J. Awaka, N. Kijima, H. Hayakawa, J. Akimoto, J. Solid State Chem. 182, 2046 (2009)",
        origin=(0, -0.25, 0.125),
    ),
    Prototype(
        "gamma_lithium_phosphate", "Pnma", 62, orthorhombic(10.490, 6.120, 4.9266),
        {"A": Role("Li", 1), "T": Role("P", 5), "X": Role("O", -2)},
        (
            Site("A", "8d", 0.1639, 0.5013, 0.3013), Site("A", "4c", 0.4237, 0.75, 0.2056), Site("T", "4c", 0.4115, 0.25, 0.3083),
            Site("X", "8d", 0.3417, 0.0430, 0.2057), Site("X", "4c", 0.0505, 0.25, 0.2937), Site("X", "4c", 0.0897, 0.75, 0.1227),
        ),
        "gamma-Li3PO4: O. V. Yakubovich, V. S. Urusov, Crystallogr. Rep. 42, 261 (1997)",
    ),
    Prototype(
        "beta_lithium_phosphate", "Pmn2_1", 31, orthorhombic(6.1150, 5.2394, 4.8554),
        {"A": Role("Li", 1), "T": Role("P", 5), "X": Role("O", -2)},
        (
            Site("A", "4b", 0.248, 0.328, 0.986), Site("A", "2a", 0.5, 0.843, 0.989), Site("T", "2a", 0, 0.824, 0.0),
            Site("X", "4b", 0.2080, 0.6863, 0.8973), Site("X", "2a", 0, 0.1052, 0.9004), Site("X", "2a", 0, 0.8150, 0.3178),
        ),
        "beta-Li3PO4: C. Keffer, A. D. Mighell, F. Mauer, H. Swanson, S. Block, Inorg. Chem. 6, 119 (1967)",
    ),
    Prototype(
        "calcite", "R-3c", 167, hexagonal(4.9896, 17.061),
        {"A": Role("Ca", 2), "T": Role("C", 4), "X": Role("O", -2)},
        (Site("A", "6b", 0, 0, 0), Site("T", "6a", 0, 0, 0.25), Site("X", "18e", 0.2568, 0, 0.25)),
        "CaCO3: H. Effenberger, K. Mereiter, J. Zemann, Z. Kristallogr. 156, 233 (1981)", ((3, 3, -2), (1, 5, -2)),
    ),
    Prototype(
        "scheelite", "I4_1/a", 88, tetragonal(5.243, 11.376),
        {"A": Role("Ca", 2), "T": Role("W", 6), "X": Role("O", -2)},
        (Site("A", "4b", 0, 0.25, 0.625), Site("T", "4a", 0, 0.25, 0.125), Site("X", "16f", 0.1507, 0.0086, 0.2106)),
        "CaWO4: R. M. Hazen, L. W. Finger, J. W. E. Mariathasan, J. Phys. Chem. Solids 46, 253 (1985)",
        ((1, 7, -2), (3, 5, -2)), (0, 0.25, 0.125),
    ),
    Prototype(
        "zircon", "I4_1/amd", 141, tetragonal(6.607, 5.982),
        {"A": Role("Zr", 4), "T": Role("Si", 4), "X": Role("O", -2)},
        (Site("A", "4a", 0, 0.75, 0.125), Site("T", "4b", 0, 0.25, 0.375), Site("X", "16h", 0, 0.0661, 0.1953)),
        "ZrSiO4: K. Robinson, G. V. Gibbs, P. H. Ribbe, Am. Mineral. 56, 782 (1971)", ((3, 5, -2), (2, 6, -2)), (0, -0.25, 0.125),
    ),
    Prototype(
        "sulvanite", "P-43m", 215, cubic(5.3912),
        {"A": Role("Cu", 1), "T": Role("V", 5), "X": Role("S", -2)},
        (Site("T", "1a", 0, 0, 0), Site("A", "3d", 0.5, 0, 0), Site("X", "4e", 0.2372, 0.2372, 0.2372)),
        "Cu3VS4: F. J. Trojer, Am. Mineral. 51, 890 (1966)",
    ),
)
"""Complex oxo-anions and garnets."""
