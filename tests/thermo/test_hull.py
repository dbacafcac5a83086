"""Hull: hand-made exact cases, agreement with pymatgen, refusals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.results import Status
from sse_diffusion.thermo.hull import COLUMNS, EnergySchemeError, ReferenceHull, ReferencePhase, lowest_mixture

SCHEME = "toy"


def phase(formula, energy, volume=15.0, source="computed", **more):
    return ReferencePhase(formula, energy, volume, source, SCHEME, **more)


TOY = [
    phase("Li", -2.0, 20.0),
    phase("Cl", -1.0, 35.0),
    phase("S", -4.0, 25.0),
    phase("LiCl", -3.5, 17.0),
    phase("Li2S", -4.5, 15.5),
]
# Energies in eV/atom, invented: oxides stable, one phase well above its hull.
FE_LI_O = [
    ("Fe", -8.3), ("Li", -1.9), ("O", -4.9), ("FeO", -7.7), ("Fe2O3", -7.45), ("Fe3O4", -7.6), ("Li2O", -4.95),
    ("Li2O2", -4.9), ("LiFeO2", -6.55), ("Li5FeO4", -5.6), ("LiFe5O8", -7.1), ("Li3FeO4", -4.9), ("FeO2", -6.3),
]  # fmt: skip


@pytest.fixture
def toy():
    return ReferenceHull(TOY)


def test_binary_and_ternary_heights_by_hand(toy):
    assert toy.energy_above_hull("LiCl", -3.5, SCHEME).value == pytest.approx(0.0)
    assert toy.energy_above_hull("LiCl", -3.4, SCHEME).value == pytest.approx(0.1)
    # LiCl2 = 2/3 LiCl + 1/3 Cl in atoms: hull -(2/3) 3.5 - (1/3) 1.0
    assert toy.energy_above_hull("LiCl2", -2.0, SCHEME).value == pytest.approx(-2.0 + 2 / 3 * 3.5 + 1 / 3)
    # Li3SCl = Li2S + LiCl: 3/5 and 2/5 of the atoms
    above = toy.energy_above_hull("Li3SCl", -4.0, SCHEME)
    assert above.value == pytest.approx(-4.0 + 0.6 * 4.5 + 0.4 * 3.5)
    assert above.provenance["decomposition"] == "0.60 Li2S + 0.40 LiCl"
    assert toy.formation_energy("LiCl", -3.5, SCHEME).value == pytest.approx(-2.0)


def test_candidate_below_the_hull_is_negative(toy):
    assert toy.energy_above_hull("LiCl", -3.6, SCHEME).value == pytest.approx(-0.1)


def test_agrees_with_pymatgen_on_fe_li_o():
    hull = ReferenceHull([phase(f, e) for f, e in FE_LI_O])
    entries = [PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in FE_LI_O]
    diagram = PhaseDiagram(entries)
    assert any(diagram.get_e_above_hull(entry) > 0.05 for entry in entries)
    for (formula, energy), entry in zip(FE_LI_O, entries, strict=True):
        assert hull.energy_above_hull(formula, energy, SCHEME).value == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(amounts=st.tuples(*[st.integers(0, 6)] * 3).filter(lambda a: sum(x > 0 for x in a) >= 2))
def test_linear_program_equals_phase_diagram(amounts):
    hull = ReferenceHull([phase(f, e) for f, e in FE_LI_O])
    composition = Composition({s: n for s, n in zip(("Fe", "Li", "O"), amounts, strict=True) if n})
    diagram = hull.phase_diagram(composition.chemical_system_set)
    mixture = lowest_mixture(list(diagram.all_entries), composition)
    assert sum(mixture.values()) == pytest.approx(1.0)
    energy = sum(f * entry.energy_per_atom for entry, f in mixture.items())
    assert energy == pytest.approx(diagram.get_hull_energy_per_atom(composition), abs=1e-8)


def test_large_systems_use_the_linear_program(toy, monkeypatch):
    expected = toy.energy_above_hull("Li3SCl", -4.0, SCHEME)
    monkeypatch.setattr("sse_diffusion.thermo.hull.MAX_DIAGRAM_ELEMENTS", 1)
    assert toy.energy_above_hull("Li3SCl", -4.0, SCHEME).value == pytest.approx(expected.value)
    assert toy.decomposition("Li3SCl") == expected.provenance["decomposition"]


def test_schemes_never_mix(toy):
    with pytest.raises(EnergySchemeError, match="other"):
        toy.energy_above_hull("LiCl", -3.5, "other")
    with pytest.raises(EnergySchemeError, match="mixes"):
        ReferenceHull([*TOY, ReferencePhase("Li2O", -4.9, 8.0, "computed", "other")])
    with pytest.raises(EnergySchemeError):
        toy.gibbs_above_hull("LiCl", -3.5, 17.0, "other", 300.0)


def test_missing_element_and_missing_energy_fail_with_a_reason(toy):
    missing = toy.energy_above_hull("LiBr", -3.0, SCHEME)
    assert missing.status is Status.FAILED and "Br" in missing.reason and math.isnan(missing.value)
    assert "Br" in toy.decomposition("LiBr")
    assert toy.energy_above_hull("LiCl", math.nan, SCHEME).status is Status.FAILED
    assert toy.gibbs_above_hull("LiCl", -3.5, 0.0, SCHEME, 300.0).status is Status.FAILED


def test_estimated_phases_are_named_and_give_the_uncertainty():
    hull = ReferenceHull([*TOY, phase("Li3SCl", -4.2, source="estimated", converged=False, uncertainty_eV_per_atom=0.03)])
    above = hull.energy_above_hull("Li6S2Cl2", -4.0, SCHEME)
    assert above.provenance["estimated_phases"] == ["Li3SCl"] and "(estimated)" in above.provenance["decomposition"]
    assert above.uncertainty == pytest.approx(0.03)
    assert hull.energy_above_hull("LiCl", -3.4, SCHEME).uncertainty == 0.0


def test_gibbs_hull_pressure_shifts_by_p_delta_v(toy):
    low = toy.gibbs_above_hull("Li3SCl", -4.0, 16.0, SCHEME, 600.0, 0.0)
    high = toy.gibbs_above_hull("Li3SCl", -4.0, 16.0, SCHEME, 600.0, 5.0)
    competing = 0.6 * 15.5 + 0.4 * 17.0
    assert high.value - low.value == pytest.approx(5.0 / 160.21766208 * (16.0 - competing), abs=1e-9)


def test_gibbs_hull_of_a_reference_phase_is_zero_and_its_range_is_checked(toy):
    assert toy.gibbs_above_hull("LiCl", -3.5, 17.0, SCHEME, 300.0).value == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ConfigError, match="300"):
        toy.gibbs_above_hull("LiCl", -3.5, 17.0, SCHEME, 200.0)


def test_table_round_trip_and_malformed_tables(tmp_path):
    path = tmp_path / "hull.csv"
    path.write_text(
        ",".join(COLUMNS) + "\nLi,-2.0,20,computed,toy,True\nLiCl,-3.5,17,heldout,toy,False\nCl,-1,35,computed,toy,True\n"
    )
    hull = ReferenceHull.load(path)
    assert hull.energy_scheme == "toy" and [p.converged for p in hull.phases] == [True, False, True]
    for text, word in (
        ("formula,source\nLi,x\n", "lacks"),
        (path.read_text().replace("-3.5", "abc"), "line 3"),
        (",".join(COLUMNS), "empty"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=word):
            ReferenceHull.load(path)
    (tmp_path / "bad.xz").write_bytes(b"\xfd7zXZ\x00garbage")
    with pytest.raises(DataError, match=r"CSV\.xz"):
        ReferenceHull.load(tmp_path / "bad.xz")
    with pytest.raises(DataError, match=r"chgnet-0\.3\.0"):
        ReferenceHull.load("chgnet-0.4.0")


@pytest.fixture(scope="module")
def shipped():
    return ReferenceHull.load()


def test_shipped_table_has_every_element_of_the_demo(shipped):
    assert shipped.elements >= set("Li S P Cl Br I O N F Y In Zr Si Ge".split())
    assert shipped.energy_scheme == "CHGNet-0.3.0/MP2020"
    assert len({p.formula for p in shipped.phases}) == len(shipped.phases)


@pytest.mark.parametrize("formula", ["LiCl", "LiF", "Li2S", "Li2O", "Li3N", "LiI", "LiBr", "Li3PO4", "YCl3", "InCl3", "ZrCl4"])
def test_famous_stable_phases_are_on_the_shipped_hull(shipped, formula):
    found = next(p for p in shipped.phases if p.formula == formula)
    above = shipped.energy_above_hull(formula, found.energy_eV_per_atom, shipped.energy_scheme)
    assert above.value == pytest.approx(0.0, abs=0.03) and found.source != "estimated"


@pytest.mark.parametrize("formula", ["P2S5", "Li3PS4", "Li3P"])
def test_known_gap_is_filled(shipped, formula):
    assert any(p.formula == formula for p in shipped.phases)


def test_lithium_superionic_conductors_decompose_to_known_products(shipped):
    words = shipped.decomposition("Li6PS5Cl")
    assert "Li3PS4" in words and "Li2S" in words and "LiCl" in words
