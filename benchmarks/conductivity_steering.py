"""Lithium crystals asked for by conductivity: what the predictor that steers says of them, and what bond valence says.

    python benchmarks/conductivity_steering.py [checkpoint=mp_base] [n=48] [particles=32] [strength=4] [seed=0]

Requests with the same streams, elements of known electrolytes allowed: nothing asked of the conductivity, above 1e-4 S/cm, below
1e-9 S/cm (300 K), the latter two by particles that the predictor weighs, by particles that the noise-aware head weighs, or by the
head's gradient alone (strength 1, one particle: group, sites, elements are those with nothing asked). What predictor and head say
of the finished structures is not independent (they judged them); the lowest bond-valence barrier in three dimensions is,
although it only ranks. `moved`: mean change against the same crystal with nothing asked. Crystals as generated, not relaxed;
CPU seconds per crystal, models loaded. Writes results/conductivity_steering.json.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import numpy as np
import torch
from measure import RESULTS, machine, options
from tqdm import tqdm

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.results import Status
from sse_diffusion.diffusion.conductivity_head import ConductivityHead
from sse_diffusion.diffusion.generate import sample_batch
from sse_diffusion.diffusion.guides.guide import Seen
from sse_diffusion.diffusion.guides.property_guide import crystal_token
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.diffusion.sample import checkpoint_specs
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.predictors.registry import load_predictor
from sse_diffusion.thermo.request import parse_request
from sse_diffusion.verification.metrics.rates import wilson
from sse_diffusion.verification.percolation import percolation_barriers

FAST, SLOW = ">1e-4", "<1e-9"
GRADIENT, HEAD = {"gradient_strength": 1.0}, {"conductivity_judges": ("head",)}
ELEMENTS = "Li S P Cl Br I O N F Y In Zr Si Ge B Al La Ta Se Sn As Sb".split()


def scored(structures: list[Any], predictor: Any, barriers: np.ndarray) -> dict[str, Any]:
    """Predicted conductivities, barriers, and how many crystals are distinct in composition."""
    found = predictor.predict(structures)
    values = np.array([q.value if q.status is not Status.FAILED else math.nan for q in found])
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


def by_head(model: CrystalModel, head: ConductivityHead, made: list[Orbits]) -> np.ndarray:
    """log10 of S/cm at 300 K of finished crystals."""
    batch = OrbitBatch.from_orbits(made, model.null_conditions(len(made)))
    with torch.no_grad():
        return head(crystal_token(model, Seen("final", batch))).mean.double().numpy()


def moved(values: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Mean paired change with its 95 % interval (normal)."""
    known = np.isfinite(values) & np.isfinite(reference)
    change = values[known] - reference[known]
    half = 1.96 * change.std(ddof=1) / math.sqrt(len(change))
    return {
        "n": len(change),
        "mean": round(float(change.mean()), 3),
        "ci95": [round(float(change.mean() + s * half), 3) for s in (-1, 1)],
    }


def main() -> None:
    """Sample the requests, score them, write."""
    given = options(sys.argv[1:], checkpoint="mp_base", n=48, particles=32, strength=4.0, seed=0)
    torch.set_num_threads(1)
    specs, predictor = checkpoint_specs(given["checkpoint"]), load_predictor("log10_conductivity", temperature_K=300.0)
    model, _ = load_model(given["checkpoint"])
    head = ConductivityHead.load(str(SamplerConfig().conductivity_head), model)
    weighed = {"particles": given["particles"], "particle_strength": given["strength"]}
    requests: dict[str, tuple[str | None, dict[str, Any]]] = {"nothing": (None, {})}
    for name, asked in (("above_1e-4", FAST), ("below_1e-9", SLOW)):
        requests |= {name: (asked, weighed), f"{name}_by_head": (asked, weighed | HEAD), f"{name}_gradient": (asked, GRADIENT)}
    record: dict[str, Any] = {k: given[k] for k in ("checkpoint", "particles", "strength", "seed")}
    plain: dict[str, np.ndarray] = {}
    for name, (asked, settings) in requests.items():
        ask = {"mobile_ion": "Li", "n_atoms": [4, 24], "elements": {"allow": ELEMENTS}, "conductivity_S_per_cm": asked}
        begun = time.process_time()
        index = torch.arange(given["n"])
        made, _ = sample_batch(model, parse_request(ask, specs), index, given["seed"], SamplerConfig(**settings))
        seconds = (time.process_time() - begun) / len(made)
        structures = [orbits.to_structure() for orbits in made]
        barriers, judged = (
            np.array([barrier(s) for s in tqdm(structures, desc="barriers", leave=False)]),
            by_head(model, head, made),
        )
        volumes = np.array([s.volume / len(s) for s in structures])
        record[name] = scored(structures, predictor, barriers) | {
            "head_log10_sigma_median": round(float(np.median(judged)), 2),
            "cpu_s_per_crystal": round(seconds, 3),
        }
        measured = {"head_log10_sigma": judged, "barrier_eV": barriers, "volume_A3_per_atom": volumes}
        plain = plain or measured
        if "gradient_strength" in settings:
            record[name]["moved"] = {key: moved(value, plain[key]) for key, value in measured.items()}
        write_json_atomically(RESULTS / "conductivity_steering.json", {**record, **machine()})
        print(name, json.dumps({k: v for k, v in record[name].items() if k != "barriers_eV"}))


if __name__ == "__main__":
    main()
