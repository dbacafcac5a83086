"""Relaxations in company against one after the other, on one core: CPU time, alternating, in one run.

    python benchmarks/relax_together.py [table=../shared/data/structures/mp_structures.parquet] [n=24] [rounds=3]

Lithium crystals of the table with 4-12 atoms, every atom moved by normal noise of 0.02 A, CHGNet, at most 30 steps. Variants
differ in how many candidates are in hand at a time and in how many atoms the engine takes at once. Writes
``results/relax_together.json``: median CPU seconds, ratios to one after the other, and the largest difference of final energies.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from measure import one_core, options, write
from pymatgen.core import Lattice, Structure

from sse_diffusion.verification.engines.chgnet import ChgnetConfig, ChgnetEngine
from sse_diffusion.verification.relax import RelaxConfig, relax_together

VARIANTS = {
    "alone": (1, 0),
    "8 together, 60 atoms": (8, 60),
    "16 together, 120 atoms": (16, 120),
    "24 together, 200 atoms": (24, 200),
}
"""Name -> candidates in hand, atoms per batch of the engine."""


def crystals(table: str, n: int) -> list[Structure]:
    """Rattled lithium crystals."""
    import pandas as pd

    rows = pd.read_parquet(table)
    rows = rows[rows.chemsys.str.split("-").apply(lambda symbols: "Li" in symbols) & rows.nsites.between(4, 12)].sample(
        n, random_state=0
    )
    rng = np.random.default_rng(0)
    made = []
    for row in rows.itertuples():
        cell = Lattice.from_parameters(row.a, row.b, row.c, row.alpha, row.beta, row.gamma)
        positions = np.reshape(row.frac_coords, (-1, 3)) @ cell.matrix
        noise = rng.normal(0, 0.02, positions.shape)
        made.append(Structure(cell, list(row.atomic_numbers), positions + noise, coords_are_cartesian=True))
    return made


def main() -> None:
    """``key=value`` options: table, n, rounds."""
    one_core()
    given = options(sys.argv[1:], table="../shared/data/structures/mp_structures.parquet", n=24, rounds=3)
    structures = crystals(given["table"], given["n"])
    config = RelaxConfig(max_steps=30, max_seconds=600)
    engines = {name: ChgnetEngine(ChgnetConfig(batch_atoms=atoms)) for name, (_, atoms) in VARIANTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    energies: dict[str, np.ndarray] = {}
    for _ in range(given["rounds"]):
        for name, (together, _) in VARIANTS.items():
            started = time.process_time()
            found = dict(relax_together(structures, engines[name], config, together))
            seconds[name].append(time.process_time() - started)
            energies[name] = np.array([found[i].energy_eV_per_atom.value for i in range(len(structures))])
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    record: dict[str, Any] = {
        "crystals": len(structures),
        "atoms": sum(len(s) for s in structures),
        "rounds": given["rounds"],
        **{f"{name}: CPU s": round(value, 2) for name, value in medians.items()},
        **{f"{name}: times as fast": round(medians["alone"] / value, 3) for name, value in medians.items()},
        "largest energy difference, eV/atom": max(float(np.abs(e - energies["alone"]).max()) for e in energies.values()),
    }
    write("relax_together", record, speed=False)


if __name__ == "__main__":
    main()
