"""The record of one prototype: space group, cell, Wyckoff orbits with their roles, charges and literature reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Role:
    """What occupies a set of orbits in the parent compound.

    Attributes:
        element: symbol of the parent's ion.
        charge: formal oxidation state.
        only: elements allowed here by substitution; empty for every ion of a fitting charge and size.
    """

    element: str
    charge: int
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """One Wyckoff orbit.

    Attributes:
        role: key into :attr:`Prototype.roles`.
        wyckoff: multiplicity and letter in the conventional cell, e.g. ``"4a"``.
        x, y, z: fractional coordinates of one representative.
    """

    role: str
    wyckoff: str
    x: float
    y: float
    z: float

    @property
    def multiplicity(self) -> int:
        """Number of atoms of the orbit in the conventional cell."""
        return int(self.wyckoff[:-1])


@dataclass(frozen=True, eq=False)
class Prototype:
    """A structure type, given by the crystallographic facts of its parent compound.

    Attributes:
        name: unique, lower case.
        group: Hermann-Mauguin symbol as pymatgen reads it (``:2``: second origin; R groups on hexagonal axes).
        number: space-group number.
        cell: a, b, c (Angstrom), alpha, beta, gamma (degrees) of the conventional cell.
        roles: role -> ion of the parent.
        sites: Wyckoff orbits.
        reference: where the numbers come from; says so when a disordered structure was replaced by an ordered approximant.
        patterns: further charges per role (in the order of ``roles``) under which the type is decorated.
        origin: added to every coordinate, where pymatgen knows only the first origin choice and the reference uses the second.
    """

    name: str
    group: str
    number: int
    cell: tuple[float, float, float, float, float, float]
    roles: dict[str, Role]
    sites: tuple[Site, ...]
    reference: str
    patterns: tuple[tuple[int, ...], ...] = ()
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def parent_charges(self) -> tuple[int, ...]:
        """Charges of the parent, in the order of ``roles``."""
        return tuple(role.charge for role in self.roles.values())

    def counts(self) -> dict[str, int]:
        """Atoms per role in the conventional cell."""
        totals = dict.fromkeys(self.roles, 0)
        for site in self.sites:
            totals[site.role] += site.multiplicity
        return totals

    def net_charge(self, charges: tuple[int, ...]) -> int:
        """Charge of the conventional cell when the roles carry ``charges``."""
        return sum(n * q for n, q in zip(self.counts().values(), charges, strict=True))

    def structure(self) -> Structure:
        """The parent compound, conventional cell, site property ``role``."""
        import warnings

        from pymatgen.core import Lattice, Structure

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # non-standard settings (P12_1/n1) are meant
            return Structure.from_spacegroup(
                self.group,
                Lattice.from_parameters(*self.cell),
                [self.roles[site.role].element for site in self.sites],
                [tuple(u + shift for u, shift in zip((s.x, s.y, s.z), self.origin, strict=True)) for s in self.sites],
                site_properties={"role": [site.role for site in self.sites]},
                tol=1e-3,
            )


def cubic(a: float) -> tuple[float, float, float, float, float, float]:
    """Cell of a cubic crystal, a in Angstrom."""
    return (a, a, a, 90.0, 90.0, 90.0)


def tetragonal(a: float, c: float) -> tuple[float, float, float, float, float, float]:
    """Cell of a tetragonal crystal, Angstrom."""
    return (a, a, c, 90.0, 90.0, 90.0)


def hexagonal(a: float, c: float) -> tuple[float, float, float, float, float, float]:
    """Cell of a hexagonal or trigonal crystal on hexagonal axes, Angstrom."""
    return (a, a, c, 90.0, 90.0, 120.0)


def orthorhombic(a: float, b: float, c: float) -> tuple[float, float, float, float, float, float]:
    """Cell of an orthorhombic crystal, Angstrom."""
    return (a, b, c, 90.0, 90.0, 90.0)


def monoclinic(a: float, b: float, c: float, beta: float) -> tuple[float, float, float, float, float, float]:
    """Cell of a monoclinic crystal with unique axis b, Angstrom and degrees."""
    return (a, b, c, 90.0, beta, 90.0)
