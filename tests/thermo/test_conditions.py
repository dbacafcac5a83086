"""Condition specs: YAML files, standardisation, labels."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.thermo.conditions import ConditionSpec, available_conditions, label_of, load_condition_specs, mobile_ion_of

CONFIGS = Path(__file__).parents[2] / "configs"
INITIAL = ("formation_energy_eV_per_atom", "energy_above_hull_eV_per_atom", "band_gap_eV", "elements", "mobile_ion")


def spec(**changes: object) -> ConditionSpec:
    values: dict = {"name": "x", "kind": "continuous", "label": "x", "unit": "eV"} | changes
    return ConditionSpec(**values)


def test_initial_set_loads_in_the_order_asked() -> None:
    specs = load_condition_specs(INITIAL, CONFIGS)
    assert tuple(specs) == INITIAL
    assert specs["energy_above_hull_eV_per_atom"].transform == "sqrt"
    assert specs["mobile_ion"].choices == ("Li", "Na", "K", "Mg", "Ag", "none")


@pytest.mark.parametrize("name", available_conditions(CONFIGS))
def test_every_yaml_has_a_description_and_a_label(name: str) -> None:
    loaded = load_condition_specs([name], CONFIGS)[name]
    assert loaded.description.endswith(".")
    assert loaded.label


@given(st.sampled_from(["identity", "sqrt", "log10"]), st.floats(1e-6, 1e3), st.floats(-5, 5), st.floats(0.01, 10))
def test_standardise_round_trip(transform: str, value: float, mean: float, std: float) -> None:
    x = spec(transform=transform, mean=mean, std=std, low=0.0)
    assert x.unstandardise(x.standardise(value)) == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_open_ends_and_noise_below_zero() -> None:
    x = spec(transform="sqrt", mean=0.1, std=0.2, low=0.0)
    assert x.standardise(-math.inf) == -math.inf
    assert x.unstandardise(math.inf) == math.inf
    assert x.standardise(-1e-9) == x.standardise(0.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "continous"}, "continuous"),
        ({"transform": "log"}, "log10"),
        ({"std": 0.0}, "std"),
        ({"dropout": 1.5}, "dropout"),
        ({"kind": "categorical"}, "choices"),
        ({"low": 2.0, "high": 1.0}, "below high"),
        ({"transform": "sqrt", "low": -1.0}, "low"),
        ({"label": "structure:element"}, "structure:elements"),
    ],
)
def test_bad_spec_names_the_problem(changes: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        spec(**changes)


def test_unknown_condition_name_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'band_gap_eV'"):
        load_condition_specs(["bandgap_eV"], CONFIGS)


def test_a_new_property_is_one_yaml_file(tmp_path: Path) -> None:
    folder = tmp_path / "thermo" / "condition"
    folder.mkdir(parents=True)
    (folder / "shear_GPa.yaml").write_text("unit: GPa\nkind: continuous\ntransform: log10\nlow: 0.1\nmean: 1.5\nlabel: G\n")
    assert load_condition_specs(None, tmp_path)["shear_GPa"].unit == "GPa"
    (folder / "shear_GPa.yaml").write_text("units: GPa\nkind: continuous\nlabel: G\n")
    with pytest.raises(ConfigError, match="did you mean 'unit'"):
        load_condition_specs(None, tmp_path)
    (folder / "shear_GPa.yaml").write_text("name: other\nkind: continuous\nlabel: G\n")
    with pytest.raises(ConfigError, match="must agree"):
        load_condition_specs(None, tmp_path)


def test_labels() -> None:
    specs = load_condition_specs(INITIAL, CONFIGS)
    symbols, labels = ["Na", "Li", "Cl", "Cl"], {"band_gap_eV": 5.0, "energy_above_hull_eV_per_atom": math.nan}
    assert label_of(specs["elements"], symbols, labels) == {"Li", "Na", "Cl"}
    assert label_of(specs["mobile_ion"], symbols, labels) == "Li"
    assert label_of(specs["band_gap_eV"], symbols, labels) == 5.0
    assert label_of(specs["energy_above_hull_eV_per_atom"], symbols, labels) is None
    assert label_of(specs["formation_energy_eV_per_atom"], symbols, labels) is None
    assert mobile_ion_of(["Si", "O"]) == "none"


@pytest.mark.parametrize("name", INITIAL)
def test_labels_of_the_mp_table_reach_the_conditions(name: str) -> None:
    """A label that the data room does not produce would train on nulls only, silently."""
    import yaml

    produced = yaml.safe_load((CONFIGS / "data" / "mp.yaml").read_text(encoding="utf-8"))["labels"]
    label = load_condition_specs([name], CONFIGS)[name].label
    assert label.startswith("structure:") or label in produced


def test_category_index() -> None:
    ion = load_condition_specs(["mobile_ion"], CONFIGS)["mobile_ion"]
    assert ion.choices[ion.index("Na")] == "Na"
    with pytest.raises(ConfigError, match="known: "):
        ion.index("Cs")
