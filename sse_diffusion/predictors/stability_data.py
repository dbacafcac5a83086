"""Training labels of the composition-stability predictor: one row per reduced formula, from up to three public tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.predictors.composition_data import LabelledCompositions, labelled, read_columns, with_reduced_formula
from sse_diffusion.predictors.composition_training import CompositionTrainConfig, Recipe
from sse_diffusion.predictors.stability import CompositionStability

if TYPE_CHECKING:
    import pandas as pd

SOURCES = ("structures", "energies", "decomposition")
LABEL_RANGE_eV = (-0.5, 2.0)
"""Energies above the hull are cut to this range: outliers of the tables (-4.5) are errors, and beyond 2 eV none matter."""

STABLE_eV = 1e-6
"""An energy above the hull at or below this is a phase on the hull."""


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
    mp = with_reduced_formula(read_columns(structures, [*columns, "split"]))
    all_mp = with_reduced_formula(read_columns(energies, [*columns, "mp20_split"]))
    val = _lowest(mp[mp.split == "val"])
    held_out = set(val.index) | set(all_mp.reduced[all_mp.mp20_split == "test"])
    known = _lowest(mp[mp.split == "train"])
    if "energies" in wanted:
        known = _lowest(all_mp) if "structures" not in wanted else known.combine_first(_lowest(all_mp))
    if "decomposition" in wanted:
        signed = read_columns(decomposition, ["reduced_formula", "Ed_mp2019", "Ef_mapped_to_mp20_scheme"])
        known = _merge_decomposition(known if len(wanted) > 1 else known.iloc[:0], signed)
    return _cut(known[~known.index.isin(list(held_out))]), _cut(val)


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


def _cut(table: pd.DataFrame) -> LabelledCompositions:
    return labelled(table.assign(hull=table.hull.clip(*LABEL_RANGE_eV)), ["hull", "formation"])


def _read(config: CompositionTrainConfig) -> tuple[LabelledCompositions, LabelledCompositions]:
    return read_tables(Path(config.structures), Path(config.energies), Path(config.decomposition), config.sources)


PROTOCOL = (
    "Truth: lowest energy above the MP hull per reduced formula, eV/atom, never negative. val: compositions of the structure "
    "table's val split (no reduced formula in training; chemical systems may be; epochs and sources were chosen on it). "
    "test_new_systems: whole chemical systems kept out of training and calibration; it holds the unstable "
    "compositions that MP-20 lacks. No composition of MP-20's test split is used anywhere. spearman ranks the uncut "
    "prediction; spearman_unstable over rows more than 1 meV above the hull; auc_0.05: chance that a composition within 0.05 "
    "eV/atom is ranked below one that is not; mae_constant: the median of the same rows as prediction."
)
RECIPE = Recipe(CompositionStability, _read, PROTOCOL, above="unstable", near=0.05)
