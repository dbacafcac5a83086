"""Intervals of the graph predictor from crystals kept out of training, and how good it is on others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sse_diffusion.data.grouped import connected_groups
from sse_diffusion.predictors.composition import Calibration, Target, symbol_of
from sse_diffusion.predictors.composition_scores import misses, score_target, truth
from sse_diffusion.predictors.conformal import LEVELS, conformal_quantile
from sse_diffusion.predictors.domain import DomainDistance
from sse_diffusion.predictors.graph.crystals import LabelledCrystals
from sse_diffusion.predictors.graph.predictor import BY_COMPOSITION, GraphPredictor, Prediction

DOMAIN_ROWS = 4000
"""Training crystals that a new one is compared with."""

ENOUGH = 30
"""Crystals outside the domain that are enough to measure how much larger their errors are."""


def calibrate(
    predictor: GraphPredictor, crystals: LabelledCrystals, held: Int[np.ndarray, " m"], train: Int[np.ndarray, " n"]
) -> Calibration:
    """Conformal scales on the rows ``held``; prior widths and elements from ``train``."""
    scales: dict[str, dict[str, float]] = {name: {} for name in LEVELS}
    for suffix in ("", BY_COMPOSITION):
        scores = scores_of(predictor, crystals, held, suffix)
        for name, level in LEVELS.items():
            quantiles = [conformal_quantile(column, level) for column in scores.T]
            scales[name] |= {target.name + suffix: q for target, q in zip(predictor.targets, quantiles, strict=True)}
    prior = {}
    for column, target in enumerate(predictor.targets):
        labels = truth(crystals.labels[train, column], target)
        prior[target.name] = float(np.quantile(np.abs(labels - np.median(labels)), 0.95))
    counts = Counter(symbol_of(z) for i in train for z in crystals.compositions[i])
    return Calibration(scale_68=scales["68"], scale_95=scales["95"], prior_95=prior, element_counts=dict(sorted(counts.items())))


def scores_of(
    predictor: GraphPredictor, crystals: LabelledCrystals, rows: Int[np.ndarray, " m"], suffix: str = ""
) -> Float[np.ndarray, "m t"]:
    """Error over predicted deviation."""
    predicted = predict_rows(predictor, crystals, rows, suffix)
    errors = [
        misses(predicted.mean[:, column], truth(crystals.labels[rows, column], target), target)
        for column, target in enumerate(predictor.targets)
    ]
    return np.stack(errors, axis=1) / predicted.deviation


def fit_domain(
    predictor: GraphPredictor, crystals: LabelledCrystals, train: Int[np.ndarray, " n"], seed: int = 0
) -> DomainDistance:
    """Distances in the space of embeddings, from a random part of the training crystals; a formula is a group."""
    chosen = np.sort(np.random.default_rng(seed).permutation(train)[:DOMAIN_ROWS])
    embedding = predict_rows(predictor, crystals, chosen).embedding
    return DomainDistance.fit(embedding, connected_groups([crystals.formulas[i] for i in chosen]), max_rows=DOMAIN_ROWS)


def far_factor(
    predictor: GraphPredictor, crystals: LabelledCrystals, held: Int[np.ndarray, " m"], level: float = 0.68
) -> Float[np.ndarray, " t"]:
    """How much larger errors are outside the domain than the predicted deviation says, on the rows ``held``; at least 1."""
    if predictor.domain is None:
        return np.ones(len(predictor.targets))
    predictor.far = np.ones(len(predictor.targets))
    scores = scores_of(predictor, crystals, held)
    far = predict_rows(predictor, crystals, held).percentile > predictor.domain.limit
    if far.sum() < ENOUGH or (~far).sum() < ENOUGH:
        return predictor.far
    return np.array([max(1.0, conformal_quantile(s[far], level) / conformal_quantile(s[~far], level)) for s in scores.T])


def predict_rows(
    predictor: GraphPredictor, crystals: LabelledCrystals, rows: Int[np.ndarray, " m"], suffix: str = ""
) -> Prediction:
    """Uncalibrated predictions of rows of a table; from the composition alone when ``suffix`` says so."""
    compositions = [crystals.compositions[i] for i in rows]
    return predictor.distributions(compositions, None if suffix else crystals.graphs.take(rows))


def score(predictor: GraphPredictor, crystals: LabelledCrystals, rows: Int[np.ndarray, " m"]) -> dict[str, Any]:
    """Errors, ranking and coverage per target; the same for the composition reference alone."""
    predicted = predict_rows(predictor, crystals, rows)
    by_composition = predict_rows(predictor, crystals, rows, BY_COMPOSITION)

    def scored(column: int, target: Target) -> dict[str, Any]:
        labels, above = crystals.labels[rows, column], "unstable" if target.name == "energy_above_hull" else ""
        result = score_target(
            predictor.calibration, target, predicted.mean[:, column], predicted.deviation[:, column], labels, above, 0.05
        )
        cut = np.maximum(by_composition.mean[:, column], target.floor)
        error = np.abs(cut - truth(labels, target)).mean()
        return {**result, "mae_composition_eV_per_atom": round(float(error), 5)}

    return {target.name: scored(column, target) for column, target in enumerate(predictor.targets)}
