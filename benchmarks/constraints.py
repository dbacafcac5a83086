"""Hard chemistry, counted: 10,000 crystals under a dozen sets of constraints, and how many break one.

    python benchmarks/constraints.py [checkpoint=mp_base] [n=10000] [seed=0]

Every crystal is checked apart from the sampler, on the pymatgen structure that a user gets: elements, atoms in the primitive cell
(moyo, 0.01 Angstrom), formula units, charge balance. The space group is the one that the crystal was made in; how many have a
higher symmetry by moyo is counted beside it, and how many of those asked for were not completed in sampler.max_rounds attempts.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

from measure import options, write
from tqdm import tqdm

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.symmetry import find_symmetry
from sse_diffusion.diffusion.generate import sample_candidates
from sse_diffusion.diffusion.model import load_model
from sse_diffusion.thermo.request import Request, parse_request
from sse_diffusion.verification.metrics.rates import wilson

SMALL = {"n_atoms": [2, 24]}
ASKS: dict[str, dict[str, Any]] = {
    "mobile_ion": {"mobile_ion": "Li", "n_atoms": [2, 40]},
    "allow": {"elements": {"require": ["Li", "S"], "allow": ["Li", "S", "P", "Ge", "Cl", "Br"]}, **SMALL},
    "forbid": {"mobile_ion": "Na", "elements": {"forbid": ["O", "F", "Fe", "Co", "Ni", "Mn"]}, **SMALL},
    "closed_set": {"elements": ["K", "Al", "F"], **SMALL},
    "formula": {"formula": "Li3PS4", "z": [1, 2]},
    "formula_in_group": {"formula": "KCl", "space_group": [225, 221], "n_atoms": [2, 16]},
    "large_formula": {"formula": "Li6PS5Cl", "z": 1},
    "space_group": {"space_group": "195..230", "n_atoms": [2, 30]},
    "low_symmetry": {"space_group": [1, 2], "n_atoms": [2, 16]},
    "few_atoms": {"n_atoms": [4, 6]},
    "charge_neutral": {"charge_neutral": True, "mobile_ion": "Li", **SMALL},
    "all_together": {
        "mobile_ion": "Mg", "elements": {"require": ["O"], "forbid": ["H"]}, "charge_neutral": True, "space_group": "3..74",
        "n_atoms": [6, 30],
    },
}  # fmt: skip
TOLERANCE_A = 0.01


def broken(request: Request, candidates: list[Candidate]) -> tuple[list[str], int]:
    """What is violated, one sentence each, and how many crystals have a higher symmetry than they were made with."""
    sentences, higher = [], 0
    for candidate in tqdm(candidates, desc="checking", leave=False):
        sentences += request.chemistry.violations(candidate.structure, candidate.space_group)
        higher += find_symmetry(candidate.structure, TOLERANCE_A).number != candidate.space_group
    return sentences, higher


def main() -> None:
    """Sample, check, write results/constraints.json."""
    given = options(sys.argv[1:], checkpoint="mp_base", n=10000, seed=0)
    specs = load_model(given["checkpoint"])[0].specs
    each = -(-given["n"] // len(ASKS))
    record: dict[str, Any] = {"checkpoint": given["checkpoint"], "seed": given["seed"]}
    total, violated, started = 0, 0, time.perf_counter()
    for name, ask in ASKS.items():
        request = parse_request(ask, specs)
        candidates = sample_candidates(given["checkpoint"], request, each, seed=given["seed"])
        sentences, higher = broken(request, candidates)
        total, violated = total + len(candidates), violated + len(sentences)
        record |= {
            f"{name}.n": len(candidates),
            f"{name}.incomplete": each - len(candidates),
            f"{name}.violations": len(sentences),
            f"{name}.higher_symmetry": higher,
        }
        for sentence, count in Counter(sentences).most_common(3):
            print(f"{name}: {count} x {sentence}")
    low, high = wilson(violated, total)
    record |= {"n": total, "violations": violated, "violation_rate_ci95": [low, high]}
    write("constraints", record | {"seconds": round(time.perf_counter() - started, 1)}, speed=False)


if __name__ == "__main__":
    main()
