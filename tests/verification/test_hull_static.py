"""Rows outside the electrolyte chemistries: static energies, what relaxing changes, and their place in the merged table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.thermo.hull import SHIPPED_TABLES, ReferenceHull, read_hull_table
from sse_diffusion.verification.hull_merge import merge
from sse_diffusion.verification.hull_static import (
    check_phases,
    element_phases,
    evaluate_static,
    near_hull_phases,
    static_order,
    static_rows,
    static_shift,
)
from sse_diffusion.verification.hull_table import HullTableConfig, Phase
from sse_diffusion.verification.potential import load_potential

EMT = {"name": "ase", "calculator": "ase.calculators.emt:EMT", "energy_scheme": "EMT", "elements": ["Cu", "Au"]}


def row(identifier: str, symbols: list[str], above: float = 0.0) -> dict:
    s = Structure(Lattice.cubic(4.0), symbols, np.linspace(0, 0.8, 3 * len(symbols)).reshape(-1, 3))
    cell = dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), s.lattice.parameters, strict=True))
    facts = {"chemsys": s.chemical_system, "nsites": len(s), "e_above_hull": above, "formation_energy_per_atom": -1.0}
    atoms = {"atomic_numbers": np.array(s.atomic_numbers), "frac_coords": s.frac_coords.ravel()}
    return {"material_id": identifier, **facts, **cell, **atoms}


def static(identifier: str, formula: str, energy: float | None, formation: float = -1.0) -> dict:
    return {
        "id": identifier, "formula": formula, "n_sites": 2, "static_energy_eV_per_atom": energy, "volume_A3_per_atom": 10.0,
        "reason": "", "mp_e_above_hull": 0.0, "mp_formation_energy": formation, "energy_scheme": "CHGNet-0.3.0/MP2020",
    }  # fmt: skip


def test_which_phases_are_wanted():
    frame = pd.DataFrame(
        [row("fe", ["Fe", "Fe"], 0.05), row("feo", ["Fe", "O"]), row("far", ["Fe", "O"], 0.2), row("licl", ["Li", "Cl"])]
    )
    assert [p.id for p in near_hull_phases(frame, 0.03, 52)] == ["feo", "licl"]
    assert [p.id for p in check_phases(frame, 0.03, 40, count=5)] == ["fe", "feo"]  # electrolytes are relaxed anyway


def test_static_energies_resume_and_a_bad_phase_has_a_reason(tmp_path):
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    phases = [Phase("cu", copper, 0.0, 0.0), Phase("fe", Structure(Lattice.cubic(2.8), ["Fe"], [[0, 0, 0]]), 0.0, 0.0)]
    path = tmp_path / "static.jsonl"
    evaluate_static(phases[:1], load_potential(EMT), path)
    path.write_text(path.read_text() + '{"id": "fe", "form')  # killed while writing
    records = evaluate_static(phases, load_potential(EMT), path)
    assert [r["id"] for r in records] == ["cu", "fe"]
    assert records[0]["static_energy_eV_per_atom"] == pytest.approx(-0.0057, abs=5e-3)
    assert records[1]["static_energy_eV_per_atom"] is None and "Fe" in records[1]["reason"]


def test_shift_is_the_mean_change_without_the_outliers():
    rng = np.random.default_rng(0)
    change = np.concatenate([rng.normal(-0.003, 0.002, 198), [-0.5, -0.4]])
    records = [static(f"m{i}", "FeO", -5.0) for i in range(200)]
    shift = static_shift(records, {f"m{i}": -5.0 + c for i, c in enumerate(change)})
    assert shift.mean == pytest.approx(-0.003, abs=5e-4) and shift.count == 200
    assert shift.spread == pytest.approx(change[:198].std(), rel=1e-6), "two of two hundred are left out"
    with pytest.raises(DataError, match="only 1"):
        static_shift(records, {"m0": -5.0})


def test_rows_carry_the_shift_its_spread_and_a_flag():
    records = [static(f"m{i}", "FeO", -5.0) for i in range(20)] + [static("new", "Fe2O3", -6.0), static("bad", "FeO2", None)]
    (found,) = static_rows(records, {f"m{i}": -5.01 + 0.002 * (i % 2) for i in range(20)}, "scheme")
    assert (found.id, found.source, found.converged) == ("new", "static", False)
    assert found.energy_eV_per_atom == pytest.approx(-6.009, abs=1e-3) and found.uncertainty_eV_per_atom == pytest.approx(
        0.001, rel=0.1
    )


def test_merge_of_every_chemistry(tmp_path):
    names = ["FeO", "Fe2O3", "CoO", "Co3O4", "FeCo", "FeCo3", "CoFe3", "FeO3", "CoO3", "FeCoO2", "FeCoO3", "FeCo2O4"]
    outside = [
        {"id": f"o{i}", "formula": f, "energy_eV_per_atom": -5.01, "volume_A3_per_atom": 10.0, "converged": True,
         "mp_formation_energy": -1.0, "energy_scheme": "CHGNet-0.3.0/MP2020"}
        for i, f in enumerate(names)
    ]  # fmt: skip
    statics = [static(f"o{i}", f, -5.0) for i, f in enumerate(names)] + [static("s", "Fe5CoO8", -5.5)]
    (tmp_path / "static.jsonl").write_text("\n".join(map(json.dumps, statics)) + "\n")
    pd.DataFrame(
        {"material_id": ["g"], "formula": ["FeCo5O7"], "formation_energy_per_atom": [-1.0], "e_above_hull": [0.0]}
    ).to_csv(tmp_path / "dft.csv", index=False)
    paths = {"structures_path": "", "energies_path": str(tmp_path / "dft.csv"), "out_path": ""}
    config = HullTableConfig(**paths, static_path=str(tmp_path / "static.jsonl"), chemistry="all")
    phases, summary = merge(outside, config)
    by_formula = {p.formula: p for p in phases}
    assert by_formula["Fe5CoO8"].source == "static" and by_formula["FeCo5O7"].source == "estimated"
    assert by_formula["Fe5CoO8"].energy_eV_per_atom == pytest.approx(-5.51)
    assert by_formula["FeCo5O7"].energy_eV_per_atom == pytest.approx(-5.01, abs=0.1)
    assert summary["static_shift"]["mean"] == pytest.approx(-0.01)

    inside = [{**row, "formula": f.replace("Fe", "Li").replace("Co", "Na")} for row, f in zip(outside, names, strict=True)]
    statics = [static(row["id"], row["formula"], -5.0) for row in inside] + [static("t", "Li5NaO8", -5.5), statics[-1]]
    (tmp_path / "static.jsonl").write_text("\n".join(map(json.dumps, statics)) + "\n")
    electrolytes, _ = merge(inside + outside, HullTableConfig(**paths, static_path=str(tmp_path / "static.jsonl")))
    assert {p.formula: p.source for p in electrolytes}["Li5NaO8"] == "static"
    assert not any({"Fe", "Co"} & Composition(p.formula).chemical_system_set for p in electrolytes)
    with pytest.raises(ConfigError, match="electrolytes or all"):
        HullTableConfig(**paths, chemistry="metals")


def test_element_structures_from_a_file(tmp_path):
    path = tmp_path / "elements.json"
    path.write_text(json.dumps({"Fe": {"structure": Structure(Lattice.cubic(2.8), ["Fe"], [[0, 0, 0]]).as_dict()}}))
    (phase,) = element_phases(path)
    assert phase.id == "element-Fe" and len(phase.structure) == 1 and element_phases("") == []
    with pytest.raises(DataError, match="elements_path"):
        element_phases(tmp_path / "absent.json")


def test_the_shipped_table_of_every_chemistry():
    phases = read_hull_table("chgnet-0.3.0-all")
    assert "chgnet-0.3.0-all" in SHIPPED_TABLES and len(phases) > 30_000
    assert all(p.uncertainty_eV_per_atom > 0 for p in phases if p.source in ("static", "estimated"))
    assert len({p.formula for p in phases}) == len(phases)
    hull = ReferenceHull(
        [
            p
            for p in phases
            if set(p.formula) <= set("FeO0123456789") and {e.symbol for e in Composition(p.formula)} <= {"Fe", "O"}
        ]
    )
    assert hull.elements == {"Fe", "O"}
    haematite = next(p for p in hull.phases if p.formula == "Fe2O3")
    assert hull.energy_above_hull("Fe2O3", haematite.energy_eV_per_atom, hull.energy_scheme).value == pytest.approx(0.0, abs=0.03)
    assert -2.0 < hull.formation_energy("Fe2O3", haematite.energy_eV_per_atom, hull.energy_scheme).value < -1.4  # measured: -1.71


def test_electrolytes_and_electrodes_get_their_static_energies_first():
    def phase(name, symbol):
        return Phase(name, Structure(Lattice.cubic(3.0), [symbol], [[0, 0, 0]]))

    near = [phase("gold", "Au"), phase("done", "Li"), phase("cobalt", "Co"), phase("silver", "Ag"), phase("tin", "Sn")]
    assert [p.id for p in static_order(near, {"done"})] == ["cobalt", "tin", "done", "gold", "silver"]
