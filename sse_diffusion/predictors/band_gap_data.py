"""Training labels of the band-gap predictor: the PBE gap of the lowest crystal of each composition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sse_diffusion.predictors.band_gap import CompositionBandGap
from sse_diffusion.predictors.composition_data import LabelledCompositions, labelled, read_columns, with_reduced_formula
from sse_diffusion.predictors.composition_training import CompositionTrainConfig, Recipe

if TYPE_CHECKING:
    import pandas as pd

METAL_eV = 1e-6
"""A gap at or below this is a metal."""
COLUMNS = ["formula", "e_above_hull", "band_gap"]


def read_gaps(config: CompositionTrainConfig) -> tuple[LabelledCompositions, LabelledCompositions]:
    """Training and validation compositions.

    Validation rows are the compositions of the structures table's ``val`` split. Training rows never share a reduced formula with
    them, nor with MP-20's test split (``mp20_split == "test"`` in the energies table).

    Raises:
        DataError: a table is missing or lacks a column.
    """
    crystals = with_reduced_formula(read_columns(Path(config.structures), [*COLUMNS, "split"]))
    listed = with_reduced_formula(read_columns(Path(config.energies), [*COLUMNS, "mp20_split"]))
    val = _lowest(crystals[crystals.split == "val"])
    known = _lowest(crystals[crystals.split == "train"])
    if "energies" in config.sources:
        known = known.combine_first(_lowest(listed))
    held_out = set(val.index) | set(crystals.reduced[crystals.split == "val"]) | set(listed.reduced[listed.mp20_split == "test"])
    return labelled(known[~known.index.isin(list(held_out))], ["band_gap"]), labelled(val, ["band_gap"])


def _lowest(table: pd.DataFrame) -> pd.DataFrame:
    """The gap of the lowest crystal that has one, per reduced formula; metals are censored at 0."""
    known = table.dropna(subset=["band_gap"]).sort_values("e_above_hull", kind="stable").groupby("reduced").first()
    return known.assign(censored=known.band_gap <= METAL_eV)


PROTOCOL = (
    "Truth: PBE band gap of the lowest crystal of each reduced formula, eV (Materials Project); 0 for metals. val: "
    "compositions of the structure table's val split (no reduced formula in training; chemical systems may be). "
    "test_new_systems: whole chemical systems kept out of training and calibration. No composition of MP-20's test split is "
    "used anywhere. Predictions are cut at 0, spearman ranks the uncut ones; non_metal: rows with a gap; auc_0: chance that "
    "a metal is ranked below a non-metal; mae_constant: the median of the same rows as prediction; ci95: bootstrap over "
    "rows."
)
RECIPE = Recipe(CompositionBandGap, read_gaps, PROTOCOL, above="non_metal", near=0.0)
