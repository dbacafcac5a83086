"""Solid electrolytes of thiophosphates: argyrodite, LGPS, lithium and sodium thiophosphate."""

from __future__ import annotations

from sse_diffusion.data.prototypes.prototype import Prototype, Role, Site, cubic, hexagonal, orthorhombic, tetragonal

SULFIDE = (
    Prototype(
        "argyrodite",
        "R3",
        146,
        hexagonal(6.9714, 17.0763),
        {"A": Role("Li", 1), "T": Role("P", 5), "X": Role("S", -2), "Y": Role("Cl", -1)},
        (
            Site("A", "9b", 0.5453, 0.7727, 0.7967),
            Site("A", "9b", 0.3500, 0.3820, 0.9920),
            Site("T", "3a", 2 / 3, 1 / 3, 0.8333),
            Site("X", "3a", 1 / 3, 2 / 3, 0.9167),
            Site("X", "9b", 0.4920, 0.9840, 0.1270),
            Site("X", "3a", 2 / 3, 1 / 3, 0.9523),
            Site("Y", "3a", 0, 0, 0),
        ),
        "Li6PS5Cl, F-43m with half-filled Li 48h; ordered approximant in R3 (a/sqrt2, a*sqrt3; one Li of each 48h pair): "
        "H.-J. Deiseroth et al., Angew. Chem. Int. Ed. 47, 755 (2008); M. A. Kraft et al., J. Am. Chem. Soc. 139, 10909 (2017)",
    ),
    Prototype(
        "lgps",
        "P-4m2",
        115,
        tetragonal(8.714, 12.607),
        {"A": Role("Li", 1), "G": Role("Ge", 4), "T": Role("P", 5), "X": Role("S", -2)},
        (
            Site("A", "8l", 0.7564, 0.7721, 0.3172),
            Site("A", "4h", 0.7522, 0.2478, 0),
            Site("A", "2f", 0.5, 0.5, 0.2494),
            Site("A", "2e", 0, 0, 0.7494),
            Site("A", "2g", 0.5, 0, 0.5552),
            Site("A", "2g", 0.5, 0, 0.0552),
            Site("G", "2g", 0.5, 0, 0.8093),
            Site("T", "2g", 0.5, 0, 0.3093),
            Site("T", "1b", 0.5, 0.5, 0),
            Site("T", "1d", 0, 0, 0.5),
            Site("X", "4k", 0.5, 0.6842, 0.0918),
            Site("X", "4j", 0.8158, 0, 0.5918),
            Site("X", "4k", 0.5, 0.7962, 0.4049),
            Site("X", "4j", 0.7038, 0, 0.9049),
            Site("X", "4k", 0.5, 0.1988, 0.7095),
            Site("X", "4j", 0.3012, 0, 0.2095),
        ),
        "Li10GeP2S12, ordered approximant in P-4m2 of the P4_2/nmc structure (Ge and P ordered on 4d, Li without short "
        "contacts): A. Kuhn, J. Koehler, B. V. Lotsch, Phys. Chem. Chem. Phys. 15, 11620 (2013); "
        "N. Kamaya et al., Nat. Mater. 10, 682 (2011)",
    ),
    Prototype(
        "gamma_lithium_thiophosphate",
        "Pmn2_1",
        31,
        orthorhombic(7.7083, 6.5353, 6.1365),
        {"A": Role("Li", 1), "T": Role("P", 5), "X": Role("S", -2)},
        (
            Site("A", "4b", 0.2440, 0.3315, 0.0),
            Site("A", "2a", 0, 0.1533, 0.4888),
            Site("T", "2a", 0, 0.8186, 0.0),
            Site("X", "4b", 0.2177, 0.6713, 0.8944),
            Site("X", "2a", 0, 0.1024, 0.8898),
            Site("X", "2a", 0, 0.8074, 0.3264),
        ),
        "gamma-Li3PS4: K. Homma et al., Solid State Ionics 182, 53 (2011)",
    ),
    Prototype(
        "beta_lithium_thiophosphate",
        "Pnma",
        62,
        orthorhombic(12.819, 8.219, 6.1236),
        {"A": Role("Li", 1), "T": Role("P", 5), "X": Role("S", -2)},
        (
            Site("A", "8d", 0.336, 0.027, 0.387),
            Site("A", "4b", 0, 0, 0.5),
            Site("T", "4c", 0.0892, 0.25, 0.1513),
            Site("X", "8d", 0.1541, 0.0290, 0.2760),
            Site("X", "4c", 0.9353, 0.25, 0.2650),
            Site("X", "4c", 0.1056, 0.25, 0.8220),
        ),
        "beta-Li3PS4, ordered approximant (Li2 on 4b filled, Li3 empty, Li1 at the centre of its tetrahedron): "
        "K. Homma et al., Solid State Ionics 182, 53 (2011)",
    ),
    Prototype(
        "cubic_sodium_thiophosphate",
        "I-43m",
        217,
        cubic(6.9965),
        {"A": Role("Na", 1), "T": Role("P", 5), "X": Role("S", -2)},
        (Site("T", "2a", 0, 0, 0), Site("A", "6b", 0, 0.5, 0.5), Site("X", "8c", 0.169, 0.169, 0.169)),
        "Na3PS4, average structure with Na on 6b: A. Hayashi, K. Noi, A. Sakuda, M. Tatsumisago, Nat. Commun. 3, 856 (2012)",
        ((1, 5, -2),),
    ),
    Prototype(
        "tetragonal_sodium_thiophosphate",
        "P-42_1c",
        114,
        tetragonal(6.952, 7.076),
        {"A": Role("Na", 1), "T": Role("P", 5), "X": Role("S", -2)},
        (
            Site("A", "2a", 0, 0, 0),
            Site("A", "4d", 0, 0.5, 0.417),
            Site("T", "2b", 0, 0, 0.5),
            Site("X", "8e", 0.313, 0.348, 0.166),
        ),
        "Na3PS4: M. Jansen, U. Henseler, J. Solid State Chem. 99, 110 (1992)",
    ),
)
"""Thiophosphates and their relatives."""
