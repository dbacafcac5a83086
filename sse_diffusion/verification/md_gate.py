"""The short molecular-dynamics gate: does the ion move at 1000 K within a few ps while the framework stays?

A yes/no screen with a rough diffusivity, not a conductivity. Protocol: compact supercell of 50-64 atoms, NVT at 1000 K, 2 fs,
1 ps dropped, 2 ps kept. What it can and cannot tell is written in docs/verification.md.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.atomic_files import read_json, write_json_atomically
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.verification import msd as displacement
from sse_diffusion.verification.dynamics.config import DynamicsConfig
from sse_diffusion.verification.dynamics.guards import (
    MELTED,
    MOLTEN_SHIFT,
    GuardConfig,
    framework_problem,
    framework_shift,
    neighbour_range,
)
from sse_diffusion.verification.dynamics.loop import WALL_CAP, run_dynamics
from sse_diffusion.verification.dynamics.trajectory import Trajectory
from sse_diffusion.verification.structure_files import structure_hash
from sse_diffusion.verification.supercell import Supercell, compact_supercell

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import Potential

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MDGateConfig:
    """Protocol, caps and thresholds; defaults separate LGPS and argyrodite (1 ps MSD 2.4-2.8 A^2) from LiCl (0.44 A^2).

    Attributes:
        temperature_K, timestep_fs: of the run; use 0.5 fs for cells with hydrogen.
        drop_ps, keep_ps: equilibration left out, and the part that is analysed.
        min_atoms, max_atoms, hard_max_atoms: size of the supercell, see :func:`compact_supercell`.
        max_seconds: wall cap of the whole run; a run cut by it is judged on what it has and marked ``unconverged``.
        seed: start velocities and thermostat noise.
        frame_every_fs, block_ps: time between frames, and between checkpoints.
        friction_per_ps: friction of the Langevin thermostat.
        gate_lag_ps: lag at which the MSD is compared with ``mobile_msd_A2``.
        mobile_msd_A2: least MSD of a mobile ion at that lag.
        min_hops: least number of hops of all ions together.
        hop_distance_A, hop_smoothing_ps: see :func:`sse_diffusion.verification.msd.count_hops`.
        framework_shift_max: how far the framework may be from its places at the end (:func:`framework_shift`) and still count
            as solid; beyond that the run also ends early.
        min_keep_ps: a run cut before this much was kept is not judged.
        max_temperature_factor, min_distance_A: guards, see :class:`GuardConfig`.
    """

    temperature_K: float = 1000.0
    timestep_fs: float = 2.0
    drop_ps: float = 1.0
    keep_ps: float = 2.0
    min_atoms: int = 50
    max_atoms: int = 64
    hard_max_atoms: int = 96
    max_seconds: float = 400.0
    seed: int = 0
    frame_every_fs: float = 20.0
    block_ps: float = 0.2
    friction_per_ps: float = 5.0
    gate_lag_ps: float = 1.0
    mobile_msd_A2: float = 1.0
    min_hops: int = 1
    hop_distance_A: float = 2.0
    hop_smoothing_ps: float = 0.2
    framework_shift_max: float = MOLTEN_SHIFT
    min_keep_ps: float = 0.5
    max_temperature_factor: float = 5.0
    min_distance_A: float = 0.5

    def __post_init__(self) -> None:
        """Refuse protocols that cannot be run."""
        positive = ("temperature_K", "timestep_fs", "keep_ps", "frame_every_fs", "block_ps", "gate_lag_ps", "max_seconds")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"md_gate.{name}={getattr(self, name)} is not positive", "give a positive number")
        if self.frame_every_fs < self.timestep_fs:
            raise ConfigError(
                "md_gate.frame_every_fs is shorter than md_gate.timestep_fs", "store a frame every step or less often"
            )

    def dynamics(self) -> DynamicsConfig:
        """The same protocol counted in steps."""
        frame_every = max(1, round(self.frame_every_fs / self.timestep_fs))
        to_frames = 1000.0 / (self.timestep_fs * frame_every)
        return DynamicsConfig(
            temperature_K=self.temperature_K,
            timestep_fs=self.timestep_fs,
            steps=max(1, round((self.drop_ps + self.keep_ps) * to_frames)) * frame_every,
            frame_every=frame_every,
            block_frames=max(1, round(self.block_ps * to_frames)),
            friction_per_ps=self.friction_per_ps,
            seeds=(self.seed,),
            max_seconds=self.max_seconds,
            guards=GuardConfig(
                max_temperature_factor=self.max_temperature_factor,
                min_distance_A=self.min_distance_A,
                framework_shift=self.framework_shift_max,
                framework_from_ps=self.drop_ps,
            ),
        )


@dataclass(frozen=True)
class MDGateResult:
    """What the gate found.

    Attributes:
        mobile: the verdict; ``None`` when the run cannot be judged.
        status: ``ok``; ``unconverged`` when the wall cap cut the run; ``failed`` when it went wrong.
        reason: why not mobile, or why the status is not ``ok``.
        mobile_ion: element symbol.
        msd_A2, framework_msd_A2: MSD of the ion and of the framework at ``gate_lag_ps``; turning groups raise the latter.
        framework_shift: of the framework from its places, between the first and the last block kept.
        hops: jumps of more than the hop distance, all ions together.
        diffusivity: tracer diffusivity at the run's temperature; an upper bound when the ion is immobile.
        times_ps, msd_mobile_A2, msd_framework_A2: the MSD curves (lag, values), up to 3/4 of the kept time.
        lindemann: framework's Lindemann index (for information; rotating groups make it large without melting).
        n_atoms: atoms of the supercell.
        kept_ps: analysed time.
        temperature_mean_K: mean over the kept frames.
        seconds: wall time.
        provenance: engine, protocol, supercell.
    """

    mobile: bool | None
    status: Status
    reason: str
    mobile_ion: str
    msd_A2: float = float("nan")
    framework_msd_A2: float = float("nan")
    framework_shift: float = float("nan")
    hops: int = 0
    diffusivity: Quantity = field(default_factory=lambda: Quantity.failed("not computed", unit="cm^2/s"))
    times_ps: list[float] = field(default_factory=list)
    msd_mobile_A2: list[float] = field(default_factory=list)
    msd_framework_A2: list[float] = field(default_factory=list)
    lindemann: float = float("nan")
    n_atoms: int = 0
    kept_ps: float = 0.0
    temperature_mean_K: float = float("nan")
    seconds: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON (``NaN`` becomes ``None`` when written)."""
        return {**asdict(self), "status": str(self.status), "diffusivity": self.diffusivity.to_dict()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> MDGateResult:
        """Inverse of :meth:`to_dict`."""
        values = {f.name: record[f.name] for f in fields(cls)}
        for name in ("msd_A2", "framework_msd_A2", "framework_shift", "lindemann", "temperature_mean_K"):
            values[name] = float("nan") if values[name] is None else values[name]
        values["diffusivity"] = Quantity.from_dict(values["diffusivity"])
        return cls(**{**values, "status": Status(values["status"])})


def md_gate(
    structure: Structure, mobile_ion: str, potential: Potential, config: MDGateConfig, out_dir: str | Path
) -> MDGateResult:
    """Run the gate on a relaxed crystal, or return the finished result in ``out_dir``.

    ``out_dir`` gets ``md.json`` (the result) and ``replica_<seed>/`` (the trajectory, which is also the checkpoint).

    Args:
        structure: ordered, relaxed crystal.
        mobile_ion: element symbol of the ion that should move.
        potential: engine.
        config: protocol.
        out_dir: folder of this run; an interrupted run in it is continued.

    Raises:
        OutputError: ``out_dir`` cannot be written.
    """
    folder = Path(out_dir)
    identity = {
        "structure": structure_hash(structure),
        "ion": mobile_ion,
        "engine": [potential.info.name, potential.info.version],
        "config": asdict(config),
    }
    key = hash_of_config(identity)
    record = read_json(folder / "md.json")
    if record is not None and record.get("key") == key:
        return MDGateResult.from_dict(record)
    result = _run(structure, mobile_ion, potential, config, folder)
    write_json_atomically(folder / "md.json", {"key": key, **result.to_dict()})
    return result


def _run(structure: Structure, ion: str, potential: Potential, config: MDGateConfig, folder: Path) -> MDGateResult:
    """Supercell, dynamics, analysis."""
    symbols = {s.symbol for s in structure.composition.elements}
    if ion not in symbols:
        return MDGateResult(None, Status.FAILED, f"there is no {ion} in {structure.composition.reduced_formula}", ion)
    supercell = compact_supercell(structure, config.min_atoms, config.max_atoms, config.hard_max_atoms)
    atoms = supercell.structure.to_ase_atoms(msonable=False)
    label = f"md {structure.composition.reduced_formula}"
    trajectory = run_dynamics(atoms, potential, config.dynamics(), folder, ion, label=label)[0]
    return _judge(trajectory, atoms, trajectory.symbols == ion, ion, supercell, potential, config)


def _judge(
    trajectory: Trajectory,
    atoms: Atoms,
    mobile: np.ndarray,
    ion: str,
    supercell: Supercell,
    potential: Potential,
    config: MDGateConfig,
) -> MDGateResult:
    """Turn a trajectory into a verdict."""
    frame_ps = trajectory.frame_ps
    kept = trajectory.positions_A[round(config.drop_ps / frame_ps) :].astype(np.float64)
    kept_ps = max(0.0, (len(kept) - 1) * frame_ps)
    provenance = {
        "engine": potential.info.name,
        "engine_version": potential.info.version,
        "energy_scheme": potential.info.energy_scheme,
        "cells": supercell.multiple,
        "shortest_image_A": round(supercell.shortest_image_A, 3),
        "steps": round(trajectory.duration_ps * 1000.0 / config.timestep_fs),
        **{k: getattr(config, k) for k in ("temperature_K", "timestep_fs", "drop_ps", "keep_ps", "seed", "gate_lag_ps")},
    }
    base = MDGateResult(
        None,
        Status.FAILED,
        trajectory.stopped,
        ion,
        n_atoms=len(atoms),
        kept_ps=round(kept_ps, 4),
        seconds=trajectory.seconds,
        provenance=provenance,
    )
    melted, cut = trajectory.stopped.startswith(MELTED), trajectory.stopped.startswith(WALL_CAP)
    if trajectory.stopped and not (melted or cut):
        return replace(base, diffusivity=Quantity.failed(trajectory.stopped, unit="cm^2/s"))
    if kept_ps < min(config.min_keep_ps, config.keep_ps) and not melted:
        reason = f"{trajectory.stopped}; {kept_ps:.2f} ps kept are too few to judge (at least {config.min_keep_ps:g} ps)"
        return replace(base, status=Status.UNCONVERGED, reason=reason, diffusivity=Quantity.failed(reason, unit="cm^2/s"))
    curves = _curves(kept, atoms, mobile, frame_ps, trajectory, config)
    return _verdict(replace(base, **curves.values), curves, trajectory, config, cut)


@dataclass(frozen=True)
class _Curves:
    """Analysis of the kept frames: fields of the result, and what the verdict needs besides."""

    values: dict[str, Any]
    per_ion: np.ndarray
    lag_ps: float
    frame_ps: float


def _curves(
    kept: np.ndarray, atoms: Atoms, mobile: np.ndarray, frame_ps: float, trajectory: Trajectory, config: MDGateConfig
) -> _Curves:
    """MSD curves, hops, Lindemann index and mean temperature."""
    relative = displacement.relative_to_framework(kept, atoms.get_masses(), ~mobile)
    per_atom = displacement.msd_per_atom(relative)
    shown = max(2, round(0.75 * len(kept)))
    lag = min(round(config.gate_lag_ps / frame_ps), shown - 1)
    ion_curve = per_atom[:, mobile].mean(axis=1)
    framework_curve = per_atom[:, ~mobile].mean(axis=1) if not mobile.all() else np.zeros(len(per_atom))
    smoothing = max(1, round(config.hop_smoothing_ps / frame_ps))
    hops = displacement.count_hops(relative[:, mobile], smoothing, config.hop_distance_A)
    spacing = neighbour_range(atoms.positions[~mobile], atoms.cell.array)[0]
    values = {
        "msd_A2": float(ion_curve[lag]),
        "framework_msd_A2": float(framework_curve[lag]),
        "framework_shift": _framework_shift(kept, atoms, mobile, max(1, round(config.block_ps / frame_ps))),
        "hops": int(hops.sum()),
        "times_ps": [round(k * frame_ps, 6) for k in range(shown)],
        "msd_mobile_A2": [round(float(v), 5) for v in ion_curve[:shown]],
        "msd_framework_A2": [round(float(v), 5) for v in framework_curve[:shown]],
        "lindemann": displacement.lindemann_index(relative[:, ~mobile], spacing) if np.isfinite(spacing) else float("nan"),
        "temperature_mean_K": float(np.mean(trajectory.temperature_K[-len(kept) :])),
    }
    return _Curves(values, per_atom[:, mobile], lag * frame_ps, frame_ps)


def _framework_shift(kept: np.ndarray, atoms: Atoms, mobile: np.ndarray, block: int) -> float:
    """From the first to the last ``block`` frames; 0 where all atoms are mobile."""
    if mobile.all():
        return 0.0
    first, last = kept[:block].mean(axis=0), kept[-block:].mean(axis=0)
    return framework_shift(first, last, atoms.cell.array, atoms.get_masses(), atoms.get_atomic_numbers(), ~mobile)


def _verdict(base: MDGateResult, curves: _Curves, trajectory: Trajectory, config: MDGateConfig, cut: bool) -> MDGateResult:
    """Mobile = MSD above threshold, at least ``min_hops`` hops, framework intact; each failure is named."""
    against = []
    if trajectory.stopped.startswith(MELTED):
        against.append(trajectory.stopped)
    elif problem := framework_problem(config.framework_shift_max, base.framework_shift):
        against.append(problem)
    solid = not against
    if base.msd_A2 <= config.mobile_msd_A2:
        against.append(f"MSD {base.msd_A2:.2f} A^2 after {curves.lag_ps:.2f} ps is not above {config.mobile_msd_A2:g} A^2")
    if base.hops < config.min_hops:
        against.append(f"{base.hops} hops of more than {config.hop_distance_A:g} A (at least {config.min_hops})")
    mobile = not against
    if not solid:
        quantity = Quantity.failed(against[0], unit="cm^2/s")
    elif mobile:
        quantity = displacement.diffusivity(curves.per_ion, curves.frame_ps, displacement.SlopeWindow())
        if cut and quantity.ok:
            quantity = replace(quantity, status=Status.UNCONVERGED, reason=trajectory.stopped)
    else:
        quantity = displacement.diffusivity_upper_bound(base.msd_A2, curves.lag_ps, "; ".join(against))
    quantity = replace(
        quantity, provenance={"temperature_K": config.temperature_K, "kept_ps": base.kept_ps, "n_atoms": base.n_atoms}
    )
    reasons = [*against, trajectory.stopped] if cut else against
    return replace(
        base, mobile=mobile, status=Status.UNCONVERGED if cut else Status.OK, reason="; ".join(reasons), diffusivity=quantity
    )
