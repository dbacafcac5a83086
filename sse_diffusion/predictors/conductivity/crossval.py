"""Grouped cross-validation of conductivities: no paper and no composition of a test row is ever trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.grouped import check_no_leakage, connected_groups, grouped_folds, quantile_bins
from sse_diffusion.predictors.conductivity.inputs import Inputs
from sse_diffusion.predictors.conductivity.model import ConductivityModel, ConductivityModelConfig, Forecast, observations_of
from sse_diffusion.predictors.conductivity.scores import Scored
from sse_diffusion.predictors.conductivity.tables import ConductivityRow

STRATA = 5
GROUPINGS = {"paper": ("doi",), "paper and composition": ("doi", "key")}


@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers of one fold."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def make_folds(rows: Sequence[ConductivityRow], table: str, grouping: str, n_folds: int = 5, seed: int = 0) -> list[Fold]:
    """Folds of the rows of one table; the rows of other tables train where they share no paper and no composition with the test.

    Args:
        rows: of all tables.
        table: ``source`` of the rows that are tested.
        grouping: of GROUPINGS: what the table's own training and test rows never share.
        n_folds, seed: of the folds; they balance quantiles of the label.

    Raises:
        DataError: no row of that table.
    """
    own = np.array([row.source == table for row in rows])
    if not own.any():
        raise DataError(f"no row of table {table!r}", f"tables: {', '.join(sorted({row.source for row in rows}))}")
    mine = np.flatnonzero(own)
    names = GROUPINGS[grouping]
    groups = connected_groups(*([getattr(rows[i], name) for i in mine.tolist()] for name in names))
    dealt = grouped_folds(groups, n_folds, seed, quantile_bins(np.array([rows[i].log10_sigma for i in mine.tolist()]), STRATA))
    folds = []
    for k in range(n_folds):
        test = mine[dealt == k]
        papers, materials = ({getattr(rows[i], name) for i in test} - {None} for name in ("doi", "key"))
        foreign = [i for i, row in enumerate(rows) if not own[i] and row.doi not in papers and row.key not in materials]
        train = np.concatenate([mine[dealt != k], np.array(foreign, dtype=np.int64)])
        for name in names:
            check_no_leakage([getattr(rows[i], name) for i in train], [getattr(rows[i], name) for i in test], name)
        folds.append(Fold(train, test))
    return folds


def cross_validate(
    rows: Sequence[ConductivityRow],
    inputs: Inputs,
    folds: Sequence[Fold],
    config: ConductivityModelConfig,
    progress: bool = True,
    subset: Callable[[NDArray[np.int64]], NDArray[np.int64]] = lambda train: train,
) -> Forecast:
    """Out-of-fold forecasts (rows of no test fold stay NaN).

    Args:
        rows, inputs: n rows.
        folds: of :func:`make_folds`.
        config: of the model; everything it chooses, it chooses on the training rows.
        progress: show a bar.
        subset: which training rows are used (learning curves).
    """
    result = {name: np.full(len(rows), np.nan) for name in Forecast.__dataclass_fields__}
    for fold in tqdm(folds, "grouped folds", unit="fold", disable=not progress):
        train = subset(fold.train)
        model = ConductivityModel.fit(inputs.take(train), observations_of([rows[i] for i in train]), config)
        forecast = model.predict(inputs.take(fold.test))
        for name, values in result.items():
            values[fold.test] = getattr(forecast, name)
    return Forecast(**result)


def scored(rows: Sequence[ConductivityRow], forecast: Forecast, chosen: NDArray[np.int64]) -> Scored:
    """Forecasts beside the labels of the chosen rows; resampling groups are papers (and compositions they share)."""
    picked = [rows[i] for i in chosen]
    return Scored(
        truth=np.array([row.log10_sigma for row in picked]),
        limit=np.array([row.limit for row in picked]),
        with_cif=np.array([row.structure is not None for row in picked]),
        group=connected_groups([row.doi for row in picked], [row.key for row in picked]),
        value=forecast.log10_sigma[chosen],
        half_68=forecast.half_68[chosen],
        half_95=forecast.half_95[chosen],
    )
