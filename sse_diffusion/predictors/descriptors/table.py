"""The descriptor table: crystals in, named columns out, what is unknown marked as missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sse_diffusion.core.errors import ConfigError, DataError, did_you_mean
from sse_diffusion.predictors.descriptors import bond_valence, cell, composition, coordination, mobile_ion
from sse_diffusion.predictors.descriptors.sites import Array, Sites

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

FROM_SITES: Mapping[str, tuple[tuple[str, ...], Callable[[Sites], Array]]] = {
    "cell": (cell.NAMES, cell.cell_columns),
    "coordination": (coordination.NAMES, coordination.coordination_columns),
    "bonding": (coordination.BONDING_NAMES, coordination.bonding_columns),
    "mobile_ion": (mobile_ion.NAMES, mobile_ion.mobile_ion_columns),
    "bond_valence": (bond_valence.NAMES, bond_valence.bond_valence_columns),
}
"""Families that need the sites: their columns, and the function from :class:`sites.Sites` to one row."""

FAMILIES = ("composition", "cell", "coordination", "mobile_ion", "bond_valence")
"""All there is to know; ``bonding`` is a part of ``coordination``."""
STRUCTURE = FAMILIES[1:]
"""Families that need a structure."""
DECIMALS = 6
"""Descriptors are rounded: their last bits differ between cells of one crystal and could move it across a split of a tree."""
SLOW = 200
"""Crystals from which a progress bar is worth it."""


@dataclass(frozen=True)
class DescriptorTable:
    """n crystals, d descriptors.

    Attributes:
        names: (d,) of the columns.
        values: (n, d); NaN where missing.
        problems: row -> why nothing could be read from this crystal.
    """

    names: tuple[str, ...]
    values: Array
    problems: Mapping[int, str]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(n, d)."""
        return np.isnan(self.values)

    def columns(self, names: Sequence[str]) -> Array:
        """(n, len(names)) in the order asked.

        Raises:
            ConfigError: no such column.
        """
        where = {name: i for i, name in enumerate(self.names)}
        if unknown := [name for name in names if name not in where]:
            raise ConfigError(f"no descriptor {unknown[0]!r}", did_you_mean(unknown[0], self.names))
        return self.values[:, [where[name] for name in names]]

    def joined(self, names: Sequence[str], values: Array) -> DescriptorTable:
        """With further columns (n, len(names)), for example a migration barrier or the predictions of another model.

        Raises:
            DataError: another number of rows or columns, or a name that is taken.
        """
        if values.shape != (len(self.values), len(names)) or set(names) & set(self.names):
            raise DataError(
                f"columns {', '.join(names)} with values of shape {values.shape} do not fit a table of {len(self.values)} rows",
                "give one row per crystal, one column per new name",
            )
        return DescriptorTable((*self.names, *names), np.column_stack([self.values, values]), self.problems)


def describe(
    crystals: Sequence[Structure | Composition], families: Sequence[str] = FAMILIES, progress: bool = False
) -> DescriptorTable:
    """Descriptors of crystals.

    Args:
        crystals: structures, with partial occupancies as they are, or compositions: those know the composition family only, the
            other columns are missing.
        families: of FAMILIES, or ``bonding``.
        progress: show a bar when there are many.

    Raises:
        ConfigError: no such family.
    """
    known = ("composition", *FROM_SITES)
    if unknown := [family for family in families if family not in known]:
        raise ConfigError(f"no descriptor family {unknown[0]!r}", did_you_mean(unknown[0], known))
    names = tuple(name for family in families for name in _names(family))
    values = np.full((len(crystals), len(names)), np.nan)
    problems: dict[int, str] = {}
    compositions: dict[int, dict[int, float]] = {}
    structural = [family for family in families if family in FROM_SITES]
    width = sum(len(_names(family)) for family in structural)
    from_sites = np.full((len(crystals), width), np.nan)
    for i, crystal in enumerate(tqdm(crystals, "descriptors", disable=not progress or len(crystals) < SLOW)):
        try:
            if "composition" in families:
                compositions[i] = counts_by_number(crystal)
            if structural and hasattr(crystal, "lattice"):
                sites = Sites.of(crystal)
                from_sites[i] = np.concatenate([FROM_SITES[family][1](sites) for family in structural])
        except DataError as error:
            problems[i] = error.message
            compositions.pop(i, None)
    rows = list(compositions)
    start = 0
    for family in families:
        stop = start + len(_names(family))
        if family == "composition":
            values[rows, start:stop] = composition.composition_columns(list(compositions.values()))
        else:
            offset = sum(len(_names(f)) for f in structural[: structural.index(family)])
            values[:, start:stop] = from_sites[:, offset : offset + stop - start]
        start = stop
    return DescriptorTable(names, values.round(DECIMALS), problems)


def counts_by_number(crystal: Structure | Composition) -> dict[int, float]:
    """Atoms by atomic number, isotopes and oxidation states merged.

    Raises:
        DataError: no atoms, or a species that is no element.
    """
    counts: dict[int, float] = {}
    for species, amount in getattr(crystal, "composition", crystal).items():
        z = int(getattr(species, "Z", 0))
        if not 1 <= z <= composition.MAX_Z:
            raise DataError(f"{species} is no element with descriptors", "replace dummy species by elements")
        counts[z] = counts.get(z, 0.0) + float(amount)
    if not counts:
        raise DataError("the crystal has no atoms", "leave it out")
    return counts


def _names(family: str) -> tuple[str, ...]:
    return composition.NAMES if family == "composition" else FROM_SITES[family][0]
