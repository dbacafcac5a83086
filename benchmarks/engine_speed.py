"""Fused CHGNet against the stock calculator, per molecular-dynamics step: CPU time, alternating, in one run.

    python benchmarks/engine_speed.py [rounds=7] [steps=4]

LGPS-50: tetragonal Li10GeP2S12 (Kamaya et al., Nat. Mater. 10, 682 (2011)), partial occupancies settled by a fixed rule.
LLZO-96: tetragonal Li7La3Zr2O12 (Awaka et al., J. Solid State Chem. 182, 2046 (2009)), primitive cell.
Every variant follows the same velocity-Verlet trajectory (1 fs, 600 K start) from the same state in each round; variants
alternate within a round. Writes ``results/engine_speed.json``: median CPU ms per step, ratios, and the largest difference of
forces to the stock calculator on the last frame.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from measure import one_core, options, write
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from sse_diffusion.verification.engines.chgnet import ChgnetConfig, ChgnetEngine


def lgps() -> Atoms:
    """Li10GeP2S12 in the 50-atom tetragonal cell (P4_2/nmc framework, ordered by hand)."""
    cell = Lattice.tetragonal(8.717, 12.634)
    framework = Structure.from_spacegroup(
        137, cell, ["S", "S", "S", "P"],
        [[0, 0.184, 0.408], [0, 0.296, 0.0967], [0, 0.698, 0.7894], [0, 0, 0.5]],
    )  # fmt: skip
    mixed = Structure.from_spacegroup(137, cell, ["P"], [[0, 0.5, 0.691]])
    lithium = Structure.from_spacegroup(
        137, cell, ["Li", "Li", "Li"], [[0.257, 0.272, 0.183], [0, 0.5, 0.944], [0.247, 0.247, 0.0]]
    )
    species = [s.specie.symbol for s in framework] + ["Ge", "P", "P", "Ge"][: len(mixed)]
    base = Structure(cell, species, [*framework.frac_coords, *mixed.frac_coords])
    # Farthest-point filling: each lithium goes to the published site farthest from all atoms so far.
    for _ in range(20):
        free = cell.get_all_distances(lithium.frac_coords, base.frac_coords).min(axis=1)
        base.append("Li", lithium.frac_coords[int(free.argmax())])
    return AseAtomsAdaptor.get_atoms(base, msonable=False)


def llzo() -> Atoms:
    """Tetragonal Li7La3Zr2O12, I4_1/acd, 96 atoms in the primitive cell."""
    cell = Lattice.tetragonal(13.134, 12.663)
    species = ["Li", "Li", "Li", "La", "La", "Zr", "O", "O", "O"]
    sites = [[0, 0.25, 0.375], [0.1813, 0.4313, 0.125], [0.0796, 0.0863, 0.8099], [0, 0.25, 0.125], [0.1270, 0, 0.25],
             [0, 0, 0], [-0.0335, 0.0546, 0.1528], [0.0534, 0.8521, 0.5341], [0.1498, 0.0282, 0.4458]]  # fmt: skip
    # Published for origin choice 2; the operations used here are those of choice 1.
    structure = Structure.from_spacegroup(142, cell, species, np.array(sites) + [0, -0.25, 0.125]).get_primitive_structure()
    return AseAtomsAdaptor.get_atoms(structure, msonable=False)


def stock() -> Calculator:
    """The calculator that ships with CHGNet, as its users call it."""
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator

    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNetCalculator(model=CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")


def cpu_ms_per_step(start: Atoms, calculator: Calculator, steps: int) -> tuple[float, np.ndarray]:
    """CPU time of one step of a fresh trajectory, and the forces at its end."""
    atoms = start.copy()
    atoms.calc = calculator
    atoms.get_forces()
    dynamics = VelocityVerlet(atoms, timestep=1.0 * units.fs)
    begin = time.process_time()
    dynamics.run(steps)
    return 1e3 * (time.process_time() - begin) / steps, atoms.get_forces()


def main() -> None:
    """Alternate the three variants on both crystals."""
    given = options(sys.argv[1:], rounds="7", steps="4")
    one_core()
    fresh, kept = ChgnetEngine(ChgnetConfig(skin_A=0.0)), ChgnetEngine(ChgnetConfig())
    variants = {"stock": stock(), "fused": fresh.calculator(), "fused_list_reuse": kept.calculator()}
    result: dict[str, Any] = {"rounds": int(given["rounds"]), "steps": int(given["steps"])}
    for name, atoms in (("LGPS", lgps()), ("LLZO", llzo())):
        MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(0))
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        forces: dict[str, np.ndarray] = {}
        for _ in range(int(given["rounds"])):
            for variant, calculator in variants.items():
                spent, forces[variant] = cpu_ms_per_step(atoms, calculator, int(given["steps"]))
                times[variant].append(spent)
        median = {variant: float(np.median(values)) for variant, values in times.items()}
        result[f"{name}-{len(atoms)}"] = {
            "cpu_ms_per_step": {v: round(t, 1) for v, t in median.items()},
            "speedup": {v: round(median["stock"] / t, 2) for v, t in median.items()},
            "max_force_difference_eV_per_A": {v: float(np.abs(f - forces["stock"]).max()) for v, f in forces.items()},
            "largest_force_eV_per_A": float(np.abs(forces["stock"]).max()),
        }
    write("engine_speed", result, speed=False)


if __name__ == "__main__":
    main()
