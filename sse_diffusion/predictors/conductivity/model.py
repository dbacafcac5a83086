"""Gaussian process and trees, stacked and calibrated on left-out groups: one conductivity with one interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.grouped import grouped_folds
from sse_diffusion.predictors.conductivity.arrhenius import (
    ACTIVATION_RANGE_eV,
    activation_of_prefactor,
    inverse_temperature,
    log10_sigma,
    reduced_inverse_temperature,
)
from sse_diffusion.predictors.conductivity.gaussian_process import ArrheniusGaussianProcess, GaussianProcessConfig, Observations
from sse_diffusion.predictors.conductivity.inputs import Array, Inputs
from sse_diffusion.predictors.conductivity.tables import DETECTION_LIMIT, ConductivityRow
from sse_diffusion.predictors.conductivity.trees import Trees, TreesConfig
from sse_diffusion.predictors.conformal import LEVELS, conformal_quantile

MIN_ROWS = 30
MIN_SERIES = 10
"""Materials measured at several temperatures that are enough to know the prefactor."""
SERIES_SPAN = 2.0
"""In 1/eV, of 1 / (k T ln 10): 300 to 340 K, or 600 to 790 K."""
TYPICAL_PREFACTOR = 4.3
"""log10 of S K/cm: the median of Liverpool's 83 series."""


@dataclass(frozen=True, kw_only=True)
class ConductivityModelConfig:
    """Choices.

    Attributes:
        gaussian_process, trees: of the members.
        inner_folds: groups are dealt to so many folds to calibrate the intervals.
        share: of the trees in A. Half by default: a share chosen on the inner folds was worse out of fold (docs/predictors.md).
        prefactor_share: in E_a, of the barrier that A means where all materials have one prefactor (the rest: the process's).
    """

    gaussian_process: GaussianProcessConfig = field(default_factory=GaussianProcessConfig)
    trees: TreesConfig = field(default_factory=TreesConfig)
    inner_folds: int = 5
    share: float = 0.5
    prefactor_share: float = 0.5


@dataclass(frozen=True, eq=False)
class Forecast:
    """Of n rows.

    Attributes:
        at_300K: (n,) log10(sigma T) at 300 K, S K/cm.
        activation_eV: (n,).
        log10_sigma: (n,) at the rows' temperatures.
        half_68, half_95: (n,) calibrated half-widths of the central intervals.
    """

    at_300K: Array
    activation_eV: Array
    log10_sigma: Array
    half_68: Array
    half_95: Array


@dataclass(frozen=True, kw_only=True)
class Stack:
    """How the members' answers become one.

    Attributes:
        share: of the trees in A.
        prefactor_share: in E_a, of the barrier that A means where all materials have one prefactor.
        prefactor: that prefactor, log10 of S K/cm.
        scale_68, scale_95: half-width over standard deviation, conformal quantiles over left-out groups.
    """

    share: float
    prefactor_share: float
    prefactor: float
    scale_68: float = 1.0
    scale_95: float = 1.0

    def forecast(self, by_process: Array, by_trees: Array, activation: Array, variance: Array, temperature_K: Array) -> Forecast:
        """Of n rows.

        Args:
            by_process, by_trees: (n,) log10(sigma T) at 300 K.
            activation: (n,) E_a of the process, eV.
            variance: (n,) of the process; what the members disagree about is added.
            temperature_K: (n,).
        """
        at_300K = (1.0 - self.share) * by_process + self.share * by_trees
        of_prefactor = activation_of_prefactor(at_300K, self.prefactor)
        activation = _activation((1.0 - self.prefactor_share) * activation + self.prefactor_share * of_prefactor)
        deviation = np.sqrt(variance + self.share * (1.0 - self.share) * (by_process - by_trees) ** 2)
        value = log10_sigma(at_300K, activation, temperature_K)
        return Forecast(at_300K, activation, value, self.scale_68 * deviation, self.scale_95 * deviation)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What the members say of the m measured training rows when the groups of their inner fold are left out.

    Attributes:
        rows: (m,) among the training rows.
        labels_300K: (m,) what the trees learn: labels moved to 300 K along the process's E_a.
        forecast: uncalibrated (half-widths: the standard deviation).
    """

    rows: NDArray[np.int64]
    labels_300K: Array
    forecast: Forecast

    @classmethod
    def of(
        cls, process: ArrheniusGaussianProcess, stack: Stack, inputs: Inputs, observations: Observations,
        config: ConductivityModelConfig,
    ) -> Self:  # fmt: skip
        """Hyperparameters of the process stay; trees are grown again for each fold."""
        groups = observations.groups
        fold = grouped_folds(groups, min(config.inner_folds, len(np.unique(groups))), config.trees.seed)
        rows = np.flatnonzero(observations.measured)
        by_process, variance = (values[rows] for values in process.left_out(fold))
        activation = _activation(process.activation(process.x).numpy())[rows]
        inputs, fold = inputs.take(rows), fold[rows]
        moved = activation * reduced_inverse_temperature(inputs.temperature_K)
        labels = process.believed_labels()[rows] + moved
        by_trees = np.empty(len(rows))
        for k in np.unique(fold):
            grown = Trees.fit(inputs.take(fold != k).table, labels[fold != k], config.trees)
            by_trees[fold == k] = grown.predict(inputs.take(fold == k).table)
        return cls(rows, labels, stack.forecast(by_process + moved, by_trees, activation, variance, inputs.temperature_K))


@dataclass(frozen=True, eq=False)
class ConductivityModel:
    """log10(sigma T) = A(x) - E_a(x) tau(T), with A and E_a of the stack.

    Attributes:
        process, trees: the members; the trees predict A of rows that were moved to 300 K along the process's E_a.
        stack: of both.
    """

    process: ArrheniusGaussianProcess
    trees: Trees
    stack: Stack

    @classmethod
    def fit(cls, inputs: Inputs, observations: Observations, config: ConductivityModelConfig | None = None) -> Self:
        """Fit the members, then calibrate on groups that share neither paper nor composition.

        Soft labels speak to the Gaussian process only: trees and intervals are fitted on measurements.

        Raises:
            DataError: too few rows.
        """
        measured = observations.measured
        if measured.sum() < MIN_ROWS:
            raise DataError(f"{measured.sum()} rows with a conductivity", f"give at least {MIN_ROWS}")
        config = config or ConductivityModelConfig()
        process = ArrheniusGaussianProcess.fit(inputs, observations, config.gaussian_process)
        prefactor = common_prefactor(inputs.temperature_K, observations)
        stack = Stack(share=config.share, prefactor_share=config.prefactor_share, prefactor=prefactor)
        left = LeftOut.of(process, stack, inputs, observations, config)
        inputs, observations = inputs.take(left.rows), observations.take(left.rows)
        error = left.forecast.log10_sigma + np.log10(inputs.temperature_K) - observations.value
        scores = np.where(observations.censored, np.maximum(error, 0.0), np.abs(error)) / left.forecast.half_68
        scale_68, scale_95 = (conformal_quantile(scores, level) for level in LEVELS.values())
        trees = Trees.fit(inputs.table, left.labels_300K, config.trees)
        return cls(process, trees, replace(stack, scale_68=scale_68, scale_95=scale_95))

    def predict(self, inputs: Inputs) -> Forecast:
        """Of n rows."""
        by_process, activation, variance = self.process.predict(inputs)
        by_trees = self.trees.predict(inputs.table)
        return self.stack.forecast(by_process, by_trees, _activation(activation), variance, inputs.temperature_K)


def common_prefactor(temperature_K: Array, observations: Observations) -> float:
    """log10(sigma T) at 1/T = 0: median over the series of one material in one paper at several temperatures.

    Slopes within a series know the barrier; those across papers do not, since what is measured hot is what conducts badly.
    """
    t = inverse_temperature(temperature_K)
    exact = observations.measured & ~observations.censored & (observations.paper >= 0)
    series = observations.paper * (observations.material.max() + 1) + observations.material
    found = []
    for name in np.unique(series[exact]):
        rows = np.flatnonzero(exact & (series == name))
        if np.ptp(t[rows]) > SERIES_SPAN:
            found.append(np.polyfit(t[rows], observations.value[rows], 1)[1])
    return float(np.median(found)) if len(found) >= MIN_SERIES else TYPICAL_PREFACTOR


def observations_of(rows: Sequence[ConductivityRow]) -> Observations:
    """Labels and codes of measured rows; at and below the detection limit the label is the limit."""
    limit = np.array([max(row.log10_sigma, DETECTION_LIMIT) if row.censored else row.log10_sigma for row in rows])
    temperature = np.array([row.temperature_K for row in rows])
    return Observations(
        limit + np.log10(temperature),
        np.array([row.censored for row in rows]),
        _codes([(not row.measured, row.source) for row in rows]),  # measurements first
        _codes([row.doi for row in rows]),
        _codes([row.key for row in rows]),
        np.array([row.sd for row in rows]),
    )


def _codes(keys: Sequence[Any]) -> NDArray[np.int64]:
    """A number per distinct key, -1 for ``None``."""
    known = sorted({key for key in keys if key is not None})
    number = {key: i for i, key in enumerate(known)}
    return np.array([-1 if key is None else number[key] for key in keys], dtype=np.int64)


def _activation(raw: Array) -> Array:
    return np.clip(raw, *ACTIVATION_RANGE_eV)
