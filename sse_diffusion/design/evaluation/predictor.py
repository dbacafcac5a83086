"""``sse evaluate task=predictor``: a predictor's errors, coverage and ranking on any labelled table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.provenance import sha256_of_file
from sse_diffusion.core.results import Quantity
from sse_diffusion.data.grouped import connected_groups
from sse_diffusion.data.readers.raw import ColumnMap
from sse_diffusion.data.tables import find_table, read_table
from sse_diffusion.design.evaluation.reference import MILD, structure_of
from sse_diffusion.predictors.conductivity.predictor import ConductivityPredictor
from sse_diffusion.predictors.conductivity.scores import METRICS, Scored, score
from sse_diffusion.predictors.conductivity.tables import read_conductivities
from sse_diffusion.predictors.protocol import Predictor
from sse_diffusion.predictors.registry import load_predictor
from sse_diffusion.verification.metrics.rates import Metric
from sse_diffusion.verification.metrics.record import write_metrics

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

GENERAL = ("mae", "r2", "spearman", "coverage95", "coverage68", "nll")
"""Metrics that mean something for every property."""
COUNTS = {"mae_with_cif": "n_with_cif", "mae_uncensored": "n_uncensored", "mae_unseen": "n_unseen"}
"""Metrics of some rows only, and the key that says of how many."""
PROTOCOL = {
    "mae": "mean |error| against the number in the table; conductivities: log10 of S/cm, <1E-10 as 1e-10",
    "r2": "1 - squared errors over those of the mean",
    "mae_with_cif": "rows with a structure",
    "mae_uncensored": "rows above 1e-10 S/cm",
    "mae_censored": "everything at or below 1e-10 S/cm counts as 1e-10, in table and prediction",
    "mae_limit_as_1e_15": "<1E-10 read as 1e-15, the convention of the OBELiX paper",
    "mae_unseen": "rows whose composition (and paper, where it is known) the checkpoint was not trained on",
    "spearman": "rank correlation",
    "coverage": "share of rows inside the interval; below a detection limit: the interval reaches it",
    "nll": "negative log likelihood, sd = 68 % half-width; detection limits by their tail probability",
    "enrichment_top10": "share above 1e-4 S/cm in the top tenth over the share among all (base_rate); at most 1 / base_rate",
}


@dataclass(frozen=True, eq=False)
class Judged:
    """What a table says and what the predictor answered; n rows.

    Attributes:
        sample: labels and predictions.
        seen: (n,) the row's composition or paper was trained on; ``None`` when the checkpoint cannot tell.
        extra: counts for the record.
    """

    sample: Scored
    seen: np.ndarray | None
    extra: Mapping[str, Any]


def evaluate_predictor(config: DictConfig) -> None:
    """Write ``metrics.json`` and ``metrics.md`` of one predictor on one table into ``config.out``.

    Raises:
        ConfigError: no property, table or label column is given.
        DataError: the table cannot be used.
    """
    if config.property is None or config.reference.path is None:
        raise ConfigError(
            "task=predictor needs a property and a table", "add property=log10_conductivity reference.path=TABLE.csv"
        )
    path = find_table(str(config.reference.path), "give reference.path=TABLE")
    predictor = load_predictor(str(config.property), config.predictor)
    if isinstance(predictor, ConductivityPredictor):
        judged, names = _judge_conductivity(predictor, path, config.reference.cifs), tuple(METRICS)
    else:
        judged, names = _judge(predictor, path, plain(config.reference)), GENERAL
    _warn(judged, str(path))
    scores = score(judged.sample, names)
    if judged.seen is not None and judged.seen.any() and not judged.seen.all():
        unseen = score(judged.sample.take(np.flatnonzero(~judged.seen)), ["mae"])
        scores |= {"mae_unseen": unseen["mae"], "mae_unseen_ci95": unseen["mae_ci95"], "n_unseen": unseen["n"]}
        names = (*names, "mae_unseen")
    extra = {
        "task": "predictor",
        "property": str(config.property),
        "unit": predictor.unit,
        "reference": path.name,
        "reference_sha256": sha256_of_file(path) if path.is_file() else "",
        "checkpoint_sha256": getattr(predictor, "sha256", ""),
        **{key: value for key, value in scores.items() if key.startswith(("n", "base_rate")) and not key.startswith("nll")},
        **judged.extra,
    }
    write_metrics(Path(str(config.out)).expanduser(), {name: _metric(scores, name) for name in names}, PROTOCOL, extra)


def _metric(scores: Mapping[str, Any], name: str) -> Metric:
    value = scores[name]
    if not np.isfinite(value):
        return Metric.missing("no row to measure it on")
    low, high = scores[f"{name}_ci95"]
    return Metric(float(value), (float(low), float(high)), n=int(scores[COUNTS.get(name, "n")]))


def _judge_conductivity(predictor: ConductivityPredictor, path: Path, cifs: str | None) -> Judged:
    asked = read_conductivities(path, cifs)
    answers = predictor.quantities(asked)
    keep = [i for i, answer in enumerate(answers) if np.isfinite(answer.value)]
    rows, answers = [asked[i] for i in keep], [answers[i] for i in keep]
    material, paper = predictor.trained_on(rows)
    extra = {"n_unreadable": len(asked) - len(rows), "n_composition_in_training": int(material.sum())}
    extra |= {"n_paper_in_training": int(paper.sum()), "n_outside_domain": sum(not answer.ok for answer in answers)}
    truth = np.array([row.log10_sigma for row in rows])
    sample = _sample(
        answers,
        truth,
        limit=np.array([row.limit for row in rows]),
        with_cif=np.array([row.structure is not None for row in rows]),
        group=connected_groups([row.doi for row in rows], [row.key for row in rows]),
    )
    return Judged(sample, material | paper, extra)


def _judge(predictor: Predictor, path: Path, reference: Mapping[str, Any]) -> Judged:
    """Any property with a label column, of a table of crystals or of formulas."""
    columns = dict(reference.get("columns") or {})
    target = columns.pop("target", None)
    if target is None:
        raise ConfigError("which column holds the labels?", "add +reference.columns.target=COLUMN")
    crystals, labels, chemical_systems = _labelled_crystals(path, str(target), columns, reference.get("split"))
    answers = predictor.predict(crystals)
    known = np.isfinite(labels) & np.isfinite([answer.value for answer in answers])
    if not known.any():
        raise DataError(f"no row of {path} has a label {target!r} and a prediction", "check the column's name")
    chosen = np.flatnonzero(known)
    n = len(chosen)
    sample = _sample(
        [answers[i] for i in chosen],
        labels[chosen],
        limit=np.zeros(n, dtype=bool),
        with_cif=np.array([hasattr(crystals[i], "lattice") for i in chosen]),
        group=np.unique([chemical_systems[i] for i in chosen], return_inverse=True)[1],
        detection_limit=-np.inf,
    )
    index = getattr(predictor, "trained", None)
    seen = None if index is None else index.holds([crystals[i] for i in chosen])
    extra: dict[str, Any] = {"n_left_out": len(labels) - n, "target_column": str(target)}
    return Judged(sample, seen, extra if seen is None else {**extra, "n_composition_in_training": int(seen.sum())})


def _labelled_crystals(
    path: Path, target: str, columns: Mapping[str, str], split: str | None
) -> tuple[list[Any], Any, list[str]]:
    """Structures, or compositions where the table has formulas only, with their labels and chemical systems."""
    import pandas as pd
    from pymatgen.core import Composition

    if (
        path.suffix == ".csv"
        and {"formula", target} <= set(header := pd.read_csv(path, nrows=0).columns)
        and "species" not in header
    ):
        table = pd.read_csv(path, keep_default_na=False)
        if split is not None and "split" in table:
            table = table[table.split == split]
        crystals: list[Any] = [Composition(str(formula).replace(" ", "")) for formula in table.formula]
        labels = pd.to_numeric(table[target], errors="coerce").to_numpy(dtype=float)
    else:
        report = read_table(path, {"target": target}, columns=build(ColumnMap, columns), validation=MILD)
        rows = [row for row in report.rows if split in (None, row.split)]
        crystals = [structure_of(row) for row in rows]
        labels = np.array([float(row.labels["target"]) for row in rows])
    systems = ["-".join(sorted(map(str, getattr(crystal, "composition", crystal).elements))) for crystal in crystals]
    return crystals, labels, systems


def _sample(answers: Sequence[Quantity], truth: np.ndarray, **rest: Any) -> Scored:
    """Quantities beside their labels; of an interval that is cut at a physical bound, the side where the label lies counts."""
    value = np.array([answer.value for answer in answers])
    low, high = np.array([answer.provenance["interval_95"] for answer in answers]).T
    half_95 = np.where(truth < value, value - low, high - value)
    half_68 = np.array([answer.uncertainty for answer in answers])
    return Scored(truth=truth, value=value, half_68=half_68, half_95=half_95, **rest)


def _warn(judged: Judged, path: str) -> None:
    """Say loudly when the checkpoint has seen the table, or cannot tell."""
    if judged.seen is None:
        log.warning("the checkpoint does not say what it was trained on: rows of %s may have been among it", path)
    elif judged.seen.any():
        log.warning(
            "LEAKAGE: %d of %d rows of %s have a composition or paper that this checkpoint was trained on: their errors are not "
            "those of new materials. mae_unseen counts the others only; for its own training set use the cross-validated numbers "
            "in the checkpoint's metrics.json.",
            int(judged.seen.sum()),
            len(judged.seen),
            path,
        )
