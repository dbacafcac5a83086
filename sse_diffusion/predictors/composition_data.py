"""Compositions with labels: what the predictors that know the composition only are trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LabelledCompositions:
    """Compositions with labels; n rows.

    Attributes:
        formulas: reduced formulas.
        compositions: atomic number -> count.
        chemical_systems: e.g. ``"Cl-Li"``: what folds are grouped by.
        labels: (n, targets) in the units of the targets; NaN where unknown.
        censored: (n,) True where the first target is known to be at or below its label only (phases on the hull, metals).
    """

    formulas: list[str]
    compositions: list[dict[int, float]]
    chemical_systems: list[str]
    labels: NDArray[np.float64]
    censored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.formulas)

    def take(self, chosen: NDArray[np.bool_]) -> LabelledCompositions:
        """The rows where ``chosen`` (n,) is True."""
        index = np.flatnonzero(chosen)
        return LabelledCompositions(
            [self.formulas[i] for i in index],
            [self.compositions[i] for i in index],
            [self.chemical_systems[i] for i in index],
            self.labels[index],
            self.censored[index],
        )

    def fold(self, n_folds: int) -> NDArray[np.int64]:
        """Fold number of each row (n,), the same for all rows of a chemical system, on every machine."""
        return np.array([int(hashlib.sha256(s.encode()).hexdigest()[:8], 16) % n_folds for s in self.chemical_systems])


def read_columns(path: Path, columns: list[str]) -> pd.DataFrame:
    """The columns of a Parquet or CSV table.

    Raises:
        DataError: the file or a column is missing.
    """
    import pandas as pd

    if not path.is_file():
        raise DataError(f"{path} does not exist", "set the path with structures=..., energies=... or decomposition=...")
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
    else:  # only an empty field is missing: the formula NaN is sodium nitride
        table = pd.read_csv(path, low_memory=False, keep_default_na=False, na_values=[""])
    if missing := [c for c in columns if c not in table.columns]:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}", f"it has: {', '.join(table.columns)}")
    return table[columns]


def with_reduced_formula(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column ``reduced``."""
    from pymatgen.core import Composition

    reduced = {formula: Composition(formula).reduced_formula for formula in table.formula.unique()}
    return table.assign(reduced=table.formula.map(reduced))


def labelled(table: pd.DataFrame, targets: list[str]) -> LabelledCompositions:
    """A table by reduced formula, with a column per target and ``censored``, as compositions."""
    from pymatgen.core import Composition

    parsed = [Composition(formula) for formula in table.index]
    return LabelledCompositions(
        list(table.index),
        [{element.Z: float(n) for element, n in composition.items()} for composition in parsed],
        ["-".join(sorted(element.symbol for element in composition)) for composition in parsed],
        table[targets].to_numpy(dtype=float),
        table.censored.to_numpy(dtype=bool),
    )
