"""Coordination family: how atoms are bonded, site by site, as statistics over the atoms.

Coordination is Hoppe's effective number on distances in units of the sums of atomic radii (:class:`sites.Bonds`); the
angular part are Steinhardt's rotation invariants q_l (Phys. Rev. B 28, 784 (1983)) of the weighted bonds, computed through the
addition theorem: q_l^2 = sum_jk w_j w_k P_l(cos theta_jk) / (sum_j w_j)^2.
"""

from __future__ import annotations

import numpy as np

from sse_diffusion.predictors.descriptors.sites import Array, Bonds, Sites
from sse_diffusion.predictors.features import PROPERTIES

ORDERS = (1, 2, 3, 4, 6)
ANGLE_SHARE = 0.05
"""Bonds that weigh less than this share of the strongest one of their site have no part in the angles."""

SITE_QUANTITIES = (
    "coordination",
    "bond_length_A",
    "bond_over_radii",
    "bond_spread",
    "bond_stiffness",
    *(f"q{order}" for order in ORDERS),
    *(f"bond_difference_{name}" for name in PROPERTIES),
)
STATISTICS = ("mean", "deviation", "min", "max")
BONDING_NAMES = (
    "bonds_per_volume_A-3",
    "stiffness_per_volume",
    "shortest_over_radii",
    "packing_ionic",
    "anion_share",
    "radius_mean_A",
    "radius_deviation_A",
)
NAMES = (*(f"{quantity}_{statistic}" for statistic in STATISTICS for quantity in SITE_QUANTITIES), *BONDING_NAMES)


def coordination_columns(sites: Sites) -> Array:
    """(len(NAMES),); NaN where nothing has a neighbour."""
    if not len(sites.bonds.weight):
        return np.full(len(NAMES), np.nan)
    return np.concatenate([statistics(site_quantities(sites), sites.occupancy), bonding_columns(sites)])


def bonding_columns(sites: Sites) -> Array:
    """(len(BONDING_NAMES),) the last ones alone: no angles, a third of the time; NaN where nothing has a neighbour."""
    bonds, occupancy = sites.bonds, sites.occupancy
    if not len(bonds.weight):
        return np.full(len(BONDING_NAMES), np.nan)
    radii = sites.property("atomic_radius_A")
    scaled = bonds.distance_A / (radii[bonds.centre] + radii[bonds.neighbour])
    ends = occupancy[bonds.centre] * bonds.weight / 2
    mean_radius = np.average(sites.radius_A, weights=occupancy)
    columns = [
        ends.sum() / sites.volume_A3,
        (ends * _stiffness(sites, bonds)).sum() / sites.volume_A3,
        scaled.min(),
        float(occupancy @ sites.radius_A**3) * 4 / 3 * np.pi / sites.volume_A3,
        occupancy[sites.anion].sum() / sites.n_atoms,
        mean_radius,
        np.sqrt(np.average((sites.radius_A - mean_radius) ** 2, weights=occupancy)),
    ]
    return np.array(columns)


def site_quantities(sites: Sites) -> Array:
    """(n, len(SITE_QUANTITIES)); NaN on sites without bonds."""
    bonds, n = sites.bonds, len(sites)
    radii, properties = sites.property("atomic_radius_A"), sites.properties
    length = bonds.mean(bonds.distance_A, n)
    scaled = bonds.distance_A / (radii[bonds.centre] + radii[bonds.neighbour])
    spread = np.sqrt(bonds.mean((bonds.distance_A - length[bonds.centre]) ** 2, n)) / length
    difference = np.abs(properties[bonds.neighbour] - properties[bonds.centre])
    coordination = bonds.coordination(n)
    return np.column_stack(
        [
            np.where(coordination > 0, coordination, np.nan),
            length,
            bonds.mean(scaled, n),
            spread,
            bonds.mean(_stiffness(sites, bonds), n),
            bond_order(bonds, n),
            *(bonds.mean(column, n) for column in difference.T),
        ]
    )


def _stiffness(sites: Sites, bonds: Bonds) -> Array:
    """sqrt(v_i v_j) / d^3.5 (p,): bulk moduli of tetrahedral crystals fall with d^3.5 (Cohen, Phys. Rev. B 32, 7988 (1985)) and
    rise with the electrons per bond; v are valence electrons."""
    valence = sites.property("valence_electrons")
    return np.asarray(np.sqrt(valence[bonds.centre] * valence[bonds.neighbour]) / bonds.distance_A**3.5)


def bond_order(bonds: Bonds, n_sites: int) -> Array:
    """Steinhardt's q_l (n, len(ORDERS)) of the weighted bonds of each site; NaN without bonds."""
    weight, direction = strongest_bonds(bonds, n_sites)
    cosine = direction @ direction.transpose(0, 2, 1)
    x2 = cosine**2
    legendre = (  # P_l for l in ORDERS
        cosine,
        (3 * x2 - 1) / 2,
        (5 * x2 - 3) * cosine / 2,
        (35 * x2**2 - 30 * x2 + 3) / 8,
        (231 * x2**3 - 315 * x2**2 + 105 * x2 - 5) / 16,
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        share = weight / weight.sum(1, keepdims=True)
    squares = [(share[:, None, :] @ p @ share[:, :, None])[:, 0, 0] for p in legendre]
    return np.sqrt(np.clip(np.stack(squares, axis=1), 0, None))


def strongest_bonds(bonds: Bonds, n_sites: int) -> tuple[Array, Array]:
    """Weights (n, K) and unit vectors (n, K, 3) of the bonds of each site above ANGLE_SHARE, padded with weight 0.

    A limit on the weight keeps equal bonds together, which a limit on their number would not.
    """
    strongest = np.zeros(n_sites)
    np.maximum.at(strongest, bonds.centre, bonds.weight)
    chosen = np.flatnonzero(bonds.weight > ANGLE_SHARE * strongest[bonds.centre])
    order = chosen[np.argsort(bonds.centre[chosen], kind="stable")]
    centre = bonds.centre[order]
    rank = np.arange(len(centre)) - np.searchsorted(centre, centre)
    weight = np.zeros((n_sites, int(rank.max(initial=0)) + 1))
    direction = np.zeros((*weight.shape, 3))
    weight[centre, rank] = bonds.weight[order]
    direction[centre, rank] = bonds.vector_A[order] / bonds.distance_A[order, None]
    return weight, direction


def statistics(values: Array, occupancy: Array) -> Array:
    """Mean, standard deviation, minimum, maximum (4 k,) over sites of ``values`` (n, k), weighted by occupancy; NaN does
    not count."""
    known = np.isfinite(values)
    weight = known * occupancy[:, None]
    filled = np.where(known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (weight * filled).sum(0) / weight.sum(0)
        deviation = np.sqrt((weight * (filled - mean) ** 2).sum(0) / weight.sum(0))
    any_known = known.any(0)
    low = np.where(any_known, np.where(known, values, np.inf).min(0), np.nan)
    high = np.where(any_known, np.where(known, values, -np.inf).max(0), np.nan)
    return np.concatenate([mean, deviation, low, high])
