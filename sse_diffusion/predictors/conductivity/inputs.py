"""What the conductivity models see of a material: its composition, its cell, its structure; missing is NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.predictors.conductivity.tables import ConductivityRow
from sse_diffusion.predictors.descriptors.cell import CRYSTAL_SYSTEM_ENDS
from sse_diffusion.predictors.descriptors.table import counts_by_number, describe
from sse_diffusion.predictors.features import FEATURE_NAMES, MAX_Z, PROPERTIES, composition_features, element_table

Array = NDArray[np.float64]

STRUCTURE_COLUMNS = (
    "hop_A",
    "hop_bottleneck_A",
    "vacancies_per_ion",
    "ion_occupancy",
    "ion_partial_share",
    "ion_bond_spread",
    "ion_coordination",
    "ions_per_nm3",
    "ion_valence_mismatch",
    "framework_free_share_0.8A",
    "occupancy_mean",
    "partial_share",
    "mixing_entropy_per_atom",
    "log_primitive_sites",
    "stiffness_per_volume",
)
"""Descriptors of a structure (predictors.descriptors) that the models see."""
STRUCTURE_FAMILIES = ("cell", "bonding", "mobile_ion", "bond_valence")
"""Their families."""
ATOMS_REDUCED = FEATURE_NAMES.index("log2_atoms_reduced")
CELL_COLUMNS = ("volume_per_atom_A3", "log_volume_per_ion", "crystal_system")
"""Known from a structure, or from a table that only lists the cell and its space group."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """n materials.

    Attributes:
        composition: (n, 158) statistics of the composition, :data:`features.FEATURE_NAMES`.
        cell: (n, 3), NaN where unknown.
        structure: (n, 15), NaN where unknown.
        temperature_K: (n,).
    """

    composition: Array
    cell: Array
    structure: Array
    temperature_K: Array

    def __len__(self) -> int:
        return len(self.temperature_K)

    @property
    def table(self) -> Array:
        """(n, 261) composition and cumulative fractions: what the trees see (structures are the Gaussian process's part)."""
        return np.concatenate([self.composition, cumulative_fractions(self.composition)], axis=1)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Inputs:
        """Some of the rows."""
        return Inputs(self.composition[index], self.cell[index], self.structure[index], self.temperature_K[index])


INPUT_NAMES = (*FEATURE_NAMES, *CELL_COLUMNS, *STRUCTURE_COLUMNS)


def inputs_of(rows: Sequence[ConductivityRow], progress: bool = False) -> Inputs:
    """The inputs of rows whose compositions hold elements 1..MAX_Z only.

    Args:
        rows: materials; a structure counts more than the cell of the table.
        progress: show a bar when there are many structures.
    """
    composition = composition_features([counts_by_number(row.composition) for row in rows])
    composition[:, ATOMS_REDUCED] = 0.0  # of fractional amounts it would depend on the choice of the cell
    cell = np.array([_table_cell(row) for row in rows]).reshape(-1, len(CELL_COLUMNS))
    structure = np.full((len(rows), len(STRUCTURE_COLUMNS)), np.nan)
    where = [i for i, row in enumerate(rows) if row.structure is not None]
    crystals = [structure_ for row in rows if (structure_ := row.structure) is not None]
    if crystals:
        found = describe(crystals, STRUCTURE_FAMILIES, progress)
        structure[where] = found.columns(STRUCTURE_COLUMNS)
        volume, system = found.columns(["volume_per_atom_A3", "crystal_system"]).T
        lithium = np.array([crystal.composition.get_atomic_fraction("Li") for crystal in crystals])
        measured = np.column_stack([volume, _log_volume_per_ion(volume, lithium), system])
        cell[where] = np.where(np.isnan(measured), cell[where], measured)
    temperature = np.array([row.temperature_K for row in rows], dtype=float)
    return Inputs(_as_stored(composition), _as_stored(cell), _as_stored(structure), temperature)


def _as_stored(values: Array | NDArray[np.float32]) -> Array:
    """Rounded to what a checkpoint holds, so that a loaded model gives the same numbers."""
    return values.astype(np.float32).astype(float)


def cumulative_fractions(composition: Array) -> Array:
    """(n, 103) cumulative atomic fractions along Mendeleev's numbers.

    The L1 distance of two rows is the earth mover's distance of the compositions on that scale (ElMD; Hargreaves et al., Chem.
    Mater. 32, 10610 (2020)).
    """
    return np.cumsum(composition[:, :MAX_Z][:, _mendeleev_order()], axis=1)


@lru_cache(maxsize=1)
def _mendeleev_order() -> NDArray[np.int64]:
    return np.argsort(element_table()[1:, PROPERTIES.index("mendeleev_number")], kind="stable")


def _table_cell(row: ConductivityRow) -> list[float]:
    """The cell columns of a row without a structure."""
    lithium = row.composition.get_atomic_fraction("Li")
    system = math.nan if row.space_group is None else float(np.searchsorted(CRYSTAL_SYSTEM_ENDS, row.space_group) + 1)
    volume = row.volume_per_atom_A3
    return [volume, float(_log_volume_per_ion(np.array(volume), np.array(lithium))), system]


def _log_volume_per_ion(volume: Array, lithium: Array) -> Array:
    """log of the volume per lithium in A^3; NaN without lithium."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lithium > 0, np.log(volume / lithium), np.nan)
