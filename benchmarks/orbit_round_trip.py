"""How many crystals of the structures table survive  parse -> orbits -> expand  unchanged (StructureMatcher, default settings).

python benchmarks/orbit_round_trip.py [limit=N]        # needs the table of configs/data/mp.yaml
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from sse_diffusion.core.compose import compose
from sse_diffusion.core.errors import DataError
from sse_diffusion.core.provenance import git_commit
from sse_diffusion.data.orbits import parse_orbits
from sse_diffusion.data.rows import CrystalRow
from sse_diffusion.data.sources import load_source

RESULT = Path(__file__).parent / "results" / "orbit_round_trip.json"


def outcome(row: CrystalRow) -> str:
    """``equal``, or what went wrong."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice, Structure

    given = Structure(Lattice(row.lattice), row.species.tolist(), row.frac)
    try:
        orbits = parse_orbits(row.species, row.frac, row.lattice)
    except DataError as error:
        return f"not parsed: {error.message}"
    return "equal" if StructureMatcher().fit(given, orbits.to_structure()) else "matcher says different"


def main(arguments: list[str]) -> None:
    """Run over the table and write the counts."""
    from omegaconf import OmegaConf

    cfg = compose("train", ["data=mp", *(f"data.{a}" for a in arguments)])
    report = load_source(OmegaConf.to_container(cfg.data, resolve=True))  # type: ignore[arg-type]
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for row in tqdm(report.rows, desc="round trip", unit="crystal"):
        verdict = outcome(row)
        counts[verdict] += 1
        if verdict != "equal":
            examples.setdefault(verdict, row.id)
    n = sum(counts.values())
    record = {"n": n, "equal": counts["equal"], "rate": counts["equal"] / n, "counts": counts, "examples": examples,
              "not_read": report.counts(), "commit": git_commit()}  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{counts['equal']}/{n} = {100 * counts['equal'] / n:.2f} % equal; details in {RESULT}")


if __name__ == "__main__":
    main(sys.argv[1:])
