"""Descriptors: known crystals give known numbers; nothing depends on the cell; occupancies are weighted, not rounded."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.predictors.descriptors.mobile_ion import free_shares
from sse_diffusion.predictors.descriptors.sites import Sites
from sse_diffusion.predictors.descriptors.table import FAMILIES, STRUCTURE, DescriptorTable, describe
from sse_diffusion.predictors.features import FEATURE_NAMES, composition_features

ROCK_SALT = Structure.from_spacegroup(225, Lattice.cubic(5.13), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ANTIFLUORITE = Structure.from_spacegroup(225, Lattice.cubic(5.71), ["S", "Li"], [[0, 0, 0], [0.25, 0.25, 0.25]])
BCC = Structure.from_spacegroup(229, Lattice.cubic(2.87), ["Fe"], [[0, 0, 0]])
COPPER = Structure.from_spacegroup(225, Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]])


def one(structure: Structure, *names: str) -> list[float]:
    """Some columns of one crystal."""
    return [float(v) for v in describe([structure]).columns(names)[0]]


def disordered(occupancy: float) -> Structure:
    """Rock salt with Li sites filled to ``occupancy``."""
    crystal = ROCK_SALT.copy()
    crystal.replace_species({"Li": {"Li": occupancy}})
    return crystal


def test_rock_salt_numbers() -> None:
    cell = ["volume_per_atom_A3", "density_g_cm3", "space_group", "crystal_system"]
    ion = ["ion_coordination", "ion_bond_length_A", "ion_neighbour_distance_A", "anion_share", "ion_bond_spread"]
    values = one(ROCK_SALT, *cell, *ion, "point_group_order", "orbits_per_atom")
    expected = [5.13**3 / 8, 2.085, 225, 7, 6, 5.13 / 2, 5.13 / np.sqrt(2), 0.5, 0, 48, 1]
    assert values == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_coordination_is_six_four_eight_and_twelve() -> None:
    """Like ions count a little in the effective number (lithium is large as an atom), so the ideal ones are those of the ion."""
    assert one(ROCK_SALT, "ion_coordination")[0] == pytest.approx(6, abs=0.05)
    assert one(ANTIFLUORITE, "ion_coordination", "coordination_min") == pytest.approx([4, 8], abs=0.1)
    assert one(COPPER, "coordination_mean")[0] == pytest.approx(12, abs=0.05)
    assert 8 < one(BCC, "coordination_mean")[0] < 14  # the second shell of bcc is 15 % farther


def test_steinhardt_orders_are_the_textbook_ones() -> None:
    """q4 and q6 of fcc, and of the octahedron and the cube (Steinhardt et al. 1983)."""
    assert one(COPPER, "q4_mean", "q6_mean") == pytest.approx([0.1909, 0.5745], abs=2e-3)
    assert one(ROCK_SALT, "ion_q4", "ion_q6") == pytest.approx([0.7638, 0.3536], abs=2e-3)
    assert one(ANTIFLUORITE, "q4_max", "ion_q4") == pytest.approx([0.5092, 0.5092], abs=0.02)


def test_bond_valence_sums_of_ideal_salts() -> None:
    assert one(ROCK_SALT, "ion_valence_sum", "anion_valence_sum_mean") == pytest.approx([1, 1], abs=0.25)
    assert one(ANTIFLUORITE, "anion_valence_sum_mean")[0] == pytest.approx(2, abs=0.4)
    assert one(ROCK_SALT, "ion_valence_asymmetry")[0] == pytest.approx(0, abs=1e-6)


def test_nothing_depends_on_the_cell_the_origin_or_the_order() -> None:
    sites = [[0.1, 0.2, 0.3], [0.6, 0.7, 0.2], [0.5, 0.1, 0.6], [0.2, 0.9, 0.7], [0.8, 0.4, 0.55], [0.3, 0.5, 0.9]]
    kinds = ["Li", "Li", "P", "S", {"S": 0.7, "Se": 0.2}, "Cl"]
    crystal = Structure(Lattice.orthorhombic(5.0, 6.1, 7.3), kinds, sites)
    moved = crystal.copy()
    moved.translate_sites(list(range(6)), [0.13, 0.41, 0.77])
    moved = Structure.from_sites(list(reversed(moved)))
    moved.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    table = describe([crystal, moved])
    assert np.allclose(*table.values, atol=1e-5, equal_nan=True)


def test_partial_occupancy_is_weighted() -> None:
    full, half = (
        dict(zip(t.names, t.values[0], strict=True)) for t in (describe([disordered(1.0)]), describe([disordered(0.5)]))
    )
    assert half["ions_per_nm3"] == pytest.approx(full["ions_per_nm3"] / 2)
    assert (half["vacancies_per_ion"], full["vacancies_per_ion"]) == pytest.approx((1, 0))
    assert half["partial_share"] == pytest.approx(1 / 3) and half["occupancy_mean"] == pytest.approx(0.75)
    assert half["mixing_entropy_per_atom"] == pytest.approx(4 * np.log(2) / 6)
    assert half["ion_coordination"] == pytest.approx(full["ion_coordination"]), "the chlorine sites are full"
    assert half["volume_per_atom_A3"] == pytest.approx(full["volume_per_atom_A3"] * 8 / 6)
    nearly = dict(zip(describe([disordered(0.501)]).names, describe([disordered(0.501)]).values[0], strict=True))
    assert all(
        abs(nearly[k] - half[k]) < 0.02 * max(1.0, abs(half[k]))
        for k in half
        if np.isfinite(half[k]) and k != "log2_atoms_reduced"
    ), "no rounding"


def test_split_sites_exclude_each_other() -> None:
    """Two half-filled Li sites 0.8 A apart are one ion: not a neighbour, but a hop."""
    split = Structure(Lattice.cubic(4.0), [{"Li": 0.5}, {"Li": 0.5}, "Cl"], [[0.4, 0.5, 0.5], [0.6, 0.5, 0.5], [0, 0, 0]])
    hop, nearest = one(split, "hop_A", "ion_neighbour_distance_A")
    assert hop == pytest.approx(0.8) and nearest > 3


def test_free_share_is_the_expectation_over_fillings() -> None:
    crystal = Structure(Lattice.cubic(6.0), [{"Cl": 0.25}], [[0, 0, 0]])
    sites = Sites.of(crystal)
    full, quarter = (free_shares(sites, np.array([x]), (0.0,))[0] for x in (1.0, 0.25))
    assert 1 - quarter == pytest.approx(0.25 * (1 - full), rel=1e-6)
    salt = Sites.of(ROCK_SALT)
    touching = 1 - (4 / 3 * np.pi * salt.radius_A**3).sum() / salt.volume_A3
    assert one(ROCK_SALT, "free_share")[0] == pytest.approx(touching, abs=0.015)


def test_anions_are_found_by_their_neighbours() -> None:
    lithium_sulfate = Structure.from_spacegroup(225, Lattice.cubic(7.0), ["S", "O", "Li"],
                                                [[0, 0, 0], [0.12, 0.12, 0.12], [0.25, 0.25, 0.75]])  # fmt: skip
    sites = Sites.of(lithium_sulfate)
    assert set(sites.main_z[sites.anion].tolist()) == {8}, "sulfur in a sulfate is no anion"
    assert set(Sites.of(ANTIFLUORITE).main_z[Sites.of(ANTIFLUORITE).anion].tolist()) == {16}
    assert not Sites.of(COPPER).anion.any()


def test_compositions_have_the_composition_family_only() -> None:
    table = describe([Composition("LiCl"), ROCK_SALT])
    n = len(FEATURE_NAMES)
    assert np.allclose(table.values[0, : n + 1], table.values[1, : n + 1]) and table.missing[0, n + 1 :].all()
    assert np.allclose(table.values[0, :n], composition_features([{3: 1, 17: 1}])[0])
    assert table.columns(["mean_mass_u"])[0, 0] == pytest.approx((6.94 + 35.45) / 2, rel=1e-3)


def test_families_problems_and_joins() -> None:
    table = describe([ROCK_SALT, Structure(Lattice.cubic(3), ["X"], [[0, 0, 0]])], STRUCTURE)
    assert table.missing[1].all() and "no element" in table.problems[1]
    assert len(set(describe([ROCK_SALT]).names)) == describe([ROCK_SALT]).values.shape[1]
    joined = table.joined(["barrier_eV"], np.array([[0.3], [np.nan]]))
    assert isinstance(joined, DescriptorTable) and joined.columns(["barrier_eV"])[0, 0] == 0.3
    assert describe([], FAMILIES).values.shape == (0, len(describe([ROCK_SALT]).names))
    with pytest.raises(ConfigError, match="did you mean 'cell'"):
        describe([ROCK_SALT], ["cel"])
    with pytest.raises(ConfigError, match="no descriptor"):
        table.columns(["nothing"])
    with pytest.raises(DataError):
        table.joined(["space_group"], np.zeros((2, 1)))


def test_overlapping_and_lonely_atoms_do_not_crash() -> None:
    overlapping = Structure(Lattice.cubic(4), ["Li", "Cl", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    lonely = Structure(Lattice.cubic(15), ["Xe"], [[0, 0, 0]])
    table = describe([overlapping, lonely])
    assert not table.problems and np.isnan(table.columns(["space_group"])[0, 0])
    assert table.columns(["volume_per_atom_A3"])[1, 0] == pytest.approx(15**3)
