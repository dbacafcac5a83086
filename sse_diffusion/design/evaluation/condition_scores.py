"""Numbers of one question at one guidance weight: asked against achieved, and both controls."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from sse_diffusion.design.evaluation.condition_plan import ASKED, SHUFFLED, UNCONDITIONAL, Question
from sse_diffusion.design.evaluation.condition_rows import Row
from sse_diffusion.verification.metrics.rate_ratio import rate_ratio
from sse_diffusion.verification.metrics.rates import Metric

RESAMPLES = 1000
NO_NOVELTY = "no reference crystals and no index of known crystals to compare with"


def score_question(question: Question, arms: Mapping[str, Sequence[Row]], seed: int = 0) -> dict[str, Metric]:
    """Metrics by name, without the prefix of the question; what each means: docs/evaluation.md.

    Args:
        question: what was asked.
        arms: rows of all three arms.
        seed: of the bootstrap.
    """
    metrics: dict[str, Metric] = {}
    for arm, suffix in ((ASKED, ""), (UNCONDITIONAL, "_unconditional"), (SHUFFLED, "_shuffled")):
        rows = arms[arm]
        metrics[f"hit_rate{suffix}"] = _rate([row.hit for row in rows])
    for control, name in ((UNCONDITIONAL, "ratio"), (SHUFFLED, "ratio_shuffled")):
        metrics[name] = rate_ratio(*_counts(arms[ASKED]), *_counts(arms[control]))
    rows = arms[ASKED]
    metrics |= {
        "uniqueness": _rate([r.unique for r in rows]),
        "uniqueness_unconditional": _rate([r.unique for r in arms[UNCONDITIONAL]]),
    }
    metrics |= _novelty(rows, arms[UNCONDITIONAL])
    metrics["unlabelled"] = _rate([bool(row.reason) for row in rows])
    metrics["unlabelled_unconditional"] = _rate([bool(row.reason) for row in arms[UNCONDITIONAL]])
    metrics["unconverged"] = _rate([not row.converged for row in rows])
    for name in question.fields:
        metrics |= _means(question, name, arms, seed)
    if question.swept is not None:
        for arm, suffix in ((ASKED, ""), (SHUFFLED, "_shuffled")):
            metrics |= {f"{k}{suffix}": v for k, v in _correlations(question, arms[arm], seed).items()}
    return metrics


def reasons(rows: Sequence[Row]) -> dict[str, int]:
    """Why labels are missing, most frequent first; details after a colon are left out, so that equal causes are one."""
    texts = Counter(row.reason.split(":")[0] for row in rows if row.reason)
    return dict(texts.most_common())


def _rate(flags: Sequence[bool]) -> Metric:
    return Metric.rate(sum(flags), len(flags))


def _counts(rows: Sequence[Row]) -> tuple[int, int]:
    return sum(row.hit for row in rows), len(rows)


def _novelty(rows: Sequence[Row], control: Sequence[Row]) -> dict[str, Metric]:
    """Of all crystals, and of the hits: a hit that is known is a crystal remembered."""
    if any(row.novel is None for row in rows):
        return {name: Metric.missing(NO_NOVELTY) for name in ("novelty", "novelty_unconditional", "novelty_of_hits")}
    hits = [bool(row.novel) for row in rows if row.hit]
    return {
        "novelty": _rate([bool(row.novel) for row in rows]),
        "novelty_unconditional": _rate([bool(row.novel) for row in control]),
        "novelty_of_hits": _rate(hits) if hits else Metric.missing("no hit"),
    }


def _means(question: Question, name: str, arms: Mapping[str, Sequence[Row]], seed: int) -> dict[str, Metric]:
    """Mean label in every arm, and at every asked value of a sweep."""
    label = "mean" if len(question.fields) == 1 else f"mean_{name}"
    metrics = {}
    if question.swept is not None:
        for request, ask in enumerate(question.asks):
            chosen = [row.labels[name] for row in arms[ASKED] if row.request == request]
            metrics[f"{label}_at_{ask[name]}"] = Metric.mean(chosen, seed)
    else:
        metrics[label] = Metric.mean([row.labels[name] for row in arms[ASKED]], seed)
        metrics[f"{label}_shuffled"] = Metric.mean([row.labels[name] for row in arms[SHUFFLED]], seed)
    metrics[f"{label}_unconditional"] = Metric.mean([row.labels[name] for row in arms[UNCONDITIONAL]], seed)
    return metrics


def _correlations(question: Question, rows: Sequence[Row], seed: int) -> dict[str, Metric]:
    """Of the asked with the achieved values, over the crystals that have a label; intervals by bootstrap over crystals."""
    name = str(question.swept)
    pairs = np.array([(question.values[row.request][name], row.labels[name]) for row in rows], dtype=float).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < 3:
        return dict.fromkeys(("spearman", "pearson", "mae"), Metric.missing(f"{len(pairs)} crystals with a label"))
    ranks = np.stack([_ranks(pairs[:, 0]), _ranks(pairs[:, 1])], axis=1)
    return {
        "spearman": _bootstrapped(ranks, _pearson, seed),
        "pearson": _bootstrapped(pairs, _pearson, seed),
        "mae": Metric.mean(np.abs(pairs[:, 1] - pairs[:, 0]), seed),
    }


def _bootstrapped(pairs: Float[np.ndarray, "n 2"], statistic: Callable[[Float[np.ndarray, "n 2"]], float], seed: int) -> Metric:
    value = statistic(pairs)
    if not math.isfinite(value):
        return Metric.missing("all values are equal")
    rng = np.random.default_rng(seed)
    draws = np.array([statistic(pairs[rng.integers(0, len(pairs), len(pairs))]) for _ in range(RESAMPLES)])
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Metric(value, (float(low), float(high)), n=len(pairs))


def _pearson(pairs: Float[np.ndarray, "n 2"]) -> float:
    centred = pairs - pairs.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    return float((centred[:, 0] * centred[:, 1]).sum() / norms.prod()) if norms.all() else math.nan


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), dtype=float)
