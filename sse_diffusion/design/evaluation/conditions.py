"""``sse evaluate task=conditions``: does the model give what is asked? Asked against achieved, with two controls.

For every question of the plan (``configs/design/evaluation/conditions.yaml``) crystals are sampled as asked, with the same
chemistry and nothing asked, and asked for something else (shuffled). What they are is decided by sources that had no part in
sampling them (:mod:`sse_diffusion.design.labels`). An interrupted run goes on with the same command.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.config import build, plain
from sse_diffusion.core.threads import set_threads
from sse_diffusion.design.evaluation.condition_figure import draw_figure
from sse_diffusion.design.evaluation.condition_plan import ASKED, Arm, PlanConfig, Trial, read_questions, trials_of
from sse_diffusion.design.evaluation.condition_rows import Judged, rows_of, write_rows
from sse_diffusion.design.evaluation.condition_samples import Sampled, sample_cells
from sse_diffusion.design.evaluation.condition_scores import reasons, score_question
from sse_diffusion.design.evaluation.condition_table import protocols, write_table
from sse_diffusion.design.evaluation.dng import Comparison, comparison
from sse_diffusion.design.evaluation.workers import worker_count
from sse_diffusion.design.labels.labeller import LabelConfig, Labeller
from sse_diffusion.design.labels.sample import Sample
from sse_diffusion.verification.metrics.record import write_metrics
from sse_diffusion.verification.metrics.uniqueness import unique_and_novel

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sse_diffusion.core.results import Quantity

log = logging.getLogger(__name__)


def evaluate_conditions(config: DictConfig) -> None:
    """Sample, label, score; write ``metrics.json``, ``metrics.md``, ``conditions.md``, ``.csv``, ``.png`` and ``.svg``.

    Raises:
        ConfigError: a condition that the model does not know, a field without an independent source, a malformed plan.
        CheckpointError: no such model. ChemistryError: the asked chemistry cannot be met. EngineError: no such force field.
    """
    from sse_diffusion.diffusion.model import load_model

    started = time.perf_counter()
    set_threads(config.threads)
    out, workers, seed = Path(str(config.out)).expanduser(), worker_count(config.workers), int(config.seed)
    plan, labeller = build(PlanConfig, config.plan), Labeller(label_config(config, workers), out)
    model, stored = load_model(str(config.checkpoint))
    trials = trials_of(read_questions(plan, model.specs), plan, model.specs, seed)
    cells = [cell for trial in trials for arm in trial.arms.values() for cell in arm.cells]
    sampled = sample_cells(cells, model.specs, stored.sha256, config, out)
    compared = comparison(config)
    judged = judge(trials, sampled, compared, labeller, workers)
    metrics = {
        f"{one.trial.prefix}{k}": m for one in judged for k, m in score_question(one.trial.question, one.rows, seed).items()
    }
    write_rows(judged, out / "conditions.csv")
    write_table(judged, metrics, out / "conditions.md")
    draw_figure(judged, metrics, out)
    facts = {
        "task": "conditions",
        "n": sum(cell.n for cell in {cell.name: cell for cell in cells}.values()),
        "checkpoint": str(config.checkpoint),
        "checkpoint_sha256": stored.sha256,
        "seed": seed,
        "workers": workers,
        "seconds_sampling": round(sum(s.seconds for s in sampled.values()), 1),
        "seconds": round(time.perf_counter() - started, 1),
        **{f"{one.trial.prefix}unlabelled_reasons": why for one in judged if (why := reasons(one.rows[ASKED]))},
    }
    write_metrics(out, metrics, protocols(judged, labeller, compared), {**facts, **compared.facts, "settings": plain(config)})
    log.info("%s/conditions.md holds the table", out)


def label_config(config: DictConfig, workers: int) -> LabelConfig:
    """Label sources from ``config.labels`` and the groups ``verification.engine`` and ``verification.relax``."""
    force_field = {"engine": plain(config.verification.engine), "relax": plain(config.verification.relax)}
    return build(LabelConfig, plain(config.labels) | force_field | {"workers": workers})


def judge(
    trials: Sequence[Trial], sampled: Mapping[str, Sampled], compared: Comparison, labeller: Labeller, workers: int
) -> list[Judged]:
    """Label every crystal once for each field that a question about it asks, and see what is unique and novel.

    Args:
        trials: what was asked.
        sampled: crystals by name of the cell.
        compared: what is not novel.
        labeller: independent sources.
        workers: processes that compare crystals.
    """
    novel = _novel([s for cell in sampled.values() for s in cell.samples], compared, workers)
    labels: dict[str, dict[str, Quantity]] = {}
    for field in dict.fromkeys(name for trial in trials for name in trial.question.fields):
        concerned = [arm for trial in trials if field in trial.question.fields for arm in trial.arms.values()]
        wanted = {s.id: s for arm in concerned for s, _ in _crystals(arm, sampled)}
        labels[field] = dict(zip(wanted, labeller.label(field, list(wanted.values())), strict=True))
    judged = []
    for trial in trials:
        rows = {}
        for name, arm in trial.arms.items():
            crystals = _crystals(arm, sampled)
            unique = unique_and_novel([s.structure for s, _ in crystals], workers=workers, progress=False).unique
            rows[name] = rows_of(trial.question, arm.requests, crystals, labels, unique.tolist(), novel)
        judged.append(Judged(trial, rows))
    return judged


def _crystals(arm: Arm, sampled: Mapping[str, Sampled]) -> list[tuple[Sample, Mapping[str, Any]]]:
    """The crystals of an arm, each with what the model was asked for."""
    return [(sample, cell.ask) for cell in arm.cells for sample in sampled[cell.name].samples]


def _novel(samples: Sequence[Sample], compared: Comparison, workers: int) -> dict[str, bool] | None:
    """Id -> whether no reference crystal is the same; None without anything to compare with."""
    reference = compared.novelty
    pairs = zip((row.id for row in reference.rows), reference.structures, strict=True) if reference is not None else None
    found = unique_and_novel([s.structure for s in samples], pairs, compared.known, workers=workers)
    return None if found.novel is None else dict(zip((s.id for s in samples), found.novel.tolist(), strict=True))
