"""The grammar of ask: and the hard chemistry constraints."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import ChemistryError, ConfigError
from sse_diffusion.thermo.conditions import load_condition_specs
from sse_diffusion.thermo.request import Chemistry, Interval, parse_interval, parse_request

CONFIGS = Path(__file__).parents[2] / "configs"
HULL = "energy_above_hull_eV_per_atom"
SPECS = load_condition_specs(["formation_energy_eV_per_atom", HULL, "band_gap_eV", "elements", "mobile_ion"], CONFIGS)
finite = st.floats(-1e6, 1e6, allow_subnormal=False)


@pytest.mark.parametrize(
    ("written", "lo", "hi"),
    [
        (0.05, 0.05, 0.05),
        (0, 0.0, 0.0),
        ("1e-2", 0.01, 0.01),
        ("<0.05", -math.inf, 0.05),
        ("<= 50 meV/atom", -math.inf, 0.05),
        (">=1", 1.0, math.inf),
        ("> 1 eV/atom", 1.0, math.inf),
        ([0.02, 0.05], 0.02, 0.05),
        ([None, "50 meV/atom"], -math.inf, 0.05),
        ("0.02..0.05", 0.02, 0.05),
        ("20..50 meV/atom", 0.02, 0.05),
        ("20 meV/atom .. 0.05 eV/atom", 0.02, 0.05),
        ("1..3", 1.0, 3.0),
        ("-3..-1.5", -3.0, -1.5),
        (".5...7", 0.5, 0.7),
    ],
)
def test_grammar(written: object, lo: float, hi: float) -> None:
    interval = parse_interval(written, "x", "eV/atom")
    assert (interval.lo, interval.hi) == pytest.approx((lo, hi))


NONSENSE = ["", "abc", "<", "0.05 0.06", [1, 2, 3], [1], True, math.nan, "nan", "..5", "1..", "1..2..3", {}]


@pytest.mark.parametrize("written", NONSENSE)
def test_nonsense_is_refused_with_the_grammar(written: object) -> None:
    with pytest.raises(ConfigError, match="x:"):
        parse_interval(written, "x", "eV/atom")


@given(finite, finite)
def test_text_round_trip(a: float, b: float) -> None:
    lo, hi = sorted((a, b))
    for interval in (Interval(lo, hi), Interval(lo, lo), Interval(-math.inf, hi), Interval(lo, math.inf)):
        assert parse_interval(str(interval), "x") == interval


@given(finite)
def test_units_agree(value: float) -> None:
    assert parse_interval(f"{value!r} meV/atom", "x", "eV/atom").lo == pytest.approx(value / 1000)
    kelvin = parse_request({"temperature_K": f"{abs(value)!r} C"}, SPECS).temperature_K
    assert kelvin == pytest.approx(abs(value) + 273.15)
    assert parse_interval(f"{value!r} K", "x", "C").lo == pytest.approx(value - 273.15)


@pytest.mark.parametrize("written", ["50 meV", "50 K", "50 mev/atom"])
def test_wrong_unit_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match=r"meV/atom"):
        parse_request({HULL: written}, SPECS)


def test_target_and_contains() -> None:
    assert parse_interval("<0.05", "x").target == 0.05
    assert parse_interval([2, 4], "x").target == 3.0
    assert parse_interval(">3", "x").target == 3.0
    assert Interval(1.0, 2.0).contains(2.0)
    assert not Interval(1.0, 2.0).contains(2.1)
    assert Interval(1.0, 2.0).contains(2.1, tolerance=0.2)


def ask(**changes: object) -> dict:
    base: dict = {
        "mobile_ion": "Li",
        "temperature_K": 300,
        "pressure_GPa": "1 atm",
        HULL: "<0.05",
        "elements": {"require": ["Li"], "allow": ["Li", "S", "P", "Cl"], "forbid": []},
        "formula": None,
        "z": None,
        "n_atoms": [4, 24],
        "space_group": None,
    }
    return base | changes


def test_full_ask() -> None:
    request = parse_request(ask(), SPECS)
    assert request.conditions == {HULL: Interval(-math.inf, 0.05), "mobile_ion": "Li"}
    assert request.pressure_GPa == pytest.approx(0.000101325)
    assert request.chemistry.allowed(["Li", "O", "S"]) == {"Li", "S"}
    assert request.chemistry.n_atoms == (4, 24)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"formula": "Li3PS4"},
        {"z": [1, 2]},
        {"space_group": ["Fm-3m", "195..199"]},
        {"elements": ["Li", "S"]},
        {HULL: [0.01, 0.1]},
    ],
)
def test_request_round_trips_through_json(changes: dict) -> None:
    request = parse_request(ask(**changes), SPECS)
    assert parse_request(json.loads(json.dumps(request.to_dict())), SPECS) == request


def test_hydra_nodes_are_accepted() -> None:
    from omegaconf import OmegaConf

    assert parse_request(OmegaConf.create(ask()), SPECS) == parse_request(ask(), SPECS)


def test_element_condition_only_when_the_set_is_closed() -> None:
    assert "elements" not in parse_request(ask(), SPECS).conditions
    assert parse_request(ask(formula="Li3PS4"), SPECS).conditions["elements"] == {"Li", "P", "S"}
    assert parse_request(ask(elements=["Li", "S"]), SPECS).conditions["elements"] == {"Li", "S"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"energy_above_hul_eV_per_atom": 0}, f"did you mean '{HULL}'"),
        ({"elements": {"alow": ["Li"]}}, "did you mean 'allow'"),
        ({"mobile_ion": "Cs"}, "known: .*Na"),
        ({HULL: "<-1"}, "physical range"),
        ({HULL: [0.5, 0.1]}, f"{HULL}: the range 0.5 to 0.1"),
        ({"temperature_K": -5}, "not above 0"),
    ],
)
def test_config_errors_suggest(changes: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse_request(ask(**changes), SPECS)


@pytest.mark.parametrize(
    ("changes", "first", "second"),
    [
        ({"elements": {"require": ["S"], "forbid": ["S"]}}, "require", "forbid"),
        ({"elements": {"require": ["O"], "allow": ["Li", "S"]}}, "require", "allow"),
        ({"elements": {"allow": ["Li"], "forbid": ["Li"]}, "mobile_ion": "none"}, "allow", "forbid"),
        ({"formula": "Li2O"}, "formula", "allow"),
        ({"formula": "Li2O", "elements": {"forbid": ["O"]}}, "formula", "forbid"),
        ({"formula": "Li2S", "elements": {"require": ["Cl"]}}, "require", "formula"),
        ({"elements": {"allow": ["S"]}}, "mobile_ion", "elements.allow"),
        ({"elements": {"forbid": ["Li"]}}, "mobile_ion", "elements.forbid"),
        ({"formula": "Na2S", "elements": None}, "mobile_ion", "formula"),
        ({"n_atoms": [9, 4]}, "n_atoms", "contradicts itself"),
        ({"formula": "Li3PS4", "n_atoms": [4, 7]}, "formula", "n_atoms"),
        ({"formula": "Li3PS4", "n_atoms": [9, 15]}, "formula", "n_atoms"),
        ({"formula": "Li3PS4", "z": 4}, "formula", "n_atoms"),
        ({"elements": {"require": ["Li", "P", "S"]}, "n_atoms": [1, 2]}, "require", "n_atoms"),
    ],
)
def test_contradictions_name_both_sides(changes: dict, first: str, second: str) -> None:
    with pytest.raises(ChemistryError) as caught:
        parse_request(ask(**changes), SPECS)
    assert first in str(caught.value)
    assert second in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"elements": {"require": ["Lx"]}}, "unknown element 'Lx'"),
        ({"elements": {"allow": ["li"]}}, "did you mean 'Li'"),
        ({"elements": {"allow": ["Li", False]}}, "quote"),
        ({"formula": "Li3PX4"}, "cannot be read"),
        ({"formula": "Li3PS4.5"}, "whole"),
        ({"space_group": 231}, "1 to 230"),
        ({"space_group": [0, 4]}, "1 to 230"),
        ({"space_group": "Fm-3q"}, "no space-group symbol"),
        ({"z": 0}, "1 or more"),
        ({"n_atoms": "few"}, "whole number"),
    ],
)
def test_unusable_chemistry(changes: dict, text: str) -> None:
    with pytest.raises(ChemistryError, match=text):
        parse_request(ask(**changes), SPECS)


def test_cells_of_a_formula() -> None:
    assert Chemistry(formula="Li2S", n_atoms=(1, 7)).cells() == [{"Li": 2, "S": 1}, {"Li": 4, "S": 2}]  # type: ignore[arg-type]
    assert Chemistry(formula="Li2S", z=(4,)).cells() == [{"Li": 8, "S": 4}]  # type: ignore[arg-type]
    assert Chemistry().cells() == []


def li2s() -> Structure:
    """Antifluorite Li2S, conventional cell (4 formula units; 1 in the primitive cell)."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.71), ["S", "Li"], [[0, 0, 0], [0.25, 0.25, 0.25]])


@pytest.mark.parametrize(
    ("chemistry", "broken"),
    [
        (Chemistry(), ""),
        (Chemistry(formula="Li2S", z=(1,), n_atoms=(3, 3), space_group=frozenset({225})), ""),  # type: ignore[arg-type]
        (Chemistry(formula="Li4S2"), "not a multiple"),  # type: ignore[arg-type]
        (Chemistry(require=frozenset({"Cl"})), "Cl is absent"),
        (Chemistry(allow=frozenset({"Li"})), "S is not allowed"),
        (Chemistry(forbid=frozenset({"S"})), "S is not allowed"),
        (Chemistry(n_atoms=(4, 24)), "3 atoms"),
        (Chemistry(z=(4,)), "z is 1"),
        (Chemistry(space_group=frozenset({227})), "space group 225"),
    ],
)
def test_violations_count_in_the_primitive_cell(chemistry: Chemistry, broken: str) -> None:
    found = chemistry.violations(li2s())
    assert len(found) == bool(broken)
    assert broken in "".join(found)


def test_violations_of_a_collapsed_crystal_do_not_crash() -> None:
    collapsed = Structure(Lattice.cubic(3.0), ["Li", "S"], [[0, 0, 0], [0, 0, 0]])
    found = Chemistry(n_atoms=(1, 2), space_group=frozenset({1, 221})).violations(collapsed)
    assert found == ["space group 0 is not one of [1, 221]"]  # no symmetry can be claimed for atoms on top of each other


SYMBOLS = ("Li", "Na", "P", "S", "O", "Cl")
subsets = st.frozensets(st.sampled_from(SYMBOLS))


@given(subsets, st.none() | subsets, subsets)
def test_a_chemistry_that_can_be_made_can_be_met(require: frozenset, allow: frozenset | None, forbid: frozenset) -> None:
    try:
        chemistry = Chemistry(require, allow, forbid)
    except ChemistryError:
        assert require & forbid or (allow is not None and (require - allow or not allow - forbid))
        return
    allowed = chemistry.allowed(SYMBOLS)
    assert require <= allowed
    assert not allowed & forbid
    if allowed:
        symbols = sorted(allowed)
        crystal = Structure(Lattice.cubic(20.0), symbols, [[i / 6, 0, 0] for i in range(len(symbols))])
        assert chemistry.violations(crystal) == []


def test_a_model_that_knows_state_points_is_always_told_which() -> None:
    specs = load_condition_specs(["temperature_K", "pressure_GPa", "gibbs_above_hull_eV_per_atom"], CONFIGS)
    asked = parse_request({"temperature_K": "800 C", "gibbs_above_hull_eV_per_atom": "<50 meV/atom"}, specs)
    assert asked.conditions["temperature_K"] == Interval(1073.15, 1073.15)
    assert asked.conditions["pressure_GPa"] == Interval(0.000101325, 0.000101325)
    assert parse_request({}, specs).conditions["temperature_K"] == Interval(300.0, 300.0)
    assert parse_request(json.loads(json.dumps(asked.to_dict())), specs) == asked
    with pytest.raises(ConfigError, match="outside the physical range"):
        parse_request({"temperature_K": 2500}, specs)
    assert "temperature_K" not in parse_request({"temperature_K": 2500}, SPECS).conditions
