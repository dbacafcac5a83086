"""Phonons of the shipped force field against density functional theory: the last peak of the phonon density of states.

    python benchmarks/phonons.py [table=matbench_phonons.json.gz] [engine=chgnet] [n=40] [max_atoms=4] [seed=0]

A random sample of small crystals with a mobile ion from the Matbench phonon table (Petretto et al., Sci. Data 5, 180065 (2018);
PBEsol, density functional perturbation theory). Ours: `phonons` with its defaults, cell relaxed with the force field. Peak: the
last maximum of the spectrum smeared by 0.15 THz that reaches 5 % of the highest.
Writes results/phonons_<engine>.json after every crystal.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, machine, options
from tqdm import tqdm

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.thermo.conditions import MOBILE_IONS
from sse_diffusion.verification.phonons import PhononConfig, phonons, spectrum
from sse_diffusion.verification.potential import load_potential

INVERSE_CM_PER_THz = 33.35641
SMEARING_THz = 0.15


def last_peak_THz(frequencies: np.ndarray, weights: np.ndarray) -> float:
    """Highest local maximum of the smeared density of states."""
    grid = np.arange(0.0, frequencies.max() + 1.0, 0.02)
    density = (weights * np.exp(-0.5 * ((grid[:, None] - frequencies) / SMEARING_THz) ** 2)).sum(1)
    inner = density[1:-1]
    peaks = np.flatnonzero((inner >= density[:-2]) & (inner > density[2:]) & (inner > 0.05 * density.max())) + 1
    return float(grid[peaks[-1]])


def rows(table: Path, n: int, max_atoms: int, seed: int) -> list[tuple[Any, float]]:
    """(structure, peak of DFT in THz) of a random sample."""
    from pymatgen.core import Structure

    with gzip.open(table) as stream:
        data = json.load(stream)["data"]
    fitting = [
        (record, peak)
        for record, peak in data
        if len(record["sites"]) <= max_atoms
        and any(s["element"] in MOBILE_IONS for site in record["sites"] for s in site["species"])
    ]
    chosen = np.random.default_rng(seed).permutation(len(fitting))[:n]
    return [(Structure.from_dict(fitting[i][0]), fitting[i][1] / INVERSE_CM_PER_THz) for i in chosen]


def main() -> None:
    """Compute, compare, write."""
    given = options(
        sys.argv[1:], table="../shared/data/phonons/matbench_phonons.json.gz", engine="chgnet", n=40, max_atoms=4, seed=0
    )
    warnings.simplefilter("ignore")
    potential, config = load_potential({"name": given["engine"]}), PhononConfig()
    path, found = RESULTS / f"phonons_{given['engine']}.json", list[dict[str, Any]]()
    for structure, truth in tqdm(rows(Path(given["table"]), given["n"], given["max_atoms"], given["seed"]), unit="crystal"):
        started = time.process_time()
        result = phonons(structure, potential, config)
        row = {"formula": structure.composition.reduced_formula, "dft_THz": round(truth, 3), "stable": result.stable}
        if result.phonopy is not None:
            row["ours_THz"] = round(last_peak_THz(*spectrum(result.phonopy, config)), 3)
        found.append({**row, "reason": result.lowest_THz.reason, "seconds": round(time.process_time() - started, 1)})
        write_json_atomically(path, {"engine": given["engine"], **summary(found), "crystals": found, **machine()})
    print(json.dumps(summary(found), indent=1))


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratio of the peaks and how many crystals come out unstable."""
    both = [(r["ours_THz"], r["dft_THz"]) for r in found if "ours_THz" in r]
    ratio = np.array([a / b for a, b in both])
    return {
        "n": len(found),
        "computed": len(both),
        "dynamically_unstable": sum(r["stable"] is False for r in found),
        "ratio_median": round(float(np.median(ratio)), 3) if both else None,
        "ratio_quartiles": [round(float(q), 3) for q in np.quantile(ratio, (0.25, 0.75))] if both else None,
        "mae_THz": round(float(np.mean([abs(a - b) for a, b in both])), 3) if both else None,
        "seconds_median": float(np.median([r["seconds"] for r in found])),
    }


if __name__ == "__main__":
    main()
