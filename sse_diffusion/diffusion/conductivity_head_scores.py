"""How well a conductivity head judges, by level of masking or noise: against its teacher, and against measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import mannwhitneyu, norm

from sse_diffusion.diffusion.conductivity_head import JudgedConductivity
from sse_diffusion.diffusion.conductivity_labels import ConductivityLabels
from sse_diffusion.diffusion.guides.guide import Stage

Judged = Mapping[Stage, Mapping[float, JudgedConductivity]]
"""What is said at each level of each stage."""

HALF_WIDTHS = {"coverage_68": 0.9945, "coverage_95": 1.96}
"""Of central intervals, in standard deviations."""


def score(said: Judged, labels: ConductivityLabels, chosen: Bool[np.ndarray, " n"] | None = None) -> dict[str, Any]:
    """Scores of some rows (default: all) by stage and level, decades of S/cm."""
    rows = np.ones(len(labels.value), dtype=bool) if chosen is None else chosen
    return {stage: {str(level): _at(judged, labels, rows) for level, judged in at.items()} for stage, at in said.items()}


def _at(judged: JudgedConductivity, labels: ConductivityLabels, rows: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    mean, std, domain = (value.double().cpu().numpy() for value in (judged.mean, judged.std, judged.domain))
    inside, measured = rows & labels.in_domain, rows & ~np.isnan(labels.measured)
    return {
        "domain_auc": _rounded(auc(domain[rows], labels.in_domain[rows])),
        "teacher": _against(mean[inside], std[inside], labels.teacher[inside], labels.teacher_sd[inside]),
        "measured": {
            **_against(mean[measured], std[measured], labels.measured[measured]),
            "teacher_mae": _mean(np.abs(labels.teacher - labels.measured)[measured]),
        },
    }


def _against(
    mean: Float[np.ndarray, " m"], std: Float[np.ndarray, " m"], value: Float[np.ndarray, " m"],
    sd: Float[np.ndarray, " m"] | float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """Errors, and the probability by N(value, sd^2) of the central intervals of N(mean, std^2)."""
    scale = np.maximum(sd, 1e-9)
    held = {
        k: norm.cdf((mean + z * std - value) / scale) - norm.cdf((mean - z * std - value) / scale) for k, z in HALF_WIDTHS.items()
    }
    spread = np.var(value) if len(value) > 1 else np.nan
    return {
        "n": len(value),
        "r2": _rounded(1.0 - np.mean((mean - value) ** 2) / spread) if spread > 0 else None,
        "mae": _mean(np.abs(mean - value)),
        "std": _mean(std),
        **{name: _mean(share) for name, share in held.items()},
    }


def auc(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Probability that a positive row scores above a negative one; NaN when there is only one kind."""
    pairs = int(positive.sum()) * int((~positive).sum())
    return float(mannwhitneyu(score[positive], score[~positive]).statistic / pairs) if pairs else float("nan")


def _mean(values: Float[np.ndarray, " m"]) -> float | None:
    return _rounded(values.mean()) if len(values) else None


def _rounded(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None
