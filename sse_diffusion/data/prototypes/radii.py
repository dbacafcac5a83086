"""Ionic radii: Shannon's effective radii as shipped with pymatgen, and Pauling's for anions Shannon does not list."""

from __future__ import annotations

from functools import lru_cache

from sse_diffusion.core.errors import DataError

PAULING_A: dict[tuple[str, int], float] = {("P", -3): 2.12, ("As", -3): 2.22, ("Sb", -3): 2.45}
"""L. Pauling, The Nature of the Chemical Bond, 3rd ed. (1960), Angstrom."""

ROMAN = {numeral: n for n, numeral in enumerate("I II III IV V VI VII VIII IX X XI XII XIII XIV".split(), start=1)}


@lru_cache(maxsize=4096)
def ionic_radius(element: str, charge: int, coordination: int) -> float:
    """Effective ionic radius in Angstrom (R. D. Shannon, Acta Cryst. A 32, 751 (1976)).

    The tabulated coordination number nearest to ``coordination`` is used; high spin where spin states differ.

    Raises:
        DataError: no radius is tabulated for this ion.
    """
    if (element, charge) in PAULING_A:
        return PAULING_A[element, charge]
    radii = _shannon(element, charge)
    if not radii:
        raise DataError(f"no ionic radius for {element}{charge:+d}", "use an ion of Shannon's table")
    nearest = min(radii, key=lambda cn: (abs(cn - coordination), cn))
    return radii[nearest]


@lru_cache(maxsize=4096)
def smallest_coordination(element: str, charge: int) -> int:
    """Smallest coordination number Shannon tabulates for an ion; 1 when he lists none."""
    return min(_shannon(element, charge), default=1)


@lru_cache(maxsize=256)
def _shannon(element: str, charge: int) -> dict[int, float]:
    """Coordination number -> radius in Angstrom; square and pyramidal sites are left out."""
    from pymatgen.core import Element

    table = (Element(element).data.get("Shannon radii") or {}).get(str(charge), {})
    return {ROMAN[cn]: _high_spin(spins) for cn, spins in table.items() if cn in ROMAN}


def _high_spin(spins: dict[str, dict[str, float]]) -> float:
    entry = spins.get("High Spin") or spins.get("") or next(iter(spins.values()))
    return float(entry["ionic_radius"])
