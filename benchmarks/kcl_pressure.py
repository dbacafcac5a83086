"""KCl under pressure: one set of proposals, weighed at each asked pressure by a force field's free energy.

    python benchmarks/kcl_pressure.py [n=64] [seed=0] [checkpoint=mp_base] [folder=outputs/kcl_pressure] [shuffles=2000]

KCl, 1 to 4 formula units, is asked of the diffusion model once, without a pressure. Each of 25 requests, 0 to 6 GPa in steps of
0.25, is then answered by sse_diffusion.design.tilted_population at 300 K (proposal frequencies divided out, domain of 40 atoms).
The majority of the weight turns from rock salt (B1, space group 225) to the CsCl structure (B2, 221); where it does is compared
with the pressure at which the enthalpies of the two textbook crystals, relaxed by the same engine, cross (bisection). Control:
the pressures handed to the tilt are permuted among the requests. Other seeds are asked 0.5 GPa below and above the crossing only.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine, options, write
from pymatgen.core import Lattice, Structure
from scipy.optimize import brentq
from scipy.stats import spearmanr
from tqdm import tqdm

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import plain
from sse_diffusion.core.symmetry import find_symmetry
from sse_diffusion.core.units import eV_PER_A3_PER_GPa
from sse_diffusion.design.proposals import DiffusionProposer
from sse_diffusion.design.tilted_population import TiltConfig, TiltedPopulation, structure_weights, tilted_population
from sse_diffusion.thermo.request import parse_request
from sse_diffusion.verification.metrics.rates import wilson
from sse_diffusion.verification.potential import Potential, load_potential
from sse_diffusion.verification.relax import RelaxConfig, relax

B1, B2 = 225, 221
NAMES = {B1: "B1", B2: "B2"}
PRESSURES = np.arange(0.0, 6.01, 0.25)
TEMPERATURE_K = 300.0
RELAX = RelaxConfig(fmax_eV_per_A=0.02, max_steps=500)
ASK = {"formula": "KCl", "z": [1, 4]}
BAR_GPa = 0.5


def textbook(group: int) -> Structure:
    """Ideal KCl, primitive."""
    if group == B2:
        return Structure(Lattice.cubic(3.7), ["K", "Cl"], [[0, 0, 0], [0.5] * 3])
    return Structure(Lattice([[0, 3.15, 3.15], [3.15, 0, 3.15], [3.15, 3.15, 0]]), ["K", "Cl"], [[0, 0, 0], [0.5] * 3])


def crossing(potential: Potential) -> tuple[float, float]:
    """Pressure at which the relaxed textbook crystals have one enthalpy, and its slope d(H_B1 - H_B2)/dP there, eV/atom/GPa."""
    fine = replace(RELAX, fmax_eV_per_A=0.005)

    def gap(pressure: float) -> float:
        results = [relax(textbook(g), potential, replace(fine, pressure_GPa=pressure)) for g in (B1, B2)]
        assert all(r.converged for r in results)
        one, two = (r.energy_eV_per_atom.value + pressure * eV_PER_A3_PER_GPa * r.volume_A3_per_atom for r in results)
        return one - two

    pressure = float(brentq(gap, PRESSURES[0], PRESSURES[-1], xtol=0.005))
    return pressure, (gap(pressure + 0.1) - gap(pressure - 0.1)) / 0.2


def propose(checkpoint: str, n: int, seed: int, *overrides: str) -> list[Candidate]:
    """Crystals for :data:`ASK`, no pressure."""
    proposer = DiffusionProposer(checkpoint, plain(compose("sample", list(overrides)).sampler))
    return proposer.propose(parse_request(ASK, proposer.specs()), n, seed)


def shares(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Structures among raw proposals, by the space group found on them."""
    found = Counter(f"{find_symmetry(c.structure, 0.1).number} ({len(c.structure)} atoms)" for c in candidates)
    groups = [find_symmetry(c.structure.get_primitive_structure(tolerance=0.1), 0.1).number for c in candidates]
    kinds = Counter(NAMES.get(g, "other") for g in groups)
    n = len(candidates)
    return {"n": n, "space_groups": dict(found.most_common())} | {
        name: {"k": kinds[name], "ci95": wilson(kinds[name], n)} for name in ("B1", "B2", "other")
    }


def log_odds(population: TiltedPopulation, config: TiltConfig) -> float:
    """log of the weight of B2 over that of B1 under a configuration."""
    members = population.members
    counts, phi = [len(m.candidates) for m in members], [m.potential.value for m in members]
    weights, _ = structure_weights(counts, phi, TEMPERATURE_K, config)
    share = {g: sum(w for m, w in zip(members, weights, strict=True) if m.space_group == g) + 1e-300 for g in (B1, B2)}
    return math.log(share[B2]) - math.log(share[B1])


def pressure_where(odds: np.ndarray, target: float) -> float:
    """First pressure at which the log odds rise through ``target``, linear between requests; NaN when they never do."""
    above = np.flatnonzero((odds[1:] > target) & (odds[:-1] <= target))
    if not len(above):
        return math.nan
    i = int(above[0])
    return float(PRESSURES[i] + (target - odds[i]) / (odds[i + 1] - odds[i]) * (PRESSURES[i + 1] - PRESSURES[i]))


def agreement(phases: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """How asked pressure and phase go together: share that is as the force field says, changes of phase along the pressure."""
    joint = np.histogram2d(phases, expected, bins=2, range=((0, 1), (0, 1)))[0] / len(phases)
    outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    held = joint > 0
    return {
        "agreement": float((phases == expected).mean()),
        "changes": float(np.abs(np.diff(phases)).sum()),
        "mutual_information_bits": float((joint[held] * np.log2(joint[held] / outer[held])).sum()),
    }


def control(odds: np.ndarray, cross: float, shuffles: int) -> dict[str, Any]:
    """The same populations with their pressures permuted among the requests."""
    rng = np.random.default_rng(0)
    phases, expected = (odds > 0).astype(int), (cross < PRESSURES).astype(int)
    own = agreement(phases, expected) | {"spearman": float(spearmanr(PRESSURES, odds).statistic)}
    orders = [rng.permutation(len(odds)) for _ in range(shuffles)]
    shuffled = [agreement(phases[o], expected) | {"spearman": float(spearmanr(PRESSURES, odds[o]).statistic)} for o in orders]
    columns = {k: np.array([s[k] for s in shuffled]) for k in own}
    single = [
        bool(np.abs(np.diff(phases[o])).sum() == 1 and phases[o][0] == 0 and abs(pressure_where(odds[o], 0.0) - cross) <= BAR_GPa)
        for o in orders
    ]
    k = int(own["agreement"] * len(odds) + 0.5)
    return {
        "requests": len(odds),
        "as_asked": own | {"k": k, "agreement_ci95": wilson(k, len(odds))},
        "shuffled": {k: {"mean": float(v.mean()), "95%": np.quantile(v, [0.025, 0.975]).tolist()} for k, v in columns.items()},
        "p_value": {
            k: (1 + int((v >= own[k]).sum())) / (1 + shuffles)
            for k, v in columns.items()
            if k in ("agreement", "mutual_information_bits", "spearman")
        },
        "shuffles": shuffles,
        "shuffles_with_one_flip_within_bar": int(np.sum(single)),
    }


def main(arguments: list[str]) -> None:
    """Run the experiment and write its numbers."""
    given = options(arguments, n=64, seed=0, checkpoint="mp_base", folder="outputs/kcl_pressure", shuffles=2000)
    potential = load_potential({"name": "chgnet"})
    candidates = propose(given["checkpoint"], given["n"], given["seed"])
    cross, slope = crossing(potential)

    def tilt(proposed: Sequence[Candidate], pressure: float) -> TiltedPopulation:
        config = TiltConfig(relax=RELAX)
        return tilted_population(proposed, potential, TEMPERATURE_K, pressure, config, Path(given["folder"]), progress=False)

    populations = [tilt(candidates, float(p)) for p in tqdm(PRESSURES, desc="tilting", unit="pressure")]
    odds = {
        f"atoms {n}, alpha {a}": np.array([log_odds(p, TiltConfig(atoms=n, proposal_power=a)) for p in populations])
        for n in (1, 10, 40, 400)
        for a in (0, 1)
    }
    main_name = "atoms 40, alpha 0"  # the defaults
    others = {s: propose(given["checkpoint"], given["n"], s) for s in range(given["seed"] + 1, given["seed"] + 10)}
    right = {}
    for other, theirs in tqdm(others.items(), desc="other seeds"):
        around = [tilt(theirs, cross + sign * BAR_GPa) for sign in (-1, 1)]
        right[str(other)] = log_odds(around[0], TiltConfig()) < 0 < log_odds(around[1], TiltConfig())
    flip = pressure_where(odds[main_name], 0.0)
    record = {
        "protocol": " ".join((__doc__ or "").split()),
        "engine": f"{potential.info.name} {potential.info.version}",
        "temperature_K": TEMPERATURE_K,
        "checkpoint": given["checkpoint"],
        "seed": given["seed"],
        "crossing_GPa": cross,
        "enthalpy_gap_slope_eV_per_atom_per_GPa": slope,
        "flip_GPa": flip,
        "distance_GPa": abs(flip - cross),
        "bar_GPa": BAR_GPa,
        "passed": bool(abs(flip - cross) <= BAR_GPa),
        "settings": {
            name: {
                "flip_GPa": pressure_where(o, 0.0),
                "width_10_90_GPa": pressure_where(o, math.log(9)) - pressure_where(o, -math.log(9)),
            }
            for name, o in odds.items()
        },
        "control": control(odds[main_name], cross, given["shuffles"]),
        "requests": [_row(float(p), each) for p, each in zip(PRESSURES, populations, strict=True)],
        "proposals": shares(candidates),
        "proposals_other_seeds": shares([c for each in others.values() for c in each]),
        "other_seeds_as_the_force_field_says": {
            "k": sum(right.values()),
            "n": len(right),
            "ci95": wilson(sum(right.values()), 9),
        },
        "other_seeds": right,
        "proposals_without_structure_types": shares(
            propose(given["checkpoint"], given["n"], given["seed"], "sampler.types=null")
        ),
        **machine(),
    }
    write("kcl_pressure", record, speed=False)


def _row(pressure: float, population: TiltedPopulation) -> dict[str, Any]:
    weight = population.by_space_group()
    drawn = Counter(NAMES.get(c.space_group, "other") for c in population.resample(64))
    return {
        "pressure_GPa": pressure,
        "weight_B1": weight.get(B1, 0.0),
        "weight_B2": weight.get(B2, 0.0),
        "drawn_of_64": dict(drawn),
        "structures": len(population.members),
        "left_out": len(population.left_out),
        "effective_sample_size": population.effective_sample_size,
        "candidates_in_B2": sum(len(m.candidates) for m in population.members if m.space_group == B2),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
