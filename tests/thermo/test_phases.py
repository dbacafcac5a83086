"""Phase tables: vectorised Gibbs energies against pymatgen's class, estimated volumes, schemes, bad input."""

from __future__ import annotations

import lzma

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.units import eV_PER_A3_PER_GPa
from sse_diffusion.thermo import gibbs
from sse_diffusion.thermo.hull import EnergySchemeError, ReferenceHull, ReferencePhase
from sse_diffusion.thermo.phases import PhaseTable

# formula, formation energy (eV/atom), volume (A^3/atom): invented, in a physical range; CO2, H2O and NH3 are measured gases
ROWS = [
    ("Li", 0.0, 20.2), ("S", 0.0, 25.0), ("O", 0.0, 11.0), ("H", 0.0, 12.0), ("C", 0.0, 9.0), ("N", 0.0, 14.0), ("P", 0.0, 22.0),
    ("Li2S", -1.50, 15.5), ("Li2O", -2.07, 8.2), ("Li3PO4", -2.76, 10.2), ("Li3PS4", -0.95, 19.5), ("LiOH", -1.66, 10.6),
    ("Li2CO3", -2.06, 9.8), ("CO2", -1.40, 16.0), ("H2O", -0.95, 10.5), ("Li3N", -0.42, 11.1), ("H3N", -0.20, 9.0),
    ("Li4P2O7", -2.71, 10.9), ("Li2S", -1.45, 13.9),
]  # fmt: skip
TEMPERATURES = np.array([300.0, 333.3, 500.0, 777.0, 1000.0, 1450.0, 2000.0])


@pytest.fixture(scope="module")
def table():
    formulas, energies, volumes = zip(*ROWS, strict=True)
    return PhaseTable.from_formulas([f"{f}-{i}" for i, f in enumerate(formulas)], formulas, energies, volumes, "toy")


def test_every_phase_equals_pymatgen_from_300_to_2000_kelvin(table):
    from pymatgen.entries.computed_entries import GibbsComputedStructureEntry

    ours = table.formation_gibbs(TEMPERATURES, np.zeros(len(TEMPERATURES)))
    for row, (formula, energy, volume) in enumerate(ROWS):
        species = [el for el, n in Composition(formula).items() for _ in range(int(n))]
        lattice = Lattice.cubic((volume * len(species)) ** (1 / 3))
        structure = Structure(lattice, species, np.random.default_rng(row).random((len(species), 3)))
        for state, temperature in enumerate(TEMPERATURES):
            temp = int(temperature) if temperature.is_integer() else temperature  # pymatgen looks whole hundreds up by their text
            entry = GibbsComputedStructureEntry(structure, formation_enthalpy_per_atom=energy, temp=temp)
            assert ours[state, row] == pytest.approx(entry.energy / len(species), abs=1e-6), (formula, temperature)


def test_scalar_and_vectorised_functions_agree_under_pressure(table):
    ours = table.formation_gibbs(np.array([850.0]), np.array([7.0]))[0]
    for value, (formula, energy, volume) in zip(ours, ROWS, strict=True):
        assert value == pytest.approx(
            gibbs.formation_gibbs_eV_per_atom(Composition(formula), energy, volume, 850.0, 7.0), abs=1e-9
        )


def test_pressure_is_pv_for_every_phase(table):
    ambient, squeezed = table.gibbs(np.full(2, 600.0), np.array([0.0, 4.0]))
    assert squeezed - ambient == pytest.approx(4.0 * eV_PER_A3_PER_GPa * table.volume)
    assert eV_PER_A3_PER_GPa * 160.21766208 == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("temperature", "pressure"), [(299.0, 0.0), (2001.0, 0.0), (float("nan"), 0.0), (300.0, -0.1), (300.0, 10.1)]
)
def test_state_points_out_of_range_are_refused(table, temperature, pressure):
    with pytest.raises(ConfigError, match="Gibbs energies are available from"):
        table.gibbs(np.array([500.0, temperature]), np.array([0.0, pressure]))


def test_missing_ground_state_of_an_element_is_put_at_zero():
    phases = PhaseTable.from_formulas(["a", "b", "c"], ["Mn", "O", "MnO"], [0.05, 0.0, -2.0], [11.0, 11.0, 11.0], "toy")
    assert phases.ids[3:] == ("reference:Mn",) and phases.formation_energy[3] == 0.0 and phases.volume_estimated[3]
    assert phases.volume[3] == pytest.approx(11.0)  # that of the known polymorph
    bare = PhaseTable.from_formulas(["a"], ["MnO"], [-2.0], [11.0], "toy", complete=False)
    assert bare.ids == ("a",)


def test_estimated_volumes_are_flagged_and_sensible(table):
    formulas = [row[0] for row in ROWS]
    volumes = [np.nan if f in ("Li2O", "Li2S") else v for f, _, v in ROWS[:-1]] + [ROWS[-1][2]]
    other = PhaseTable.from_formulas(table.ids, formulas, table.formation_energy, volumes, "toy")
    lithia, sulfide = formulas.index("Li2O"), formulas.index("Li2S")
    assert other.volume_estimated.nonzero()[0].tolist() == [sulfide, lithia]
    assert other.volume[sulfide] == pytest.approx(ROWS[-1][2])  # the other polymorph of Li2S is known
    assert 5.0 < other.volume[lithia] < 20.0


def test_element_without_measured_gibbs_energy_has_none_and_a_reason():
    phases = PhaseTable.from_formulas(
        ["a", "b", "c", "d"], ["Xe", "F", "XeF2", "F2"], [0, 0, -0.4, 0.1], [40.0, 12.0, 20.0, 13.0], "toy"
    )
    values = phases.gibbs(np.array([300.0]), np.array([0.0]))[0]
    assert np.isnan(values).tolist() == [True, False, True, False]
    assert "Xe" in phases.unmeasured_reason(2) and phases.unmeasured_reason(1) == ""


def test_reference_hull_becomes_a_table_of_its_scheme():
    rows = [("Li", -1.9, 20.2), ("S", -4.1, 25.0), ("Li2S", -4.13, 15.5)]
    hull = ReferenceHull([ReferencePhase(f, e, v, "computed", "engine") for f, e, v in rows])
    phases = PhaseTable.from_reference_hull(hull)
    assert phases.energy_scheme == "engine"
    assert phases.formation_energy == pytest.approx([0.0, 0.0, -4.13 + (2 * 1.9 + 4.1) / 3])
    with pytest.raises(EnergySchemeError, match="MP2020"):
        phases.check_scheme("MP2020")


def test_files_are_merged_by_id(tmp_path):
    import pandas as pd

    cell = {"a": 3.0, "b": 3.0, "c": 4.0, "alpha": 90.0, "beta": 90.0, "gamma": 120.0}
    crystals = pd.DataFrame(
        [{"material_id": i, "formula": f, "formation_energy_per_atom": e, "nsites": 2, **cell} for i, f, e in
         [("m1", "Li", 0.0), ("m2", "Cl", 0.0), ("m3", "LiCl", -2.0)]]
    )  # fmt: skip
    crystals.to_parquet(tmp_path / "crystals.parquet")
    listed = crystals[["material_id", "formula", "formation_energy_per_atom"]].copy()
    listed.loc[3] = ["m4", "LiCl3", -0.8]
    (tmp_path / "energies.csv.xz").write_bytes(lzma.compress(listed.to_csv(index=False).encode()))
    phases = PhaseTable.from_files(tmp_path / "crystals.parquet", tmp_path / "energies.csv.xz")
    assert phases.ids == ("m1", "m2", "m3", "m4") and phases.energy_scheme == "MP2020"
    assert phases.volume[:3] == pytest.approx(36.0 * np.sin(np.radians(120.0)) / 2)
    assert phases.volume_estimated.tolist() == [False, False, False, True]
    assert phases.rows_of(["m3", "nothing"]).tolist() == [2, -1]
    with pytest.raises(DataError, match="nsites"):
        PhaseTable.from_files(tmp_path / "energies.csv.xz")


@pytest.mark.parametrize(
    ("ids", "formulas", "energies", "volumes", "word"),
    [
        (["a", "a"], ["Li", "Cl"], [0, 0], [1.0, 1.0], "unique"),
        (["a"], ["Li", "Cl"], [0, 0], [1.0, 1.0], "length"),
        (["a"], ["Li"], [np.nan], [1.0], "formation energy"),
        (["a"], ["Li"], [0.0], [-1.0], "volume"),
        (["a"], ["Li"], [0.0], [np.nan], "no phase of the table has a volume"),
        (["a"], ["Zz2"], [0.0], [1.0], "formula"),
    ],
)
def test_bad_tables_are_refused(ids, formulas, energies, volumes, word):
    with pytest.raises(DataError, match=word):
        PhaseTable.from_formulas(ids, formulas, energies, volumes, "toy")


def test_hash_follows_the_content(table):
    formulas, energies, volumes = zip(*ROWS, strict=True)
    again = PhaseTable.from_formulas(table.ids, formulas, energies, volumes, "toy")
    other = PhaseTable.from_formulas(table.ids, formulas, energies, [v + 0.1 for v in volumes], "toy")
    assert table.content_hash == again.content_hash != other.content_hash
