"""A made-up but realistic run folder, as `sse design` writes it."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

ALLOWED = ["Li", "S", "P", "Cl", "Br", "I", "O", "N", "F", "Y", "In", "Zr", "Si", "Ge"]

COLUMNS = (
    "id,formula,space_group,space_group_found,n_atoms,volume_A3_per_atom,surprisal,structurally_valid,composition_valid,constraint_ok,"
    "unique,novel,predicted_e_hull_eV_per_atom,predicted_e_hull_sd,static_e_above_hull_eV_per_atom,relaxed,relax_steps,relax_status,"
    "e_above_hull_eV_per_atom,gibbs_above_hull_eV_per_atom,decomposition,md_status,md_mobile,md_msd_A2,md_diffusivity_cm2_per_s,"
    "md_diffusivity_sd,stopped_at,reason"
).split(",")


def crystals() -> list[Structure]:
    """Survivors: an argyrodite, an antiperovskite, an antifluorite and a rock salt (textbook crystals)."""
    argyrodite = Structure.from_spacegroup(
        "F-43m",
        Lattice.cubic(9.85),
        ["Li", "P", "S", "S", "Cl"],
        [[0.25, 0.25, 0], [0, 0, 0.5], [0.119, 0.119, 0.619], [0.25] * 3, [0] * 3],
    )
    antiperovskite = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.91), ["Cl", "O", "Li"], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0]]
    )
    antifluorite = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.71), ["S", "Li"], [[0] * 3, [0.25] * 3])
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.5), ["Li", "Br"], [[0] * 3, [0.5] * 3])
    return [argyrodite, antiperovskite, antifluorite, salt]


def md_record(mobile: bool, rng: random.Random) -> dict[str, object]:
    """An MD-gate record: a climbing or a flat curve over 1.5 ps of lag."""
    times = [0.02 * i for i in range(76)]
    slope, wobble = (1.1, 0.06) if mobile else (0.0, 0.03)
    curve = [0.32 * (1 - math.exp(-t / 0.1)) + slope * t + wobble * rng.random() for t in times]
    frame = [0.22 * (1 - math.exp(-t / 0.1)) + 0.02 * rng.random() for t in times]
    return {
        "mobile": mobile,
        "status": "ok",
        "reason": "" if mobile else "no ion moved further than 2 A",
        "msd_A2": curve[-1],
        "hops": 7 if mobile else 0,
        "framework_msd_A2": frame[-1],
        "times_ps": times,
        "msd_mobile_A2": curve,
        "msd_framework_A2": frame,
        "diffusivity": {"value": 5.2e-5, "uncertainty": 1.1e-5, "unit": "cm^2/s", "status": "ok" if mobile else "upper_bound"},
        "n_atoms": 52,
        "seconds": 118.0,
        "kept_ps": 2.0,
        "provenance": {"temperature_K": 1000, "drop_ps": 1.0, "keep_ps": 2.0, "gate_lag_ps": 1.0},
    }


def dropped_row(i: int, rng: random.Random) -> dict[str, object]:
    """A candidate that stopped somewhere before the hull."""
    first, second = rng.sample(ALLOWED[1:], 2)
    row: dict[str, object] = {
        "id": f"s0-{i:05d}",
        "formula": f"Li{rng.randint(1, 7)}{first}{second}{rng.randint(2, 6)}",
        "space_group": rng.choice([62, 166, 216, 225, 12, 1]),
        "n_atoms": rng.randint(4, 24),
        "volume_A3_per_atom": round(rng.uniform(9, 26), 2),
        "surprisal": round(rng.uniform(1, 6), 3),
    }
    row["space_group_found"] = row["space_group"]
    checks = [
        ("structure", "structurally_valid", 0.05, "atoms 3 and 9 are 0.41 A apart"),
        ("composition", "composition_valid", 0.15, "no charge-balanced assignment of oxidation states"),
        ("constraints", "constraint_ok", 0.0, ""),
        ("unique", "unique", 0.12, "same crystal as s0-00003"),
        ("novel", "novel", 0.2, "known: mp-1153"),
    ]
    for stage, column, share, reason in checks:
        row[column] = "true" if rng.random() > share else "false"
        if row[column] == "false":
            return row | {"stopped_at": stage, "reason": reason}
    row |= {"predicted_e_hull_eV_per_atom": round(rng.uniform(0, 0.4), 4), "predicted_e_hull_sd": 0.05}
    if rng.random() > 0.15:
        return row | {"stopped_at": "predict", "reason": "ranked 61st by predicted energy above hull; the best 24 go on"}
    row |= {
        "static_e_above_hull_eV_per_atom": round(rng.uniform(0.05, 0.6), 4),
        "relaxed": "true",
        "relax_steps": 74,
        "relax_status": "ok",
    }
    return row | {
        "e_above_hull_eV_per_atom": round(rng.uniform(0.1, 0.3), 4),
        "stopped_at": "hull",
        "reason": "0.182 eV/atom above the hull; the limit is 0.1",
    }


def survivor_row(i: int, crystal: Structure, verdict: bool | None) -> dict[str, object]:
    """A candidate with a CIF."""
    formula, number = crystal.composition.reduced_formula, crystal.get_space_group_info()[1]
    row: dict[str, object] = dict.fromkeys(
        ("structurally_valid", "composition_valid", "constraint_ok", "unique", "novel", "relaxed"), "true"
    )
    row |= {
        "id": f"s0-{i:05d}",
        "formula": formula,
        "space_group": number,
        "space_group_found": number,
        "n_atoms": len(crystal.get_primitive_structure()),
        "volume_A3_per_atom": round(crystal.volume / len(crystal), 3),
        "surprisal": 2.1 + 0.2 * i,
        "predicted_e_hull_eV_per_atom": 0.031,
        "predicted_e_hull_sd": 0.04,
        "static_e_above_hull_eV_per_atom": 0.19,
        "relax_steps": 41,
        "relax_status": "ok",
        "e_above_hull_eV_per_atom": 0.021 + 0.013 * i,
        "gibbs_above_hull_eV_per_atom": 0.018 + 0.013 * i,
        "decomposition": "Li3PS4 + Li2S + LiCl",
        "stopped_at": "report",
        "reason": "",
    }
    if verdict is not None:
        row |= {"md_status": "ok", "md_mobile": str(verdict).lower(), "md_msd_A2": 3.6 if verdict else 0.33}
        row |= {"md_diffusivity_cm2_per_s": 5.2e-5 if verdict else 2e-6, "md_diffusivity_sd": 1.1e-5 if verdict else 1e-6}
    else:
        row |= {"stopped_at": "md_gate", "reason": "only the best 2 are sent to molecular dynamics"}
    return row


def summary_of(rows: list[dict[str, object]]) -> dict[str, object]:
    """summary.json that agrees with the rows."""
    count = lambda key: sum(row.get(key) == "true" for row in rows)  # noqa: E731
    return {
        "sampled": len(rows),
        "structurally_valid": count("structurally_valid"),
        "composition_valid": count("composition_valid"),
        "constraint_violations": 0,
        "unique": count("unique"),
        "novel": count("novel"),
        "relaxed": count("relaxed"),
        "within_0.1_eV_of_hull": sum(float(r.get("e_above_hull_eV_per_atom") or 9) <= 0.1 for r in rows),
        "md_gated": 2,
        "md_mobile": 1,
        "peak_memory_gb": 3.214,
        "seconds_total": 612.4,
        "seed": 0,
        "checkpoint": "mp_base",
        "checkpoint_sha256": "9f2c" * 16,
        "seconds": {"sample": 41.2, "structure": 1.9, "unique": 2.2, "static": 31.0, "relax": 182.6, "md_gate": 351.2},
        "versions": {"python": "3.11.2", "sse-diffusion": "0.1.0", "torch": "2.13.0", "chgnet": "0.4.2"},
        "conditions": {
            "mobile_ion": "Li",
            "temperature_K": 300,
            "pressure_GPa": 0.000101325,
            "energy_above_hull_eV_per_atom": "<0.05",
            "elements": {"require": ["Li"], "allow": ALLOWED, "forbid": []},
            "formula": None,
            "z": None,
            "n_atoms": [4, 24],
            "space_group": None,
        },
        "engine": {
            "name": "CHGNet",
            "version": "0.3.0",
            "licence": "BSD-3-Clause-LBNL",
            "level_of_theory": "PBE/PBE+U, MP2020 corrections",
            "energy_scheme": "chgnet-0.3.0",
            "elements": ["Li", "S"],
            "memory_law": "linear in atoms",
        },
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "date": "2026-11-22T06:40:00+00:00",
    }


def write_run(folder: Path, n: int = 60, md: bool = True, survivors: bool = True) -> Path:
    """Write a run folder with ``n`` dropped candidates and four survivors."""
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for i, crystal in enumerate(crystals() if survivors else []):
        verdict = {0: True, 1: False}.get(i) if md else None
        rows.append(survivor_row(i, crystal, verdict))
        (folder / "cifs").mkdir(exist_ok=True)
        (folder / "cifs" / f"s0-{i:05d}.cif").write_text(str(CifWriter(crystal, symprec=0.01)), encoding="utf-8")
        if verdict is not None:
            (folder / "md" / f"s0-{i:05d}").mkdir(parents=True)
            (folder / "md" / f"s0-{i:05d}" / "md.json").write_text(json.dumps(md_record(verdict, rng)), encoding="utf-8")
    rows += [dropped_row(i, rng) for i in range(len(rows), len(rows) + n)]
    with (folder / "candidates.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "summary.json").write_text(json.dumps(summary_of(rows)), encoding="utf-8")
    return folder


@pytest.fixture()
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a run folder below the test's own folder."""
    return lambda **options: write_run(tmp_path / "run", **options)
