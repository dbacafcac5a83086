"""The same chemistry asked at 300 K and at 1500 K: do the answers differ, and in the direction that the Gibbs hull says?

    python benchmarks/temperature_shift.py [checkpoint=mp_base] [n=96] [seed=0] [particles=32] [strength=6] [finish=0]
        [guidance=2] [phases=mp] [relax_steps=60] [out=DIR] [name=temperature_shift]

phases=null lets the property head judge dG_hull instead of thermodynamics (docs/guidance.md). Both requests ask for dG_hull
<= 0.03 eV/atom within one set of elements, in which gases (N2, O2, CO2, SO2, ...) compete at high
temperature. Every crystal is relaxed by CHGNet and placed on the CHGNet hull at both temperatures (the label source of
`sse evaluate task=conditions`, not the guide). A crystal that was asked for at 1500 K should gain by heating:

    shift = dG_hull(1500 K) - dG_hull(300 K),     mean shift of those asked at 1500 K < mean shift of those asked at 300 K

A shift has no energy of the crystal in it, only its composition and volume, so that relax_steps=0 (crystals as sampled) changes
it by a few meV/atom; what the relaxation decides is how many are stable.

One-sided Mann-Whitney test; interval of the difference of means by bootstrap. Control: the same with the temperatures that
were asked permuted among the crystals (2,000 times).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import options, write

from sse_diffusion.design.labels.labeller import LabelConfig, Labeller
from sse_diffusion.design.labels.sample import Relaxed, Sample
from sse_diffusion.diffusion.generate import sample_candidates
from sse_diffusion.diffusion.model import load_model
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.request import parse_request

TEMPERATURES_K = (300.0, 1500.0)
FIELD = "gibbs_above_hull_eV_per_atom"
ASK: dict[str, Any] = {
    FIELD: "<0.03",
    "elements": {"allow": ["Li", "Na", "Mg", "Al", "Si", "P", "S", "C", "N", "O"]},
    "n_atoms": [2, 20],
}


def proposals(given: dict[str, Any], temperature_K: float) -> list[Sample]:
    """Crystals asked for at one temperature."""
    specs = load_model(given["checkpoint"])[0].specs
    request = parse_request({**ASK, "temperature_K": temperature_K}, specs)
    sampler = SamplerConfig(
        guidance={FIELD: given["guidance"], "default": 1.0},
        particles=given["particles"],
        particle_strength=given["strength"],
        finish_particles=bool(given["finish"]),
        phases=None if given["phases"] in (None, "null") else given["phases"],
    )
    found = sample_candidates(given["checkpoint"], request, given["n"], seed=given["seed"], config=sampler)
    name = f"{temperature_K:.0f}K"
    return [Sample(f"{name}-{i:04d}", c.structure, temperature_K, request.pressure_GPa) for i, c in enumerate(found)]


def heights(labeller: Labeller, relaxed: list[Relaxed]) -> np.ndarray:
    """(n, 2) dG_hull of each crystal at both temperatures, eV/atom; NaN without an answer."""
    columns = []
    for temperature in TEMPERATURES_K:
        moved = [replace(r, sample=replace(r.sample, temperature_K=temperature)) for r in relaxed]
        columns.append([q.value if q.ok else np.nan for q in labeller.hull.gibbs_above_hull(moved)])
    return np.array(columns).T


def compare(shift: np.ndarray, hot: np.ndarray, seed: int) -> dict[str, Any]:
    """Difference of the mean shifts (hot minus cold) with its interval, test and control."""
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(seed)
    difference = float(shift[hot].mean() - shift[~hot].mean())
    draws = [rng.choice(shift[hot], hot.sum()).mean() - rng.choice(shift[~hot], (~hot).sum()).mean() for _ in range(2000)]
    shuffled = [shift[p].mean() - shift[~p].mean() for p in (rng.permutation(hot) for _ in range(2000))]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "shift_300K_meV_per_atom": round(1e3 * float(shift[~hot].mean()), 1),
        "shift_1500K_meV_per_atom": round(1e3 * float(shift[hot].mean()), 1),
        "difference_meV_per_atom": round(1e3 * difference, 1),
        "difference_ci95": [round(1e3 * float(low), 1), round(1e3 * float(high), 1)],
        "p_one_sided": float(mannwhitneyu(shift[hot], shift[~hot], alternative="less").pvalue),
        "shuffled_sd_meV_per_atom": round(1e3 * float(np.std(shuffled)), 1),
        "shuffled_share_as_low": float(np.mean(np.array(shuffled) <= difference)),
    }


def main() -> None:
    """Sample, relax, compare, write results/temperature_shift.json."""
    given = options(
        sys.argv[1:], checkpoint="mp_base", n=96, seed=0, out="outputs/temperature_shift", particles=32, guidance=2.0,
        strength=6.0, finish=0, phases="mp", relax_steps=60, name="temperature_shift",
    )  # fmt: skip
    samples = [s for t in TEMPERATURES_K for s in proposals(given, t)]
    out = Path(given["out"])
    out.mkdir(parents=True, exist_ok=True)
    labeller = Labeller(LabelConfig(relax_steps=given["relax_steps"]), out)
    relaxed = labeller.relax(samples)
    found = heights(labeller, relaxed)
    labelled = np.isfinite(found).all(1)
    hot = np.array([s.temperature_K == TEMPERATURES_K[1] for s in samples])
    record = {"n": given["n"], "labelled_300K": int((labelled & ~hot).sum()), "labelled_1500K": int((labelled & hot).sum())}
    for k, temperature in enumerate(TEMPERATURES_K):
        for name, group in (("300K", ~hot), ("1500K", hot)):
            median = float(np.median(found[labelled & group, k]))
            record[f"asked_{name}.median_at_{temperature:.0f}K_meV_per_atom"] = round(1e3 * median, 1)
    settings = {k: v for k, v in given.items() if k not in ("n", "out", "name")}
    result = compare(found[labelled, 1] - found[labelled, 0], hot[labelled], given["seed"])
    protocol = labeller.protocol(FIELD)
    write(given["name"], {**settings, "ask": ASK, **record, **result, "protocol": protocol}, speed=False)


if __name__ == "__main__":
    main()
