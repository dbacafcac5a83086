"""Ternary halides, mixed-anion layers and fluorides."""

from __future__ import annotations

from sse_diffusion.data.prototypes.prototype import Prototype, Role, Site, cubic, hexagonal, monoclinic, tetragonal

HALIDE = (
    Prototype(
        "hexachloroplatinate",
        "Fm-3m",
        225,
        cubic(9.743),
        {"A": Role("K", 1), "B": Role("Pt", 4), "X": Role("Cl", -1)},
        (Site("A", "8c", 0.25, 0.25, 0.25), Site("B", "4a", 0, 0, 0), Site("X", "24e", 0.2394, 0, 0)),
        "K2PtCl6: S. Ohba, S. Sato, Y. Saito, K. Ohshima, J. Harada, Acta Cryst. B 39, 49 (1983)",
    ),
    Prototype(
        "elpasolite",
        "Fm-3m",
        225,
        cubic(8.118),
        {"A": Role("K", 1), "B": Role("Na", 1), "C": Role("Al", 3), "X": Role("F", -1)},
        (
            Site("A", "8c", 0.25, 0.25, 0.25),
            Site("B", "4b", 0.5, 0.5, 0.5),
            Site("C", "4a", 0, 0, 0),
            Site("X", "24e", 0.219, 0, 0),
        ),
        "K2NaAlF6: L. R. Morss, J. Inorg. Nucl. Chem. 36, 3876 (1974)",
        ((2, 1, 7, -2), (2, 2, 6, -2), (2, 3, 5, -2)),
    ),
    Prototype(
        "cryolite",
        "P12_1/n1",
        14,
        monoclinic(5.4139, 5.6012, 7.7769, 90.183),
        {"A": Role("Na", 1), "C": Role("Al", 3), "X": Role("F", -1)},
        (
            Site("A", "2b", 0, 0, 0.5),
            Site("A", "4e", 0.5133, -0.0519, 0.2474),
            Site("C", "2a", 0, 0, 0),
            Site("X", "4e", 0.1026, 0.0450, 0.2194),
            Site("X", "4e", -0.2734, 0.1738, 0.0462),
            Site("X", "4e", 0.1640, 0.2687, -0.0630),
        ),
        "Na3AlF6: F. C. Hawthorne, R. B. Ferguson, Can. Mineral. 13, 377 (1975)",
    ),
    Prototype(
        "lithium_yttrium_chloride",
        "P321",
        150,
        hexagonal(11.20, 6.04),
        {"A": Role("Li", 1), "B": Role("Y", 3), "X": Role("Cl", -1)},
        (
            Site("B", "1a", 0, 0, 0),
            Site("B", "2d", 1 / 3, 2 / 3, 0.49),
            Site("A", "3e", 0.337, 0, 0),
            Site("A", "3e", 0.663, 0, 0),
            Site("A", "3f", 0.337, 0, 0.5),
            Site("X", "6g", 0.111, 0.889, 0.767),
            Site("X", "6g", 0.221, 0.779, 0.265),
            Site("X", "6g", 0.446, 0.554, 0.767),
        ),
        "Li3YCl6, ordered approximant in P321 of the P-3m1 structure with half-filled Li 6h: "
        "A. Bohnsack et al., Z. Anorg. Allg. Chem. 623, 1067 (1997); T. Asano et al., Adv. Mater. 30, 1803075 (2018)",
    ),
    Prototype(
        "lithium_yttrium_bromide",
        "C2/m",
        12,
        monoclinic(6.88, 11.91, 6.83, 109.2),
        {"A": Role("Li", 1), "B": Role("Y", 3), "X": Role("Br", -1)},
        (
            Site("B", "2a", 0, 0, 0),
            Site("A", "4g", 0, 0.333, 0),
            Site("A", "2d", 0, 0.5, 0.5),
            Site("X", "8j", 0.242, 0.161, 0.235),
            Site("X", "4i", 0.244, 0, 0.765),
        ),
        "Li3YBr6 (ordered occupation): A. Bohnsack, G. Balzer, M. S. Wickleder, H.-U. Guedel, G. Meyer, "
        "Z. Anorg. Allg. Chem. 623, 1352 (1997); T. Asano et al., Adv. Mater. 30, 1803075 (2018)",
    ),
    Prototype(
        "lithium_hexafluorozirconate",
        "P-31m",
        162,
        hexagonal(4.973, 4.658),
        {"A": Role("Li", 1), "B": Role("Zr", 4), "X": Role("F", -1)},
        (Site("B", "1a", 0, 0, 0), Site("A", "2d", 1 / 3, 2 / 3, 0.5), Site("X", "6k", 0.328, 0, 0.255)),
        "Li2ZrF6: G. Brunton, Acta Cryst. B 29, 2294 (1973)",
    ),
    Prototype(
        "matlockite",
        "P4/nmm:2",
        129,
        tetragonal(4.119, 6.883),
        {"A": Role("La", 3), "X": Role("O", -2), "Y": Role("Cl", -1)},
        (Site("A", "2c", 0.25, 0.25, 0.178), Site("X", "2a", 0.75, 0.25, 0), Site("Y", "2c", 0.25, 0.25, 0.635)),
        "LaOCl: R. W. G. Wyckoff, Crystal Structures, vol. 1 (1963)",
        ((2, -1, -1),),
    ),
    Prototype(
        "caesium_nickel_chloride",
        "P6_3/mmc",
        194,
        hexagonal(7.262, 6.187),
        {"A": Role("Cs", 1), "B": Role("Mg", 2), "X": Role("Cl", -1)},
        (Site("A", "2d", 1 / 3, 2 / 3, 0.75), Site("B", "2a", 0, 0, 0), Site("X", "6h", 0.1570, 0.3140, 0.25)),
        "CsNiCl3 type, CsMgCl3: G. L. McPherson, T. J. Kistenmacher, G. D. Stucky, J. Chem. Phys. 52, 815 (1970)",
        ((2, 4, -2),),
    ),
    Prototype(
        "scheelite_fluoride",
        "I4_1/a",
        88,
        tetragonal(5.164, 10.741),
        {"A": Role("Li", 1), "B": Role("Y", 3), "X": Role("F", -1)},
        (Site("A", "4a", 0, 0.25, 0.125), Site("B", "4b", 0, 0.25, 0.625), Site("X", "16f", 0.2173, 0.4151, 0.4565)),
        "LiYF4: E. Garcia, R. R. Ryan, Acta Cryst. C 49, 2053 (1993)",
        origin=(0, 0.25, 0.125),
    ),
)
"""Halides, oxyhalides and fluorides."""
