"""log10 of the ionic conductivity at (T, P) of a structure, disordered as it is, or of a composition alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from sse_diffusion.core.checkpoint import load_checkpoint, save_checkpoint
from sse_diffusion.core.errors import CheckpointError, ConfigError, DataError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.predictors.conductivity.arrhenius import (
    GPa_A3_in_eV,
    activation_volume_A3,
    inverse_temperature,
)
from sse_diffusion.predictors.conductivity.gaussian_process import ArrheniusGaussianProcess, Observations
from sse_diffusion.predictors.conductivity.inputs import INPUT_NAMES, Array, Inputs, cumulative_fractions, inputs_of
from sse_diffusion.predictors.conductivity.model import ConductivityModel, Forecast, Stack
from sse_diffusion.predictors.conductivity.tables import ConductivityRow
from sse_diffusion.predictors.conductivity.trees import Trees
from sse_diffusion.predictors.descriptors.table import counts_by_number
from sse_diffusion.predictors.domain import DomainDistance
from sse_diffusion.predictors.features import MAX_Z

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

VERSION = 1
MIN_MATERIALS_PER_ELEMENT = 3
"""An element in fewer training materials than this puts a crystal outside the domain."""
TYPICAL_MODULUS_GPa = {"O": 100.0, "F": 70.0, "N": 100.0, "S": 28.0, "Se": 22.0, "Cl": 28.0, "Br": 24.0, "I": 18.0}
"""Bulk modulus by anion, for the activation volume only (LLZO 112, LATP 95, LGPS 27, Li6PS5Cl 29: Deng et al.,
J. Electrochem. Soc. 163, A67 (2016); LiCl 32, LiF 70: Materials Project)."""
PRESSURE_RANGE_GPa = (0.0, 20.0)
TEMPERATURE_RANGE_K = (150.0, 1200.0)


class ConductivityPredictor:
    """Predicts log10 of sigma in S/cm of a lithium conductor.

    Args:
        model: fitted members.
        inputs: of its training rows, which are part of the model.
        domain: of the compositions.
        papers, materials: hashes of the training rows' DOIs and compositions (:func:`hashed`).
        spread_95: 95 % quantile of |log10 sigma - median| in training: half-width of what is outside the domain.
        temperature_K, pressure_GPa: what :meth:`predict` answers at.
        sha256: of the weights.
    """

    kind: ClassVar[str] = "conductivity"
    name: ClassVar[str] = "log10_conductivity"
    unit: ClassVar[str] = "log10(S/cm)"
    mobile_ion: ClassVar[str] = "Li"

    def __init__(
        self,
        model: ConductivityModel,
        inputs: Inputs,
        domain: DomainDistance,
        papers: Sequence[str],
        materials: Sequence[str],
        spread_95: float,
        temperature_K: float = 300.0,
        pressure_GPa: float = 1e-4,
        sha256: str = "",
    ) -> None:
        _check("temperature_K", temperature_K, TEMPERATURE_RANGE_K)
        _check("pressure_GPa", pressure_GPa, PRESSURE_RANGE_GPa)
        self.model = model
        self.inputs = inputs
        self.domain = domain
        self.papers = tuple(papers)
        self.materials = tuple(materials)
        self.spread_95 = spread_95
        self.temperature_K = temperature_K
        self.pressure_GPa = pressure_GPa
        self.sha256 = sha256
        observed = model.process.observations
        measured = np.flatnonzero(observed.measured)
        firsts = measured[np.unique(observed.material[measured], return_index=True)[1]]
        self._element_counts = (inputs.composition[firsts, :MAX_Z] > 0).sum(0)

    @classmethod
    def of(cls, model: ConductivityModel, rows: Sequence[ConductivityRow], inputs: Inputs) -> Self:
        """Wrap a model and the rows it was fitted on; the domain is that of the measurements."""
        observed = model.process.observations
        labels = np.array([row.log10_sigma for row in rows if row.measured])
        return cls(
            model,
            inputs,
            measured_domain(inputs, observed),
            [hashed(paper) for paper in sorted({row.doi for row in rows if row.doi})],
            [hashed(material) for material in sorted({row.key for row in rows})],
            float(np.quantile(np.abs(labels - np.median(labels)), 0.95)),
        )

    @classmethod
    def load(cls, checkpoint: str | Path = "conductivity", temperature_K: float = 300.0, pressure_GPa: float = 1e-4) -> Self:
        """Read a checkpoint, to answer at a temperature and pressure.

        Raises:
            CheckpointError: missing, truncated, altered, of another kind or version, or trained on other inputs.
            ConfigError: a temperature or pressure out of range.
        """
        read = load_checkpoint(checkpoint, cls.kind, VERSION)
        record, tensors = read.config, read.tensors
        if record.get("inputs") != list(INPUT_NAMES):
            raise CheckpointError(f"{read.path} was trained on other inputs", "train it again with this release")
        try:
            inputs = Inputs(*(tensors[f"inputs.{name}"].double().numpy() for name in Inputs.__dataclass_fields__))
            tensors = {"observed.own_sd": torch.full_like(tensors["observed.value"], math.nan), **tensors}
            observed = Observations(*(tensors[f"observed.{name}"].numpy() for name in Observations.__dataclass_fields__))
            state = {name.removeprefix("process."): t for name, t in tensors.items() if name.startswith("process.")}
            process = ArrheniusGaussianProcess.from_state(state, inputs, observed)
            stack = Stack(**{"prefactor_share": 0.0, "prefactor": 0.0, **record["stack"]})  # which early checkpoints lack
            model = ConductivityModel(process, Trees.from_tensors(tensors), stack)
            known = record["papers"], record["materials"], float(record["spread_95"])
            domain = DomainDistance.from_tensors(tensors)
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{read.path} is incomplete: {error}", "copy or train the checkpoint again") from error
        return cls(model, inputs, domain, *known, temperature_K, pressure_GPa, read.sha256)

    def save(self, folder: str | Path, training: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint; ``training`` is recorded beside it."""
        arrays = {f"inputs.{k}": v if k == "temperature_K" else v.astype(np.float32) for k, v in vars(self.inputs).items()}
        arrays |= {f"observed.{name}": value for name, value in vars(self.model.process.observations).items()}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
        tensors |= {f"process.{name}": value for name, value in self.model.process.state().items()}
        record = {
            "inputs": list(INPUT_NAMES),
            "stack": asdict(self.model.stack),
            "spread_95": self.spread_95,
            "papers": list(self.papers),
            "materials": list(self.materials),
            "training": dict(training or {}),
        }
        save_checkpoint(folder, self.kind, VERSION, record, tensors | self.model.trees.tensors() | self.domain.tensors())

    def predict(self, structures: Sequence[Structure | Composition]) -> list[Quantity]:
        """One quantity per structure or composition, at this predictor's temperature and pressure."""
        rows = []
        for crystal in structures:
            whole = hasattr(crystal, "lattice")
            composition = crystal.composition if whole else crystal
            rows.append(ConductivityRow("", composition, crystal if whole else None, temperature_K=self.temperature_K))
        return self.quantities(rows)

    def quantities(self, rows: Sequence[ConductivityRow]) -> list[Quantity]:
        """One quantity per row, at the row's temperature and this predictor's pressure.

        ``provenance`` holds ``interval_95``, ``activation_eV``, ``domain_percentile`` and ``in_training`` (the composition is a
        training material).
        """
        problems = {i: reason for i, row in enumerate(rows) if (reason := _unreadable(row))}
        usable = [i for i in range(len(rows)) if i not in problems]
        answers = {i: Quantity.failed(reason, self.unit) for i, reason in problems.items()}
        if usable:
            chosen = [rows[i] for i in usable]
            answers |= dict(zip(usable, self._answers(chosen, inputs_of(chosen)), strict=True))
        return [answers[i] for i in range(len(rows))]

    def trained_on(self, rows: Sequence[ConductivityRow]) -> tuple[np.ndarray, np.ndarray]:
        """Whether each row's composition, and its paper, were trained on: two (n,) flags."""
        papers, materials = set(self.papers), set(self.materials)
        material = np.array([hashed(row.key) in materials for row in rows], dtype=bool)
        return material, np.array([row.doi is not None and hashed(row.doi) in papers for row in rows], dtype=bool)

    def _answers(self, rows: Sequence[ConductivityRow], inputs: Inputs) -> list[Quantity]:
        known = self.trained_on(rows)[0]
        forecast = self.model.predict(inputs)
        cost = self._pressure_cost(inputs, forecast)
        percentile = self.domain.percentile(self.domain.distance(domain_features(inputs)))
        reasons = [self._outside(inputs.composition[i], percentile[i]) for i in range(len(rows))]
        return [
            self._quantity(forecast, i, float(cost[i]), float(percentile[i]), reasons[i], bool(known[i]))
            for i in range(len(rows))
        ]

    def _quantity(self, forecast: Forecast, i: int, cost: float, percentile: float, reason: str, known: bool) -> Quantity:
        value = float(forecast.log10_sigma[i]) - cost
        half_68, half_95 = math.hypot(forecast.half_68[i], 0.5 * cost), math.hypot(forecast.half_95[i], cost)
        if reason:  # the model's own spread cannot be trusted there
            half_68, half_95 = half_68 + 0.5 * self.spread_95, half_95 + self.spread_95
        provenance = {
            "predictor": self.kind,
            "checkpoint_sha256": self.sha256,
            "interval_95": [value - half_95, value + half_95],
            "activation_eV": float(forecast.activation_eV[i]),
            "pressure_GPa": self.pressure_GPa,
            "domain_percentile": percentile,
            "in_training": known,
        }
        return Quantity(value, half_68, self.unit, Status.UNCONVERGED if reason else Status.OK, reason, provenance)

    def _pressure_cost(self, inputs: Inputs, forecast: Forecast) -> Array:
        """Decades (n,) lost to pressure: P dV t."""
        fractions = inputs.composition[:, :MAX_Z]
        moduli = np.zeros(MAX_Z)
        for symbol, modulus in TYPICAL_MODULUS_GPa.items():
            moduli[_number(symbol) - 1] = modulus
        anions = fractions * (moduli > 0)
        total: Array = anions.sum(1)
        average = np.where(total > 0, anions @ moduli / np.maximum(total, 1e-9), 50.0)
        volume = activation_volume_A3(forecast.activation_eV, average)
        return self.pressure_GPa * volume * GPa_A3_in_eV * inverse_temperature(inputs.temperature_K)

    def _outside(self, composition: Array, percentile: float) -> str:
        """Why a material is outside the domain; empty when it is inside."""
        present = np.flatnonzero(composition[:MAX_Z] > 0)
        rare = [
            f"{_symbol(z + 1)} in {n}"
            for z in present.tolist()
            if (n := int(self._element_counts[z])) < MIN_MATERIALS_PER_ELEMENT
        ]
        reasons = ["no lithium (trained on lithium conductors)"] if not composition[_number("Li") - 1] > 0 else []
        if rare:
            reasons.append(f"{', '.join(rare)} training materials (needs {MIN_MATERIALS_PER_ELEMENT})")
        if reasons:
            return f"outside the training domain: {'; '.join(reasons)}"
        if percentile > self.domain.limit:
            return (
                f"outside the training domain: further from it than {percentile:.1f} % of the training materials are from others"
            )
        return ""


def measured_domain(inputs: Inputs, observations: Observations) -> DomainDistance:
    """Distance to the measured materials among n training rows: a soft label is no reason to trust a prediction."""
    measured = observations.measured
    return DomainDistance.fit(domain_features(inputs.take(measured)), observations.groups[measured])


def domain_features(inputs: Inputs) -> Array:
    """(n, 158) what the distance to the training data is measured in: known for every material."""
    return np.concatenate([cumulative_fractions(inputs.composition), inputs.composition[:, MAX_Z:]], axis=1)


def hashed(key: str) -> str:
    """First 12 hex digits of the SHA-256 of a DOI or composition key: recognised, not published."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def _unreadable(row: ConductivityRow) -> str:
    try:
        counts_by_number(row.structure if row.structure is not None else row.composition)
    except DataError as error:
        return error.message
    return ""


def _check(name: str, value: float, allowed: tuple[float, float]) -> None:
    if not allowed[0] <= value <= allowed[1]:
        raise ConfigError(f"{name} is {value:g}", f"give a value from {allowed[0]:g} to {allowed[1]:g}")


def _number(symbol: str) -> int:
    from pymatgen.core.periodic_table import Element

    return int(Element(symbol).Z)


def _symbol(z: int) -> str:
    from pymatgen.core.periodic_table import Element

    return str(Element.from_Z(z).symbol)
