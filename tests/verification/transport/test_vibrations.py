"""Spectra, Green-Kubo and anharmonicity of motions in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.verification.dynamics.trajectory import Trajectory
from sse_diffusion.verification.transport.vibrations import agrees, framework_anharmonicity, vibrational_spectrum


def trajectory(positions: np.ndarray, velocities: np.ndarray, symbols: list[str], frame_ps: float = 0.02) -> Trajectory:
    frames = len(positions)
    return Trajectory(
        np.array(symbols), np.array([6.9 if s == "Li" else 1e6 for s in symbols]), frame_ps, 500.0, positions.astype(np.float32),
        velocities.astype(np.float32), np.tile(np.eye(3) * 50, (frames, 1, 1)), np.zeros(frames), np.zeros(frames),
        np.zeros(frames), 0.0, "", {},
    )  # fmt: skip


def test_each_sublattice_shows_its_frequency():
    t = np.arange(2000) * 0.02
    rng = np.random.default_rng(0)
    waves = []
    for f in (10.0, 10.0, 4.0, 7.0):
        waves.append(np.cos(2 * np.pi * (f * t[:, None] + rng.random(3))))
    velocities = np.stack(waves, axis=1)
    found = vibrational_spectrum(trajectory(velocities, velocities, ["Li", "Li", "S", "Cl"]), "none")
    for symbol, f in (("Li", 10.0), ("Cl", 7.0), ("S", 4.0)):
        density = found.density_per_THz[symbol]
        assert density.sum() * found.frequency_THz[1] == pytest.approx(1.0)
        assert found.frequency_THz[density.argmax()] == pytest.approx(f, abs=0.3)


def test_zero_frequency_weight_is_the_diffusivity():
    """Ornstein-Uhlenbeck velocities of variance s2 and memory tau: D = s2 tau."""
    rng = np.random.default_rng(0)
    frame, tau, s2, frames, ions = 0.02, 0.1, 50.0, 8000, 30
    keep = np.exp(-frame / tau)
    velocities = np.zeros((frames, ions, 3))
    velocities[0] = np.sqrt(s2) * rng.normal(size=(ions, 3))
    for t in range(1, frames):
        velocities[t] = keep * velocities[t - 1] + np.sqrt(s2 * (1 - keep**2)) * rng.normal(size=(ions, 3))
    with_framework = np.concatenate([velocities, np.zeros((frames, 1, 3))], axis=1)
    run = trajectory(np.cumsum(with_framework, axis=0) * frame, with_framework, ["Li"] * ions + ["S"])
    found = vibrational_spectrum(run, "Li", segment_ps=4.0).diffusivity
    # a segment of 40 memories lacks tau / segment of the weight
    assert found.value * 1e4 == pytest.approx(s2 * tau, rel=0.06) and found.uncertainty < 0.05 * found.value and found.ok
    drifting = trajectory(np.cumsum(with_framework, axis=0) * frame, with_framework + 9.0, ["Li"] * ions + ["S"])
    assert vibrational_spectrum(drifting, "Li", segment_ps=4.0).diffusivity.value == pytest.approx(found.value, rel=1e-4)
    assert agrees(found, Quantity(s2 * tau * 1e-4, 0.02 * s2 * tau * 1e-4)) and not agrees(
        found, Quantity(2 * s2 * tau * 1e-4, 1e-6)
    )
    few = vibrational_spectrum(run, "Li", segment_ps=40.0).diffusivity
    assert few.status is Status.UNCONVERGED and few.reason == "only 4 segments"
    short = vibrational_spectrum(run, "Li", drop_ps=150.0, segment_ps=20.0).diffusivity
    assert short.status is Status.FAILED and "shorter than one segment" in short.reason


def test_anharmonicity_is_zero_for_any_gaussian_and_grows_with_wells():
    rng = np.random.default_rng(0)
    frames = 4000
    mix = np.array([[1.0, 0.5, 0], [0, 0.3, 0.2], [0, 0, 2.0]])
    harmonic = 0.1 * rng.normal(size=(frames, 12, 3)) @ mix
    still = np.zeros((frames, 12, 3))
    symbols = ["S"] * 12 + ["Li"]
    ion = np.cumsum(rng.normal(size=(frames, 1, 3)), axis=0)
    run = trajectory(np.concatenate([harmonic, ion], axis=1), np.zeros((frames, 13, 3)), symbols)
    found = framework_anharmonicity(run, "Li")
    assert abs(found.value) < 4 * found.uncertainty and found.uncertainty < 0.02
    wells = harmonic + 0.3 * (rng.random((frames, 12, 1)) < 0.1)
    soft = framework_anharmonicity(trajectory(np.concatenate([wells, ion], axis=1), still.repeat(2, 1)[:, :13], symbols), "Li")
    assert soft.value > 0.1 + found.value
    assert "two framework atoms" in framework_anharmonicity(run, "S").reason
    assert framework_anharmonicity(trajectory(harmonic[:20], still[:20], ["S"] * 12), "Li").status is Status.FAILED
