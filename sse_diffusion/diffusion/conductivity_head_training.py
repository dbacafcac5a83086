"""Train the conductivity head: tokens of the frozen trunk once, then a small network on them; minutes of one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import DataError
from sse_diffusion.core.provenance import package_versions, sha256_of_file
from sse_diffusion.data.datamodule import CrystalDataModule, LoaderConfig
from sse_diffusion.data.grouped import check_no_leakage, connected_groups, grouped_folds
from sse_diffusion.diffusion.conductivity_head import MOBILE_ION, ConductivityHead, ConductivityHeadConfig, JudgedConductivity
from sse_diffusion.diffusion.conductivity_head_scores import Judged, score
from sse_diffusion.diffusion.conductivity_labels import ConductivityLabels, label_compositions
from sse_diffusion.diffusion.encode_dataset import ConditionEncoder
from sse_diffusion.diffusion.guides.guide import Stage
from sse_diffusion.diffusion.model import load_model
from sse_diffusion.diffusion.objective import Objective, ObjectiveConfig
from sse_diffusion.diffusion.trunk_features import TrunkFeatures
from sse_diffusion.predictors.conductivity.arrhenius import REFERENCE_K
from sse_diffusion.predictors.conductivity.tables import read_conductivities
from sse_diffusion.predictors.registry import load_predictor
from sse_diffusion.predictors.tracking import track
from sse_diffusion.thermo.labels import PhasesConfig

if TYPE_CHECKING:
    from pymatgen.core import Composition

PROTOCOL = (
    "Lithium crystals of the structures table; nothing asked but the state point. discrete: group known, each element and "
    "position masked with that probability; continuous: coordinates and cell at that time of their schedules, the rest known. "
    "val: the table's split by reduced formula, head trained on its train rows. cross_validation: folds of reduced formulas over "
    "both splits, each judged by a head that was not trained on its formula (the trunk saw the train crystals, no conductivity). "
    "teacher: the composition predictor's log10 sigma at 300 K, rows inside its domain; coverage_*: probability by the teacher's "
    "Gaussian that the head's central interval holds sigma. measured: medians near 300 K, rows below a detection limit left out; "
    "there teacher_mae is in-sample (the teacher was trained on these). domain_auc: in the teacher's domain or not, all rows."
)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Choices of the fit.

    Attributes:
        hidden, dropout: see :class:`~sse_diffusion.diffusion.conductivity_head.ConductivityHeadConfig`.
        epochs: passes over all tokens.
        batch_size, learning_rate, weight_decay: of AdamW with a one-cycle schedule.
    """

    hidden: int = 256
    dropout: float = 0.2
    epochs: int = 12
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.1


@dataclass(frozen=True, kw_only=True)
class ConductivityHeadTrainConfig:
    """Choices of a training run.

    Attributes:
        trunk: checkpoint whose denoiser reads the crystals; it stays as it is.
        trained_with: options of ``sse train`` that say which crystals, phases and noise it was shown.
        measured: tables with OBELiX's or Liverpool's columns.
        out: folder of the checkpoint.
        teacher: checkpoint of the conductivity predictor.
        draws: of conditions, masks and noise per crystal.
        fit: of the network.
        n_folds: of the cross-validation by reduced formula that metrics.json reports; 0: none.
        seed: of everything random.
        threads: torch threads.
        progress: show progress bars.
        wandb: offline, online or disabled.
    """

    trunk: str
    trained_with: tuple[str, ...]
    measured: tuple[str, ...] = ()
    out: str
    teacher: str = "conductivity"
    draws: int = 24
    fit: FitConfig = field(default_factory=FitConfig)
    n_folds: int = 5
    seed: int = 0
    threads: int = 1
    progress: bool = True
    wandb: str = "offline"


def train_conductivity_head(config: ConductivityHeadTrainConfig) -> dict[str, Any]:
    """Train and write the checkpoint; returns what is also in ``out/metrics.json``.

    Raises:
        CheckpointError: trunk or teacher. ConfigError, DataError: the tables cannot be used.
    """
    started = time.perf_counter()
    torch.set_num_threads(config.threads)
    data, features, objective, train = lithium_crystals(config)
    compositions = compositions_of(data, features.rows)
    rows = [row for path in config.measured for row in read_conductivities(path)]
    teacher = load_predictor("log10_conductivity", config.teacher, temperature_K=REFERENCE_K)
    labels = label_compositions(compositions, teacher, rows)
    tokens = features.in_training(objective, config.draws, config.seed)
    levels = features.at_levels(config.seed)
    choices = {k: v for k, v in asdict(config).items() if k not in ("out", "threads", "progress", "wandb")}
    choices["measured"] = [Path(path).name for path in config.measured]
    with track(config.out, choices, config.wandb) as tracker:
        head = fit(tokens, labels, train, config.fit, config.seed, config.progress, tracker.log)
        scores = {"val": score(judge(head, levels), labels, ~train)}
        if config.n_folds:
            fold = grouped_folds(connected_groups([c.reduced_formula for c in compositions]), config.n_folds, config.seed)
            scores["cross_validation"] = score(out_of_fold(tokens, levels, [labels] * config.n_folds, fold, config), labels)
        tracker.log(scores)
    head.save(config.out, features.model, config.trunk, choices)
    weights = Path(config.out) / "weights.safetensors"
    known = labels.known
    metrics = {
        "protocol": PROTOCOL,
        "command": "sse train experiment=predictor_conductivity_head",
        "rows": {"train": int(train.sum()), "val": int((~train).sum()), "with_value": int((known & train).sum()),
                 "measured": int((~np.isnan(labels.measured) & train).sum())},
        **scores,
        "teacher_sha256": getattr(teacher, "sha256", ""),
        "weights_sha256": sha256_of_file(weights),
        "weights_bytes": weights.stat().st_size,
        "seconds": round(time.perf_counter() - started, 1),
        "versions": package_versions(),
    }  # fmt: skip
    write_json_atomically(Path(config.out) / "metrics.json", metrics)
    return metrics


def lithium_crystals(
    config: ConductivityHeadTrainConfig,
) -> tuple[CrystalDataModule, TrunkFeatures, Objective, Bool[np.ndarray, " n"]]:
    """The data, the crystals that hold lithium, how they are shown, and which of them are training rows.

    Raises:
        DataError: a reduced formula is in both splits, or there is no lithium.
    """
    model, _ = load_model(config.trunk)
    model.requires_grad_(False)
    shown = compose("train", list(config.trained_with))
    phases = build(PhasesConfig, shown.phases) if shown.get("phases") else None
    data = CrystalDataModule(plain(shown.data), build(LoaderConfig, shown.loader))
    data.encode = lambda dataset: ConditionEncoder(dataset, model.specs, phases, config.seed)
    dataset = data.dataset
    holds = np.logical_or.reduceat(dataset.flat.species == 3, dataset.flat.offset[:-1])
    train, val = (rows[holds[rows]] for rows in (data.indices("train"), data.indices("val")))
    if not (len(train) and len(val)):
        raise DataError(f"{len(train)} training and {len(val)} validation crystals hold {MOBILE_ION}", "use another table")
    of_train, of_val = ([c.reduced_formula for c in compositions_of(data, rows)] for rows in (train, val))
    check_no_leakage(of_train, of_val, "reduced formulas")
    features = TrunkFeatures(model, data, np.concatenate([train, val]), config.progress)
    return data, features, Objective(build(ObjectiveConfig, shown.objective)), np.arange(len(train) + len(val)) < len(train)


def compositions_of(data: CrystalDataModule, rows: Int[np.ndarray, " n"]) -> list[Composition]:
    """Of the crystals in these rows of the data set."""
    from pymatgen.core import Composition, Element

    counts = [np.unique(data.dataset.rows[row].species, return_counts=True) for row in rows.tolist()]
    return [Composition({Element.from_Z(int(z)): int(n) for z, n in zip(*found, strict=True)}) for found in counts]


def fit(
    tokens: Float[Tensor, "k n s d"], labels: ConductivityLabels, train: Bool[np.ndarray, " n"], config: FitConfig, seed: int,
    progress: bool = True, on_step: Callable[[dict[str, float]], object] = lambda values: None,
) -> ConductivityHead:  # fmt: skip
    """A head fitted to the training rows.

    Minimises the cross-entropy to the labels, -E[log N(y; mean, std^2)] for y ~ N(value, sd^2): the head's width holds what the
    label leaves open and what the noise hides. Rows without a value teach the domain only.
    """
    torch.manual_seed(seed)
    known = labels.known & train
    center, scale = labels.value[known].mean(), labels.value[known].std()
    answered = known & ~np.isnan(labels.activation_eV)
    slope, activation = np.polyfit(labels.teacher[answered] - center, labels.activation_eV[answered], 1)
    shape = ConductivityHeadConfig(
        width=tokens.shape[-1], hidden=config.hidden, dropout=config.dropout,
        center=float(center), scale=float(scale), activation_eV=float(activation), activation_slope_eV=float(slope),
    )  # fmt: skip
    head = ConductivityHead(shape).train()
    draws, stages, rows = tokens.shape[0], tokens.shape[2], np.flatnonzero(train)
    columns = (labels.value, labels.sd, labels.known, labels.in_domain)
    value, sd, has_value, inside = (torch.from_numpy(np.nan_to_num(c[train])).float() for c in columns)
    tokens = tokens[:, rows].transpose(1, 2).reshape(draws * stages * len(rows), -1)
    steps = config.epochs * max(1, len(tokens) // config.batch_size)
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, steps, pct_start=0.15)
    for step in tqdm(range(steps), desc="conductivity head", unit="step", disable=not progress):
        chosen = torch.randint(len(tokens), (config.batch_size,))
        row = chosen % len(rows)
        said = head(tokens[chosen])
        surprise = 0.5 * ((value[row] - said.mean) ** 2 + sd[row] ** 2) / said.std**2 + said.std.log()
        nll = (surprise * has_value[row]).sum() / has_value[row].sum().clamp_min(1.0)
        domain = F.binary_cross_entropy_with_logits(said.domain, inside[row])
        optimiser.zero_grad()
        (nll + domain).backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            on_step({"train/nll": nll.item(), "train/domain": domain.item()})
    return head.eval().requires_grad_(False)


Levels = Mapping[Stage, Mapping[float, Float[Tensor, "n d"]]]


def judge(head: ConductivityHead, levels: Levels) -> Judged:
    """What a head says of the tokens of every level."""
    return {stage: {level: head(tokens) for level, tokens in at.items()} for stage, at in levels.items()}


def out_of_fold(
    tokens: Float[Tensor, "k n s d"], levels: Levels, labels: Sequence[ConductivityLabels], fold: Int[np.ndarray, " n"],
    config: ConductivityHeadTrainConfig,
) -> Judged:  # fmt: skip
    """Each row judged by a head that was fitted without its fold, to the labels of that fold's number."""
    parts = []
    for k, given in enumerate(labels):
        head = fit(tokens, given, fold != k, config.fit, config.seed, progress=config.progress)
        parts.append(judge(head, levels))
    number = torch.from_numpy(fold)

    def joined(stage: Stage, level: float, name: str) -> Tensor:
        stacked = torch.stack([getattr(part[stage][level], name) for part in parts])
        return stacked[number, torch.arange(len(number))]

    names = JudgedConductivity.__dataclass_fields__
    return {s: {x: JudgedConductivity(*(joined(s, x, name) for name in names)) for x in at} for s, at in levels.items()}
