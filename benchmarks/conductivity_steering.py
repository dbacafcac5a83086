"""Lithium crystals asked for by conductivity: what the predictor that steers says of them, and what bond valence says.

    python benchmarks/conductivity_steering.py [checkpoint=mp_base] [n=48] [particles=32] [strength=4] [seed=0]

Three requests with the same streams, elements of known electrolytes allowed: nothing asked of the conductivity, above 1e-4 S/cm,
below 1e-9 S/cm (300 K). What the predictor says of the finished structures is not independent (it judged the compositions); the
lowest bond-valence barrier in three dimensions is, although it only ranks. Crystals as generated, not relaxed. Writes
results/conductivity_steering.json.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
from measure import RESULTS, machine, options
from tqdm import tqdm

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.results import Status
from sse_diffusion.diffusion.generate import sample_candidates
from sse_diffusion.diffusion.sample import checkpoint_specs
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.predictors.registry import load_predictor
from sse_diffusion.thermo.request import parse_request
from sse_diffusion.verification.metrics.rates import wilson
from sse_diffusion.verification.percolation import percolation_barriers

ASKED = {"nothing": None, "above_1e-4": ">1e-4", "below_1e-9": "<1e-9"}
ELEMENTS = "Li S P Cl Br I O N F Y In Zr Si Ge B Al La Ta Se Sn As Sb".split()


def scored(structures: list[Any], predictor: Any) -> dict[str, Any]:
    """Predicted conductivities, barriers, and how many crystals are distinct in composition."""
    found = predictor.predict(structures)
    values = np.array([q.value if q.status is not Status.FAILED else math.nan for q in found])
    barriers = np.array([barrier(s) for s in tqdm(structures, desc="barriers", leave=False)])
    known = np.isfinite(barriers)
    n, slow, low = len(structures), int((values < -8).sum()), int((barriers[known] < 0.4).sum())
    return {
        "n": n,
        "in_domain": sum(q.ok for q in found),
        "predicted_log10_sigma_median": round(float(np.nanmedian(values)), 2),
        "predicted_log10_sigma_quartiles": [round(float(q), 2) for q in np.nanquantile(values, (0.25, 0.75))],
        "predicted_below_1e-8": slow,
        "predicted_below_1e-8_ci95": wilson(slow, n),
        "barriers_known": int(known.sum()),
        "barrier_median_eV": round(float(np.median(barriers[known])), 3) if known.any() else None,
        "barrier_below_0.4": low,
        "barrier_below_0.4_ci95": wilson(low, int(known.sum())),
        "distinct_compositions": len({s.composition.reduced_formula for s in structures}),
        "barriers_eV": [round(float(b), 3) for b in barriers[known]],
    }


def barrier(structure: Any) -> float:
    """Lowest bond-valence barrier in three dimensions, eV; NaN where there is none."""
    return percolation_barriers(structure, "Li").migration_barrier_eV


def main() -> None:
    """Sample the three requests, score them, write."""
    given = options(sys.argv[1:], checkpoint="mp_base", n=48, particles=32, strength=4.0, seed=0)
    specs, predictor = checkpoint_specs(given["checkpoint"]), load_predictor("log10_conductivity", temperature_K=300.0)
    record: dict[str, Any] = {k: given[k] for k in ("checkpoint", "particles", "strength", "seed")}
    for name, asked in ASKED.items():
        ask = {"mobile_ion": "Li", "n_atoms": [4, 24], "elements": {"allow": ELEMENTS}, "conductivity_S_per_cm": asked}
        weighed = {"particles": given["particles"], "particle_strength": given["strength"]}
        config = SamplerConfig(**({} if asked is None else weighed))
        candidates = sample_candidates(given["checkpoint"], parse_request(ask, specs), given["n"], given["seed"], config)
        record[name] = scored([c.structure for c in candidates], predictor)
        write_json_atomically(RESULTS / "conductivity_steering.json", {**record, **machine()})
        print(name, json.dumps({k: v for k, v in record[name].items() if k != "barriers_eV"}))


if __name__ == "__main__":
    main()
