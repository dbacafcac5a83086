"""Bond-valence family: how well the sites fit what sits on them.

Bond valences s = exp((R0 - d) / 0.37) with R0 from radii and electronegativities of O'Keeffe and Brese, J. Am. Chem. Soc. 113,
3226 (1991), which need no oxidation states; only bonds between an anion and another atom count. The migration barrier
is computed by ``verification.percolation`` and joined as a column of its own (:meth:`table.DescriptorTable.joined`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sse_diffusion.predictors.descriptors.coordination import statistics
from sse_diffusion.predictors.descriptors.mobile_ion import mobile_ion
from sse_diffusion.predictors.descriptors.sites import Array, Sites, weighted_mean
from sse_diffusion.predictors.features import MAX_Z

SOFTNESS_A = 0.37
NAMES = (
    "ion_valence_sum",
    "ion_valence_mismatch",
    "ion_valence_asymmetry",
    "anion_valence_sum_mean",
    "anion_valence_sum_deviation",
    "cation_valence_sum_mean",
    "cation_valence_sum_deviation",
    "valence_asymmetry_mean",
)


def bond_valence_columns(sites: Sites) -> Array:
    """(len(NAMES),); NaN where there are no anions, no mobile ion or no tabulated element."""
    total, asymmetry = valence_sums(sites)
    anion, occupancy = sites.anion, sites.occupancy
    side = [
        statistics(total[chosen, None], occupancy[chosen])[:2] if chosen.any() else [np.nan] * 2 for chosen in (anion, ~anion)
    ]
    ion = mobile_ion(sites)
    return np.array([*_of_ion(sites, ion, total, asymmetry), *side[0], *side[1], weighted_mean(asymmetry, occupancy)])


def _of_ion(sites: Sites, ion: tuple[int, int] | None, total: Array, asymmetry: Array) -> list[float]:
    if ion is None:
        return [np.nan] * 3
    amount = sites.amount(np.array([ion[0]]))
    return [weighted_mean(values, amount) for values in (total, np.abs(total - ion[1]), asymmetry)]


def valence_sums(sites: Sites) -> tuple[Array, Array]:
    """Sum (n,) of the bond valences of each site, and the length (n,) of their vector sum; NaN where nothing is tabulated."""
    centre, neighbour, vector, distance = sites.pairs
    radius, softness = (sites.site_mean(column) for column in _parameters().T)
    between = sites.anion[centre] != sites.anion[neighbour]
    centre, neighbour, vector, distance = centre[between], neighbour[between], vector[between], distance[between]
    r_i, r_j, c_i, c_j = radius[centre], radius[neighbour], softness[centre], softness[neighbour]
    r0 = r_i + r_j - r_i * r_j * (np.sqrt(c_i) - np.sqrt(c_j)) ** 2 / (c_i * r_i + c_j * r_j)
    valence = np.exp((r0 - distance) / SOFTNESS_A) * sites.occupancy[neighbour]
    valence = np.where(np.isfinite(valence), valence, 0.0)
    total = np.bincount(centre, valence, len(sites))
    unit = vector / distance[:, None]
    resultant = np.stack([np.bincount(centre, valence * unit[:, k], len(sites)) for k in range(3)], axis=1)
    known = total > 0
    return np.where(known, total, np.nan), np.where(known, np.linalg.norm(resultant, axis=1), np.nan)


@lru_cache(maxsize=1)
def _parameters() -> Array:
    """(MAX_Z + 1, 2) radius in Angstrom and electronegativity; NaN for elements that are not tabulated."""
    from pymatgen.analysis.bond_valence import BV_PARAMS

    table = np.full((MAX_Z + 1, 2), np.nan)
    for element, values in BV_PARAMS.items():
        table[element.Z] = values["r"], values["c"]
    return table
