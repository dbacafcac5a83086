"""What every reader yields, and the column names it looks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.data.rows import Rejection


@dataclass(frozen=True, eq=False)
class RawCrystal:
    """A crystal as read, before validation.

    Attributes:
        row: position in the source, 0-based.
        id: name as read; empty when the source has none.
        species: atomic numbers, shape (N,).
        frac: fractional coordinates, any image, shape (N, 3).
        lattice: row vectors, Angstrom, shape (3, 3); NaN when the cell is impossible.
        fields: raw values of the label columns that the source has.
        split: split name as read; None when absent.
    """

    row: int
    id: str
    species: NDArray[np.int64]
    frac: NDArray[np.float64]
    lattice: NDArray[np.float64]
    fields: dict[str, Any] = field(default_factory=dict)
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """Names of the columns (or info keys) of a source.

    Attributes:
        id: name of the crystal; rows are numbered when it is absent.
        split: train / val / test; optional.
        cif: CIF text; when this column exists, cell and coordinate columns are not needed.
        species: list of N atomic numbers.
        frac: flat list of 3N (or N lists of 3) fractional coordinates.
        a, b, c: cell lengths, Angstrom.
        alpha, beta, gamma: cell angles, degrees.
    """

    id: str = "material_id"
    split: str = "split"
    cif: str = "cif"
    species: str = "atomic_numbers"
    frac: str = "frac_coords"
    a: str = "a"
    b: str = "b"
    c: str = "c"
    alpha: str = "alpha"
    beta: str = "beta"
    gamma: str = "gamma"

    @property
    def cell(self) -> tuple[str, ...]:
        """The six cell columns in order a, b, c, alpha, beta, gamma."""
        return (self.a, self.b, self.c, self.alpha, self.beta, self.gamma)


class Reader(Protocol):
    """A function that streams one source."""

    def __call__(
        self, path: Path, columns: ColumnMap, fields: tuple[str, ...], limit: int | None, progress: bool
    ) -> Iterator[RawCrystal | Rejection]:
        """Yield one item per row; raise DataError when the source as a whole cannot be used."""
        ...


def clean_split(value: Any) -> str | None:
    """A split name in lower case; ``valid`` and ``validation`` read as ``val``; None when empty."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    text = str(value).strip().lower()
    return {"valid": "val", "validation": "val"}.get(text, text) or None


def lattice_from_parameters(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row vectors (M, 3, 3) from (M, 6) cell parameters a b c alpha beta gamma (Angstrom, degrees).

    a lies along x, b in the xy plane. Angles that no cell can have give NaN.
    """
    a, b, c = cell[:, 0], cell[:, 1], cell[:, 2]
    cos_alpha, cos_beta, cos_gamma = np.cos(np.deg2rad(cell[:, 3:6])).T
    lattice = np.zeros((len(cell), 3, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        sin_gamma = np.sqrt(1.0 - cos_gamma**2)
        lattice[:, 0, 0] = a
        lattice[:, 1, 0], lattice[:, 1, 1] = b * cos_gamma, b * sin_gamma
        shear = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
        lattice[:, 2, 0], lattice[:, 2, 1] = c * cos_beta, c * shear
        lattice[:, 2, 2] = c * np.sqrt(1.0 - cos_beta**2 - shear**2)
    return lattice
