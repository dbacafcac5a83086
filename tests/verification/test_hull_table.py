"""Reference table: order of computation, resume after a kill, merge of sources, errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.thermo.hull import ReferenceHull
from sse_diffusion.verification.hull_merge import build_table, fit_linear, merge, write_table
from sse_diffusion.verification.hull_table import (
    HullTableConfig,
    Phase,
    chemistry_class,
    fact_phases,
    read_crystal_table,
    read_records,
    relax_phases,
    select_phases,
)
from sse_diffusion.verification.potential import load_potential
from sse_diffusion.verification.reference_crystals import FACTS


def crystal_row(identifier, symbols, above=0.0, nsites=None):
    structure = Structure(Lattice.cubic(4.0), symbols, np.linspace(0, 0.8, 3 * len(symbols)).reshape(-1, 3))
    return {
        "material_id": identifier, "chemsys": structure.chemical_system, "nsites": nsites or len(symbols), "e_above_hull": above,
        "formation_energy_per_atom": -1.0, "a": 4.0, "b": 4.0, "c": 4.0, "alpha": 90.0, "beta": 90.0, "gamma": 90.0,
        "atomic_numbers": np.array(structure.atomic_numbers), "frac_coords": structure.frac_coords.ravel(),
    }  # fmt: skip


def config(tmp_path, **more):
    paths = {"structures_path": "unused", "energies_path": str(tmp_path / "dft.csv"), "out_path": str(tmp_path / "hull.csv")}
    return HullTableConfig(**{**paths, "results_path": str(tmp_path / "results.jsonl"), **more})


def test_chemistry_classes():
    cases = {"Li2S": 0, "Cl": 0, "LiNbO3": 1, "Al2O3": 2, "NaCl": 3, "KF": 4, "MgO": 5, "LiNaO": 6, "Fe2O3": None}
    assert {f: chemistry_class(e.symbol for e in Composition(f).elements) for f in cases} == cases


def test_core_chemistry_comes_first_then_small_cells(tmp_path):
    rows = [
        crystal_row("na", ["Na", "Cl"]), crystal_row("big", ["Li", "Cl"], nsites=30), crystal_row("small", ["Li", "Cl"]),
        crystal_row("second", ["Li", "Cl"], above=0.02), crystal_row("far", ["Li", "Cl"], above=0.1),
        crystal_row("huge", ["Li", "Cl"], nsites=41), crystal_row("iron", ["Fe", "O"]), crystal_row("al", ["Al", "O"]),
    ]  # fmt: skip
    path = tmp_path / "t.parquet"
    pd.DataFrame(rows).to_parquet(path)
    phases = select_phases(read_crystal_table(path), (0.001, 0.03), 40)
    assert [p.id for p in phases] == ["small", "big", "second", "al", "na"]
    assert phases[0].structure.composition.reduced_formula == "LiCl"


def test_missing_column_and_missing_file(tmp_path):
    pd.DataFrame({"material_id": ["x"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="frac_coords"):
        read_crystal_table(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="cannot read"):
        read_crystal_table(tmp_path / "none.parquet")


def test_resume_skips_what_is_done_and_survives_half_a_line(tmp_path):
    potential = load_potential({"name": "ase", "calculator": "ase.calculators.emt:EMT"})
    phases = [Phase(f"al-{a}", Structure.from_spacegroup(225, Lattice.cubic(a), ["Al"], [[0, 0, 0]])) for a in (3.9, 4.0, 4.1)]
    cfg = config(tmp_path)
    first = relax_phases(phases[:2], potential, cfg)
    path = tmp_path / "results.jsonl"
    path.write_text(path.read_text() + '{"id": "al-4.1", "ener')
    everything = relax_phases(phases, potential, cfg)
    assert [r["id"] for r in everything] == ["al-3.9", "al-4.0", "al-4.1"] and everything[:2] == first
    assert [r["id"] for r in read_records(path)] == ["al-3.9", "al-4.0", "al-4.1"]
    energies = [r["energy_eV_per_atom"] for r in everything]
    assert max(energies) - min(energies) < 1e-3 and all(r["converged"] for r in everything)


def test_linear_fit_recovers_the_levels_and_their_spread():
    rng = np.random.default_rng(0)
    truth = {"Li": -1.9, "S": -4.0, "Cl": -1.8}
    rows = []
    for _ in range(200):
        x = dict(zip(truth, rng.dirichlet([1, 1, 1]), strict=True))
        rows.append((x, sum(x[s] * c for s, c in truth.items()) + 0.02 * rng.normal()))
    scale = fit_linear(rows)
    assert all(scale.coefficients[s] == pytest.approx(c, abs=0.02) for s, c in truth.items())
    assert scale.spread == pytest.approx(0.02, rel=0.25) and scale.count == 200
    with pytest.raises(DataError, match="too few"):
        fit_linear(rows[:3])


def fake_records():
    """Engine energies = DFT formation energy + levels exactly, for a grid of Li-S-Cl formulas."""
    levels = {"Li": -1.9, "S": -4.0, "Cl": -1.8}
    formulas = ["Li", "S", "Cl", "Li2S", "LiCl", "SCl2", "LiS", "Li3SCl", "LiS2", "LiSCl", "Li2SCl2", "LiS4"]
    for number, formula in enumerate(formulas):
        comp = Composition(formula)
        formation = 0.0 if comp.is_element else -0.5 - 0.01 * number
        energy = formation + sum(comp.get_atomic_fraction(e) * levels[e.symbol] for e in comp.elements)
        yield {
            "id": f"mp-{number}", "formula": comp.reduced_formula, "energy_eV_per_atom": energy, "volume_A3_per_atom": 16.0,
            "converged": True, "mp_formation_energy": formation, "energy_scheme": "toy",
        }  # fmt: skip


def test_merge_fills_the_gap_and_keeps_one_phase_per_formula(tmp_path):
    (tmp_path / "dft.csv").write_text(
        "material_id,formula,formation_energy_per_atom,e_above_hull\n"
        "gap,Li3Cl2S,-0.8,0.0\nunstable,Li5ClS,-0.8,0.2\nknown,LiCl,-0.55,0.0\nforeign,Fe2O3,-1.0,0.0\nelement,Li,0.1,0.0\n"
    )
    (tmp_path / "held.csv").write_text(
        "material_id,formula,chgnet_energy_per_atom,volume_per_atom,converged\nh1,Li2S,-3.3,15.0,True\nh2,FeO,-7,12,True\n"
    )
    records = [*fake_records(), {**next(fake_records()), "id": "failed", "energy_eV_per_atom": None, "converged": False}]
    phases, summary = merge(records, config(tmp_path, heldout_path=str(tmp_path / "held.csv")))
    by_formula = {p.formula: p for p in phases}
    assert len(by_formula) == len(phases) == 13
    gap = by_formula["Li3SCl2"]
    assert gap.source == "estimated" and not gap.converged and 0 <= gap.uncertainty_eV_per_atom < 0.05
    assert gap.energy_eV_per_atom == pytest.approx(-0.8 + (3 * -1.9 - 4.0 + 2 * -1.8) / 6, abs=0.02)
    assert by_formula["LiCl"].source == "computed" and not {"Li5SCl", "Fe2O3", "FeO"} & set(by_formula)
    assert by_formula["Li2S"].source == "heldout"  # lower than the computed one
    assert summary["failed"] == 1 and summary["counts"]["estimated"] == 1
    write_table(phases, tmp_path / "hull.csv.xz")
    hull = ReferenceHull.load(tmp_path / "hull.csv.xz")
    assert len(hull.phases) == 13 and hull.elements == {"Li", "S", "Cl"}


def test_old_compositions_only_where_the_new_list_is_silent(tmp_path):
    (tmp_path / "dft.csv").write_text(
        "material_id,formula,formation_energy_per_atom,e_above_hull\nu,Li5ClS,-0.7,0.1\nv,Li7ClS3,-0.4,0.5\n"
    )
    (tmp_path / "old.csv").write_text(
        "formula,Ed_mp2019,Ef_mapped_to_mp20_scheme\n"
        "Li1S7,-0.1,-0.9\nLi5S1Cl1,-0.1,-0.71\nLi7S3Cl1,-0.1,-0.9\nLi1Cl1,-0.1,-3\nLi1S9,0.2,-0.9\n"
    )
    phases, _ = merge(list(fake_records()), config(tmp_path, compositions_path=str(tmp_path / "old.csv")))
    # LiS7 is new; Li7S3Cl has only a polymorph far above; Li5SCl is unstable by the newer list; LiCl is computed.
    assert {p.formula for p in phases if p.source == "estimated"} == {"LiS7", "Li7S3Cl"}


def test_merge_refuses_mixed_engines(tmp_path):
    records = list(fake_records())
    records[0]["energy_scheme"] = "other"
    with pytest.raises(DataError, match="2 energy schemes"):
        merge(records, config(tmp_path))


def test_build_table_merges_without_computing(tmp_path):
    (tmp_path / "dft.csv").write_text("material_id,formula,formation_energy_per_atom,e_above_hull\ngap,Li3Cl2S,-0.8,0.0\n")
    (tmp_path / "results.jsonl").write_text("\n".join(json.dumps(r) for r in fake_records()) + "\n")
    keys = {k: v for k, v in vars(config(tmp_path)).items() if k.endswith("_path")}
    summary = build_table({"compute": False, "engine": {"name": "chgnet"}, **keys})
    assert summary["rows"] == 13 and json.loads((tmp_path / "hull.json").read_text())["counts"]["computed"] == 12
    with pytest.raises(ConfigError, match="max_sites"):
        build_table({"compute": False, **keys, "max_site": 3})


@pytest.mark.parametrize("fact", FACTS, ids=lambda f: f.name)
def test_facts_are_crystals(fact):
    structure = fact.structure()
    distances = structure.distance_matrix[~np.eye(len(structure), dtype=bool)]
    assert 5 < structure.volume / len(structure) < 45 and (len(structure) == 1 or distances.min() > 1.5)  # P-O
    assert structure.get_space_group_info()[1] == fact.space_group
    assert fact.reference


@pytest.mark.slow
def test_facts_include_what_tables_of_small_cells_lack():
    phases = fact_phases()
    assert len({p.id for p in phases}) == len(phases) and all(math.isnan(p.e_above_hull) for p in phases)
    assert {"In", "I", "P", "Li3P", "Li3PS4", "Li6PS5Cl"} <= {p.structure.composition.reduced_formula for p in phases}
