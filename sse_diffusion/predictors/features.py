"""Composition features: element fractions, weighted statistics of elemental properties, charge balance.

The statistics follow Ward et al., npj Comput. Mater. 2, 16028 (2016) (mean, deviation, minimum, maximum, range); our own
code on pymatgen's element data. The property table travels inside the checkpoint, so features never drift with pymatgen.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core.periodic_table import Element

MAX_Z = 103
"""Heaviest element with a feature column (lawrencium)."""

PROPERTIES = (
    "electronegativity",
    "atomic_radius_A",
    "row",
    "group",
    "mendeleev_number",
    "valence_electrons",
    "melting_point_K",
    "first_ionisation_eV",
    "electron_affinity_eV",
    "molar_volume_cm3",
)

STATISTICS = ("mean", "deviation", "min", "max", "range")
EXTRAS = ("net_charge_per_atom", "n_elements", "log2_atoms_reduced", "largest_fraction", "ionic_character")

FEATURE_NAMES = (
    *(f"fraction_Z{z}" for z in range(1, MAX_Z + 1)),
    *(f"{p}_{s}" for s in STATISTICS for p in PROPERTIES),
    *EXTRAS,
)


@lru_cache(maxsize=1)
def element_table() -> NDArray[np.float32]:
    """Elemental properties, shape (MAX_Z + 1, len(PROPERTIES)); row 0 is unused; gaps hold the column's median."""
    from pymatgen.core.periodic_table import Element

    table = np.full((MAX_Z + 1, len(PROPERTIES)), np.nan)
    with warnings.catch_warnings():  # pymatgen warns once per gap; gaps are filled below
        warnings.simplefilter("ignore")
        for z in range(1, MAX_Z + 1):
            table[z] = _element_values(Element.from_Z(z))
    medians = np.nanmedian(table[1:], axis=0)
    return np.where(np.isnan(table), medians, table).astype(np.float32)


def _element_values(element: Element) -> list[float]:
    """The properties of one element, in the order of PROPERTIES; NaN where nothing is known."""
    values = (
        element.X,
        element.atomic_radius or element.atomic_radius_calculated,
        element.row,
        element.group,
        element.mendeleev_no,
        _valence_electrons(element.group, element.Z),
        element.melting_point,
        element.ionization_energy,
        element.electron_affinity,
        element.molar_volume,
    )
    return [math.nan if v is None else float(v) for v in values]


def _valence_electrons(group: int, z: int) -> int:
    """Electrons outside the noble-gas core, d electrons counted up to group 12; f elements count 3."""
    if 57 <= z <= 71 or 89 <= z <= 103:
        return 3
    if z == 2:
        return 2
    return group if group <= 12 else group - 10


@lru_cache(maxsize=1)
def oxidation_states() -> tuple[tuple[int, ...], ...]:
    """Common oxidation states by atomic number (empty for noble gases), pymatgen's list."""
    from pymatgen.core.periodic_table import Element

    return ((), *(tuple(Element.from_Z(z).common_oxidation_states) for z in range(1, MAX_Z + 1)))


def composition_features(
    compositions: Sequence[Mapping[int, float]], table: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Features of compositions.

    Args:
        compositions: atomic number -> count, each; scale does not matter except for whole counts, which are reduced.
        table: elemental properties (MAX_Z + 1, P); by default pymatgen's.

    Returns:
        (n, len(FEATURE_NAMES)) float32.

    Raises:
        KeyError: an atomic number outside 1..MAX_Z, or an empty composition.
    """
    values = element_table() if table is None else table
    n, width = len(compositions), max((len(c) for c in compositions), default=1)
    numbers = np.zeros((n, width), dtype=np.int64)
    weights = np.zeros((n, width))
    extras = np.zeros((n, len(EXTRAS)))
    for i, composition in enumerate(compositions):
        zs = sorted(composition)
        if not zs or zs[0] < 1 or zs[-1] > MAX_Z:
            raise KeyError(f"composition {dict(composition)} has no elements in 1..{MAX_Z}")
        counts = np.array([composition[z] for z in zs], dtype=float)
        numbers[i, : len(zs)] = zs
        weights[i, : len(zs)] = counts / counts.sum()
        extras[i] = _extras(zs, counts, values)
    fractions = np.zeros((n, MAX_Z + 1))
    np.put_along_axis(fractions, numbers, weights, axis=1)  # padding writes 0 into the unused column 0
    statistics = _statistics(values[numbers].astype(float), weights)
    return np.concatenate([fractions[:, 1:], statistics, extras], axis=1).astype(np.float32)


def _statistics(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean, mean absolute deviation, min, max, range of (n, K, P) values under (n, K) weights."""
    present = (weights > 0)[:, :, None]
    mean = (weights[:, :, None] * values).sum(1)
    deviation = (weights[:, :, None] * np.abs(values - mean[:, None])).sum(1)
    low = np.where(present, values, np.inf).min(1, initial=np.inf)
    high = np.where(present, values, -np.inf).max(1, initial=-np.inf)
    return np.concatenate([mean, deviation, low, high, high - low], axis=1)


def _extras(zs: list[int], counts: NDArray[np.float64], table: NDArray[np.float32]) -> list[float]:
    fractions = counts / counts.sum()
    chi = table[zs, 0].astype(float)
    ionic = 1.0 - np.exp(-0.25 * (chi[:, None] - chi[None, :]) ** 2)  # Pauling's ionic character of each pair
    whole = counts.astype(int)
    reduced = counts.sum() / math.gcd(*whole.tolist()) if np.all(counts == whole) else counts.sum()
    return [
        _net_charge(zs, fractions),
        float(len(zs)),
        math.log2(reduced),
        float(fractions.max()),
        float(fractions @ ionic @ fractions),
    ]


def _net_charge(zs: list[int], fractions: NDArray[np.float64]) -> float:
    """Smallest |net charge| per atom with one common oxidation state per element (0 when elements have none)."""
    sums = np.zeros(1)
    for z, fraction in zip(zs, fractions, strict=True):
        states = np.array(oxidation_states()[z] or (0,), dtype=float)
        sums = np.unique(np.round((sums[:, None] + fraction * states).ravel(), 6))
    return float(np.abs(sums).min())
