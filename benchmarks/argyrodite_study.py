"""Full study of one argyrodite: sigma(300 K) of ordered Li6PS5Cl from molecular dynamics at three temperatures with replicas.

    python benchmarks/argyrodite_study.py out=runs/argyrodite rounds=10,20,40

Every round runs all temperatures and replicas to that many kept ps and writes ``results/argyrodite_study.json`` and the figure,
so that a complete answer exists early and gets better. Ended at any moment, the same command goes on. One core, CHGNet, 52
atoms: 0.06-0.07 s per step and replica; 3 temperatures x 2 replicas x (5 + 40) ps are 135,000 steps, two and a half hours. Hotter
than 700 K is no option: CHGNet's framework melts at 800 K after 19 and 33 ps, at 1000 K after 10.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, machine, options

from sse_diffusion.core.atomic_files import read_json, standard_json, write_json_atomically

EXPERIMENT_S_PER_CM = 3.15e-3
"""Li6PS5Cl at room temperature, the value the project compares with."""


def argyrodite() -> Any:
    """Ordered Li6PS5Cl, 52 atoms: F-43m, a = 9.859 A (Deiseroth et al., Angew. Chem. 47, 755 (2008); Kraft et al., JACS 139,
    10909 (2017)), no S/Cl exchange, lithium on 24g, the middle of each half-filled 48h pair."""
    from pymatgen.core import Lattice, Structure

    sites = {"Cl": (0, 0, 0), "P": (0, 0, 0.5), "S": (0.25, 0.25, 0.75), "S2": (0.119, -0.119, 0.619), "Li": (0.25, 0.25, -0.024)}
    species = [name.rstrip("2") for name in sites]
    return Structure.from_spacegroup("F-43m", Lattice.cubic(9.859), species, list(sites.values()))


def relaxed(folder: Path, potential: Any) -> Any:
    """The crystal after a free-cell relaxation with the engine; kept in ``folder``."""
    from pymatgen.core import Structure

    from sse_diffusion.verification.relax import RelaxConfig, relax

    path = folder / "relaxed.json"
    record = read_json(path)
    if record is None:
        result = relax(argyrodite(), potential, RelaxConfig(fmax_eV_per_A=0.05, max_steps=150, max_seconds=600))
        record = standard_json(result.structure.as_dict())
        write_json_atomically(path, record)
    return Structure.from_dict(record)


def jumps_and_pathways(folder: Path, temperature_K: float, drop_ps: float) -> dict[str, Any]:
    """Jump statistics of the first replica at one temperature, and its ion density as ``pathways.cube`` beside it."""
    from sse_diffusion.verification.dynamics.trajectory import Trajectory
    from sse_diffusion.verification.transport.jumps import density_sites, jump_statistics
    from sse_diffusion.verification.transport.paths import IonPaths
    from sse_diffusion.verification.transport.pathways import write_pathways

    run = Trajectory.load(folder / f"T{temperature_K:g}" / "replica_0")
    write_pathways(run, "Li", folder / f"T{temperature_K:g}" / "pathways.cube", drop_ps)
    paths, cell = IonPaths.of(run, "Li", drop_ps), run.cells_A[round(drop_ps / run.frame_ps) :].mean(axis=0)
    sites = density_sites(paths.positions_A, cell)
    found = jump_statistics(paths.positions_A, cell, sites, paths.frame_ps)
    return {
        "temperature_K": temperature_K,
        "sites": len(sites),
        "jumps": found.jumps,
        "residence_ps": found.residence_ps.to_dict(),
        "jump_length_A": [round(float(q), 3) for q in np.quantile(found.lengths_A, (0.1, 0.5, 0.9))] if found.jumps else [],
        "occupancy": [round(float(o), 3) for o in sorted(found.occupancy, reverse=True)],
    }


def write_result(result: Any, keep_ps: float, relaxed_a: float, jumps: dict[str, Any]) -> None:
    """JSON and figure."""
    record = {
        "jumps": jumps,
        "crystal": "Li6PS5Cl, F-43m, ordered, 52 atoms",
        "kept_ps_per_run": keep_ps,
        "relaxed_cell_edge_A": relaxed_a,
        "experiment_S_per_cm": EXPERIMENT_S_PER_CM,
        **standard_json(result.to_dict()),
        **machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "argyrodite_study.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(result)


def draw(result: Any) -> None:
    """Arrhenius plot: sigma T of every run, the posterior band, the experiment at 300 K."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from sse_diffusion.core.results import Status
    from sse_diffusion.verification.transport.conductivity import conductivity_factor

    figure, axes = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
    charge = result.provenance["charge"]
    density = float(np.mean([r["ions_per_A3"] for p in result.points for r in p.replicas]))
    for name, fit, colour in (("tracer", result.tracer_fit, "C0"), ("collective", result.collective_fit, "C1")):
        for point in result.points:
            factor = conductivity_factor(density, charge, point.temperature_K) * point.temperature_K
            for run in point.replicas:
                one = run[name]
                if one.status is Status.FAILED:
                    continue
                only_limits = one.status is Status.UPPER_BOUND or one.provenance.get("subdiffusive")
                marker = "v" if only_limits else "o"
                low, high = (one.value, one.value) if only_limits else one.provenance["interval_95"]
                errors = [[factor * max(0.0, one.value - low)], [factor * max(0.0, high - one.value)]]
                axes.errorbar(1000 / point.temperature_K, factor * one.value, errors, fmt=marker, color=colour, ms=4, capsize=2)
        if fit.status is not Status.FAILED:
            grid = np.linspace(min(280.0, *fit.temperatures_K), max(fit.temperatures_K) * 1.03, 60)
            values = [fit.conductivity(t, density, charge) for t in grid]
            bands = np.array([v.provenance["interval_95"] for v in values]) * grid[:, None]
            axes.fill_between(1000 / grid, *bands.T, color=colour, alpha=0.2, lw=0)
            label = "Nernst-Einstein (tracer)" if name == "tracer" else "collective"
            axes.plot(1000 / grid, [v.value * t for v, t in zip(values, grid, strict=True)], color=colour, label=label)
    axes.plot(1000 / 300, EXPERIMENT_S_PER_CM * 300, "k*", ms=10, label="experiment, 300 K")
    axes.set(yscale="log", xlabel="1000 / T  (1/K)", ylabel="sigma T  (S K / cm)", title="Li6PS5Cl (ordered), CHGNet 0.3.0")
    axes.legend(fontsize=8)
    folder = Path(__file__).parents[1] / "docs" / "figures"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "argyrodite_arrhenius.png", dpi=150)
    plt.close(figure)


def main() -> None:
    """``key=value`` options: out, rounds (kept ps), temperatures, replicas, ensemble, drop_ps."""
    import torch

    from sse_diffusion.verification.potential import load_potential
    from sse_diffusion.verification.transport.study import TransportConfig, run_transport

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    given = options(
        sys.argv[1:],
        out="runs/argyrodite",
        rounds="10,20,40",
        temperatures="700,600,500",
        replicas=2,
        ensemble="npt",
        drop_ps="5",
    )
    folder = Path(given["out"])
    potential = load_potential({"name": "chgnet"})
    crystal = relaxed(folder, potential)
    edge = round(crystal.volume ** (1 / 3), 4)
    logging.info("relaxed cell edge (V^1/3): %.3f A", edge)
    for keep_ps in (float(text) for text in given["rounds"].split(",")):
        config = TransportConfig(
            temperatures_K=tuple(float(t) for t in given["temperatures"].split(",")),
            replicas=given["replicas"],
            ensemble=given["ensemble"],
            drop_ps=float(given["drop_ps"]),
            keep_ps=keep_ps,
        )
        result = run_transport(crystal, "Li", potential, config, folder)
        write_result(result, keep_ps, edge, jumps_and_pathways(folder, max(config.temperatures_K), config.drop_ps))
        sigma, energy = result.conductivity_target, result.tracer_fit.activation_energy_eV
        logging.info("%g ps kept: sigma(300 K) %.3g S/cm %s, E_a %.3f eV", keep_ps, sigma.value, sigma.provenance, energy.value)


if __name__ == "__main__":
    main()
