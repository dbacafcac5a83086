"""Windows and interface reactions on the engine's own hull, against measured binaries and published windows.

python benchmarks/electrochemistry.py [table=chgnet-0.3.0] [cathode_table=chgnet-0.3.0-all] [out=...]

Every crystal has the energy that it has in the table: its own relaxation with the engine where the source is ``computed`` or
``heldout``; nothing is adjusted.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from pymatgen.core import Composition

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.provenance import git_commit, package_versions
from sse_diffusion.thermo.hull import ReferenceHull
from sse_diffusion.verification.stability.interface import reaction_with
from sse_diffusion.verification.stability.partners import CATHODES, METAL
from sse_diffusion.verification.stability.products import decomposition_words
from sse_diffusion.verification.stability.subject import Subject
from sse_diffusion.verification.stability.window import electrochemical_window

BINARIES_V = {"LiF": 6.38, "LiCl": 4.23, "LiBr": 3.64, "LiI": 2.80, "Li2O": 3.10, "Li2S": 2.29, "Li3N": 0.57}
"""Oxidation limits from measured formation enthalpies (decomposition into the elements)."""
WINDOWS_V = {
    "Li10GeP2S12": (1.71, 2.14),
    "Li3PS4": (1.71, 2.31),
    "Li6PS5Cl": (1.71, 2.01),
    "Li7La3Zr2O12": (0.05, 2.91),
}
"""Published first-principles windows (Zhu, He & Mo, ACS Appl. Mater. Interfaces 7, 23685 (2015))."""
BAR_V = 0.35
METAL_BARS = {"Li3PS4": True, "LiF": False, "LiCl": False}
OTHERS = ("Li3YCl6", "Li3InCl6", "Li3PO4")


def main(arguments: list[str]) -> None:
    """Read the options, compute, write the JSON."""
    options = {"table": "chgnet-0.3.0", "cathode_table": "chgnet-0.3.0-all", "out": "benchmarks/results/electrochemistry.json"}
    options |= dict(a.split("=", 1) for a in arguments)
    warnings.simplefilter("ignore")
    hull, wide = ReferenceHull.load(options["table"]), ReferenceHull.load(options["cathode_table"])
    binaries = {formula: binary(hull, formula, measured) for formula, measured in BINARIES_V.items()}
    windows = {formula: window(hull, formula) | published(hull, formula, *pair) for formula, pair in WINDOWS_V.items()}
    windows |= {formula: window(hull, formula) for formula in OTHERS}
    with_metal = {formula: reaction(hull, formula, METAL) for formula in (*BINARIES_V, *WINDOWS_V, *OTHERS)}
    result = {
        "tables": [options["table"], options["cathode_table"]],
        "protocol": "static energies, table's own energy of each crystal; reaction energies per atom of both, above the hull",
        "binaries": binaries,
        "binaries_within_bar": f"{sum(row['within_bar'] for row in binaries.values())}/{len(binaries)}",
        "windows": windows,
        "with_lithium": with_metal,
        "metal_bars_met": {formula: with_metal[formula]["reacts"] is expected for formula, expected in METAL_BARS.items()},
        "with_cathodes": {
            formula: {name: reaction(wide, formula, name) for name in CATHODES} for formula in (*WINDOWS_V, *OTHERS, "LiCl")
        },
        "commit": git_commit(),
        "versions": package_versions(),
    }
    write_json_atomically(Path(options["out"]), result)
    print(result["binaries_within_bar"], result["metal_bars_met"])


def crystal(hull: ReferenceHull, formula: str) -> tuple[Subject, str]:
    """The lowest phase of a formula in the table, and where its energy is from."""
    wanted = Composition(formula).reduced_formula
    phase = min((p for p in hull.phases if _reduced(p.formula) == wanted), key=lambda p: p.energy_eV_per_atom)
    return Subject(phase.formula, phase.energy_eV_per_atom, phase.energy_scheme), phase.source


def _reduced(formula: str) -> str:
    return str(Composition(formula).reduced_formula)


def window(hull: ReferenceHull, formula: str) -> dict[str, Any]:
    """Limits, half reactions, stability."""
    subject, source = crystal(hull, formula)
    found = electrochemical_window(hull, subject, "Li")
    return {
        "energy_from": source,
        "stability": decomposition_words(hull, subject),
        "reduction_V": round(found.reduction.value, 3),
        "reduction_sd_V": round(found.reduction.uncertainty, 3),
        "reduction_reaction": found.reduction_reaction,
        "oxidation_V": round(found.oxidation.value, 3),
        "oxidation_sd_V": round(found.oxidation.uncertainty, 3),
        "oxidation_reaction": found.oxidation_reaction,
    }


def binary(hull: ReferenceHull, formula: str, measured: float) -> dict[str, Any]:
    """One binary against the measured limit; to its elements too, which is what the measured number means."""
    row = window(hull, formula)
    subject, _ = crystal(hull, formula)
    formation = hull.formation_energy(subject.composition, subject.energy_eV_per_atom, subject.energy_scheme).value
    deviation = row["oxidation_V"] - measured
    to_elements = -formation * subject.composition.num_atoms / subject.composition["Li"]
    return row | {
        "measured_V": measured,
        "deviation_V": round(deviation, 3),
        "to_the_elements_V": round(to_elements, 3),
        "within_bar": abs(deviation) <= BAR_V,
    }


def published(hull: ReferenceHull, formula: str, reduction: float, oxidation: float) -> dict[str, Any]:
    """Deviations from the published window."""
    row = window(hull, formula)
    return {
        "published_V": [reduction, oxidation],
        "deviation_V": [round(row["reduction_V"] - reduction, 3), round(row["oxidation_V"] - oxidation, 3)],
    }


def reaction(hull: ReferenceHull, formula: str, partner: str) -> dict[str, Any]:
    """The most exothermic reaction with one partner."""
    subject, _ = crystal(hull, formula)
    found = reaction_with(hull, subject, partner)
    return {
        "reacts": found.reacts,
        "energy_eV_per_atom": round(found.energy.value, 4),
        "sd_eV_per_atom": round(found.energy.uncertainty, 4),
        "crystal_fraction": round(found.crystal_fraction, 3) if found.reacts else None,
        "equation": found.equation,
        "partner_energy_of": found.energy.provenance.get("partner_energy_of", partner),
        "reason": found.energy.reason,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
