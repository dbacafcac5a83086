"""CHGNet with one fused backward pass.

The calculator that ships with CHGNet differentiates twice with ``create_graph=True`` (forces, then stress) and also predicts
magnetic moments. Energies, forces and stress need one ``autograd.grad`` over positions and strain, which costs about half.

Model: Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi 10.1038/s42256-023-00716-3.
"""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError, EngineError, did_you_mean
from sse_diffusion.verification.engines import known_answer
from sse_diffusion.verification.engines.adapter import PotentialCalculator
from sse_diffusion.verification.engines.chgnet_graph import KeptGraph
from sse_diffusion.verification.engines.chgnet_layers import speed_up
from sse_diffusion.verification.potential import Evaluation, EvaluationError, PotentialInfo

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

logger = logging.getLogger(__name__)

SHIPPED: dict[str, tuple[str, str]] = {
    "0.3.0": ("PBE / PBE+U (Materials Project), MP2020-corrected energies, MPtrj", "CHGNet-0.3.0/MP2020"),
    "0.2.0": ("PBE / PBE+U (Materials Project), MP2020-corrected energies, MPtrj", "CHGNet-0.2.0/MP2020"),
    "r2scan": ("r2SCAN (Materials Project), transfer learned from MPtrj", "CHGNet-r2SCAN/r2SCAN"),
}
"""Weights inside the chgnet wheel -> (level of theory, energy scheme)."""

KNOWN_ENERGIES_eV_PER_ATOM: dict[str, dict[str, float]] = {
    "0.3.0": {"LiF": -5.0469, "LiCl": -3.9813, "Li2O": -4.9262, "Li2S": -4.1121},
    "0.2.0": {"LiF": -5.0443, "LiCl": -3.9852, "Li2O": -4.9287, "Li2S": -4.1388},
    "r2scan": {"LiF": -5.9275, "LiCl": -6.2896, "Li2O": -5.5658, "Li2S": -5.7591},
}
"""Energies of :data:`known_answer.SALTS`, measured with chgnet 0.4.2 and torch 2.13.0."""

GPU_BATCH_ATOMS = 2000
"""Structures evaluated together on a GPU up to this many atoms: 5 GB in dense oxides by the memory law of the CPU."""

CPU_BATCH_ATOMS = 60
"""The same on a CPU: 1.3 times as fast for cells of 4-12 atoms, nothing to gain beyond (benchmarks/relax_together.py)."""

MIN_VOLUME_A3_PER_ATOM = 2.0
"""Below this a cell has collapsed (diamond: 5.7); its neighbour list would exhaust the memory."""


@dataclass(frozen=True, kw_only=True)
class ChgnetConfig:
    """Choices for the CHGNet engine.

    Attributes:
        model: one of :data:`SHIPPED`, or the path of fine-tuned weights as CHGNet's trainer saves them.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        batch_atoms: structures are evaluated together up to this many atoms; 0 = one by one; ``None``: 60 on a CPU
            (:data:`CPU_BATCH_ATOMS`), 2,000 on a GPU.
        skin_A: a calculator keeps its neighbour list until an atom has moved about half of this; 0 searches at every step.
        reference_eV_per_atom: expected energies of LiF, LiCl, Li2O, Li2S for fine-tuned weights; shipped weights have theirs.
        tolerance_eV_per_atom: of the known-answer test.
        energy_scheme: name of the energy scale of fine-tuned weights.
    """

    model: str = "0.3.0"
    device: str = "cpu"
    batch_atoms: int | None = None
    skin_A: float = 0.6
    reference_eV_per_atom: Mapping[str, float] = field(default_factory=dict)
    tolerance_eV_per_atom: float = 0.005
    energy_scheme: str = ""


class ChgnetEngine:
    """CHGNet as a :class:`~sse_diffusion.verification.potential.Potential`.

    E(x, strain) is the model's total energy; F = -dE/dx and stress = dE/dstrain / V come from one backward pass.

    Args:
        config: see :class:`ChgnetConfig`.
        model: a ready ``chgnet.model.CHGNet``; loaded by ``config.model`` when omitted.
    """

    def __init__(self, config: ChgnetConfig | None = None, model: Any = None) -> None:
        """Load the weights (no known-answer test here; :func:`load` runs it)."""
        import torch

        self.config = config or ChgnetConfig()
        device = self.config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        given = self.config.batch_atoms
        self.batch_atoms = given if given is not None else CPU_BATCH_ATOMS if self.device.type == "cpu" else GPU_BATCH_ATOMS
        self.model = (model if model is not None else _load_model(self.config.model)).to(self.device).eval()
        self.model.requires_grad_(False)
        speed_up(self.model)
        self.info = _info(self.config, self.model)

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Evaluation]:
        """See :meth:`sse_diffusion.verification.potential.Potential.evaluate`."""
        results: list[Evaluation] = []
        for batch in _batches(atoms, self.batch_atoms):
            results.extend(self._evaluate_batch(batch))
        return results

    def calculator(self) -> Calculator:
        """A fresh ASE calculator on these weights; it keeps a neighbour list of its own while its atoms move."""
        return PotentialCalculator(_Moving(self))

    def new_list(self, skin_A: float = 0.0) -> KeptGraph:
        """A neighbour list for one system."""
        converter = self.model.graph_converter
        return KeptGraph(converter.atom_graph_cutoff, converter.bond_graph_cutoff, skin_A)

    def evaluate_moving(self, atoms: Atoms, kept: KeptGraph) -> Evaluation:
        """One configuration of a system in motion, with the list of its last configuration."""
        return self._evaluate_batch([atoms], [kept])[0]

    def _evaluate_batch(self, atoms: Sequence[Atoms], lists: Sequence[KeptGraph] | None = None) -> list[Evaluation]:
        import torch
        from chgnet.model.model import BatchedGraph

        lists = lists or [self.new_list() for _ in atoms]
        graphs = [self._graph(each, kept) for each, kept in zip(atoms, lists, strict=True)]
        model = self.model
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad=True")
            batch = BatchedGraph.from_graphs(
                graphs,
                bond_basis_expansion=model.bond_basis_expansion,
                angle_basis_expansion=model.angle_basis_expansion,
                compute_stress=True,
            )
            # The network alone: forces and stress are ours, magnetic moments are not asked for.
            network_energy = model._compute(batch)["e"]
            counts = torch.tensor([len(each) for each in atoms], device=self.device, dtype=network_energy.dtype)
            scale = counts if model.is_intensive else torch.ones_like(counts)
            energy = network_energy * scale
            gradients = torch.autograd.grad(energy.sum(), [*batch.atom_positions, *batch.strains])
        if model.composition_model is not None:
            energy = energy.detach() + model.composition_model(graphs) * scale
        volumes = batch.volumes.detach().abs()
        energies = energy.detach().cpu().numpy().astype(float)
        results = []
        for index, each in enumerate(atoms):
            forces = -gradients[index].cpu().numpy().astype(float)
            stress = (gradients[len(atoms) + index] / volumes[index]).cpu().numpy().astype(float)
            if not (np.isfinite(energies[index]) and np.isfinite(forces).all() and np.isfinite(stress).all()):
                formula = each.get_chemical_formula()
                raise EvaluationError(f"{formula}: energy, forces or stress are not finite", "atoms are too close")
            results.append(Evaluation(float(energies[index]), forces, 0.5 * (stress + stress.T)))
        return results

    def _graph(self, atoms: Atoms, kept: KeptGraph) -> Any:
        """Crystal graph of one structure on this device."""
        formula = atoms.get_chemical_formula()
        unknown = set(atoms.get_chemical_symbols()) - self.info.elements
        if unknown:
            names = ", ".join(sorted(unknown))
            raise EvaluationError(f"{formula}: {self.info.name} does not know {names}", "choose another engine")
        if not atoms.pbc.all() or not np.isfinite(atoms.positions).all():
            raise EvaluationError(f"{formula}: needs finite positions and a cell periodic in three directions")
        volume_per_atom = abs(float(np.linalg.det(atoms.cell.array))) / len(atoms)
        if not volume_per_atom >= MIN_VOLUME_A3_PER_ATOM:
            raise EvaluationError(f"{formula}: the cell has collapsed ({volume_per_atom:.2f} A^3/atom)", "use a larger cell")
        try:
            graph = kept.graph(atoms)
        except ValueError as error:
            raise EvaluationError(f"{formula}: an atom has no neighbour within 6 A", "the structure has fallen apart") from error
        return graph.to(self.device)


class _Moving:
    """The engine with one kept list: what a calculator that follows one system talks to."""

    def __init__(self, engine: ChgnetEngine) -> None:
        self.engine, self.info = engine, engine.info
        self.kept = engine.new_list(engine.config.skin_A)

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Evaluation]:
        """One after the other with the same list."""
        return [self.engine.evaluate_moving(each, self.kept) for each in atoms]

    def calculator(self) -> Calculator:
        """A calculator with a list of its own."""
        return self.engine.calculator()


def load(values: Mapping[str, Any]) -> ChgnetEngine:
    """Build the engine from its YAML mapping and run the known-answer test.

    Raises:
        ConfigError: unknown key or model name.
        EngineError: unreadable weights, or energies of the four salts are off.
    """
    config = build(ChgnetConfig, values)
    engine = ChgnetEngine(config)
    verify(engine)
    return engine


def verify(engine: ChgnetEngine) -> None:
    """Known-answer test of shipped or fine-tuned weights; EngineError when it fails."""
    config = engine.config
    expected = dict(config.reference_eV_per_atom) or KNOWN_ENERGIES_eV_PER_ATOM.get(config.model, {})
    if not expected:
        logger.warning("%s: no reference energies given, the known-answer test was skipped", config.model)
    known_answer.check(engine, expected, config.tolerance_eV_per_atom)


def _load_model(name: str) -> Any:
    """The network; what CHGNet prints on the way goes to the debug log."""
    if name not in SHIPPED and not Path(name).is_file():
        raise ConfigError(f"CHGNet has no model {name!r} and there is no such file", did_you_mean(name, SHIPPED))
    try:
        from chgnet.model import CHGNet
    except ImportError as error:
        raise EngineError(f"chgnet cannot be imported: {error}", "pip install chgnet") from error
    chatter = io.StringIO()
    try:
        with contextlib.redirect_stdout(chatter):
            if name in SHIPPED:
                return CHGNet.load(model_name=name, use_device="cpu", verbose=False)
            import torch

            # weights_only: a file from somewhere else must not run code.
            state = torch.load(name, map_location="cpu", weights_only=True)
            return CHGNet.from_dict(state["model"])
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise EngineError(f"CHGNet weights {name!r} cannot be read: {error}", "reinstall chgnet or give another file") from error
    finally:
        logger.debug("%s", chatter.getvalue().strip())


def _info(config: ChgnetConfig, model: Any) -> PotentialInfo:
    """Declaration of what these weights are."""
    from ase.data import chemical_symbols

    own_scheme = config.energy_scheme or f"CHGNet/{Path(config.model).name}"
    level, scheme = SHIPPED.get(config.model, ("fine-tuned by the user", own_scheme))
    return PotentialInfo(
        name="CHGNet",
        version=config.model if config.model in SHIPPED else Path(config.model).name,
        licence="BSD-3-Clause-LBNL",
        level_of_theory=level,
        energy_scheme=scheme,
        elements=frozenset(chemical_symbols[1 : model.atom_embedding.embedding.num_embeddings + 1]),
        memory_law="linear in atoms: about 1 MB per atom in sulfides, 2.5 MB in dense oxides (CPU), on 0.5 GB for the libraries",
    )


def _batches(atoms: Sequence[Atoms], batch_atoms: int) -> list[list[Atoms]]:
    """Consecutive groups of at most ``batch_atoms`` atoms (at least one structure each)."""
    groups: list[list[Atoms]] = []
    size = 0
    for each in atoms:
        if groups and size + len(each) <= batch_atoms:
            groups[-1].append(each)
            size += len(each)
        else:
            groups.append([each])
            size = len(each)
    return groups
