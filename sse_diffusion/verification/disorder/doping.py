"""Vacancies and aliovalent dopants, made neutral by the mobile ion: partial occupancies that :func:`order` then puts in place.

A dopant of lower charge (Zr4+ -> Al3+ in LLZO) takes mobile ions in, one of higher charge (O2- -> F-, Zr4+ -> Ta5+) lets some
go. Ions that come in sit on the roomiest places between the atoms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import ChemistryError
from sse_diffusion.verification.disorder.charges import guess_charges

if TYPE_CHECKING:
    from pymatgen.core import Structure

GRID_A = 0.35
NEAREST_A = 1.4
"""No interstitial ion is put nearer than this to an atom (Li-O bonds are 1.8-2.2 A; relaxation makes room)."""
APART_A = 1.5


@dataclass(frozen=True, kw_only=True)
class DopingConfig:
    """What is replaced.

    Attributes:
        host, dopant: element symbols; an empty ``dopant`` makes vacancies.
        fraction: share of the host's sites, 0-1.
        mobile_ion: comes in or goes so that the crystal stays neutral.
        dopant_charge: in e; 0 takes the likeliest.
    """

    host: str
    dopant: str = ""
    fraction: float = 0.1
    mobile_ion: str = "Li"
    dopant_charge: float = 0.0


def doped(parent: Structure, config: DopingConfig) -> Structure:
    """The parent with partial occupancies on the host's sites and, for compensation, on those of the mobile ion.

    Args:
        parent: ordered crystal.

    Returns:
        A disordered structure of the same cell; :func:`sse_diffusion.verification.disorder.order.order` makes supercells of it.

    Raises:
        ChemistryError: no such site, a fraction outside 0-1, or not enough mobile ions or room to compensate.
    """
    symbols = [site.specie.symbol for site in parent]
    hosts = [i for i, s in enumerate(symbols) if s == config.host]
    if not hosts or not 0 < config.fraction <= 1:
        raise ChemistryError(
            f"{parent.composition.reduced_formula} cannot have {config.fraction:g} of its {config.host} replaced",
            f"it holds {', '.join(sorted(set(symbols)))}; give a fraction above 0 and up to 1",
        )
    result = parent.copy().remove_oxidation_states()
    shares = {config.host: 1 - config.fraction, **({config.dopant: config.fraction} if config.dopant else {})}
    for index in hosts:
        result[index] = {s: x for s, x in shares.items() if x > 0}
    surplus = len(hosts) * config.fraction * _charge_step(parent, config)
    if config.host == config.mobile_ion and abs(surplus) > 1e-9:
        raise ChemistryError(f"{config.mobile_ion} cannot be doped and compensate at once", "choose another mobile_ion")
    return _compensated(result, config.mobile_ion, surplus / _charge_of_ion(parent, config))


def _charge_step(parent: Structure, config: DopingConfig) -> float:
    """Charge that one replacement adds to the crystal, in e."""
    charges = guess_charges(parent.composition).of
    if not config.dopant:
        return -charges[config.host]
    likeliest = guess_charges(parent.composition + {config.dopant: 1e-3}).of[config.dopant]
    return (config.dopant_charge or charges.get(config.dopant, likeliest)) - charges[config.host]


def _charge_of_ion(parent: Structure, config: DopingConfig) -> float:
    """Charge of the mobile ion, in e."""
    return guess_charges(parent.composition + {config.mobile_ion: 1e-3}).of[config.mobile_ion]


def _compensated(structure: Structure, ion: str, excess: float) -> Structure:
    """``excess`` mobile ions fewer (negative: more) in the cell."""
    if abs(excess) < 1e-9:
        return structure
    if excess > 0:
        mobile = [i for i, site in enumerate(structure) if [e.symbol for e in site.species] == [ion]]
        if excess >= len(mobile):
            raise ChemistryError(f"{excess:.2g} {ion} would have to go, the cell has {len(mobile)}", "dope less")
        for index in mobile:
            structure[index] = {ion: 1 - excess / len(mobile)}
        return structure
    places = voids(structure)
    if -excess > len(places):
        raise ChemistryError(f"{-excess:.2g} {ion} would have to come in, there is room for {len(places)}", "dope less")
    for place in places:
        structure.append({ion: -excess / len(places)}, place)
    return structure


def voids(structure: Structure) -> NDArray[np.float64]:
    """(n, 3) fractional coordinates of the roomiest places: maxima of the distance to the nearest atom on a grid, at least
    ``NEAREST_A`` from every atom and ``APART_A`` from each other."""
    shape = [max(4, round(length / GRID_A)) for length in structure.lattice.abc]
    grid = np.stack(np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    distance = structure.lattice.get_all_distances(grid, structure.frac_coords).min(axis=1)
    chosen: list[int] = []
    for index in np.argsort(-distance, kind="stable"):
        if distance[index] < NEAREST_A:
            break
        if not chosen or structure.lattice.get_all_distances(grid[index], grid[chosen]).min() > APART_A:
            chosen.append(int(index))
    return grid[chosen]
