"""What the page's own 3D viewer needs of a crystal: cell, sites, colours, radii and bond lengths, as plain JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymatgen.core import Element, Structure

BOND_STRETCH = 1.15
"""A bond is drawn up to this factor times the sum of covalent radii."""


def viewer_data(structure: Structure, mobile_ion: str = "") -> dict[str, Any]:
    """JSON values for one viewer.

    Colours and covalent radii (Angstrom) are ASE's tables (Jmol colours; Cordero et al. 2008). Bonds join elements that
    differ in electronegativity or are both non-metals, so that neighbouring cations are not joined.

    Returns:
        ``cell`` (3 row vectors, Angstrom), ``species`` [{symbol, colour, radius, mobile}], ``sites`` [[species, x, y, z]] in
        fractional coordinates, ``bonds`` [[species, species, longest length in Angstrom]].
    """
    import numpy as np

    elements = sorted({element for site in structure for element in site.species.elements}, key=lambda e: e.Z)
    elements = list({e.symbol: e for e in elements}.values())
    order = {e.symbol: i for i, e in enumerate(elements)}
    sites = []
    for site in structure:
        symbol = max(site.species.items(), key=lambda item: item[1])[0].symbol
        x, y, z = np.round(np.mod(site.frac_coords, 1.0), 5).tolist()
        sites.append([order[symbol], x, y, z])
    return {
        "cell": np.round(structure.lattice.matrix, 4).tolist(),
        "species": [_look(e, mobile_ion) for e in elements],
        "sites": sites,
        "bonds": [
            bond for i, a in enumerate(elements) for j, b in enumerate(elements[i:], start=i) if (bond := _bond(i, a, j, b))
        ],
    }


def _look(element: Element, mobile_ion: str) -> dict[str, Any]:
    """Colour and radius of an element."""
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors

    colour = "#" + "".join(f"{round(255 * float(c)):02x}" for c in jmol_colors[element.Z])
    return {
        "symbol": element.symbol,
        "colour": colour,
        "radius": round(float(covalent_radii[element.Z]), 2),
        "mobile": element.symbol == mobile_ion,
    }


def _bond(i: int, a: Element, j: int, b: Element) -> list[float] | None:
    """Longest bond between two elements; None for pairs that are never joined."""
    from ase.data import covalent_radii

    difference = abs(float(a.X) - float(b.X))
    both_nonmetals = min(float(a.X), float(b.X)) >= 1.9
    if not both_nonmetals and not difference >= 0.5:
        return None
    stretch = BOND_STRETCH if a.Z != b.Z else 1.08
    return [i, j, round(stretch * float(covalent_radii[a.Z] + covalent_radii[b.Z]), 2)]
