"""How good predicted conductivities are: errors, ranking, coverage, each with an interval over papers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.predictors.conductivity.censoring import negative_log_likelihood
from sse_diffusion.predictors.conductivity.inputs import Array
from sse_diffusion.predictors.conductivity.tables import DETECTION_LIMIT

RESAMPLES = 500
CONDUCTING = -4.0
"""log10 of 1e-4 S/cm: what the enrichment counts as a hit."""
TOP_SHARE = 0.1
PUBLISHED_LIMIT = -15.0
"""What the OBELiX paper reads for ``<1E-10``; its numbers (and those of other authors) follow that convention."""


@dataclass(frozen=True, eq=False)
class Scored:
    """n predictions beside their truth, log10 of S/cm.

    Attributes:
        truth: the number in the table; for ``<1E-10`` the limit.
        limit: (n,) the table says "below".
        with_cif: (n,).
        group: (n,) paper, or what else is resampled as one.
        value, half_68, half_95: the prediction.
        detection_limit: at and below it, labels only say "below".
    """

    truth: Array
    limit: NDArray[np.bool_]
    with_cif: NDArray[np.bool_]
    group: NDArray[np.int64]
    value: Array
    half_68: Array
    half_95: Array
    detection_limit: float = DETECTION_LIMIT

    @property
    def censored(self) -> NDArray[np.bool_]:
        """(n,) at or below the detection limit."""
        return self.limit | (self.truth <= self.detection_limit)

    def take(self, rows: NDArray[np.int64]) -> Scored:
        """Some of the rows."""
        arrays: dict[str, Any] = {name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays)


METRICS: dict[str, Callable[[Scored], float]] = {}


def metric(function: Callable[[Scored], float]) -> Callable[[Scored], float]:
    """Register under the function's name."""
    METRICS[function.__name__] = function
    return function


@metric
def mae(s: Scored) -> float:
    """Mean |error| against the number in the table; a limit counts as its value."""
    return _mean(np.abs(s.value - s.truth))


@metric
def r2(s: Scored) -> float:
    """1 - squared errors over those of the mean."""
    spread = float(((s.truth - s.truth.mean()) ** 2).sum()) if len(s.truth) else 0.0
    return 1.0 - float(((s.value - s.truth) ** 2).sum()) / spread if spread > 0 else np.nan


@metric
def mae_with_cif(s: Scored) -> float:
    """:func:`mae` of the rows with a structure."""
    return _mean(np.abs(s.value - s.truth)[s.with_cif])


@metric
def mae_uncensored(s: Scored) -> float:
    """:func:`mae` of the rows above the detection limit."""
    return _mean(np.abs(s.value - s.truth)[~s.censored])


@metric
def mae_censored(s: Scored) -> float:
    """Mean |error| when everything at or below the detection limit counts as the limit, in table and prediction."""
    return _mean(np.abs(np.maximum(s.value, DETECTION_LIMIT) - np.where(s.censored, DETECTION_LIMIT, s.truth)))


@metric
def mae_limit_as_1e_15(s: Scored) -> float:
    """Mean |error| when ``<1E-10`` is read as 1e-15, as the OBELiX paper does."""
    return _mean(np.abs(s.value - np.where(s.limit & s.censored, PUBLISHED_LIMIT, s.truth)))


@metric
def spearman(s: Scored) -> float:
    """Rank correlation."""
    from scipy.stats import spearmanr

    return float(spearmanr(s.value, s.truth)[0]) if min(len(set(s.truth)), len(set(s.value))) > 1 else np.nan


@metric
def coverage95(s: Scored) -> float:
    """Share of rows inside the 95 % interval; one below a limit is inside when the interval reaches there."""
    return _coverage(s, s.half_95)


@metric
def coverage68(s: Scored) -> float:
    """Share of rows inside the 68 % interval."""
    return _coverage(s, s.half_68)


@metric
def nll(s: Scored) -> float:
    """Mean negative log likelihood; limits by their tail probability; standard deviation: the 68 % half-width."""
    return _mean(negative_log_likelihood(s.value, s.half_68, np.maximum(s.truth, s.detection_limit), s.censored))


@metric
def enrichment_top10(s: Scored) -> float:
    """Share above 1e-4 S/cm among the tenth ranked highest, over the share among all."""
    hits = s.truth > CONDUCTING
    top = np.argsort(-s.value, kind="stable")[: max(round(TOP_SHARE * len(hits)), 1)]
    return float(hits[top].mean() / hits.mean()) if hits.any() else np.nan


def score(
    s: Scored, names: Iterable[str] = tuple(METRICS), resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float | int | list[float]]:
    """Metrics by name, their 95 % intervals (bootstrap over groups, as ``<name>_ci95``), counts and the base rate."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(s.group == g) for g in np.unique(s.group)]
    draws = [np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]) for _ in range(resamples)]
    samples = [s.take(rows) for rows in draws]
    result: dict[str, float | int | list[float]] = {"n": len(s.truth), "n_with_cif": int(s.with_cif.sum())}
    result |= {"n_censored": int(s.censored.sum()), "n_uncensored": int((~s.censored).sum())}
    result |= {"n_groups": len(members), "base_rate": float((s.truth > CONDUCTING).mean())}
    for name in names:
        function = METRICS[name]
        values = np.array([function(sample) for sample in samples])
        known = values[np.isfinite(values)]
        result[name] = round(function(s), 4)
        result[f"{name}_ci95"] = np.round(np.percentile(known, [2.5, 97.5]), 4).tolist() if len(known) else [np.nan, np.nan]
    return result


def mean_difference(first: Array, second: Array, group: NDArray[np.int64], resamples: int = 2000) -> dict[str, object]:
    """Mean of ``first - second`` over rows (n,), with the 95 % interval of a bootstrap over groups."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(group == g) for g in np.unique(group)]
    sums, counts = np.array([(first - second)[m].sum() for m in members]), np.array([len(m) for m in members])
    picks = rng.integers(0, len(members), (resamples, len(members)))
    draws = sums[picks].sum(1) / counts[picks].sum(1)
    return {
        "difference": round(float((first - second).mean()), 4),
        "ci95": np.round(np.percentile(draws, [2.5, 97.5]), 4).tolist(),
    }


def _coverage(s: Scored, half: Array) -> float:
    inside = np.where(s.censored, s.value - half <= np.maximum(s.truth, s.detection_limit), np.abs(s.value - s.truth) <= half)
    return _mean(inside.astype(float))


def _mean(values: Sequence[float] | Array) -> float:
    return float(np.mean(values)) if len(values) else np.nan
