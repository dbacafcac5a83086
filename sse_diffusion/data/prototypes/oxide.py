"""Ternary structure types of close packing: perovskites, spinels, layered oxides, ilmenite and their relatives."""

from __future__ import annotations

from sse_diffusion.data.prototypes.prototype import Prototype, Role, Site, cubic, hexagonal, monoclinic, orthorhombic, tetragonal

OXIDE = (
    Prototype(
        "perovskite", "Pm-3m", 221, cubic(3.905),
        {"A": Role("Sr", 2), "B": Role("Ti", 4), "X": Role("O", -2)},
        (Site("A", "1a", 0.5, 0.5, 0.5), Site("B", "1b", 0, 0, 0), Site("X", "3c", 0.5, 0, 0)),
        "SrTiO3: R. W. G. Wyckoff, Crystal Structures, vol. 2 (1964)",
        ((1, 5, -2), (3, 3, -2), (1, 2, -1), (2, 1, -1)),
    ),
    Prototype(
        "antiperovskite", "Pm-3m", 221, cubic(3.91),
        {"Y": Role("Cl", -1), "X": Role("O", -2), "M": Role("Li", 1)},
        (Site("Y", "1a", 0.5, 0.5, 0.5), Site("X", "1b", 0, 0, 0), Site("M", "3c", 0.5, 0, 0)),
        "Li3OCl: Y. Zhao, L. L. Daemen, J. Am. Chem. Soc. 134, 15042 (2012)", ((-3, -3, 2),),
    ),
    Prototype(
        "orthorhombic_perovskite", "Pnma", 62, orthorhombic(5.4423, 7.6401, 5.3796),
        {"A": Role("Ca", 2), "B": Role("Ti", 4), "X": Role("O", -2)},
        (
            Site("A", "4c", 0.0353, 0.25, 0.9930), Site("B", "4b", 0, 0, 0.5),
            Site("X", "4c", 0.4838, 0.25, 0.0707), Site("X", "8d", 0.2889, 0.0371, 0.7112),
        ),
        "CaTiO3: S. Sasaki, C. T. Prewitt, J. D. Bass, W. A. Schulze, Acta Cryst. C 43, 1668 (1987)",
        ((3, 3, -2), (1, 2, -1), (1, 5, -2)),
    ),
    Prototype(
        "ruddlesden_popper", "I4/mmm", 139, tetragonal(4.013, 13.088),
        {"A": Role("K", 1), "B": Role("Ni", 2), "X": Role("F", -1)},
        (
            Site("A", "4e", 0, 0, 0.3535), Site("B", "2a", 0, 0, 0),
            Site("X", "4c", 0, 0.5, 0), Site("X", "4e", 0, 0, 0.1531),
        ),
        "K2NiF4: S. K. Yeh, S. Y. Wu, C. S. Lee, Y. Wang, Acta Cryst. B 49, 806 (1993)",
        ((2, 4, -2), (1, 2, -1), (-1, -2, 1)),
    ),
    Prototype(
        "spinel", "Fd-3m:2", 227, cubic(8.0832),
        {"A": Role("Mg", 2), "B": Role("Al", 3), "X": Role("O", -2)},
        (Site("A", "8a", 0.125, 0.125, 0.125), Site("B", "16d", 0.5, 0.5, 0.5), Site("X", "32e", 0.2624, 0.2624, 0.2624)),
        "MgAl2O4: R. J. Hill, J. R. Craig, G. V. Gibbs, Phys. Chem. Minerals 4, 317 (1979)",
        ((4, 2, -2), (6, 1, -2), (2, 1, -1)),
    ),
    Prototype(
        "ordered_inverse_spinel", "P4_332", 212, cubic(8.334),
        {"A": Role("Li", 1), "B": Role("Fe", 3), "X": Role("O", -2)},
        (
            Site("A", "4b", 0.625, 0.625, 0.625), Site("B", "8c", 0.9984, 0.9984, 0.9984),
            Site("B", "12d", 0.125, 0.3679, 0.8821), Site("X", "8c", 0.3857, 0.3857, 0.3857),
            Site("X", "24e", 0.1173, 0.1290, 0.3847),
        ),
        "LiFe5O8: A. Tomas, P. Laruelle, J. L. Dormann, M. Nogues, Acta Cryst. C 39, 1615 (1983)",
    ),
    Prototype(
        "alpha_sodium_ferrite", "R-3m", 166, hexagonal(2.8161, 14.0536),
        {"A": Role("Li", 1), "B": Role("Co", 3), "X": Role("O", -2)},
        (Site("A", "3a", 0, 0, 0), Site("B", "3b", 0, 0, 0.5), Site("X", "6c", 0, 0, 0.2395)),
        "LiCoO2: J. Akimoto, Y. Gotoh, Y. Oosawa, J. Solid State Chem. 141, 298 (1998)", ((1, 5, -3),),
    ),
    Prototype(
        "delafossite", "R-3m", 166, hexagonal(3.035, 17.166),
        {"A": Role("Cu", 1, ("Cu", "Ag")), "B": Role("Fe", 3), "X": Role("O", -2)},
        (Site("A", "3a", 0, 0, 0), Site("B", "3b", 0, 0, 0.5), Site("X", "6c", 0, 0, 0.1066)),
        "CuFeO2: C. T. Prewitt, R. D. Shannon, D. B. Rogers, Inorg. Chem. 10, 719 (1971)",
    ),
    Prototype(
        "lithium_manganate", "C2/m", 12, monoclinic(4.937, 8.532, 5.030, 109.46),
        {"A": Role("Li", 1), "B": Role("Mn", 4), "X": Role("O", -2)},
        (
            Site("B", "4g", 0, 0.1671, 0), Site("A", "2b", 0, 0.5, 0), Site("A", "2c", 0, 0, 0.5),
            Site("A", "4h", 0, 0.6606, 0.5),
            Site("X", "4i", 0.2189, 0, 0.2273), Site("X", "8j", 0.2540, 0.3212, 0.2233),
        ),
        "Li2MnO3: P. Strobel, B. Lambert-Andron, J. Solid State Chem. 75, 90 (1988)",
    ),
    Prototype(
        "gamma_lithium_aluminate", "P4_12_12", 92, tetragonal(5.1687, 6.2679),
        {"A": Role("Li", 1), "B": Role("Al", 3), "X": Role("O", -2)},
        (
            Site("A", "4a", 0.8126, 0.8126, 0), Site("B", "4a", 0.1759, 0.1759, 0),
            Site("X", "8b", 0.3369, 0.2906, 0.7723),
        ),
        "LiAlO2: M. Marezio, Acta Cryst. 19, 396 (1965)", ((1, 5, -3),),
    ),
    Prototype(
        "beta_sodium_ferrite", "Pna2_1", 33, orthorhombic(5.402, 6.372, 5.007),
        {"A": Role("Li", 1), "B": Role("Ga", 3), "X": Role("O", -2)},
        (
            Site("A", "4a", 0.4207, 0.1267, 0.4936), Site("B", "4a", 0.0821, 0.1263, 0.0),
            Site("X", "4a", 0.4066, 0.1388, 0.8927), Site("X", "4a", 0.0697, 0.1121, 0.3708),
        ),
        "LiGaO2: M. Marezio, Acta Cryst. 18, 481 (1965)", ((2, 4, -3),),
    ),
    Prototype(
        "chalcopyrite", "I-42d", 122, tetragonal(5.289, 10.423),
        {"A": Role("Cu", 1), "B": Role("Fe", 3), "X": Role("S", -2)},
        (Site("A", "4a", 0, 0, 0), Site("B", "4b", 0, 0, 0.5), Site("X", "8d", 0.2574, 0.25, 0.125)),
        "CuFeS2: S. R. Hall, J. M. Stewart, Acta Cryst. B 29, 579 (1973)", ((2, 4, -3), (1, 5, -3)),
    ),
    Prototype(
        "ilmenite", "R-3", 148, hexagonal(5.0884, 14.0855),
        {"A": Role("Fe", 2), "B": Role("Ti", 4), "X": Role("O", -2)},
        (
            Site("A", "6c", 0, 0, 0.35537), Site("B", "6c", 0, 0, 0.14640),
            Site("X", "18f", 0.31743, 0.02332, 0.24506),
        ),
        "FeTiO3: B. A. Wechsler, C. T. Prewitt, Am. Mineral. 69, 176 (1984)", ((1, 5, -2), (3, 3, -2)),
    ),
    Prototype(
        "lithium_niobate", "R3c", 161, hexagonal(5.148, 13.863),
        {"A": Role("Li", 1), "B": Role("Nb", 5), "X": Role("O", -2)},
        (Site("A", "6a", 0, 0, 0.2787), Site("B", "6a", 0, 0, 0), Site("X", "18b", 0.0476, 0.3433, 0.0633)),
        "LiNbO3: S. C. Abrahams, J. M. Reddy, J. L. Bernstein, J. Phys. Chem. Solids 27, 997 (1966)", ((2, 4, -2), (3, 3, -2)),
    ),
    Prototype(
        "trirutile", "P4_2/mnm", 136, tetragonal(4.749, 9.192),
        {"A": Role("Fe", 2), "B": Role("Ta", 5), "X": Role("O", -2)},
        (
            Site("A", "2a", 0, 0, 0), Site("B", "4e", 0, 0, 0.3315),
            Site("X", "4f", 0.305, 0.305, 0), Site("X", "8j", 0.297, 0.297, 0.326),
        ),
        "FeTa2O6: R. W. G. Wyckoff, Crystal Structures, vol. 3 (1965)", ((4, 4, -2),),
    ),
    Prototype(
        "lithium_metasilicate", "Cmc2_1", 36, orthorhombic(9.392, 5.397, 4.660),
        {"A": Role("Li", 1), "B": Role("Si", 4), "X": Role("O", -2)},
        (
            Site("A", "8b", 0.1745, 0.3448, 0.0), Site("B", "4a", 0, 0.1703, 0.5018),
            Site("X", "8b", 0.1446, 0.3077, 0.4200), Site("X", "4a", 0, 0.1145, 0.8590),
        ),
        "Li2SiO3: K.-F. Hesse, Acta Cryst. B 33, 901 (1977)",
    ),
)
"""Oxides and their halide and chalcogenide relatives."""
