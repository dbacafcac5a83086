"""Properties of a crystal from its structure, with calibrated intervals: reference by composition + what the structure adds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeGuard

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import nn

from sse_diffusion.core.checkpoint import load_checkpoint, save_checkpoint
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import CheckpointError, ConfigError, DataError, did_you_mean
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.predictors.composition import Calibration, Target, symbol_of
from sse_diffusion.predictors.domain import DomainDistance
from sse_diffusion.predictors.ensemble import EnsembleMLP, mixture
from sse_diffusion.predictors.features import MAX_Z, composition_features, element_table
from sse_diffusion.predictors.graph.graphs import CrystalGraphs, GraphConfig, structure_graph
from sse_diffusion.predictors.graph.network import CrystalNetwork, NetworkConfig
from sse_diffusion.predictors.graph.reference import ReferenceConfig, untrained_reference
from sse_diffusion.predictors.training_index import TrainingIndex

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

VERSION = 1
MIN_CRYSTALS_PER_ELEMENT = 10
"""An element in fewer training crystals than this puts a crystal outside the domain."""

BONDS_PER_BATCH = 100_000
BY_COMPOSITION = "/composition"
"""Suffix of the calibration's keys for what the composition alone says."""


@dataclass(frozen=True, kw_only=True)
class GraphModelConfig:
    """Everything that shapes a graph predictor.

    Attributes:
        graph: crystals as graphs.
        network: the graph network.
        reference: the composition ensemble.
        members: networks, trained from different starts; their predictions are one mixture.
    """

    graph: GraphConfig = field(default_factory=GraphConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    members: int = 2

    @property
    def embedding_width(self) -> int:
        """Features of an embedding: those of all members."""
        return self.members * self.network.width


@dataclass(frozen=True)
class Prediction:
    """Uncalibrated predictions of n crystals and t targets, in the targets' units.

    Attributes:
        mean: (n, t).
        deviation: (n, t) standard deviation of the predicted distribution, wider outside the domain.
        embedding: (n, d) what the network made of each crystal; NaN where only the composition was used.
        percentile: (n,) rank of the distance to the training crystals; NaN where it is unknown.
    """

    mean: Float[np.ndarray, "n t"]
    deviation: Float[np.ndarray, "n t"]
    embedding: Float[np.ndarray, "n d"]
    percentile: Float[np.ndarray, " n"]


class GraphPredictor:
    """Predicts ``targets`` of crystals; :meth:`predict` answers one of them.

    Partial occupancies are kept as they are, but labels were of ordered crystals: such an answer has status ``unconverged`` and
    the reason. So has a bare composition's, which the composition reference gives alone.

    Args:
        networks: the graph networks, standardised output.
        reference: composition ensemble, one output per target.
        config: shapes.
        targets: what is predicted, in the order of the outputs.
        scale: (t,) unit of the network's output, in the targets' units.
        calibration: intervals; keys are the targets' names, and the names with ``/composition``.
        domain: distance to the training crystals in the space of embeddings.
        far: (t,) factor on the deviations of crystals outside the domain.
        answer: name of the target of :meth:`predict`; empty: the last one.
        table: elemental properties (MAX_Z + 1, P) that the reference was trained with.
        sha256: of the weights, for provenance.
    """

    kind: ClassVar[str] = "graph_network"

    def __init__(
        self,
        networks: Sequence[CrystalNetwork],
        reference: EnsembleMLP,
        config: GraphModelConfig,
        targets: Sequence[Target],
        scale: Float[np.ndarray, " t"],
        calibration: Calibration | None = None,
        domain: DomainDistance | None = None,
        far: Float[np.ndarray, " t"] | None = None,
        answer: str = "",
        table: NDArray[np.float32] | None = None,
        sha256: str = "",
    ) -> None:
        self.networks, self.reference = nn.ModuleList(networks).eval(), reference.eval()
        self.config, self.targets, self.scale = config, tuple(targets), np.asarray(scale, dtype=float)
        self.calibration, self.domain = calibration or Calibration(), domain
        self.far = np.ones(len(self.targets)) if far is None else np.asarray(far, dtype=float)
        self.table = element_table() if table is None else table
        self.sha256 = sha256
        self.trained: TrainingIndex | None = None  # the compositions it was trained on, where they are recorded
        names = [target.name for target in self.targets]
        if answer and answer not in names:
            raise ConfigError(f"the checkpoint does not predict {answer!r}", did_you_mean(answer, names))
        self.column = names.index(answer) if answer else len(names) - 1

    @property
    def name(self) -> str:
        """Name of the target of :meth:`predict`."""
        return self.targets[self.column].name

    @property
    def unit(self) -> str:
        """Unit of the target of :meth:`predict`."""
        return self.targets[self.column].unit

    @classmethod
    def untrained(cls, config: GraphModelConfig, targets: Sequence[Target], seed: int = 0) -> Self:
        """Random weights (the start of training, and tests)."""
        torch.manual_seed(seed)
        elements, size = standardised(element_table()), len(targets)
        networks = [CrystalNetwork(config.network, config.graph.cutoff_A, elements, size) for _ in range(config.members)]
        reference = untrained_reference(config.reference, len(targets), seed)
        return cls(networks, reference, config, targets, np.ones(len(targets)))

    @classmethod
    def load(cls, checkpoint: str | Path = "formation_energy", target: str = "") -> Self:
        """Read a checkpoint folder, or a shipped checkpoint by its name.

        Raises:
            CheckpointError: missing, truncated, altered, of another kind or version.
            ConfigError: the checkpoint does not predict ``target``.
        """
        found = load_checkpoint(checkpoint, cls.kind, VERSION)
        record, tensors = found.config, dict(found.tensors)
        try:
            config = build(GraphModelConfig, record["model"])
            targets = [Target(**{**t, "floor": -math.inf if t["floor"] is None else t["floor"]}) for t in record["targets"]]
            predictor = cls.untrained(config, targets)
            predictor.networks.load_state_dict(_part(tensors, "networks."))
            predictor.reference.load_state_dict(_part(tensors, "reference."))
            calibration = Calibration(**record["calibration"])
            scale, far, table = np.array(record["scale"]), np.array(record["far"]), tensors["element_table"].numpy()
            domain = DomainDistance.from_tensors(tensors) if record["domain"] else None
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{found.path} is incomplete: {error}", "copy or train the checkpoint again") from error
        networks, reference = list(predictor.networks), predictor.reference
        answering = cls(networks, reference, config, targets, scale, calibration, domain, far, target, table, found.sha256)
        answering.trained = TrainingIndex.load(found.path)
        return answering

    def save(self, folder: str | Path, training: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint; ``training`` is recorded beside the shapes."""
        tensors = {f"networks.{k}": v for k, v in self.networks.state_dict().items()}
        tensors |= {f"reference.{k}": v for k, v in self.reference.state_dict().items()}
        tensors |= {} if self.domain is None else self.domain.tensors()
        tensors["element_table"] = torch.from_numpy(self.table)
        record = {
            "model": asdict(self.config),
            "training": dict(training or {}),
            "targets": [{**asdict(t), "floor": t.floor if math.isfinite(t.floor) else None} for t in self.targets],
            "scale": self.scale.tolist(),
            "far": self.far.tolist(),
            "calibration": asdict(self.calibration),
            "domain": self.domain is not None,
        }
        save_checkpoint(folder, self.kind, VERSION, record, tensors)
        if self.trained is not None:
            self.trained.save(folder)

    def predict(self, structures: Sequence[Structure | Composition]) -> list[Quantity]:
        """One quantity per structure; ``provenance["signed_value"]`` is the value before it is cut at the target's floor."""
        graphs = [self._graph(structure) for structure in structures]
        compositions = [_composition(structure) for structure in structures]
        whole = [i for i, graph in enumerate(graphs) if isinstance(graph, CrystalGraphs)]
        bare = [i for i, given in enumerate(structures) if compositions[i] and not _is_structure(given)]
        answers: dict[int, Quantity] = {}
        for rows, suffix in ((whole, ""), (bare, BY_COMPOSITION)):
            joined = None if suffix else CrystalGraphs.join(graph for graph in graphs if isinstance(graph, CrystalGraphs))
            predicted = self.distributions([compositions[i] for i in rows], joined)
            for k, i in enumerate(rows):
                why = f"{graphs[i]}: answered from the composition" if suffix else _disorder(structures[i])
                mean, deviation = predicted.mean[k, self.column], predicted.deviation[k, self.column]
                percentile = float(predicted.percentile[k])
                answers[i] = self._quantity(compositions[i], float(mean), float(deviation), percentile, why, suffix)
        return [answers.get(i) or Quantity.failed(str(graphs[i]), self.unit) for i in range(len(graphs))]

    def embed(self, structures: Sequence[Structure]) -> Float[np.ndarray, "n d"]:
        """What the network makes of each crystal: features for other properties. A row of NaN where it has no graph."""
        graphs = [self._graph(structure) for structure in structures]
        rows = [i for i, graph in enumerate(graphs) if isinstance(graph, CrystalGraphs)]
        features = np.full((len(graphs), self.config.embedding_width), math.nan)
        if rows:
            features[rows] = self._network(CrystalGraphs.join(g for g in graphs if isinstance(g, CrystalGraphs)))[2]
        return features

    def distributions(self, compositions: Sequence[Mapping[int, float]], graphs: CrystalGraphs | None) -> Prediction:
        """Uncalibrated predictions of crystals by composition and graph; without graphs, the reference alone."""
        if not compositions:
            nothing = np.zeros((0, len(self.targets)))
            return Prediction(nothing, nothing, np.zeros((0, self.config.embedding_width)), np.zeros(0))
        with torch.no_grad():
            outputs = self.reference(torch.from_numpy(composition_features(compositions, self.table)))
            mean, deviation = (part.double().numpy() for part in mixture(*outputs))
        if graphs is None:
            unknown = np.full((len(mean), self.config.embedding_width), math.nan)
            return Prediction(mean, deviation, unknown, unknown[:, 0])
        mu, spread, embedding = self._network(graphs)
        percentile = np.full(len(mean), math.nan)
        if self.domain is not None:
            percentile = self.domain.percentile(self.domain.distance(embedding))
            spread = np.where((percentile > self.domain.limit)[:, None], self.far, 1.0) * spread
        return Prediction(mean + self.scale * mu, self.scale * spread, embedding, percentile)

    def _network(self, graphs: CrystalGraphs) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Location and standard deviation in standardised units, and embedding; in batches of limited memory."""
        part = np.cumsum(graphs.bonds, dtype=np.int64) // BONDS_PER_BATCH
        pieces: list[list[NDArray[np.float64]]] = []
        with torch.no_grad():
            for number in np.unique(part):
                batch = graphs.batch(np.flatnonzero(part == number))
                embeddings = [network.embed(batch) for network in self.networks]
                read = [network.read_out(e) for network, e in zip(self.networks, embeddings, strict=True)]
                mu, log_scale = (torch.stack(outputs) for outputs in zip(*read, strict=True))
                mean, deviation = mixture(mu.double(), log_scale.double())
                pieces.append([mean.numpy(), deviation.numpy(), torch.cat(embeddings, dim=1).double().numpy()])
        mean, deviation, embedding = (np.concatenate(column) for column in zip(*pieces, strict=True))
        return mean, deviation, embedding

    def _graph(self, structure: Structure | Composition) -> CrystalGraphs | str:
        """The graph, or the reason why there is none."""
        if not _is_structure(structure):
            return "a composition was given, not a structure"
        try:
            return structure_graph(structure, self.config.graph)
        except DataError as error:
            return error.message

    def _quantity(
        self, composition: Mapping[int, float], mean: float, deviation: float, percentile: float, why: str, suffix: str
    ) -> Quantity:
        """The calibrated answer; ``why`` says why it should not be relied on, ``suffix`` which calibration holds."""
        target, rules = self.targets[self.column], self.calibration
        far = self.domain is not None and percentile > self.domain.limit
        key = target.name + suffix
        half_68, half_95 = rules.scale_68.get(key, 1.0) * deviation, rules.scale_95.get(key, 2.0) * deviation
        strange = self._rare_elements(composition)
        if strange or percentile >= 100.0:  # the predicted spread cannot be trusted: add that of all crystals
            prior = rules.prior_95.get(target.name, 2.0)
            half_68, half_95 = half_68 + 0.5 * prior, half_95 + prior
        distant = f"outside the training domain: further from known crystals than {percentile:.0f} % of them from others"
        reason = "; ".join(text for text in (why, strange, distant if far else "") if text)
        provenance = {
            "predictor": self.kind,
            "checkpoint_sha256": self.sha256,
            "signed_value": mean,
            # never narrower than the 68 % that is reported about the value, which the floor may have lifted
            "interval_95": [max(mean - half_95, target.floor), max(mean + half_95, max(mean, target.floor) + half_68)],
        }
        provenance |= {"domain_percentile": percentile} if math.isfinite(percentile) else {}
        status = Status.UNCONVERGED if reason else Status.OK
        return Quantity(max(mean, target.floor), half_68, target.unit, status, reason, provenance)

    def _rare_elements(self, composition: Mapping[int, float]) -> str:
        counts = {symbol_of(z): self.calibration.element_counts.get(symbol_of(z), 0) for z in composition}
        rare = [f"{symbol} in {n}" for symbol, n in counts.items() if n < MIN_CRYSTALS_PER_ELEMENT]
        return f"outside the training domain: {', '.join(rare)} training crystals" if rare else ""


def standardised(table: NDArray[np.float32]) -> torch.Tensor:
    """Elemental properties with zero mean and unit spread over the elements."""
    values = torch.from_numpy(table).float()
    return (values - values[1:].mean(0)) / values[1:].std(0).clamp(min=1e-6)


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _is_structure(given: Structure | Composition) -> TypeGuard[Structure]:
    return hasattr(given, "lattice")


def _disorder(structure: Structure | Composition) -> str:
    """That a structure is disordered; empty when it is not."""
    if not _is_structure(structure) or structure.is_ordered:
        return ""
    first = next(site.species_string for site in structure if not site.is_ordered)
    return f"sites are partially occupied (first: {first}): the mean over random occupations, trained on ordered crystals"


def _composition(structure: Structure | Composition) -> dict[int, float]:
    """Atoms by atomic number, partial occupancies as they are; empty where a species is no element."""
    counts: dict[int, float] = {}
    composition = structure.composition if _is_structure(structure) else structure
    for species, amount in composition.items():
        z = int(getattr(species, "Z", 0))
        if not 1 <= z <= MAX_Z:
            return {}
        counts[z] = counts.get(z, 0.0) + float(amount)
    return counts
