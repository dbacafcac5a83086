"""Gaussian process and trees, stacked and calibrated on left-out groups: one conductivity with one interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.grouped import grouped_folds
from sse_diffusion.predictors.conductivity.arrhenius import ACTIVATION_RANGE_eV, log10_sigma, reduced_inverse_temperature
from sse_diffusion.predictors.conductivity.gaussian_process import ArrheniusGaussianProcess, GaussianProcessConfig, Observations
from sse_diffusion.predictors.conductivity.inputs import Array, Inputs
from sse_diffusion.predictors.conductivity.tables import DETECTION_LIMIT, ConductivityRow
from sse_diffusion.predictors.conductivity.trees import Trees, TreesConfig
from sse_diffusion.predictors.conformal import LEVELS, conformal_quantile

MIN_ROWS = 30


@dataclass(frozen=True, kw_only=True)
class ConductivityModelConfig:
    """Choices.

    Attributes:
        gaussian_process, trees: of the members.
        inner_folds: groups are dealt to so many folds to calibrate the intervals.
        share: of the trees in A. Half by default: a share chosen on the inner folds was worse out of fold (docs/predictors.md).
    """

    gaussian_process: GaussianProcessConfig = field(default_factory=GaussianProcessConfig)
    trees: TreesConfig = field(default_factory=TreesConfig)
    inner_folds: int = 5
    share: float = 0.5


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


@dataclass(frozen=True, eq=False)
class ConductivityModel:
    """log10(sigma T) = A(x) - E_a(x) tau(T): E_a of the Gaussian process, A of the Gaussian process and the trees.

    Attributes:
        process, trees: the members; the trees predict A of rows that were moved to 300 K along the process's E_a.
        share: of the trees in A.
        scale_68, scale_95: half-width over standard deviation, conformal quantiles over left-out groups.
    """

    process: ArrheniusGaussianProcess
    trees: Trees
    share: float
    scale_68: float
    scale_95: float

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
        groups = observations.groups
        fold = grouped_folds(groups, min(config.inner_folds, len(np.unique(groups))), config.trees.seed)
        by_process, variance = (values[measured] for values in process.left_out(fold))
        activation = _activation(process.activation(process.x).numpy())[measured]
        labels = process.believed_labels()[measured]
        inputs, observations, fold = inputs.take(measured), observations.take(measured), fold[measured]
        tau = reduced_inverse_temperature(inputs.temperature_K)
        at_300K = labels + activation * tau
        by_trees = np.empty(len(inputs))
        for k in np.unique(fold):
            grown = Trees.fit(inputs.take(fold != k).table, at_300K[fold != k], config.trees)
            by_trees[fold == k] = grown.predict(inputs.take(fold == k).table)
        by_trees -= activation * tau
        error = _misses(_mix(by_process, by_trees, config.share), observations)
        scores = error / _deviation(variance, by_process, by_trees, config.share)
        trees = Trees.fit(inputs.table, at_300K, config.trees)
        return cls(process, trees, config.share, *(conformal_quantile(scores, level) for level in LEVELS.values()))

    def predict(self, inputs: Inputs) -> Forecast:
        """Of n rows."""
        by_process, activation, variance = self.process.predict(inputs)
        by_trees = self.trees.predict(inputs.table)
        at_300K, activation = _mix(by_process, by_trees, self.share), _activation(activation)
        deviation = _deviation(variance, by_process, by_trees, self.share)
        value = log10_sigma(at_300K, activation, inputs.temperature_K)
        return Forecast(at_300K, activation, value, self.scale_68 * deviation, self.scale_95 * deviation)


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


def _mix(by_process: Array, by_trees: Array, share: float) -> Array:
    return (1.0 - share) * by_process + share * by_trees


def _deviation(variance: Array, by_process: Array, by_trees: Array, share: float) -> Array:
    """The process's standard deviation, widened by what the members disagree about."""
    return np.sqrt(variance + share * (1.0 - share) * (by_process - by_trees) ** 2)


def _misses(predicted: Array, observations: Observations) -> Array:
    """|error| (n,); below a limit there is none."""
    error = predicted - observations.value
    return np.where(observations.censored, np.maximum(error, 0.0), np.abs(error))
