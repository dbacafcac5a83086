"""Cell family: volume, density, shape, symmetry and disorder."""

from __future__ import annotations

import numpy as np

from sse_diffusion.predictors.descriptors.composition import atomic_masses
from sse_diffusion.predictors.descriptors.sites import FULL, Array, Sites

NAMES = (
    "volume_per_atom_A3",
    "density_g_cm3",
    "volume_over_elements",
    "packing_atomic",
    "space_group",
    "crystal_system",
    "point_group_order",
    "orbits_per_atom",
    "log_primitive_sites",
    "cell_longest_over_shortest",
    "cell_middle_over_shortest",
    "occupancy_mean",
    "partial_share",
    "mixed_share",
    "mixing_entropy_per_atom",
)
CRYSTAL_SYSTEM_ENDS = np.array([2, 15, 74, 142, 167, 194, 230])
"""Last space group of triclinic, monoclinic, orthorhombic, tetragonal, trigonal, hexagonal and cubic."""
POINT_GROUP_ORDERS = {
    1: 1, 2: 2, 5: 2, 9: 2, 15: 4, 24: 4, 46: 4, 74: 8, 80: 4, 82: 4, 88: 8, 98: 8, 110: 8, 122: 8, 142: 16, 146: 3,
    148: 6, 155: 6, 161: 6, 167: 12, 173: 6, 174: 6, 176: 12, 182: 12, 186: 12, 190: 12, 194: 24, 199: 12, 206: 24,
    214: 24, 220: 24, 230: 48,
}  # fmt: skip
"""Last space group of each point group, and how many operations that has."""
U_PER_A3_IN_G_CM3 = 1.66053907
CM3_PER_MOL_IN_A3 = 1.66053907


def cell_columns(sites: Sites) -> Array:
    """(len(NAMES),); symmetry is NaN where no search is possible (atoms on top of each other)."""
    volume, atoms, occupancy = sites.volume_A3, sites.n_atoms, sites.occupancy
    mass = float(sites.entry_amount @ atomic_masses()[sites.entry_z])
    element_volume = float(occupancy @ sites.property("molar_volume_cm3")) * CM3_PER_MOL_IN_A3
    balls = float(occupancy @ sites.property("atomic_radius_A") ** 3) * 4 / 3 * np.pi
    species_per_site = np.bincount(sites.entry_site, minlength=len(sites))
    return np.array(
        [
            volume / atoms,
            mass / volume * U_PER_A3_IN_G_CM3,
            volume / element_volume,
            balls / volume,
            *_symmetry(sites),
            occupancy.mean(),
            occupancy[occupancy < FULL].sum() / atoms,
            occupancy[species_per_site > 1].sum() / atoms,
            _mixing_entropy(sites) / atoms,
        ]
    )


def _mixing_entropy(sites: Sites) -> float:
    """-sum x ln x over the species and the vacancy of every site, in k_B per cell (ideal mixing)."""
    vacancy = np.clip(1 - sites.occupancy, 0, 1)
    x = np.concatenate([sites.entry_amount, vacancy])
    x = x[(x > 1e-6) & (x < 1)]
    return float(-(x * np.log(x)).sum())


def _symmetry(sites: Sites) -> list[float]:
    """Number, system, order of the point group, orbits, sites and shape of the standard cell."""
    found = sites.symmetry
    if found is None:
        return [np.nan] * 7
    primitive = len(found.prim_std_cell.numbers)
    lengths = np.sort(np.linalg.norm(np.array(found.std_cell.basis), axis=1))
    return [
        float(found.number),
        float(np.searchsorted(CRYSTAL_SYSTEM_ENDS, found.number) + 1),
        float(next(order for last, order in POINT_GROUP_ORDERS.items() if found.number <= last)),
        len(set(found.orbits)) / primitive,
        float(np.log(primitive)),
        lengths[2] / lengths[0],
        lengths[1] / lengths[0],
    ]
