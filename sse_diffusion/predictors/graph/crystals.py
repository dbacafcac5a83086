"""What the stability network is trained on: graphs, labels and cross-fitted composition references of a table of crystals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.provenance import hash_of_config, sha256_of_file
from sse_diffusion.data.grouped import check_no_leakage
from sse_diffusion.predictors.composition_data import LabelledCompositions, read_columns, with_reduced_formula
from sse_diffusion.predictors.graph.graphs import CrystalGraphs, GraphConfig, crystal_graph
from sse_diffusion.predictors.graph.reference import fold_of
from sse_diffusion.predictors.stability_data import SOURCES, LABEL_RANGE_eV, STABLE_eV, read_tables

if TYPE_CHECKING:
    import pandas as pd

CALIBRATION_FOLDS = 20
"""One in so many formulas of the train split is kept out of all training and calibrates the intervals."""

CELL = ("a", "b", "c", "alpha", "beta", "gamma")


@dataclass(frozen=True)
class LabelledCrystals:
    """n crystals with labels.

    Attributes:
        graphs: of the crystals.
        compositions: atomic number -> atoms in the cell.
        formulas: reduced formulas.
        labels: (n, 2) energy above the hull and formation energy, eV/atom.
        censored: (n,) True where the energy above the hull is known to be at or below its label only (phases on the hull).
        split: (n,) ``"train"``, ``"calibration"`` or ``"val"``: no reduced formula is in two of them.
    """

    graphs: CrystalGraphs
    compositions: list[dict[int, float]]
    formulas: list[str]
    labels: Float[np.ndarray, "n 2"]
    censored: Bool[np.ndarray, " n"]
    split: np.ndarray

    def rows(self, split: str) -> Int[np.ndarray, " m"]:
        """Rows of a split."""
        return np.flatnonzero(self.split == split)


def read_crystals(structures: Path, config: GraphConfig, cache_dir: Path | None, progress: bool = True) -> LabelledCrystals:
    """All crystals of a table, with graphs from the cache where they were made before.

    Args:
        structures: Parquet with formula, split, formation_energy_per_atom, e_above_hull, a, b, c, alpha, beta, gamma,
            atomic_numbers, frac_coords.
        config: of the graphs.
        cache_dir: where graphs are kept; ``None`` builds them anew (20 s for 26,000 crystals).
        progress: show the progress bar.

    Raises:
        DataError: the table or a column is missing, a split is empty, or a formula of the val split is in the train split.
    """
    columns = ["formula", "split", "formation_energy_per_atom", "e_above_hull", *CELL, "atomic_numbers", "frac_coords"]
    table = with_reduced_formula(read_columns(structures, columns))
    formulas = table.reduced.tolist()
    kept_out = fold_of(formulas, CALIBRATION_FOLDS) == 0
    split = np.where(table.split == "val", "val", np.where(kept_out, "calibration", "train"))
    if missing := {"train", "calibration", "val"} - set(split):
        raise DataError(f"{structures} gives no {', '.join(sorted(missing))} rows", "it needs a split column with train and val")
    is_val = split == "val"
    check_no_leakage(table.reduced[~is_val].tolist(), table.reduced[is_val].tolist(), "reduced formulas")
    hull = table.e_above_hull.clip(*LABEL_RANGE_eV).to_numpy(dtype=float)
    return LabelledCrystals(
        _graphs(table, structures, config, cache_dir, progress),
        [_composition(numbers) for numbers in table.atomic_numbers],
        formulas,
        np.stack([hull, table.formation_energy_per_atom.to_numpy(dtype=float)], axis=1),
        hull <= STABLE_eV,
        split,
    )


def reference_rows(structures: Path, energies: Path, decomposition: Path) -> LabelledCompositions:
    """Compositions that the reference is trained on: none of the val split, of MP-20's test split, or kept for calibration.

    Raises:
        DataError: a table is missing or lacks a column.
    """
    train, _ = read_tables(structures, energies, decomposition, SOURCES)
    return train.take(fold_of(train.formulas, CALIBRATION_FOLDS) != 0)


def trained_formulas(structures: Path, energies: Path, decomposition: Path) -> set[str]:
    """Reduced formulas that a predictor of these tables has seen: of its crystals (calibration too) and of its reference.

    Raises:
        DataError: a table is missing or lacks a column.
    """
    crystals = with_reduced_formula(read_columns(structures, ["formula", "split"]))
    return {*crystals.reduced[crystals.split != "val"], *reference_rows(structures, energies, decomposition).formulas}


def _graphs(table: pd.DataFrame, structures: Path, config: GraphConfig, cache_dir: Path | None, progress: bool) -> CrystalGraphs:
    from pymatgen.core import Lattice

    key = hash_of_config({"table": sha256_of_file(structures), "version": 2, **asdict(config)})
    path = None if cache_dir is None else cache_dir / f"crystal_graphs_{key}.npz"
    if path is not None and path.is_file():
        return CrystalGraphs.read(path)
    rows = tqdm(table.itertuples(), "graphs", len(table), unit="crystal", disable=not progress)
    graphs = CrystalGraphs.join(
        crystal_graph(
            np.asarray(row.atomic_numbers), np.asarray(row.frac_coords, dtype=float).reshape(-1, 3),
            np.asarray(Lattice.from_parameters(*(getattr(row, name) for name in CELL)).matrix), config,
        )
        for row in rows
    )  # fmt: skip
    if path is not None:
        graphs.save(path)
    return graphs


def _composition(numbers: Int[np.ndarray, " n"]) -> dict[int, float]:
    species, counts = np.unique(np.asarray(numbers), return_counts=True)
    return {int(z): float(n) for z, n in zip(species, counts, strict=True)}
