"""The numbers of ``task=conditions`` as a table for people, and how they were computed in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sse_diffusion.core.atomic_files import write_bytes_atomically
from sse_diffusion.design.evaluation.condition_plan import ASKED, UNCONDITIONAL, Question
from sse_diffusion.design.evaluation.condition_rows import Judged, words
from sse_diffusion.design.evaluation.dng import Comparison
from sse_diffusion.design.labels.labeller import Labeller
from sse_diffusion.verification.metrics.rates import Metric

HEAD = (
    "| question | guidance | hits as asked | nothing asked | shuffled | ratio | Spearman (shuffled) | unique | novel | no label |"
)


def write_table(judged: Sequence[Judged], metrics: Mapping[str, Metric], path: Path) -> None:
    """``conditions.md``: one line per question and weight, then the mean achieved at every asked value."""
    lines = [HEAD, "|---" * HEAD.count(" | ") + "|---|"]
    for one in judged:
        found = {k.removeprefix(one.trial.prefix): m for k, m in metrics.items() if k.startswith(one.trial.prefix)}
        link = f"{number(found['spearman'])} ({number(found['spearman_shuffled'])})" if "spearman" in found else ""
        cells = [rate(found[key]) for key in ("hit_rate", "hit_rate_unconditional", "hit_rate_shuffled")]
        cells += [number(found["ratio"]), link, *(rate(found[key]) for key in ("uniqueness", "novelty", "unlabelled"))]
        lines.append(f"| {one.trial.question.name} | {one.trial.guidance:g} | {' | '.join(cells)} |")
    lines += ["", "| question | guidance | asked | mean achieved |", "|---|---|---|---|"]
    for one in judged:
        name = f"| {one.trial.question.name} | {one.trial.guidance:g} |"
        lines += [f"{name} {label} | {number(metric)} |" for label, metric in _means(one, metrics)]
    write_bytes_atomically(path, ("\n".join(lines) + "\n").encode())


def _means(one: Judged, metrics: Mapping[str, Metric]) -> list[tuple[str, Metric]]:
    """What was asked in words, and the mean label."""
    keys = [k for k in metrics if k.startswith(f"{one.trial.prefix}mean")]
    return [(k.removeprefix(one.trial.prefix).replace("mean_at_", "").replace("_", " "), metrics[k]) for k in keys]


def rate(metric: Metric) -> str:
    """``12/24 = 50 % (31-69)``."""
    if metric.value is None or metric.ci95 is None:
        return metric.reason
    low, high = (100.0 * end for end in metric.ci95)
    return f"{metric.k}/{metric.n} = {100.0 * metric.value:.0f} % ({low:.0f}-{high:.0f})"


def number(metric: Metric) -> str:
    """``1.9 (1.2 to 3.1)``."""
    between = f" ({metric.ci95[0]:.3g} to {metric.ci95[1]:.3g})" if metric.ci95 else ""
    return f"{'-' if metric.value is None else f'{metric.value:.3g}'}{between}"


def protocols(judged: Sequence[Judged], labeller: Labeller, compared: Comparison) -> dict[str, str]:
    """How every number was computed, by the beginning of its key."""
    against = "the (formula, space group) index of the checkpoint" if compared.known else "nothing"
    if compared.novelty is not None:
        against = f"all {len(compared.novelty)} crystals of {compared.novelty.source} by StructureMatcher"
    texts: dict[str, str] = {}
    for one in judged:
        question, p = one.trial.question, one.trial.prefix
        n, control = len(one.rows[ASKED]), len(one.rows[UNCONDITIONAL])
        label = "; ".join(f"{name}: {labeller.protocol(name)}" for name in question.fields)
        asked = f"guidance {one.trial.guidance:g}; {_wanted(question)}; label of {label}; a crystal without a label is no hit"
        texts[f"{p}hit_rate"] = f"{n} crystals, {asked}"
        texts[f"{p}hit_rate_unconditional"] = (
            f"{control} crystals of the same chemistry and state point, nothing asked; same labels"
        )
        texts[f"{p}hit_rate_shuffled"] = _shuffled(question)
        texts[f"{p}ratio"] = "hit rate over the unconditional one, Koopman's score interval (independent samples)"
        texts[f"{p}ratio_shuffled"] = "hit rate over the shuffled one, Koopman's score interval"
        texts[f"{p}uniqueness"] = (
            "of all: valid and different from the earlier ones of the arm by StructureMatcher (stol 0.5, angle 10, ltol 0.3)"
        )
        texts[f"{p}novelty"] = f"of all: valid and different from {against}"
        texts[f"{p}novelty_of_hits"] = "of the hits"
        texts[f"{p}unlabelled"] = "crystals without a label, reasons in unlabelled_reasons"
        texts[f"{p}unconverged"] = (
            "labels that rest on a relaxation that met a cap: the energy is an upper bound; counted as it is"
        )
        texts[f"{p}mean"] = f"over the crystals with a label, bootstrap; label of {label}"
        for name in ("spearman", "pearson", "mae"):
            texts[f"{p}{name}"] = "asked against achieved over the crystals with a label; bootstrap over crystals"
            texts[f"{p}{name}_shuffled"] = "the same after permuting the asked values among the crystals"
    return texts


def _wanted(question: Question) -> str:
    """The requests and when they are met."""
    ranges = [" and ".join(f"{name} in {interval}" for name, interval in wanted.items()) for wanted in question.wanted]
    given = {k: v for k, v in question.base.items() if v is not None}
    return f"hit: {' / '.join(ranges)}" + (f"; given {words(given)}" if given else "")


def _shuffled(question: Question) -> str:
    if len(question.asks) > 1:
        return "the crystals as asked, each compared with an asked value drawn by permutation"
    return "crystals asked for other values, drawn from the distribution of the training labels, compared with this request"
