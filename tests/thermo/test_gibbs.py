"""Gibbs energies: agreement with pymatgen's class, limits, errors."""

from __future__ import annotations

import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.errors import ChemistryError, ConfigError
from sse_diffusion.thermo.gibbs import elemental_gibbs_eV, formation_gibbs_eV_per_atom, g_delta_eV_per_atom, reduced_mass_amu


def perovskite():
    lattice = Lattice.cubic(3.945)
    return Structure(lattice, ["Sr", "Ti", "O", "O", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


@pytest.mark.parametrize("temperature", [300, 750, 1000, 1234.5, 2000])
def test_equals_pymatgen(temperature):
    from pymatgen.entries.computed_entries import GibbsComputedStructureEntry

    structure = perovskite()
    entry = GibbsComputedStructureEntry(structure, formation_enthalpy_per_atom=-3.5, temp=temperature)
    ours = formation_gibbs_eV_per_atom(structure.composition, -3.5, structure.volume / 5, temperature)
    assert ours == pytest.approx(entry.energy / 5, abs=1e-9)


def test_measured_gas_equals_pymatgen():
    from pymatgen.entries.computed_entries import GibbsComputedStructureEntry

    water = Structure(Lattice.cubic(5), ["H", "H", "O"], [[0, 0, 0], [0.3, 0, 0], [0.15, 0.1, 0]])
    entry = GibbsComputedStructureEntry(water, formation_enthalpy_per_atom=-1.0, temp=450)
    assert formation_gibbs_eV_per_atom(water.composition, -1.0, 40.0, 450) == pytest.approx(entry.energy / 3, abs=1e-9)


def test_descriptor_by_hand():
    # NaCl: m = 22.98977 * 35.453 / 58.443 = 13.946 amu; at V = 22.4 A^3/atom and 300 K
    # (-2.48e-4 * 3.1091 - 8.94e-5 * 13.946 / 22.4) * 300 + 0.181 * 5.70378 - 0.882 = -0.24801 + 1.03238 - 0.882
    assert reduced_mass_amu(Composition("NaCl")) == pytest.approx(13.946, abs=2e-3)
    assert g_delta_eV_per_atom(22.4, 13.946, 300.0) == pytest.approx(-0.09763, abs=2e-5)


def test_pressure_adds_pv_and_elements_stay_at_zero():
    composition = Composition("LiCl")
    ambient = formation_gibbs_eV_per_atom(composition, -2.0, 17.0, 300.0)
    assert formation_gibbs_eV_per_atom(composition, -2.0, 17.0, 300.0, 1.6021766208) - ambient == pytest.approx(0.17)
    assert formation_gibbs_eV_per_atom(Composition("Li"), 0.0, 20.0, 900.0) == 0.0
    carbon_dioxide = [formation_gibbs_eV_per_atom(Composition("CO2"), -1.4, 16.0, 300.0, p) for p in (0.0, 1.6021766208)]
    assert carbon_dioxide[1] - carbon_dioxide[0] == pytest.approx(0.16)  # a measured gas feels pressure as its solid


@pytest.mark.parametrize("pressure", [-0.01, 10.01, float("nan"), 160.0])
def test_pressure_out_of_range_is_refused(pressure):
    with pytest.raises(ConfigError, match="10 GPa"):
        formation_gibbs_eV_per_atom(Composition("LiCl"), -2.0, 17.0, 300.0, pressure)


def test_entropy_makes_gases_pull_the_gibbs_energy_up():
    # Binding O2 costs entropy: an oxide's dG_f rises with temperature.
    values = [formation_gibbs_eV_per_atom(Composition("Li2O"), -2.0, 8.2, t) for t in (300, 600, 1200, 2000)]
    assert values == sorted(values) and values[0] > -2.0


@pytest.mark.parametrize("temperature", [0.0, 299.0, 2001.0, float("nan")])
def test_out_of_range_is_refused(temperature):
    with pytest.raises(ConfigError, match="2000"):
        formation_gibbs_eV_per_atom(Composition("LiCl"), -2.0, 17.0, temperature)


def test_unknown_element_is_refused():
    with pytest.raises(ChemistryError, match="Og"):
        elemental_gibbs_eV("Og", 300.0)
