"""How much of the Materials Project hull a hull table knows: phases within 0.03 eV/atom in electrolyte chemistries.

python benchmarks/hull_coverage.py energies=FORMATION_ENERGIES.csv [structures=STRUCTURES.parquet] [table=chgnet-0.3.0]
    [out=benchmarks/results/hull_coverage.json]
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from pymatgen.core import Composition

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.provenance import git_commit
from sse_diffusion.thermo.hull import read_hull_table
from sse_diffusion.verification.hull_table import ELECTROLYTE_ELEMENTS, MOBILE

CAPS_eV_PER_ATOM = (0.001, 0.03)
SOURCES = ("computed", "heldout", "static", "estimated", "missing")


def main(arguments: list[str]) -> None:
    """Read the options, count, write the JSON."""
    options = {"table": "chgnet-0.3.0", "structures": "", "out": "benchmarks/results/hull_coverage.json"}
    options |= dict(a.split("=", 1) for a in arguments)
    phases = near_phases(options["energies"])
    table = {reduced(phase.formula): phase.source for phase in read_hull_table(options["table"])}
    phases["source"] = [table.get(formula, "missing") for formula in phases.formula]
    if options["structures"]:
        known = set(pd.read_parquet(options["structures"], columns=["material_id"]).material_id)
        phases["structure_here"] = phases.material_id.isin(known)
    result: dict[str, Any] = {
        "table": options["table"],
        "elements": sorted(ELECTROLYTE_ELEMENTS),
        "unit_counted": "reduced formulas, the lowest phase of each",
    }
    for cap in CAPS_eV_PER_ATOM:
        near = phases[phases.e_above_hull <= cap]
        mobile = near[[not elements(f).isdisjoint(MOBILE) for f in near.formula]]
        result[f"within_{cap:g}_eV_per_atom"] = {"all": shares(near), "with_Li_Na_K_Mg": shares(mobile)}
    missing = phases[phases.source == "missing"].sort_values("e_above_hull")
    result["missing"] = [
        {"formula": row.formula, "id": row.material_id, "e_above_hull_eV_per_atom": round(row.e_above_hull, 4)}
        | ({"structure_here": bool(row.structure_here)} if options["structures"] else {})
        for row in missing.itertuples()
    ]
    result["estimated_stable"] = sorted(phases[(phases.source == "estimated") & (phases.e_above_hull <= 0.001)].formula)
    result["commit"] = git_commit()
    write_json_atomically(Path(options["out"]), result)
    print({key: value for key, value in result.items() if key.startswith("within")})


def near_phases(path: str) -> Any:
    """Lowest phase of each formula within the largest cap and the chemistries, by reduced formula."""
    columns = ["material_id", "formula", "e_above_hull"]
    frame = pd.read_csv(path, dtype={"formula": str}, keep_default_na=False, na_values={"e_above_hull": [""]}, usecols=columns)
    frame = frame[frame.e_above_hull <= max(CAPS_eV_PER_ATOM)]
    frame = frame[[elements(formula) <= ELECTROLYTE_ELEMENTS for formula in frame.formula]]
    frame = frame.assign(formula=[reduced(formula) for formula in frame.formula])
    return frame.sort_values("e_above_hull").groupby("formula", as_index=False).first()


def shares(near: Any) -> dict[str, Any]:
    """Counts by source; ``engine`` are those with an engine energy of their own structure."""
    counts = Counter(near.source)
    engine = sum(counts[source] for source in ("computed", "heldout", "static"))
    present = len(near) - counts["missing"]
    return {"n": len(near), "present": present, "engine": engine} | {source: counts[source] for source in SOURCES}


@cache
def reduced(formula: str) -> str:
    """Reduced formula."""
    return str(Composition(formula).reduced_formula)


@cache
def elements(formula: str) -> frozenset[str]:
    """Symbols."""
    return frozenset(Composition(formula).chemical_system_set)


if __name__ == "__main__":
    main(sys.argv[1:])
