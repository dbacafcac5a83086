"""The dynamics loop: the ensembles it samples, what a kill loses, guards."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K, GPa_PER_eV_PER_A3
from sse_diffusion.verification.dynamics import loop
from sse_diffusion.verification.dynamics.config import DynamicsConfig
from sse_diffusion.verification.dynamics.guards import GuardConfig
from sse_diffusion.verification.dynamics.loop import WALL_CAP, run_dynamics
from sse_diffusion.verification.dynamics.trajectory import Trajectory

FREE = GuardConfig(max_temperature_factor=99, min_distance_A=0, max_isolation_A=1e9, max_volume_factor=1e6, framework_shift=1e9)
"""No guard."""


def total_energy(one: Trajectory) -> np.ndarray:
    """Potential and kinetic energy of each frame, eV/atom."""
    return one.potential_eV / len(one.masses) + 1.5 * BOLTZMANN_eV_PER_K * one.temperature_K


def test_nve_conserves_energy(crystal, toy, tmp_path):
    config = DynamicsConfig(ensemble="nve", temperature_K=600, timestep_fs=1.0, steps=1000, frame_every=10, guards=FREE)
    one = run_dynamics(crystal, toy(crystal, k=2.0), config, tmp_path)[0]
    energy = total_energy(one)
    assert abs(np.polyfit(np.arange(len(energy)) * one.frame_ps, energy, 1)[0]) < 1e-4, "eV/atom/ps"
    assert energy.std() < 2e-4 < one.potential_eV.std() / len(crystal)


@pytest.mark.slow
def test_nvt_samples_the_canonical_ensemble(crystal, toy, tmp_path):
    """Harmonic wells: <U> = 3/2 N kT, Var U = 3/2 N (kT)^2, and the temperature is the thermostat's."""
    config = DynamicsConfig(
        temperature_K=500, timestep_fs=4.0, steps=20_000, frame_every=20, friction_per_ps=20.0, guards=FREE, block_frames=500
    )
    one = run_dynamics(crystal, toy(crystal, k=2.0), config, tmp_path)[0]
    kT, n = BOLTZMANN_eV_PER_K * 500, len(crystal)
    assert one.potential_eV[100:].mean() == pytest.approx(1.5 * n * kT, rel=0.05)
    assert one.potential_eV[100:].var() == pytest.approx(1.5 * n * kT**2, rel=0.25)
    assert one.temperature_K[100:].mean() == pytest.approx(500, rel=0.05)


@pytest.mark.slow
def test_npt_volume_of_a_harmonic_solid(crystal, toy, tmp_path):
    """exp(-(B/2 V0 (V/V0-1)^2 + PV)/kT) on a grid: springs to sites that move with the cell take no part in the volume."""
    kT, volume0, bulk = BOLTZMANN_eV_PER_K * 800, 216.0, 0.05
    config = DynamicsConfig(
        ensemble="npt", temperature_K=800, pressure_GPa=1.0, timestep_fs=4.0, steps=20_000, frame_every=10, friction_per_ps=5.0,
        barostat_ps=0.2, compressibility_per_GPa=1.0 / (bulk * GPa_PER_eV_PER_A3), guards=FREE, block_frames=4000,
    )  # fmt: skip
    volumes = run_dynamics(crystal, toy(crystal, k=2.0, bulk=bulk), config, tmp_path)[0].volumes_A3[50:]
    grid = np.linspace(100, 400, 20_000)
    log_density = -(0.5 * bulk * volume0 * (grid / volume0 - 1) ** 2 + grid / GPa_PER_eV_PER_A3) / kT
    weight = np.exp(log_density - log_density.max())
    mean = (grid * weight).sum() / weight.sum()
    sd = math.sqrt(((grid - mean) ** 2 * weight).sum() / weight.sum())
    assert volumes.mean() == pytest.approx(mean, abs=0.2 * sd) and volumes.std() == pytest.approx(sd, rel=0.15)


KILLED = """
import sys, time
sys.path[:0] = {path!r}
from conftest import ToyEngine
from ase import Atoms
import numpy as np
from sse_diffusion.verification.dynamics.config import DynamicsConfig
from sse_diffusion.verification.dynamics.loop import run_dynamics
grid = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3) * 3.0
atoms = Atoms("LiCl" * 4, positions=grid, cell=np.eye(3) * 6.0, pbc=True)
class Slow(ToyEngine):
    def evaluate(self, atoms):
        time.sleep(0.002)
        return super().evaluate(atoms)
config = DynamicsConfig(ensemble="npt", temperature_K=300, steps=600, frame_every=5, block_frames=4, seeds=(0, 1))
run_dynamics(atoms, Slow(atoms, k=2.0, bulk=0.2), config, {out!r}, "Li")
"""


def test_killed_run_loses_one_block_and_resumes_to_the_same_numbers(crystal, toy, tmp_path):
    script = KILLED.format(path=[os.path.dirname(__file__)], out=str(tmp_path / "killed"))
    process = subprocess.Popen([sys.executable, "-c", script])
    newest = tmp_path / "killed" / "replica_1" / "block_0000000200.npz"
    deadline = time.monotonic() + 60
    while not newest.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was to be killed in the middle"
    left = Trajectory.load(tmp_path / "killed" / "replica_1")
    assert 200 <= round(left.duration_ps * 500) < 600
    config = DynamicsConfig(ensemble="npt", temperature_K=300, steps=600, frame_every=5, block_frames=4, seeds=(0, 1))
    engine = toy(crystal, k=2.0, bulk=0.2)
    resumed = run_dynamics(crystal, engine, config, tmp_path / "killed", "Li")
    assert engine.calls <= 2 * (600 - 180 + 1), "it must not start over"
    whole = run_dynamics(crystal, toy(crystal, k=2.0, bulk=0.2), config, tmp_path / "whole", "Li")
    for a, b in zip(resumed, whole, strict=True):
        for name in ("positions_A", "velocities_A_per_ps", "cells_A", "potential_eV", "temperature_K", "pressure_GPa"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert len(a.positions_A) == 121 and not a.stopped


def test_replicas_step_together_and_a_damaged_block_is_computed_again(crystal, toy, tmp_path):
    config = DynamicsConfig(temperature_K=300, steps=100, frame_every=10, block_frames=2, seeds=(3, 4, 5))
    engine = toy(crystal, k=2.0)
    first = run_dynamics(crystal, engine, config, tmp_path)
    assert set(engine.batches) == {3} and len(engine.batches) == 101
    damaged = tmp_path / "replica_4" / "block_0000000060.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = run_dynamics(crystal, toy(crystal, k=2.0), config, tmp_path)
    np.testing.assert_array_equal(first[1].positions_A, again[1].positions_A)
    engine = toy(crystal, k=2.0)
    run_dynamics(crystal, engine, config, tmp_path)
    assert engine.calls == 0, "a finished run is read"
    longer = DynamicsConfig(**{**vars(config), "steps": 140})
    assert len(run_dynamics(crystal, engine, longer, tmp_path)[0].positions_A) == 15 and len(engine.batches) == 41
    other = DynamicsConfig(**{**vars(config), "temperature_K": 310.0})
    assert run_dynamics(crystal, engine, other, tmp_path)[0].target_K == 310.0, "another protocol starts over"


def test_engine_failure_stops_only_what_cannot_go_on(crystal, toy, tmp_path):
    class OneBreaks(toy):
        def _one(self, atoms):
            if abs(atoms.positions[0, 0]) > 0.16:
                raise ValueError("too far")
            return super()._one(atoms)

    config = DynamicsConfig(temperature_K=450, steps=200, frame_every=10, seeds=(0, 1, 2, 3))
    runs = run_dynamics(crystal, OneBreaks(crystal, k=4.0), config, tmp_path)
    stopped = [bool(t.stopped) for t in runs]
    assert any(stopped) and not all(stopped)
    for one in runs:
        assert ("too far" in one.stopped and len(one.positions_A) < 21) if one.stopped else len(one.positions_A) == 21


def test_wall_cap_says_so_and_a_higher_one_goes_on(crystal, toy, tmp_path):
    base = {"temperature_K": 300, "steps": 100, "frame_every": 10}
    cut = run_dynamics(crystal, toy(crystal, k=2.0), DynamicsConfig(**base, max_seconds=1e-9), tmp_path)[0]
    assert cut.stopped.startswith(WALL_CAP) and len(cut.positions_A) == 1
    done = run_dynamics(crystal, toy(crystal, k=2.0), DynamicsConfig(**base), tmp_path)[0]
    assert not done.stopped and len(done.positions_A) == 11


def test_another_start_or_engine_version_is_another_run(crystal, toy, tmp_path):
    config = DynamicsConfig(temperature_K=300, steps=20)
    run_dynamics(crystal, toy(crystal, k=2.0), config, tmp_path)
    moved = crystal.copy()
    moved.positions[0, 0] += 0.05
    engine = toy(crystal, k=2.0)
    assert run_dynamics(moved, engine, config, tmp_path)[0].positions_A[0, 0, 0] == pytest.approx(0.05) and engine.calls == 21
    newer = toy(crystal, k=2.0)
    newer.info = replace(toy.info, version="2")
    run_dynamics(moved, newer, config, tmp_path)
    assert newer.calls == 21


def test_a_stretched_crystal_has_negative_pressure(crystal, toy, tmp_path):
    stretched = crystal.copy()
    stretched.set_cell(crystal.cell * 1.02, scale_atoms=True)
    cold = DynamicsConfig(temperature_K=1.0, steps=10)
    one = run_dynamics(stretched, toy(crystal, k=2.0, bulk=0.5), cold, tmp_path)[0]
    assert one.pressure_GPa.mean() == pytest.approx(-0.5 * (1.02**3 - 1) * GPa_PER_eV_PER_A3, rel=0.01)


def test_the_start_has_no_momentum(crystal, toy, tmp_path):
    one = run_dynamics(crystal, toy(crystal, k=2.0), DynamicsConfig(temperature_K=600, steps=1, frame_every=1), tmp_path)[0]
    momenta = one.masses[:, None] * one.velocities_A_per_ps[0]
    assert np.abs(momenta.sum(axis=0)).max() < 1e-4 * np.abs(momenta).max()


def test_wall_cap_counts_all_sessions(crystal, toy, tmp_path, monkeypatch):
    """By a clock that only the engine moves: the seventh frame is the first after 0.1 s."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Slow(toy):
        def evaluate(self, atoms):
            now[0] += 0.003
            return super().evaluate(atoms)

    config = DynamicsConfig(temperature_K=300, steps=1000, frame_every=5, block_frames=2, max_seconds=0.1)
    first = run_dynamics(crystal, Slow(crystal, k=2.0), config, tmp_path)[0]
    again = Slow(crystal, k=2.0)
    second = run_dynamics(crystal, again, config, tmp_path)[0]
    assert first.seconds == pytest.approx(0.003 * 36) and again.calls == 1
    assert len(first.positions_A) == len(second.positions_A) == 8


@pytest.mark.parametrize(
    ("engine", "guards", "word"),
    [
        ({"k": -4.0}, {}, "temperature exploded"),
        ({"k": 0.0}, {"framework_shift": 0.02, "framework_from_ps": 0.02}, "framework"),
        ({"k": 2.0}, {"min_distance_A": 2.9}, "of each other"),
        ({"k": 2.0}, {"max_isolation_A": 2.9}, "evaporated"),
        ({"k": float("nan")}, {}, "not finite"),
    ],
)
def test_guards(crystal, toy, tmp_path, engine, guards, word):
    config = DynamicsConfig(temperature_K=900, steps=300, frame_every=5, block_frames=4, guards=GuardConfig(**guards))
    one = run_dynamics(crystal, toy(crystal, **engine), config, tmp_path, "Li")[0]
    assert word in one.stopped and len(one.positions_A) < 61
    again = toy(crystal, **engine)
    assert run_dynamics(crystal, again, config, tmp_path, "Li")[0].stopped == one.stopped and again.calls == 0


def test_other_guards_let_a_stopped_run_go_on(crystal, toy, tmp_path):
    config = DynamicsConfig(temperature_K=900, steps=300, frame_every=5, block_frames=4, guards=GuardConfig(min_distance_A=2.9))
    stopped = run_dynamics(crystal, toy(crystal, k=2.0), config, tmp_path / "stopped")[0]
    assert "of each other" in stopped.stopped
    engine, free = toy(crystal, k=2.0), replace(config, guards=FREE)
    gone_on = run_dynamics(crystal, engine, free, tmp_path / "stopped")[0]
    whole = run_dynamics(crystal, toy(crystal, k=2.0), free, tmp_path / "whole")[0]
    assert not gone_on.stopped and engine.calls < 301, "what was there is kept"
    np.testing.assert_array_equal(gone_on.positions_A, whole.positions_A)


def test_volume_guard(crystal, toy, tmp_path):
    config = DynamicsConfig(ensemble="npt", temperature_K=900, steps=4000, barostat_ps=0.05, compressibility_per_GPa=1.0)
    one = run_dynamics(crystal, toy(crystal), config, tmp_path)[0]
    assert "volume went to" in one.stopped


def test_mean_cell_takes_the_breathing_out(crystal, toy, tmp_path):
    config = DynamicsConfig(
        ensemble="npt", temperature_K=50, steps=400, barostat_ps=0.05, compressibility_per_GPa=0.1, guards=FREE
    )
    far = crystal.copy()
    far.positions += 600.0
    one = run_dynamics(far, toy(far, k=2.0, bulk=0.2), config, tmp_path)[0]
    raw = np.ptp(one.positions_A.mean(axis=1), axis=0).max()
    assert raw > 1.0 and np.ptp(one.in_mean_cell().mean(axis=1), axis=0).max() < 0.1
    fractional = one.positions_A[-1] @ np.linalg.inv(one.cells_A[-1])
    np.testing.assert_allclose(one.in_mean_cell()[-1] @ np.linalg.inv(one.cells_A.mean(axis=0)), fractional, atol=1e-4)


def test_exports_and_errors(crystal, toy, tmp_path):
    from ase.io import read

    one = run_dynamics(crystal, toy(crystal, k=2.0), DynamicsConfig(temperature_K=300, steps=50), tmp_path)[0]
    one.write_extxyz(tmp_path / "a.extxyz", every=2)
    frames = read(tmp_path / "a.extxyz", ":")
    assert len(frames) == 3 and frames[1].get_temperature() == pytest.approx(one.temperature_K[2], rel=1e-3)
    with pytest.raises(DataError, match="no trajectory"):
        Trajectory.load(tmp_path / "nowhere")
    for bad in ({"ensemble": "nvp"}, {"timestep_fs": 0}, {"seeds": (1, 1)}, {"friction_per_ps": 0}, {"cell_shape": "cubic"}):
        with pytest.raises(ConfigError):
            DynamicsConfig(**bad)


def test_replicas_that_were_cut_at_different_steps_go_on_together(crystal, toy, tmp_path):
    """The last frame comes after three steps, not five: a replica that is elsewhere must not be stored then."""
    config = DynamicsConfig(temperature_K=300, steps=38, frame_every=5, block_frames=2, seeds=(0, 1))
    whole = run_dynamics(crystal, toy(crystal, k=2.0), config, tmp_path)
    for seed, left in ((0, 30), (1, 10)):
        for block in (tmp_path / f"replica_{seed}").glob("block_*.npz"):
            if int(block.stem[-4:]) > left:
                block.unlink()
    engine = toy(crystal, k=2.0)
    again = run_dynamics(crystal, engine, config, tmp_path)
    assert set(engine.batches) == {2} and len(engine.batches) == 38 - 10 + 1
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a.positions_A, b.positions_A)
