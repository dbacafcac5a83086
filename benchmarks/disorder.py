"""Order every partially occupied CIF of a folder: how many succeed, why not the others, seconds, sizes.

python benchmarks/disorder.py cifs=FOLDER n=3 out=benchmarks/results/disorder.json
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.errors import SSEError
from sse_diffusion.core.provenance import git_commit, package_versions
from sse_diffusion.verification.disorder.order import DisorderConfig, order
from sse_diffusion.verification.structure_files import read_cif


def main(arguments: list[str]) -> None:
    """Read the options, order everything, write the JSON."""
    options = {"n": "3", "max_atoms": "64", "out": "benchmarks/results/disorder.json"} | dict(a.split("=", 1) for a in arguments)
    config = DisorderConfig(n=int(options["n"]), max_atoms=int(options["max_atoms"]))
    warnings.simplefilter("ignore")
    rows = []
    for path in sorted(Path(options["cifs"]).rglob("*.cif")):
        rows.append(one(path, config))
        print(json.dumps(rows[-1]), flush=True)
    write_json_atomically(Path(options["out"]), summary(rows, config))


def one(path: Path, config: DisorderConfig) -> dict[str, Any]:
    """What became of one CIF."""
    row: dict[str, Any] = {"cif": path.name}
    started = time.perf_counter()
    try:
        structure = read_cif(path)
        row |= {"formula": structure.composition.formula, "sites": len(structure), "disordered": not structure.is_ordered}
        if structure.is_ordered:
            return {**row, "status": "ordered already"}
        made = order(structure, config)
    except SSEError as error:
        return {**row, "status": "failed", "reason": error.message, "seconds": round(time.perf_counter() - started, 2)}
    crystals = [o.structure for o in made.orderings]
    row |= {"status": "ok", "orderings": len(crystals), "n_atoms": len(crystals[0]), "shortest_A": shortest(crystals)}
    return {**row, **made.facts(), "seconds": round(time.perf_counter() - started, 2)}


def shortest(crystals: list[Any]) -> float:
    """Smallest distance in any of the crystals."""
    return round(min(float((c.distance_matrix + 99 * np.eye(len(c))).min()) for c in crystals), 2)


def summary(rows: list[dict[str, Any]], config: DisorderConfig) -> dict[str, Any]:
    """Counts and spreads over the disordered ones, then every row."""
    disordered = [r for r in rows if r.get("disordered")]
    good = [r for r in disordered if r["status"] == "ok"]
    spread = lambda name: {  # noqa: E731
        "median": float(np.median([r[name] for r in good])), "max": max(r[name] for r in good)
    }  # fmt: skip
    return {
        "protocol": vars(config) | {"enumerate_up_to": 20_000},
        "cifs": len(rows),
        "unreadable": sum("disordered" not in r for r in rows),
        "ordered_already": sum(r["status"] == "ordered already" for r in rows),
        "disordered": len(disordered),
        "ordered": len(good),
        "failed": {r["cif"]: r["reason"] for r in disordered if r["status"] == "failed"},
        "methods": dict(Counter(r["disorder_method"] for r in good)),
        "min_distance": dict(Counter(str(r["disorder_min_distance"]) for r in good)),
        "neutral": sum(abs(r["disorder_charge_e"]) < 0.01 for r in good),
        "composition_error": spread("disorder_composition_error"),
        "misplaced_per_atom": spread("disorder_misplaced_per_atom"),
        "shortest_A": {"min": min(r["shortest_A"] for r in good), "median": float(np.median([r["shortest_A"] for r in good]))},
        "n_atoms": spread("n_atoms"),
        "seconds": spread("seconds") | {"sum": round(sum(r["seconds"] for r in good), 1)},
        "commit": git_commit(),
        "versions": package_versions(),
        "rows": rows,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
