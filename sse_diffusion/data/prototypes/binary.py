"""Binary structure types."""

from __future__ import annotations

from sse_diffusion.data.prototypes.prototype import Prototype, Role, Site, cubic, hexagonal, monoclinic, tetragonal

WYCKOFF_1963 = "R. W. G. Wyckoff, Crystal Structures, 2nd ed., vol. 1, Interscience (1963)"

BINARY = (
    Prototype(
        "rock_salt", "Fm-3m", 225, cubic(5.6402),
        {"A": Role("Na", 1), "X": Role("Cl", -1)},
        (Site("A", "4a", 0, 0, 0), Site("X", "4b", 0.5, 0.5, 0.5)),
        WYCKOFF_1963, ((2, -2), (3, -3)),
    ),
    Prototype(
        "caesium_chloride", "Pm-3m", 221, cubic(4.123),
        {"A": Role("Cs", 1), "X": Role("Cl", -1)},
        (Site("A", "1a", 0, 0, 0), Site("X", "1b", 0.5, 0.5, 0.5)),
        WYCKOFF_1963, ((2, -2),),
    ),
    Prototype(
        "zinc_blende", "F-43m", 216, cubic(5.4093),
        {"A": Role("Zn", 2), "X": Role("S", -2)},
        (Site("A", "4a", 0, 0, 0), Site("X", "4c", 0.25, 0.25, 0.25)),
        "B. J. Skinner, Am. Mineral. 46, 1399 (1961)", ((1, -1), (3, -3)),
    ),
    Prototype(
        "wurtzite", "P6_3mc", 186, hexagonal(3.8227, 6.2607),
        {"A": Role("Zn", 2), "X": Role("S", -2)},
        (Site("A", "2b", 1 / 3, 2 / 3, 0), Site("X", "2b", 1 / 3, 2 / 3, 0.3748)),
        "E. H. Kisi, M. M. Elcombe, Acta Cryst. C 45, 1867 (1989)", ((1, -1), (3, -3)),
    ),
    Prototype(
        "nickel_arsenide", "P6_3/mmc", 194, hexagonal(4.143, 6.703),
        {"A": Role("Mn", 2), "X": Role("Te", -2)},
        (Site("A", "2a", 0, 0, 0), Site("X", "2c", 1 / 3, 2 / 3, 0.25)),
        "MnTe: S. Greenwald, Acta Cryst. 6, 396 (1953)", ((3, -3),),
    ),
    Prototype(
        "fluorite", "Fm-3m", 225, cubic(5.4626),
        {"A": Role("Ca", 2), "X": Role("F", -1)},
        (Site("A", "4a", 0, 0, 0), Site("X", "8c", 0.25, 0.25, 0.25)),
        WYCKOFF_1963, ((4, -2),),
    ),
    Prototype(
        "antifluorite", "Fm-3m", 225, cubic(5.710),
        {"X": Role("S", -2), "A": Role("Li", 1)},
        (Site("X", "4a", 0, 0, 0), Site("A", "8c", 0.25, 0.25, 0.25)),
        "Li2S: E. Zintl, A. Harder, B. Dauth, Z. Elektrochem. 40, 588 (1934)",
    ),
    Prototype(
        "rutile", "P4_2/mnm", 136, tetragonal(4.5937, 2.9581),
        {"A": Role("Ti", 4), "X": Role("O", -2)},
        (Site("A", "2a", 0, 0, 0), Site("X", "4f", 0.3053, 0.3053, 0)),
        WYCKOFF_1963, ((2, -1),),
    ),
    Prototype(
        "anatase", "I4_1/amd", 141, tetragonal(3.785, 9.514),
        {"A": Role("Ti", 4), "X": Role("O", -2)},
        (Site("A", "4a", 0, 0.75, 0.125), Site("X", "8e", 0, 0.25, 0.0817)),
        "C. J. Howard, T. M. Sabine, F. Dickson, Acta Cryst. B 47, 462 (1991)", origin=(0, -0.25, 0.125),
    ),
    Prototype(
        "cuprite", "Pn-3m:2", 224, cubic(4.2696),
        {"A": Role("Cu", 1, ("Cu", "Ag", "Au")), "X": Role("O", -2)},
        (Site("A", "4b", 0, 0, 0), Site("X", "2a", 0.25, 0.25, 0.25)),
        WYCKOFF_1963,
    ),
    Prototype(
        "cadmium_iodide", "P-3m1", 164, hexagonal(4.244, 6.859),
        {"A": Role("Cd", 2), "X": Role("I", -1)},
        (Site("A", "1a", 0, 0, 0), Site("X", "2d", 1 / 3, 2 / 3, 0.2492)),
        "B. Palosz, E. Salje, J. Appl. Cryst. 22, 622 (1989)", ((4, -2),),
    ),
    Prototype(
        "cadmium_chloride", "R-3m", 166, hexagonal(3.6363, 17.6663),
        {"A": Role("Mg", 2), "X": Role("Cl", -1)},
        (Site("A", "3a", 0, 0, 0), Site("X", "6c", 0, 0, 0.25784)),
        "MgCl2: I. W. Bassi, F. Polato, M. Calcaterra, J. C. J. Bart, Z. Kristallogr. 159, 297 (1982)", ((4, -2),),
    ),
    Prototype(
        "corundum", "R-3c", 167, hexagonal(4.7589, 12.991),
        {"A": Role("Al", 3), "X": Role("O", -2)},
        (Site("A", "12c", 0, 0, 0.3520), Site("X", "18e", 0.306, 0, 0.25)),
        "R. E. Newnham, Y. M. de Haan, Z. Kristallogr. 117, 235 (1962)",
    ),
    Prototype(
        "lanthanum_oxide", "P-3m1", 164, hexagonal(3.937, 6.130),
        {"A": Role("La", 3), "X": Role("O", -2)},
        (Site("A", "2d", 1 / 3, 2 / 3, 0.2454), Site("X", "2d", 1 / 3, 2 / 3, 0.6471), Site("X", "1a", 0, 0, 0)),
        "P. Aldebert, J. P. Traverse, Mater. Res. Bull. 14, 303 (1979)",
    ),
    Prototype(
        "bixbyite", "Ia-3", 206, cubic(10.604),
        {"A": Role("Y", 3), "X": Role("O", -2)},
        (Site("A", "8b", 0.25, 0.25, 0.25), Site("A", "24d", -0.0327, 0, 0.25), Site("X", "48e", 0.3907, 0.1520, 0.3804)),
        "Y2O3: M. G. Paton, E. N. Maslen, Acta Cryst. 19, 307 (1965)",
    ),
    Prototype(
        "rhenium_trioxide", "Pm-3m", 221, cubic(4.011),
        {"A": Role("Sc", 3), "X": Role("F", -1)},
        (Site("A", "1a", 0, 0, 0), Site("X", "3d", 0.5, 0, 0)),
        "ScF3: B. K. Greve et al., J. Am. Chem. Soc. 132, 15496 (2010)", ((6, -2),),
    ),
    Prototype(
        "bismuth_triiodide", "R-3", 148, hexagonal(7.525, 20.703),
        {"A": Role("Bi", 3), "X": Role("I", -1)},
        (Site("A", "6c", 0, 0, 0.1667), Site("X", "18f", 0.3415, 0.3395, 0.0805)),
        "J. Trotter, T. Zobel, Z. Kristallogr. 123, 67 (1966)",
    ),
    Prototype(
        "yttrium_trichloride", "C2/m", 12, monoclinic(6.92, 11.94, 6.44, 111.0),
        {"A": Role("Y", 3), "X": Role("Cl", -1)},
        (Site("A", "4g", 0, 0.166, 0), Site("X", "4i", 0.211, 0, 0.247), Site("X", "8j", 0.229, 0.179, 0.760)),
        "D. H. Templeton, G. F. Carter, J. Phys. Chem. 58, 940 (1954)",
    ),
    Prototype(
        "uranium_trichloride", "P6_3/m", 176, hexagonal(7.478, 4.375),
        {"A": Role("La", 3), "X": Role("Cl", -1)},
        (Site("A", "2c", 1 / 3, 2 / 3, 0.25), Site("X", "6h", 0.3874, 0.3016, 0.25)),
        "LaCl3: B. Morosin, J. Chem. Phys. 49, 3007 (1968)",
    ),
    Prototype(
        "lithium_nitride", "P6/mmm", 191, hexagonal(3.648, 3.875),
        {"A": Role("Li", 1), "X": Role("N", -3)},
        (Site("X", "1a", 0, 0, 0), Site("A", "2c", 1 / 3, 2 / 3, 0), Site("A", "1b", 0, 0, 0.5)),
        "A. Rabenau, H. Schulz, J. Less-Common Met. 50, 155 (1976)",
    ),
    Prototype(
        "sodium_arsenide", "P6_3/mmc", 194, hexagonal(4.264, 7.579),
        {"A": Role("Li", 1), "X": Role("P", -3)},
        (Site("X", "2c", 1 / 3, 2 / 3, 0.25), Site("A", "2b", 0, 0, 0.25), Site("A", "4f", 1 / 3, 2 / 3, 0.583)),
        "Li3P: Y. Dong, F. J. DiSalvo, Acta Cryst. E 63, i97 (2007)",
    ),
    Prototype(
        "beta_silicon_nitride", "P6_3/m", 176, hexagonal(7.608, 2.911),
        {"A": Role("Si", 4), "X": Role("N", -3)},
        (Site("A", "6h", 0.174, 0.766, 0.25), Site("X", "6h", 0.321, 0.025, 0.25), Site("X", "2c", 1 / 3, 2 / 3, 0.25)),
        "D. Hardie, K. H. Jack, Nature 180, 332 (1957)",
    ),
    Prototype(
        "alpha_quartz", "P3_221", 154, hexagonal(4.9134, 5.4052),
        {"A": Role("Si", 4), "X": Role("O", -2)},
        (Site("A", "3a", 0.4699, 0, 2 / 3), Site("X", "6c", 0.4141, 0.2681, 0.7854)),
        "W. H. Baur, Z. Kristallogr. 224, 580 (2009)", ((2, -1),),
    ),
    Prototype(
        "cotunnite", "Pnma", 62, (7.620, 4.534, 9.045, 90.0, 90.0, 90.0),
        {"A": Role("Pb", 2), "X": Role("Cl", -1)},
        (Site("A", "4c", 0.2459, 0.25, 0.0958), Site("X", "4c", 0.3596, 0.25, 0.4265), Site("X", "4c", 0.4768, 0.25, 0.8370)),
        WYCKOFF_1963, ((4, -2), (-2, 1)),
    ),
)
"""Structure types AX, AX2, A2X3, AX3, A3X, A3X4."""
