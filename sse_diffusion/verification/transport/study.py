"""Molecular dynamics at several temperatures with replicas, and everything that follows: sigma(T), Arrhenius, sigma(300 K)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import AMBIENT_PRESSURE_GPa
from sse_diffusion.verification.dynamics.config import DynamicsConfig
from sse_diffusion.verification.dynamics.equilibration import check_equilibration
from sse_diffusion.verification.dynamics.guards import GuardConfig
from sse_diffusion.verification.dynamics.loop import WALL_CAP, run_dynamics
from sse_diffusion.verification.supercell import compact_supercell
from sse_diffusion.verification.transport.arrhenius import ArrheniusConfig, ArrheniusFit, fit_arrhenius
from sse_diffusion.verification.transport.conductivity import FORMAL_CHARGES, conductivity, haven_ratio, mean_of
from sse_diffusion.verification.transport.diffusivity import diffusivity
from sse_diffusion.verification.transport.paths import IonPaths
from sse_diffusion.verification.transport.regime import RegimeConfig, diffusive_regime
from sse_diffusion.verification.transport.vibrations import agrees, framework_anharmonicity, vibrational_spectrum

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.verification.dynamics.trajectory import Trajectory
    from sse_diffusion.verification.potential import Potential

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TransportConfig:
    """Protocol.

    Attributes:
        temperatures_K: state points, all at ``pressure_GPa``; the extrapolation needs two, its check for curvature three.
        replicas: independent runs per temperature (seeds ``seed``, ``seed + 1``, ...).
        drop_ps, keep_ps: equilibration left out, and the part that is analysed; raising ``keep_ps`` continues the runs.
        ensemble: ``nvt`` at the volume given, or ``npt``.
        pressure_GPa, cell_shape, barostat_ps, timestep_fs, friction_per_ps: see :class:`DynamicsConfig`.
        frame_every_fs, block_ps: time between frames, and between blocks on disk.
        seed: of the first replica.
        max_seconds: wall time of all dynamics of one temperature.
        min_atoms, max_atoms, hard_max_atoms: see :func:`compact_supercell`.
        charge: of the ion; 0 for its formal one.
        target_K: temperature of the extrapolation.
        regime, arrhenius, guards: thresholds, priors, limits.
    """

    temperatures_K: tuple[float, ...] = (1000.0, 800.0, 600.0)
    replicas: int = 2
    drop_ps: float = 5.0
    keep_ps: float = 50.0
    ensemble: str = "npt"
    pressure_GPa: float = AMBIENT_PRESSURE_GPa
    cell_shape: str = "isotropic"
    barostat_ps: float = 1.0
    timestep_fs: float = 2.0
    friction_per_ps: float = 1.0
    frame_every_fs: float = 20.0
    block_ps: float = 0.4
    seed: int = 0
    max_seconds: float = float("inf")
    min_atoms: int = 50
    max_atoms: int = 64
    hard_max_atoms: int = 96
    charge: int = 0
    target_K: float = 300.0
    regime: RegimeConfig = field(default_factory=RegimeConfig)
    arrhenius: ArrheniusConfig = field(default_factory=ArrheniusConfig)
    guards: GuardConfig = field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if not self.temperatures_K or min(self.temperatures_K) <= 0 or len(set(self.temperatures_K)) < len(self.temperatures_K):
            raise ConfigError(
                f"transport.temperatures_K={self.temperatures_K} must be positive and distinct", "e.g. [600, 800, 1000]"
            )
        if self.replicas < 1 or not self.keep_ps > 0:
            raise ConfigError("transport needs replicas >= 1 and keep_ps > 0", "two replicas or more show how much runs differ")

    def dynamics(self, temperature_K: float) -> DynamicsConfig:
        """The runs of one temperature, counted in steps."""
        every = max(1, round(self.frame_every_fs / self.timestep_fs))
        frame_ps = every * self.timestep_fs / 1000.0
        return DynamicsConfig(
            ensemble=self.ensemble,
            temperature_K=float(temperature_K),  # 1000 and 1000.0 are one run
            pressure_GPa=self.pressure_GPa,
            timestep_fs=self.timestep_fs,
            steps=max(1, round((self.drop_ps + self.keep_ps) / frame_ps)) * every,
            frame_every=every,
            block_frames=max(1, round(self.block_ps / frame_ps)),
            friction_per_ps=self.friction_per_ps,
            barostat_ps=self.barostat_ps,
            cell_shape=self.cell_shape,
            seeds=tuple(range(self.seed, self.seed + self.replicas)),
            max_seconds=self.max_seconds,
            guards=self.guards,
        )

    def atom_steps(self, n_atoms: int) -> float:
        """Atoms times force evaluations of the whole study, for time estimates."""
        return float(n_atoms * self.replicas * sum(self.dynamics(t).steps for t in self.temperatures_K))


@dataclass(frozen=True)
class StatePoint:
    """One temperature.

    Attributes:
        temperature_K: of the thermostat.
        tracer, collective: diffusivities (cm^2/s), means over the replicas.
        nernst_einstein, conductivity: S/cm, from the tracer and from the collective diffusivity.
        haven: D_tracer / D_J.
        replicas: one dictionary per replica: tracer, collective, regime, equilibration, Green-Kubo value, anharmonicity,
            temperature,
            volume, seconds, stopped.
    """

    temperature_K: float
    tracer: Quantity
    collective: Quantity
    nernst_einstein: Quantity
    conductivity: Quantity
    haven: Quantity
    replicas: list[dict[str, Any]]


@dataclass(frozen=True)
class TransportResult:
    """Everything.

    Attributes:
        ion: element symbol. n_atoms: of the supercell.
        points: one per temperature that was run.
        tracer_fit, collective_fit: Arrhenius posteriors of the two diffusivities.
        nernst_einstein_target, conductivity_target: sigma at ``target_K`` from the one and the other (S/cm), extrapolated.
        seconds: wall time of the dynamics.
        provenance: engine, protocol, supercell.
    """

    ion: str
    n_atoms: int
    points: list[StatePoint]
    tracer_fit: ArrheniusFit
    collective_fit: ArrheniusFit
    nernst_einstein_target: Quantity
    conductivity_target: Quantity
    seconds: float
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the posterior draws stay out."""
        return _plain(self)


def run_transport(
    structure: Structure,
    ion: str,
    potential: Potential,
    config: TransportConfig,
    out_dir: str | Path,
    after_point: Callable[[TransportResult], None] | None = None,
) -> TransportResult:
    """Run what is missing and analyse what is there; ``out_dir/transport.json`` is rewritten after every temperature.

    Args:
        structure: ordered, relaxed crystal.
        ion: element symbol of the mobile ion.
        potential: engine.
        config: protocol.
        out_dir: holds ``T<temperature>/replica_<seed>`` and the result.
        after_point: called with the result so far.

    Raises:
        DataError: the crystal lacks the ion. ConfigError: the ion has no formal charge and none is given.
        OutputError: ``out_dir`` cannot be written.
    """
    charge = config.charge or FORMAL_CHARGES.get(ion, 0)
    if not charge:
        raise ConfigError(f"the charge of {ion} is not known", "set transport.charge")
    if ion not in {e.symbol for e in structure.composition.elements}:
        raise DataError(f"there is no {ion} in {structure.composition.reduced_formula}", "choose another mobile ion")
    supercell = compact_supercell(structure, config.min_atoms, config.max_atoms, config.hard_max_atoms)
    atoms = supercell.structure.to_ase_atoms(msonable=False)
    provenance = {
        "engine": potential.info.name,
        "engine_version": potential.info.version,
        "energy_scheme": potential.info.energy_scheme,
        "cells": supercell.multiple,
        "shortest_image_A": round(supercell.shortest_image_A, 3),
        "charge": charge,
        "protocol": asdict(config),
    }
    points: list[StatePoint] = []
    result = None
    for temperature in config.temperatures_K:
        label = f"{structure.composition.reduced_formula} {temperature:g} K"
        folder = Path(out_dir) / f"T{temperature:g}"
        runs = run_dynamics(atoms, potential, config.dynamics(temperature), folder, ion, label=label)
        points.append(state_point(runs, ion, charge, config))
        result = _collect(ion, len(atoms), points, charge, config, provenance)
        write_json_atomically(Path(out_dir) / "transport.json", result.to_dict())
        logger.info("%s: D = %.3g cm^2/s (%s)", label, points[-1].tracer.value, points[-1].tracer.status)
        if after_point is not None:
            after_point(result)
    assert result is not None
    return result


def state_point(runs: list[Trajectory], ion: str, charge: int, config: TransportConfig) -> StatePoint:
    """Analyse the replicas of one temperature."""
    records = [_replica(run, ion, config) for run in runs]
    weights = [max(record["kept_ps"], 1e-9) for record in records]
    tracer, collective = (mean_of([record[name] for record in records], weights) for name in ("tracer", "collective"))
    density = float(np.mean([record["ions_per_A3"] for record in records]))
    temperature = runs[0].target_K
    return StatePoint(
        temperature,
        tracer,
        collective,
        conductivity(tracer, density, charge, temperature),
        conductivity(collective, density, charge, temperature),
        haven_ratio(tracer, collective),
        records,
    )


def _replica(run: Trajectory, ion: str, config: TransportConfig) -> dict[str, Any]:
    """One run: diffusivities with their status, and what tells whether to believe them."""
    first = round(config.drop_ps / run.frame_ps)
    kept_ps = max(0.0, run.duration_ps - config.drop_ps)
    record: dict[str, Any] = {
        "kept_ps": round(kept_ps, 3),
        "temperature_K": float(run.temperature_K[first:].mean()) if len(run.temperature_K) > first else float("nan"),
        "volume_A3": float(run.volumes_A3[min(first, len(run.volumes_A3) - 1) :].mean()),
        "seconds": round(run.seconds, 1),
        "stopped": run.stopped,
    }
    record["ions_per_A3"] = float((run.symbols == ion).sum()) / record["volume_A3"]
    broken = run.stopped and not run.stopped.startswith(WALL_CAP)
    if broken or kept_ps < 20 * run.frame_ps:
        reason = run.stopped if broken else f"only {kept_ps:.2f} ps were kept; {run.stopped}"
        failed = Quantity.failed(reason, "cm^2/s", temperature_K=run.target_K)
        return {**record, "tracer": failed, "collective": failed}
    paths = IonPaths.of(run, ion, config.drop_ps)
    regime = diffusive_regime(paths, config.regime)
    checks = {"energy": check_equilibration(run.potential_eV[first:] / len(run.masses), run.frame_ps)}
    if config.ensemble == "npt":
        checks["volume"] = check_equilibration(run.volumes_A3[first:], run.frame_ps)
    drifting = [f"the {name} still drifts (z = {check.z:.1f})" for name, check in checks.items() if not check.settled]
    tracer, collective = (_flag(diffusivity(p, regime), drifting) for p in (paths, paths.collective))
    green_kubo = vibrational_spectrum(run, ion, config.drop_ps, segment_ps=kept_ps / 10).diffusivity
    return {
        **record,
        "tracer": tracer,
        "collective": collective,
        "regime": regime,
        "equilibration": checks,
        "green_kubo": green_kubo,
        "green_kubo_agrees": agrees(tracer, green_kubo),
        "framework_anharmonicity": framework_anharmonicity(run, ion, config.drop_ps),
    }


def _flag(quantity: Quantity, drifting: list[str]) -> Quantity:
    """A number from a run that has not settled is ``unconverged``."""
    if not drifting or not quantity.ok:
        return quantity
    return replace(quantity, status=Status.UNCONVERGED, reason="; ".join(drifting))


def _collect(
    ion: str, n_atoms: int, points: list[StatePoint], charge: int, config: TransportConfig, provenance: dict[str, Any]
) -> TransportResult:
    """Arrhenius fits over all runs so far and the extrapolation; the ion density is that of the lowest temperature."""
    runs = [record for point in points for record in point.replicas]
    tracer, collective = (fit_arrhenius([r[name] for r in runs], config.arrhenius) for name in ("tracer", "collective"))
    coldest = min(points, key=lambda point: point.temperature_K)
    density = float(np.mean([r["ions_per_A3"] for r in coldest.replicas]))
    targets = [_at_target(fit, points, density, charge, config.target_K) for fit in (tracer, collective)]
    seconds = sum(r["seconds"] for r in runs)
    return TransportResult(ion, n_atoms, list(points), tracer, collective, targets[0], targets[1], seconds, provenance)


def _at_target(fit: ArrheniusFit, points: list[StatePoint], density: float, charge: int, target_K: float) -> Quantity:
    """sigma at the target; when there is no fit, the tightest upper bound measured above it (sigma falls with temperature)."""
    if fit.status is not Status.FAILED:
        return fit.conductivity(target_K, density, charge)
    bounds = [p.tracer for p in points if p.tracer.status is Status.UPPER_BOUND and p.temperature_K >= target_K]
    if not bounds:
        return Quantity.failed(fit.reason, "S/cm")
    lowest = min(bounds, key=lambda q: q.value)
    reason = f"no jump was seen at {lowest.provenance['temperature_K']:g} K; D does not rise on cooling. {fit.reason}"
    return conductivity(replace(lowest, reason=reason), density, charge, target_K)


def _plain(value: Any) -> Any:
    """Nested dataclasses as dictionaries; Quantities as they write themselves; posterior draws left out."""
    if isinstance(value, Quantity):
        return value.to_dict()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {k: _plain(getattr(value, k)) for k in value.__dataclass_fields__ if not k.startswith("draws_")}
    return str(value) if isinstance(value, Status) else value
