"""Training labels of the composition-stability predictor: one row per reduced formula, from up to three public tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

SOURCES = ("structures", "energies", "decomposition")
LABEL_RANGE_eV = (-0.5, 2.0)
"""Energies above the hull are cut to this range: outliers of the tables (-4.5) are errors, and beyond 2 eV none matter."""

STABLE_eV = 1e-6
"""An energy above the hull at or below this is a phase on the hull."""


@dataclass(frozen=True)
class LabelledCompositions:
    """Compositions with labels; n rows.

    Attributes:
        formulas: reduced formulas.
        compositions: atomic number -> count.
        chemical_systems: e.g. ``"Cl-Li"``: what folds are grouped by.
        labels: (n, 2) energy above the hull and formation energy, eV/atom; NaN where unknown.
        censored: (n,) True where the energy above the hull is known to be <= the label only (phases on the hull).
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


def read_tables(
    structures: Path, energies: Path, decomposition: Path, sources: Iterable[str]
) -> tuple[LabelledCompositions, LabelledCompositions]:
    """Training and validation compositions.

    Validation rows are the compositions of the structures table's ``val`` split. Training rows never share a reduced
    formula with them, nor with MP-20's test split (``mp20_split == "test"`` in the energies table).

    Args:
        structures: Parquet with formula, split, formation_energy_per_atom, e_above_hull.
        energies: CSV with formula, mp20_split, formation_energy_per_atom, e_above_hull.
        decomposition: CSV with reduced_formula, Ed_mp2019 (signed decomposition energy of the ground state: negative for
            a stable phase), Ef_mapped_to_mp20_scheme.
        sources: which of :data:`SOURCES` give training labels.

    Raises:
        ConfigError: an unknown source, or none.
        DataError: a table is missing or lacks a column.
    """
    wanted = list(sources)
    for source in wanted:
        if source not in SOURCES:
            raise ConfigError(f"unknown source {source!r}", did_you_mean(source, SOURCES))
    if not wanted:
        raise ConfigError("sources is empty", f"choose from {', '.join(SOURCES)}")
    columns = ["formula", "formation_energy_per_atom", "e_above_hull"]
    mp = _with_reduced_formula(_read(structures, [*columns, "split"]))
    all_mp = _with_reduced_formula(_read(energies, [*columns, "mp20_split"]))
    val = _lowest(mp[mp.split == "val"])
    held_out = set(val.index) | set(all_mp.reduced[all_mp.mp20_split == "test"])
    known = _lowest(mp[mp.split == "train"])
    if "energies" in wanted:
        known = _lowest(all_mp) if "structures" not in wanted else known.combine_first(_lowest(all_mp))
    if "decomposition" in wanted:
        signed = _read(decomposition, ["reduced_formula", "Ed_mp2019", "Ef_mapped_to_mp20_scheme"])
        known = _merge_decomposition(known if len(wanted) > 1 else known.iloc[:0], signed)
    return _labelled(known[~known.index.isin(list(held_out))]), _labelled(val)


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
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


def _with_reduced_formula(table: pd.DataFrame) -> pd.DataFrame:
    from pymatgen.core import Composition

    reduced = {formula: Composition(formula).reduced_formula for formula in table.formula.unique()}
    return table.assign(reduced=table.formula.map(reduced))


def _lowest(table: pd.DataFrame) -> pd.DataFrame:
    """Lowest energies per reduced formula; phases on the hull are censored at 0."""
    groups = table.groupby("reduced")
    lowest = groups.agg(hull=("e_above_hull", "min"), formation=("formation_energy_per_atom", "min"))
    return lowest.assign(censored=lowest.hull <= STABLE_eV)


def _merge_decomposition(known: pd.DataFrame, signed: pd.DataFrame) -> pd.DataFrame:
    """Join the older, larger, signed table; where both know a composition the newer hull decides.

    Positive in the newer hull: its value. On the newer hull: the signed value when that is negative, else censored at 0.
    """
    old = signed.set_index("reduced_formula")
    old = old.rename(columns={"Ed_mp2019": "hull", "Ef_mapped_to_mp20_scheme": "formation"}).assign(censored=False)
    both = known.index.intersection(old.index)
    merged = old.combine_first(known)
    merged.loc[both, "formation"] = known.loc[both, "formation"]
    above = both[~known.loc[both, "censored"].astype(bool)]
    merged.loc[above, "hull"] = known.loc[above, "hull"]
    on_hull = both[known.loc[both, "censored"].astype(bool) & (old.loc[both, "hull"] > 0)]
    merged.loc[on_hull, "hull"] = 0.0
    merged.loc[on_hull, "censored"] = True
    return merged


def _labelled(table: pd.DataFrame) -> LabelledCompositions:
    from pymatgen.core import Composition

    parsed = [Composition(formula) for formula in table.index]
    labels = table[["hull", "formation"]].to_numpy(dtype=float)
    labels[:, 0] = labels[:, 0].clip(*LABEL_RANGE_eV)
    return LabelledCompositions(
        list(table.index),
        [{element.Z: float(n) for element, n in composition.items()} for composition in parsed],
        ["-".join(sorted(element.symbol for element in composition)) for composition in parsed],
        labels,
        table.censored.to_numpy(dtype=bool),
    )
