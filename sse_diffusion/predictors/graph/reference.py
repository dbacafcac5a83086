"""What the composition alone says, cross-fitted: the graph network learns what the structure adds to it.

A perceptron that was trained on a crystal's composition knows its label, so its residuals there are smaller than those of a new
crystal: a network trained on them would trust the reference too much. Here every member of the ensemble is trained without one
fold of the compositions; a training crystal is predicted by the members that never saw its composition, a new one by all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from sse_diffusion.predictors.composition_data import LabelledCompositions
from sse_diffusion.predictors.ensemble import EnsembleMLP, laplace_nll
from sse_diffusion.predictors.features import FEATURE_NAMES, composition_features


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """The ensemble and its training.

    Attributes:
        width, depth: of each perceptron.
        folds: parts that the compositions are dealt to, by formula.
        members_per_fold: perceptrons trained without the same fold.
        epochs, batch_size, learning_rate, weight_decay: of AdamW with a one-cycle schedule.
    """

    width: int = 192
    depth: int = 2
    folds: int = 4
    members_per_fold: int = 2
    epochs: int = 40
    batch_size: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 0.03

    @property
    def members(self) -> int:
        """Perceptrons in all; member m was trained without fold m mod folds."""
        return self.folds * self.members_per_fold


def fold_of(reduced_formulas: Sequence[str], folds: int) -> Int[np.ndarray, " n"]:
    """Fold of each reduced formula, the same on every machine."""
    return np.array([int(hashlib.sha256(f.encode()).hexdigest()[:8], 16) % folds for f in reduced_formulas], dtype=np.int64)


def untrained_reference(config: ReferenceConfig, n_targets: int, seed: int = 0) -> EnsembleMLP:
    """Random weights."""
    return EnsembleMLP(len(FEATURE_NAMES), n_targets, config.width, config.depth, config.members, seed)


def fit_reference(
    rows: LabelledCompositions, table: Float[np.ndarray, "z p"], config: ReferenceConfig, seed: int = 0, progress: bool = True
) -> EnsembleMLP:
    """Train every member on all compositions but those of its fold.

    Args:
        rows: compositions and labels; the first target may be censored.
        table: elemental properties (:func:`~sse_diffusion.predictors.features.element_table`).
        config: see :class:`ReferenceConfig`.
        seed: of weights and batches.
        progress: show the progress bar.
    """
    model = untrained_reference(config, rows.labels.shape[1], seed).train()
    features = torch.from_numpy(composition_features(rows.compositions, table))
    model.feature_mean.copy_(features.mean(0))
    model.feature_std.copy_(features.std(0).clamp(min=1e-3))
    labels = torch.from_numpy(rows.labels).float()
    known, labels = labels.isfinite().float(), labels.nan_to_num(0.0)
    censored = torch.zeros_like(labels, dtype=torch.bool)
    censored[:, 0] = torch.from_numpy(rows.censored)
    fold = fold_of(rows.formulas, config.folds)
    allowed = [torch.from_numpy(np.flatnonzero(fold != m % config.folds)) for m in range(config.members)]
    size = min(config.batch_size, *(len(rows) for rows in allowed))
    steps = min(len(rows) for rows in allowed) // size
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, config.epochs * steps, pct_start=0.15)
    generator = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(config.epochs), desc="composition reference", unit="epoch", disable=not progress):
        order = torch.stack([a[torch.randperm(len(a), generator=generator)[: steps * size]] for a in allowed])
        for batch in order.split(size, dim=1):
            mu, log_scale = model(features[batch])
            losses = laplace_nll(mu, log_scale, labels[batch], censored[batch]) * known[batch]
            optimiser.zero_grad()
            losses.mean((1, 2)).sum().backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def reference_values(
    model: EnsembleMLP,
    table: Float[np.ndarray, "z p"],
    compositions: Sequence[Mapping[int, float]],
    unseen_fold: Int[np.ndarray, " n"] | None = None,
    folds: int = 1,
) -> Float[np.ndarray, "n t"]:
    """Mean of the members, by target.

    Args:
        model, table: of the reference.
        compositions: atomic number -> count.
        unseen_fold: fold that each composition was in during training; only members trained without it answer. ``None``: all.
        folds: number of folds of the reference.
    """
    with torch.no_grad():
        values = model(torch.from_numpy(composition_features(compositions, table)))[0].double().numpy()
    if unseen_fold is None:
        return np.asarray(values.mean(0))
    trained_without = np.arange(len(values)) % folds
    weight = (trained_without[:, None] == unseen_fold).astype(float)
    return np.asarray(np.einsum("mn,mnt->nt", weight / weight.sum(0), values))
