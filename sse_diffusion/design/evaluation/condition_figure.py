"""The picture of ``task=conditions``: hit rates with both controls, and asked against achieved for every sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.design.evaluation.condition_plan import ASKED, SHUFFLED, UNCONDITIONAL
from sse_diffusion.design.evaluation.condition_rows import Judged
from sse_diffusion.verification.metrics.rates import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {ASKED: "#1f5fa8", UNCONDITIONAL: "#8a8a8a", SHUFFLED: "#d98c3f"}
KEYS = {ASKED: "hit_rate", UNCONDITIONAL: "hit_rate_unconditional", SHUFFLED: "hit_rate_shuffled"}
QUANTILES = (5, 25, 50, 75, 95)
COLUMNS = 3
"""At most so many sweeps beside each other."""


def draw_figure(judged: Sequence[Judged], metrics: Mapping[str, Metric], out: Path) -> None:
    """``conditions.png`` and ``conditions.svg``."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    sweeps = [one for one in judged if one.trial.question.swept is not None]
    columns = min(COLUMNS, max(len(sweeps), 1))
    rows = 1 + math.ceil(len(sweeps) / columns)
    figure = plt.figure(figsize=(max(4.2 * columns, 1.2 * len(judged) + 2.0), 3.4 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    draw_rates(figure.add_subplot(grid[0, :]), judged, metrics)
    for place, one in enumerate(sweeps):
        draw_sweep(figure.add_subplot(grid[1 + place // columns, place % columns]), one)
    for suffix in ("png", "svg"):
        with replacing(out / f"conditions.{suffix}") as path:
            figure.savefig(path, format=suffix, dpi=130)
    plt.close(figure)


def draw_rates(axis: Axes, judged: Sequence[Judged], metrics: Mapping[str, Metric]) -> None:
    """Bars of the three hit rates with their intervals."""
    for number, (arm, key) in enumerate(KEYS.items()):
        found = [metrics[f"{one.trial.prefix}{key}"] for one in judged]
        rates = np.array([m.value or 0.0 for m in found])
        ends = np.array([m.ci95 or (0.0, 0.0) for m in found]).T
        place = np.arange(len(judged)) + 0.27 * (number - 1)
        error = np.clip(np.abs(ends - rates), 0.0, None)
        axis.bar(place, rates, 0.25, yerr=error, color=COLOURS[arm], label=arm, error_kw={"elinewidth": 0.9, "capsize": 2})
    names = [f"{one.trial.question.name}\nguidance {one.trial.guidance:g}" for one in judged]
    axis.set_xticks(range(len(judged)), names, fontsize=7, rotation=20 if len(judged) > 6 else 0)
    axis.set_ylabel("hit rate, 95 % interval")
    axis.set_ylim(0.0, 1.0)
    axis.legend(fontsize=8, frameon=False)


def draw_sweep(axis: Axes, one: Judged) -> None:
    """Quantiles of the achieved values at every asked one; beside it the shuffled control; the band is unconditional."""
    question, name = one.trial.question, str(one.trial.question.swept)
    values = [ask[name] for ask in question.values]
    width = 0.16 * min(np.diff(sorted(values)), default=1.0)
    free = _labels(one, UNCONDITIONAL, name)
    if len(free):
        axis.axhspan(
            *np.percentile(free, [25, 75]), color=COLOURS[UNCONDITIONAL], alpha=0.18, lw=0, label="unconditional, 25-75 %"
        )
    for arm, shift in ((ASKED, -0.6), (SHUFFLED, 0.6)):
        for request, value in enumerate(values):
            _box(axis, value + shift * width, _labels(one, arm, name, request), width, COLOURS[arm], arm if request == 0 else "")
    axis.plot(sorted(values), sorted(values), color="black", lw=0.8, ls="--", label="achieved = asked")
    axis.set_xlabel(f"asked {name}", fontsize=8)
    axis.set_ylabel("achieved", fontsize=8)
    axis.set_title(f"{question.name}, guidance {one.trial.guidance:g}", fontsize=9)
    axis.legend(fontsize=6, frameon=False)


def _labels(one: Judged, arm: str, name: str, request: int | None = None) -> Any:
    """Labels of an arm, of one request or of all; crystals without one are left out."""
    found = np.array([r.labels[name] for r in one.rows[arm] if request in (None, r.request)], dtype=float)
    return found[np.isfinite(found)]


def _box(axis: Axes, place: float, values: Any, width: float, colour: str, label: str) -> None:
    """5-95 % line, 25-75 % box, median."""
    if not len(values):
        return
    low, first, middle, third, high = np.percentile(values, QUANTILES)
    axis.vlines(place, low, high, color=colour, lw=1.0)
    axis.bar(place, third - first, width, bottom=first, color=colour, alpha=0.6, label=label)
    axis.hlines(middle, place - width / 2, place + width / 2, color="black", lw=1.2)
