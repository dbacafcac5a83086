"""Transport analysis against known answers: random walks, lattice gases, an Arrhenius toy, NPT closed forms, NVE drift.

    python benchmarks/transport.py walks=200 repeats=60 runs=200

Writes ``results/transport.json``; about ten minutes on one idle core. Every coverage is k of n with its Wilson 95 % interval.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import options, write
from tqdm import tqdm

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K
from sse_diffusion.testing.walkers import CORRELATION_FACTORS, brownian, cosine_diffusivity, cosine_ions, vacancy_lattice_gas
from sse_diffusion.verification.metrics.rates import wilson
from sse_diffusion.verification.transport.arrhenius import fit_arrhenius
from sse_diffusion.verification.transport.conductivity import conductivity_factor
from sse_diffusion.verification.transport.diffusivity import diffusivity
from sse_diffusion.verification.transport.kinisi_fit import diffusivity_by_kinisi
from sse_diffusion.verification.transport.paths import IonPaths
from sse_diffusion.verification.transport.regime import Regime, RegimeConfig, diffusive_regime

PER_PS = RegimeConfig(hop_smoothing_ps=1.0)
"""Frames of 1 ps need no further smoothing."""


def rate(hits: int, of: int) -> dict[str, Any]:
    """k of n with the Wilson interval."""
    low, high = wilson(hits, of)
    return {"k": hits, "n": of, "rate": round(hits / of, 4), "interval_95": [round(low, 4), round(high, 4)]}


def walks(number: int, kinisi_number: int) -> dict[str, Any]:
    """Tracer and collective diffusivity of walks with D = 0.1 A^2/ps: mean, scatter against error bar, coverage.

    A collective path is one where the tracer has 24: four times as many walks, so that its mean is known to half a per cent.
    """
    record = {}
    kinds: dict[str, dict[str, Any]] = {
        "pure": {},
        "vibrating": {"vibration": 0.5},
        "rattling_in_a_cage": {"vibration": 0.5, "memory": 0.8},
        "rattling_in_a_stiff_wide_cage": {"vibration": 0.8, "memory": 0.6},
        "in_groups_of_3": {"together": 3},
    }
    wanted = [(f"{what}_{kind}", kind) for what in ("tracer", "collective") for kind in kinds] + [("kinisi_tracer", "pure")]
    for name, key in wanted:
        kind = {"ions": 24, **kinds[key]}
        collective = name.startswith("collective")
        n = kinisi_number if name.startswith("kinisi") else 4 * number if collective else number
        true = 1e-5 * (kind.get("together", 1) if collective else 1)
        found = []
        for seed in tqdm(range(n), desc=name, leave=False, mininterval=5):
            paths = IonPaths(brownian(np.random.default_rng(seed), 500, diffusivity=0.1, **kind), 1.0, 1e3, 1000.0)
            regime = diffusive_regime(paths, PER_PS)
            estimate: Callable[[IonPaths, Regime], Quantity] = diffusivity_by_kinisi if name.startswith("kinisi") else diffusivity
            found.append(estimate(paths.collective if collective else paths, regime))
        numbers = [q for q in found if q.status is not Status.UPPER_BOUND]
        bounds = [q for q in found if q.status is Status.UPPER_BOUND]
        values, errors = np.array([[q.value, q.uncertainty] for q in numbers]).T / true
        intervals = [q.provenance["interval_95"] for q in numbers] + [(0.0, q.value) for q in bounds]
        inside = sum(low < true < high for low, high in intervals)
        record[name] = {
            "mean_over_true": round(float(values.mean()), 4),
            "standard_error": round(float(values.std(ddof=1) / math.sqrt(len(values))), 4),
            "scatter": round(float(values.std(ddof=1)), 4),
            "mean_error_bar": round(float(errors.mean()), 4),
            "upper_bounds": len(bounds),
            "coverage": rate(inside, n),
        }
    return record


def lattice_gases(runs: int) -> dict[str, Any]:
    """Tracer correlation factors of single vacancies by this package's tracer analysis."""
    record = {}
    for lattice, cells in (("sc", 10), ("bcc", 8), ("fcc", 6)):
        path, uncorrelated = vacancy_lattice_gas(np.random.default_rng(0), lattice, cells, runs, 24)
        paths = IonPaths(path.astype(np.float64), 1.0, 1e3, 1000.0)
        found = diffusivity(paths, diffusive_regime(paths, PER_PS))
        factor, error = (x * 1e4 / uncorrelated for x in (found.value, found.uncertainty))
        known = CORRELATION_FACTORS[lattice]
        record[lattice] = {
            "sites": cells**3 * {"sc": 1, "bcc": 2, "fcc": 4}[lattice],
            "factor": round(factor, 4),
            "error": round(error, 4),
            "known": known,
            "deviation": round(factor / known - 1.0, 4),
        }
    return record


def arrhenius(repeats: int) -> dict[str, Any]:
    """Overdamped ions in a cosine potential at 600, 800 and 1000 K, two replicas each: do the intervals hold the exact answers?

    The exact D is not quite Arrhenius. E_a is compared with the slope of the exact ln D at the three temperatures, sigma(300 K)
    with the exact diffusivity at 300 K, so that the extrapolation's own error counts.
    """
    temperatures = np.array([600.0, 800.0, 1000.0])
    kT = BOLTZMANN_eV_PER_K * temperatures
    exact = [math.log(cosine_diffusivity(float(x))) for x in kT]
    energy = -float(np.polyfit(1.0 / kT, exact, 1)[0])
    density = 0.02
    sigma = conductivity_factor(density, 1, 300.0) * cosine_diffusivity(BOLTZMANN_eV_PER_K * 300.0) * 1e-4
    runs = np.tile(np.repeat(kT, 2), repeats)
    path = cosine_ions(np.random.default_rng(0), runs, ions=12, frames=500, every=200)
    hits_energy = hits_sigma = bent = 0
    ratios = []
    for repeat in tqdm(range(repeats), desc="arrhenius", leave=False):
        points = []
        for run in range(6 * repeat, 6 * repeat + 6):
            paths = IonPaths(path[:, run].astype(np.float64), 10.0, 1e3, float(runs[run] / BOLTZMANN_eV_PER_K))
            points.append(diffusivity(paths, diffusive_regime(paths, RegimeConfig(hop_smoothing_ps=10.0))))
        fit = fit_arrhenius(points)
        if fit.status is Status.FAILED:
            continue
        at_300 = fit.conductivity(300.0, density, 1)
        low, high = fit.activation_energy_eV.provenance["interval_95"]
        hits_energy += low < energy < high
        low, high = at_300.provenance["interval_95"]
        hits_sigma += low < sigma < high
        ratios.append((at_300.value / sigma, high / low))
        bent += fit.non_arrhenius
    ratio, width = np.median(np.array(ratios), axis=0)
    return {
        "exact_E_a_eV": round(energy, 4),
        "exact_sigma_300K_S_per_cm": sigma,
        "E_a_coverage": rate(hits_energy, repeats),
        "sigma_300K_coverage": rate(hits_sigma, repeats),
        "sigma_300K_median_over_exact": round(float(ratio), 3),
        "sigma_300K_interval_high_over_low": round(float(width), 2),
        "called_non_arrhenius": rate(bent, repeats),
    }


def barostat(steps: int = 60_000) -> dict[str, Any]:
    """Ideal gas: <V> = (N + 1) kT / P, standard deviation sqrt(N + 1) kT / P."""
    from sse_diffusion.verification.dynamics.integrator import cell_deformation

    n, kT, pressure = 15, 0.05, 0.001
    cell, rng, volumes = np.eye(3) * ((n + 1) * kT / pressure) ** (1 / 3), np.random.default_rng(1), np.empty(steps)
    for step in tqdm(range(steps), desc="barostat", leave=False):
        noise = rng.standard_normal((3, 3))
        cell = cell @ cell_deformation(cell, np.zeros((3, 3)), n, 0.02, kT, pressure, 1.0 / pressure, 1.0, True, noise)
        volumes[step] = np.linalg.det(cell)
    return {
        "mean_over_exact": round(float(volumes.mean() / ((n + 1) * kT / pressure)), 4),
        "sd_over_exact": round(float(volumes.std() / (math.sqrt(n + 1) * kT / pressure)), 4),
    }


def nve_drift(steps: int = 1500) -> dict[str, Any]:
    """Energy drift of the loop with CHGNet on LiCl (64 atoms, 600 K, 1 fs)."""
    from ase.build import bulk

    from sse_diffusion.verification.dynamics.config import DynamicsConfig
    from sse_diffusion.verification.dynamics.loop import run_dynamics
    from sse_diffusion.verification.potential import load_potential

    atoms = bulk("LiCl", "rocksalt", a=5.13, cubic=True).repeat((2, 2, 2))
    config = DynamicsConfig(ensemble="nve", temperature_K=600, timestep_fs=1.0, steps=steps, frame_every=10)
    with tempfile.TemporaryDirectory() as folder:
        run = run_dynamics(atoms, load_potential({"name": "chgnet"}), config, Path(folder))[0]
    energy = run.potential_eV / len(atoms) + 1.5 * BOLTZMANN_eV_PER_K * run.temperature_K
    slope = np.polyfit(np.arange(len(energy)) * run.frame_ps, energy, 1)[0]
    return {"drift_meV_per_atom_per_ps": round(float(slope) * 1e3, 4), "sd_meV_per_atom": round(float(energy.std()) * 1e3, 4)}


def main() -> None:
    """``key=value`` options: walks, kinisi (walks), runs (lattice gas), repeats (Arrhenius), chgnet (steps; 0 leaves it out)."""
    given = options(sys.argv[1:], walks=200, kinisi=60, runs=200, repeats=60, chgnet=1500)
    started = time.monotonic()
    record: dict[str, Any] = {"protocol": {**given, "frames": 500, "ions": 24, "D_A2_per_ps": 0.1}}
    record["random_walks"] = walks(given["walks"], given["kinisi"])
    record["lattice_gas"] = lattice_gases(given["runs"])
    record["arrhenius_toy"] = arrhenius(given["repeats"])
    record["ideal_gas_npt"] = barostat()
    if given["chgnet"]:
        record["nve_chgnet"] = nve_drift(given["chgnet"])
    write("transport", {**record, "seconds": round(time.monotonic() - started, 1)}, speed=False)


if __name__ == "__main__":
    main()
