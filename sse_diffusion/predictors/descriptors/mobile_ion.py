"""Mobile-ion family: how many ions there are, where they sit, how far they hop, and what the rest of the crystal leaves free.

Everything is an occupancy-weighted mean over ions; where two sites exclude each other (split sites), they still count as the
two ends of a hop, but not as neighbours.
"""

from __future__ import annotations

import numpy as np

from sse_diffusion.predictors.descriptors.coordination import bond_order
from sse_diffusion.predictors.descriptors.sites import FULL, OVERLAP_A, Array, Index, Sites, points_within, weighted_mean

IONS = ((3, 1), (11, 1), (47, 1), (19, 1), (12, 2))
"""Atomic number and charge of Li, Na, Ag, K, Mg: the first that the crystal holds is the mobile ion."""

HOP_A = 5.0
"""Longest hop that is looked at."""
TIE_A = 0.05
"""Hops that are longer than the shortest by less than this are equally short."""
PROBE_RADII_A = (0.0, 0.4, 0.8)
GRID_SPACING_A, GRID_POINTS = 0.9, (8, 12)
"""Spacing of the probes along each cell vector, and the fewest and most of them."""
GRID_SHIFT = (0.137, 0.371, 0.729)
"""Of the probes, in spacings: off every symmetry element, so that no two probes are equivalent."""

NAMES = (
    "ion_Z",
    "ions_per_nm3",
    "ion_occupancy",
    "ion_partial_share",
    "vacancies_per_ion",
    "ion_coordination",
    "ion_bond_length_A",
    "ion_bond_spread",
    "ion_q2",
    "ion_q4",
    "ion_q6",
    "ion_bond_chi_difference",
    "ion_neighbour_distance_A",
    "ion_neighbour_shortest_A",
    "ions_within_4A",
    "hop_A",
    "hop_bottleneck_A",
    "ion_cation_distance_A",
    "anions_per_nm3",
    "anion_distance_A",
    "anion_coordination",
    "anion_q4",
    "anion_q6",
    "anion_chi",
    "anion_radius_A",
    "free_share",
    *(f"framework_free_share_{radius:g}A" for radius in PROBE_RADII_A),
    "free_volume_per_ion_A3",
)
"""Columns of the family; all but ``free_share`` and those of the anions are NaN where the crystal holds no mobile ion."""


def mobile_ion(sites: Sites) -> tuple[int, int] | None:
    """Atomic number and charge of the mobile ion, or None."""
    return next(((z, charge) for z, charge in IONS if (sites.entry_z == z).any()), None)


def mobile_ion_columns(sites: Sites) -> Array:
    """(len(NAMES),)."""
    ion = mobile_ion(sites)
    values = dict.fromkeys(NAMES, np.nan)
    values |= _anion_framework(sites)
    values["free_share"] = float(free_shares(sites, sites.occupancy, (0.0,))[0])
    if ion is not None:
        values |= {"ion_Z": float(ion[0])} | _ion_sites(sites, ion[0]) | _hops(sites, ion[0]) | _room(sites, ion[0])
    return np.array([values[name] for name in NAMES])


def _ion_sites(sites: Sites, ion: int) -> dict[str, float]:
    """Amount, occupancy and coordination by the atoms that do not move."""
    amount = sites.amount(np.array([ion]))
    total, here = amount.sum(), amount > 0
    bonds = sites.bonds_to(np.clip(sites.occupancy - amount, 0, None))
    n, chi = len(sites), sites.property("electronegativity")
    length = bonds.mean(bonds.distance_A, n)
    spread = np.sqrt(bonds.mean((bonds.distance_A - length[bonds.centre]) ** 2, n)) / length
    order = bond_order(bonds, n)
    columns = {
        "ion_coordination": bonds.coordination(n),
        "ion_bond_length_A": length,
        "ion_bond_spread": spread,
        "ion_q2": order[:, 1],
        "ion_q4": order[:, 3],
        "ion_q6": order[:, 4],
        "ion_bond_chi_difference": bonds.mean(np.abs(chi[bonds.neighbour] - chi[bonds.centre]), n),
    }
    return {
        "ions_per_nm3": 1000 * total / sites.volume_A3,
        "ion_occupancy": float(np.average(amount[here], weights=amount[here])),
        "ion_partial_share": amount[amount < FULL].sum() / total,
        "vacancies_per_ion": float(np.clip(1 - sites.occupancy[here], 0, 1).sum() / total),
    } | {name: weighted_mean(values, amount) for name, values in columns.items()}


def _hops(sites: Sites, ion: int) -> dict[str, float]:
    """Distances from ion to ion and to the other cations, and how tight the middle of the shortest hop is."""
    amount, n = sites.amount(np.array([ion])), len(sites)
    centre, neighbour, _, distance = sites.pairs
    both = (amount[centre] > 0) & (amount[neighbour] > 0)
    nearest = _smallest(centre[both], distance[both], n)
    within = np.bincount(centre, amount[neighbour] * (both & (distance < 4.0)), n).astype(float)
    rest = np.where(sites.anion, 0.0, sites.occupancy - amount)
    cation = (amount[centre] > 0) & (rest[neighbour] > 1e-6)
    hop, bottleneck = _bottlenecks(sites, amount)
    return {
        "ion_neighbour_distance_A": weighted_mean(nearest, amount),
        "ion_neighbour_shortest_A": float(distance[both].min(initial=np.inf)) if both.any() else np.nan,
        "ions_within_4A": weighted_mean(within, amount),
        "hop_A": hop,
        "hop_bottleneck_A": bottleneck,
        "ion_cation_distance_A": weighted_mean(_smallest(centre[cation], distance[cation], n), amount),
    }


def _bottlenecks(sites: Sites, amount: Array) -> tuple[float, float]:
    """Mean length of the shortest hop of each ion (split sites are hops too), and the gap between its middle and the surface
    of the nearest framework atom (of the widest among equally short hops), both in Angstrom."""
    centre, neighbour, image, distance = sites.neighbours
    hop = (amount[centre] > 0) & (amount[neighbour] > 0) & (distance > OVERLAP_A) & (distance < HOP_A)
    if not hop.any():
        return np.nan, np.nan
    shortest = _smallest(centre[hop], distance[hop], len(sites))
    hop &= distance < shortest[centre] + TIE_A
    centre, neighbour, image = centre[hop], neighbour[hop], image[hop]
    middle = (sites.cart_A[centre] + sites.cart_A[neighbour] + image @ sites.lattice_A) / 2
    framework = sites.occupancy - amount > 0.5 * sites.occupancy
    probe, atom, _, gap = points_within(sites.cart_A[framework], middle, HOP_A, sites.lattice_A)
    tightness = _smallest(probe, gap - sites.radius_A[framework][atom], len(middle))
    return weighted_mean(shortest, amount), weighted_mean(-_smallest(centre, -tightness, len(sites)), amount)


def _anion_framework(sites: Sites) -> dict[str, float]:
    """Density and packing of the sublattice of the anions."""
    anions = np.flatnonzero(sites.anion)
    if not len(anions):
        return {}
    occupancy = sites.occupancy[anions]
    sublattice = Sites(
        sites.lattice_A, sites.cart_A[anions], occupancy, np.arange(len(anions)), np.full(len(anions), 8), occupancy
    )
    bonds, n = sublattice.bonds, len(anions)  # one radius for all, so that distances alone decide
    order = bond_order(bonds, n)
    return {
        "anions_per_nm3": 1000 * occupancy.sum() / sites.volume_A3,
        "anion_distance_A": weighted_mean(bonds.mean(bonds.distance_A, n), occupancy),
        "anion_coordination": weighted_mean(bonds.coordination(n), occupancy),
        "anion_q4": weighted_mean(order[:, 3], occupancy),
        "anion_q6": weighted_mean(order[:, 4], occupancy),
        "anion_chi": weighted_mean(sites.property("electronegativity")[anions], occupancy),
        "anion_radius_A": weighted_mean(sites.radius_A[anions], occupancy),
    }


def _room(sites: Sites, ion: int) -> dict[str, float]:
    """What is left of the cell when the ions are taken out."""
    amount = sites.amount(np.array([ion]))
    shares = free_shares(sites, sites.occupancy - amount, PROBE_RADII_A)
    named = {f"framework_free_share_{radius:g}A": float(share) for radius, share in zip(PROBE_RADII_A, shares, strict=True)}
    return named | {"free_volume_per_ion_A3": float(shares[0]) * sites.volume_A3 / amount.sum()}


def free_shares(sites: Sites, occupancy: Array, probe_radii_A: tuple[float, ...]) -> Array:
    """Expected share of the volume that a probe of each radius can be centred in; sites are filled independently with
    ``occupancy`` (n,), so a half-filled site blocks half of the time.

    The grid is tied to an atom (that with the longest bonds), so that it does not depend on the origin of the cell.
    """
    lengths = np.linalg.norm(sites.lattice_A, axis=1)
    counts = np.clip(np.ceil(lengths / GRID_SPACING_A), *GRID_POINTS).astype(int)
    axes = [(np.arange(k) + shift) / k for k, shift in zip(counts, GRID_SHIFT, strict=True)]
    origin = sites.cart_A[np.argmax(np.nan_to_num(sites.bonds.mean(sites.bonds.distance_A, len(sites))))]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ sites.lattice_A + origin
    radius = sites.radius_A
    reach = float(radius.max() + max(probe_radii_A))
    probe, atom, _, distance = points_within(sites.cart_A, grid, reach, sites.lattice_A)
    log_free = np.log1p(-np.clip(occupancy, 0, 1 - 1e-9))[atom]
    gap = distance - radius[atom]
    return np.array([np.exp(np.bincount(probe, log_free * (gap < r), len(grid))).mean() for r in probe_radii_A])


def _smallest(index: Index, values: Array, n: int) -> Array:
    """Smallest value (n,) per index; NaN where there is none."""
    smallest = np.full(n, np.inf)
    np.minimum.at(smallest, index, values)
    return np.where(np.isfinite(smallest), smallest, np.nan)
