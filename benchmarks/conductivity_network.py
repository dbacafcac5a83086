"""Does a graph network help the conductivity predictor? Study `network` of conductivity.py: on top of the stack, same folds.

The two networks of checkpoints/formation_energy see the crystals with their partial occupancies. Each variant predicts what the
stack misses on rows with a structure; it learns from misses on left-out groups of the training rows (`LeftOut`), and the share of
it that is added to the stack (0 to 1) is chosen on inner folds of those groups. Nothing is chosen on test rows.

- embedding: ridge on the 128 frozen features of the crystals (noise as large as the signal);
- descriptors: the same ridge on the 15 descriptors that the Gaussian process already sees: a control;
- fine_tuned: one network with all its weights, from the shipped start, and a new head on the mean of all and of lithium nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from sse_diffusion.data.grouped import connected_groups, grouped_folds
from sse_diffusion.predictors.conductivity.censoring import negative_log_likelihood
from sse_diffusion.predictors.conductivity.crossval import Fold
from sse_diffusion.predictors.conductivity.inputs import Inputs
from sse_diffusion.predictors.conductivity.model import ConductivityModel, ConductivityModelConfig, LeftOut, observations_of
from sse_diffusion.predictors.conductivity.scores import mean_difference
from sse_diffusion.predictors.conductivity.tables import DETECTION_LIMIT, ConductivityRow
from sse_diffusion.predictors.graph.graphs import CrystalGraphs, GraphBatch, structure_graph
from sse_diffusion.predictors.graph.network import CrystalNetwork
from sse_diffusion.predictors.graph.predictor import GraphPredictor

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Learner = Callable[[Rows, Array, NDArray[np.bool_], Rows], Array]
"""Training rows, what the stack misses on them, whether they are limits, and test rows -> what it misses on those."""
SHARES = np.linspace(0.0, 1.0, 21)
INNER_FOLDS = 3
EPOCHS, BATCH, BODY_RATE, HEAD_RATE = 12, 32, 3e-4, 1e-2
LITHIUM = 3


def network(
    rows: Sequence[ConductivityRow], inputs: Inputs, folds: Sequence[Fold], seeds: str = "0,1,2", tuned: str = "0"
) -> dict[str, Any]:
    """Errors and negative log likelihoods of the rows with a structure, of the stack and with each variant on top, per seed.

    Fine-tuning, five minutes of a core, is repeated for the seeds ``tuned`` only.
    """
    predictor = GraphPredictor.load()
    crystals = [i for i, row in enumerate(rows) if row.structure is not None]
    embedding = np.full((len(rows), predictor.config.embedding_width), np.nan)
    embedding[crystals] = predictor.embed([row.structure for row in rows if row.structure is not None])
    graphs = CrystalGraphs.join(structure_graph(s, predictor.config.graph) for row in rows if (s := row.structure) is not None)
    place = np.full(len(rows), -1)
    place[crystals] = np.arange(len(crystals))
    result: dict[str, Any] = {}
    for seed in map(int, seeds.split(",")):
        learners = {"embedding": _ridge(embedding), "descriptors": _ridge(np.nan_to_num(inputs.structure))}
        if str(seed) in tuned.split(","):
            learners["fine_tuned"] = _fine_tuned(cast(CrystalNetwork, predictor.networks[0]), graphs, place, seed)
        result[f"seed{seed}"] = _compared(rows, inputs, folds, place >= 0, learners, seed)
    return result


def _compared(
    rows: Sequence[ConductivityRow], inputs: Inputs, folds: Sequence[Fold], known: NDArray[np.bool_],
    learners: dict[str, Learner], seed: int,
) -> dict[str, Any]:  # fmt: skip
    config = ConductivityModelConfig()
    config = replace(config, gaussian_process=replace(config.gaussian_process, seed=seed), trees=replace(config.trees, seed=seed))
    shift: dict[str, list[Array]] = {name: [] for name in learners}
    share: dict[str, list[float]] = {name: [] for name in learners}
    answers: list[tuple[Rows, Array, Array]] = []
    for fold in tqdm(folds, f"folds, seed {seed}"):
        observed, x = observations_of([rows[i] for i in fold.train]), inputs.take(fold.train)
        model = ConductivityModel.fit(x, observed, config)
        left = LeftOut.of(model.process, model.stack, x, observed, config)
        missed = observed.value[left.rows] - np.log10(x.temperature_K[left.rows]) - left.forecast.log10_sigma
        mine, test = np.flatnonzero(known[fold.train]), fold.test[known[fold.test]]
        forecast = model.predict(inputs.take(test))
        answers.append((test, forecast.log10_sigma, forecast.half_68))
        for name, learner in learners.items():
            told, chosen = _shrunk(learner, fold.train[mine], missed[mine], observed.take(mine), test, seed)
            shift[name].append(told)
            share[name].append(chosen)
    tested, value, half = (np.concatenate(column) for column in zip(*answers, strict=True))
    picked = [rows[i] for i in tested]
    group = connected_groups([row.doi for row in picked], [row.key for row in picked])
    errors = {"stack": _losses(picked, value, half)}
    errors |= {name: _losses(picked, value + np.concatenate(shift[name]), half) for name in learners}
    return {
        name: {
            "mae": round(float(error.mean()), 4),
            "nll": round(float(loss.mean()), 4),
            **({"shares": share[name]} if name in share else {}),
            "mae_minus_stack": mean_difference(error, errors["stack"][0], group),
            "nll_minus_stack": mean_difference(loss, errors["stack"][1], group),
        }
        for name, (error, loss) in errors.items()
    }


def _losses(rows: Sequence[ConductivityRow], value: Array, half: Array) -> tuple[Array, Array]:
    truth, censored = np.array([row.log10_sigma for row in rows]), np.array([row.censored for row in rows])
    return np.abs(value - truth), negative_log_likelihood(value, half, np.maximum(truth, DETECTION_LIMIT), censored)


def _shrunk(learner: Learner, train: Rows, missed: Array, observed: Any, test: Rows, seed: int) -> tuple[Array, float]:
    """What the learner says of the test rows, times the share that is best on inner folds, and that share."""
    fold, limit = grouped_folds(observed.groups, INNER_FOLDS, seed), observed.censored
    told = np.empty(len(train))
    for k in range(INNER_FOLDS):
        out = fold == k
        told[out] = learner(train[~out], missed[~out], limit[~out], train[out])
    rest = missed - SHARES[:, None] * told
    share = float(SHARES[np.abs(np.where(limit, np.minimum(rest, 0.0), rest)).mean(1).argmin()])
    return share * learner(train, missed, limit, test), round(share, 2)


def _ridge(features: Array) -> Learner:
    def learner(train: Rows, missed: Array, limit: NDArray[np.bool_], test: Rows) -> Array:
        centre, scale = features[train].mean(0), features[train].std(0) + 1e-6
        x, z = ((features[part] - centre) / scale / np.sqrt(features.shape[1]) for part in (train, test))
        y = np.where(limit, np.minimum(missed, 0.0), missed)
        return np.asarray(z @ x.T @ np.linalg.solve(x @ x.T + np.eye(len(y)), y))

    return learner


class _Tuned(nn.Module):
    """The network and a head on the mean of its nodes and of its lithium nodes, which starts at 0."""

    def __init__(self, start: CrystalNetwork) -> None:
        super().__init__()
        self.network = deepcopy(start)
        self.network.last_norm.register_forward_hook(lambda _module, _inputs, nodes: setattr(self, "nodes", nodes))
        width = start.config.width
        self.head, self.dropout = nn.Linear(2 * width, 1), nn.Dropout(0.1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.centre, self.scale = torch.zeros(2 * width), torch.ones(2 * width)

    def features(self, batch: GraphBatch) -> torch.Tensor:
        mean = self.network.embed(batch)
        lithium = (batch.node_type == LITHIUM)[:, None] * self.nodes
        amount = batch.mean((batch.node_type == LITHIUM)[:, None].float()).clamp(min=1e-3)
        return torch.cat([mean, batch.mean(lithium) / amount], 1)

    def forward(self, batch: GraphBatch) -> torch.Tensor:
        return self.head(self.dropout((self.features(batch) - self.centre) / self.scale))[:, 0]


def _fine_tuned(start: CrystalNetwork, graphs: CrystalGraphs, place: Rows, seed: int) -> Learner:
    def learner(train: Rows, missed: Array, limit: NDArray[np.bool_], test: Rows) -> Array:
        torch.manual_seed(seed)
        model, at, y, bound = _Tuned(start).eval(), place[train], torch.from_numpy(missed).float(), torch.from_numpy(limit)
        with torch.no_grad():
            seen = model.features(graphs.batch(at))
        model.centre, model.scale = seen.mean(0), 10.0 * seen.std(0)
        rates = [{"params": model.network.parameters(), "lr": BODY_RATE}, {"params": model.head.parameters(), "lr": HEAD_RATE}]
        optimiser = torch.optim.AdamW(rates, weight_decay=1e-2)
        steps = EPOCHS * -(-len(at) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [BODY_RATE, HEAD_RATE], steps, pct_start=0.2)
        model.train()
        for part in (part for _ in range(EPOCHS) for part in torch.randperm(len(at)).split(BATCH)):
            error = model(graphs.batch(at[part.numpy()])) - y[part]
            error = torch.where(bound[part], error.clamp(min=0.0), error)
            optimiser.zero_grad()
            nn.functional.smooth_l1_loss(error, torch.zeros_like(error)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            return np.asarray(model.eval()(graphs.batch(place[test])).double().numpy())

    return learner
