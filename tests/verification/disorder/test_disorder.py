"""Partial occupancies become ordered cells: electrostatics, whole counts, split sites, symmetry, ensembles, doping."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.errors import ChemistryError, ConfigError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K
from sse_diffusion.verification.disorder import search, sites
from sse_diffusion.verification.disorder.charges import guess_charges
from sse_diffusion.verification.disorder.doping import DopingConfig, doped, voids
from sse_diffusion.verification.disorder.electrostatics import ewald_matrix
from sse_diffusion.verification.disorder.ensemble import ensemble_average
from sse_diffusion.verification.disorder.order import DisorderConfig, DisorderError, decoration, order

LIO = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5] * 3])
"""Rock-salt MgO, conventional cell."""


def mixed_cations(share: float = 0.5) -> Structure:
    """Li and Ti on the cation sites of a rock salt (Li+ and Ti3+ with share 0.5)."""
    structure = LIO.copy()
    for index in range(4):
        structure[index] = {"Li": share, "Ti": 1 - share}
    return structure


@pytest.mark.parametrize("seed", [0, 1])
def test_ewald_matrix_equals_pymatgen_and_is_quadratic_in_the_charges(seed):
    rng = np.random.default_rng(seed)
    lattice = Lattice.from_parameters(4.0, 6.5, 8.0, 70, 95, 112)
    species = ["Li+", "Cl-", "O2-", "Mg2+", "Li+"]
    structure = Structure(lattice, species, rng.random((5, 3)))
    matrix = ewald_matrix(lattice.matrix, structure.frac_coords)
    for change in ({}, {0: "Al3+"}, {1: "S2-", 3: "Na+"}):  # charged cells too
        for index, specie in change.items():
            structure.replace(index, specie)
        charges = np.array([site.specie.oxi_state for site in structure])
        assert charges @ matrix @ charges == pytest.approx(EwaldSummation(structure).total_energy, rel=1e-6)


def test_madelung_constant_of_rock_salt():
    matrix = ewald_matrix(LIO.lattice.matrix, LIO.frac_coords)
    charges = np.array([1.0] * 4 + [-1.0] * 4)
    assert charges @ matrix @ charges / 4 == pytest.approx(-1.747564594 * 14.3996454784 / 2.1, rel=1e-7)


@pytest.mark.parametrize(
    ("formula", "charges", "left"),
    [
        ("Li26.4La12Zr6.4Ta1.6O48", {"Li": 1, "La": 3, "Zr": 4, "Ta": 5, "O": -2}, 0.0),
        ("Li10GeP2S12", {"Li": 1, "Ge": 4, "P": 5, "S": -2}, 0.0),
        ("Li5V4P6O24", {"V": 3.25}, 0.0),
        ("Sb2O4", {"Sb": 4, "O": -2}, 0.0),  # Sb3+ and Sb5+: the mean is a whole charge away from either
        ("Li6.006PS5Br", {"P": 5, "S": -2, "Br": -1}, 0.006 / 13.006),
        ("La1.24Ti2O6", {"La": 3, "Ti": 4}, -0.28 / 9.24),
    ],
)
def test_charges_balance_or_say_what_is_left(formula, charges, left):
    found = guess_charges(Composition(formula))
    assert {s: found.of[s] for s in charges} == pytest.approx(charges) and found.per_atom == pytest.approx(left, abs=1e-9)


def test_charges_that_a_cif_gives_are_kept():
    assert guess_charges(Composition({"Fe2+": 1, "Fe3+": 2, "O2-": 4})).of["Fe"] == pytest.approx(8 / 3)


def test_lowest_orderings_are_neutral_exact_distinct_and_sorted():
    made = order(mixed_cations(), DisorderConfig(n=4, max_atoms=8, composition_tolerance=0))
    energies = [o.ewald_eV_per_atom for o in made.orderings]
    assert energies == sorted(energies) and made.charge_e == 0 and made.composition_error == 0 and made.method == "enumeration"
    assert all(o.structure.is_ordered and o.structure.composition.reduced_formula == "LiTiO2" for o in made.orderings)
    assert len(made.orderings) == 1, "2 of 4 fcc sites of one cubic cell: all six ways are one layering"


def test_orderings_differ_by_the_structure_matcher():
    made = order(mixed_cations().make_supercell([2, 1, 1], in_place=False), DisorderConfig(n=6, max_atoms=16))
    crystals = [o.structure for o in made.orderings]
    assert len(crystals) > 2 and len(StructureMatcher().group_structures(crystals)) == len(crystals)


def test_enumeration_and_annealing_find_the_same_minimum(monkeypatch):
    structure = mixed_cations().make_supercell([2, 1, 1], in_place=False)
    settings = DisorderConfig(n=2, max_atoms=16, composition_tolerance=0)
    exact = order(structure, settings)
    monkeypatch.setattr("sse_diffusion.verification.disorder.order.ENUMERATE_UP_TO", 0)
    annealed = order(structure, settings)
    assert (exact.method, annealed.method) == ("enumeration", "annealing")
    assert annealed.orderings[0].ewald_eV_per_atom == pytest.approx(exact.orderings[0].ewald_eV_per_atom, abs=1e-6)


def test_a_quarter_of_the_annealings_reach_the_minimum():
    structure = mixed_cations().make_supercell([2, 2, 1], in_place=False)
    groups, charges = sites.partial_groups(structure), guess_charges(structure.composition)
    counts = sites.whole_counts(groups, 1, -32.0, charges.of, 32)
    problem = decoration(structure, groups, counts, charges, 0.7)
    exact = problem.energies(search.all_states(problem))[0].min()
    found = problem.energies(search.anneal(problem, np.random.default_rng(0), 32))[0]
    assert (found < exact + 1e-6).mean() > 0.12, "3 % with a wrong change of energy"


def test_counts_are_rounded_to_a_neutral_cell():
    lithium = sites.Group(np.arange(4), ("Li", ""), np.array([0.6, 0.4]), ())
    mixed = sites.Group(np.arange(4, 8), ("Al", "Si"), np.array([0.4, 0.6]), ())
    found = sites.whole_counts([lithium, mixed], 1, -17.0, {"Li": 1.0, "Al": 3.0, "Si": 4.0}, 100)
    assert [c.tolist() for c in found.of] == [[3, 1], [2, 2]] and found.charge == 0.0, "2.4 Li and 1.6 Al by themselves give -1"
    assert found.deviation == pytest.approx(2 * 0.6 + 2 * 0.4)


def test_a_crystal_that_lacks_charge_is_not_filled_up():
    """2.4 Li against 6 negative charges: what is missing is elsewhere, so two ions stay nearest, not three."""
    found = sites.whole_counts([sites.Group(np.arange(4), ("Li", ""), np.array([0.6, 0.4]), ())], 1, -6.0, {"Li": 1.0}, 10)
    assert found.of[0].tolist() == [2, 2] and found.charge == -4.0


def test_nearly_full_is_full_and_nearly_empty_is_empty():
    shares = [{"Li": 0.9995}, {"Li": 0.4995, "Na": 0.5}, {"Li": 0.9}, {"Li": 0.6, "Na": 0.0005}]
    crystal = Structure(Lattice.cubic(9.0), shares, np.arange(4)[:, None] * [0.25, 0, 0])
    one, two, part, alone = (sites.site_species(site) for site in crystal)
    assert one == {"Li": 1.0} and sum(two.values()) == pytest.approx(1.0, abs=1e-12)
    assert part == {"Li": 0.9} and alone == {"Li": 0.6}
    assert sites.full_sites(crystal) == {0: "Li"} and [g.sites.tolist() for g in sites.partial_groups(crystal)] == [[1], [2], [3]]


def test_annealing_puts_one_atom_on_the_lower_half_of_each_split_site():
    """Eight atoms on eight pairs of halves, of which the second costs 0.5 eV: one of the 12870 arrangements."""
    clash = np.kron(np.eye(8), 1.0 - np.eye(2))
    atom, field = np.tile([1.0, 0.0], (16, 1)), np.tile([0.0, 0.5], 8)
    problem = search.Decoration((np.arange(16),), (np.array([8, 8]),), atom, atom, 0 * clash, field, clash, 0 * field)
    energies, clashes = problem.energies(search.anneal(problem, np.random.default_rng(0), 32))
    assert (clashes == 0).mean() > 0.95 and (energies == 0.0).mean() > 0.95


def test_energies_of_a_decoration_are_those_of_the_crystals_made():
    made = order(mixed_cations().make_supercell([2, 1, 1], in_place=False), DisorderConfig(n=3, n_random=2, max_atoms=16))
    for one in made.orderings:
        charged = one.structure.copy().add_oxidation_state_by_element({"Li": 1, "Ti": 3, "O": -2})
        assert EwaldSummation(charged).total_energy / len(charged) == pytest.approx(one.ewald_eV_per_atom, abs=1e-5)
    assert [o.kind for o in made.orderings][-2:] == ["random", "random"]


def test_split_sites_hold_one_atom():
    lattice = Lattice.cubic(5.0)
    split = Structure(
        lattice,
        [{"Li": 0.5}, {"Li": 0.5}, {"Li": 0.5}, {"Li": 0.5}, "Cl", "Cl"],
        [[0, 0, -0.03], [0, 0, 0.03], [0.5, 0.5, 0.47], [0.5, 0.5, 0.53], [0.5, 0.5, 0], [0, 0, 0.5]],
    )
    made = order(split, DisorderConfig(n=9, n_random=9, max_atoms=4))
    assert made.multiple == 1 and made.orderings
    for one in made.orderings:
        distances = one.structure.distance_matrix + 9 * np.eye(len(one.structure))
        assert one.structure.composition.formula == "Li2 Cl2" and distances.min() > 2.0


def test_a_site_inside_an_atom_stays_empty():
    """Electrostatics alone would put the cation right onto the anion."""
    salt = Structure(Lattice.cubic(5.0), [{"Li": 0.5}, {"Li": 0.5}, "Cl"], [[0.5, 0.5, 0.4], [0, 0, 0], [0.5] * 3])
    for kind in ({"n": 1}, {"n": 0, "n_random": 5}):
        for one in order(salt, DisorderConfig(**kind, max_atoms=2)).orderings:
            assert one.structure.get_distance(0, 1) > 2.0


def test_two_anions_are_not_put_as_near_as_a_peroxide():
    """1.45 A between oxygens of two split sites: nearer than any two oxide ions, farther than 0.7 of their covalent radii."""
    oxide = Structure(
        Lattice.cubic(5.0),
        [{"O": 0.5}] * 4 + ["Mg"] * 2,
        [[0, 0, 0], [0.29, 0, 0], [0.5, 0.5, 0], [0.79, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]],
    )
    for one in order(oxide, DisorderConfig(n=9, n_random=9, max_atoms=4)).orderings:
        oxygen = one.structure.indices_from_symbol("O")
        assert len(oxygen) == 2 and one.structure.get_distance(*oxygen) > 2.0


def test_occupancies_without_room_are_refused():
    crowded = Structure(Lattice.cubic(4.0), [{"Li": 0.9}, {"Li": 0.9}, "Cl"], [[0, 0, -0.04], [0, 0, 0.04], [0.5] * 3])
    with pytest.raises(DisorderError, match="more atoms than there is room for"):
        order(crowded)


def test_rounding_is_stated_and_a_larger_cell_does_better():
    structure = mixed_cations(0.4)
    small = order(structure, DisorderConfig(max_atoms=8))
    large = order(structure, DisorderConfig(max_atoms=40))
    assert (
        small.multiple == 1
        and small.misplaced_per_atom == pytest.approx(0.8 / 8)
        and small.composition_error == pytest.approx(0.05)
    )
    assert large.multiple > 1 and large.misplaced_per_atom < small.misplaced_per_atom
    assert large.orderings[0].structure.composition.num_atoms <= 40


def test_unbalanced_compositions_keep_their_occupancies():
    missing = Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.9), ["La", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]])
    missing[0] = {"La": 0.6}  # a Li-poor titanate whose Li the diffraction did not see
    made = order(missing, DisorderConfig(max_atoms=40))
    assert made.multiple == 5 and made.composition_error < 1e-9 and made.charge_e == pytest.approx(5 * (0.6 * 3 + 4 - 6))


def test_the_seed_decides():
    structure = mixed_cations(0.4)
    settings = [DisorderConfig(n=0, n_random=3, max_atoms=24, seed=s) for s in (1, 1, 2)]
    first, again, other = ([o.ewald_eV_per_atom for o in order(structure, s).orderings] for s in settings)
    assert first == again != other


def test_distinct_uses_the_symmetry():
    ring = np.array([np.roll(np.arange(6), k) for k in range(6)])
    states = np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 1], [1, 0, 0, 1, 0, 0]])
    assert search.distinct(states, ring).tolist() == [0, 2, 4]


def test_nothing_to_order_and_too_large():
    with pytest.raises(DisorderError, match="no partially occupied"):
        order(LIO)
    with pytest.raises(DisorderError, match="one cell holds 8 atoms"):
        order(mixed_cations(), DisorderConfig(max_atoms=4, hard_max_atoms=4))
    with pytest.raises(ConfigError, match="at least one"):
        DisorderConfig(n=0)


def test_ensemble_mean_spread_and_statuses():
    values = [Quantity(v, unit="eV") for v in (1.0, 2.0, 3.0)]
    mean = ensemble_average([*values, Quantity.failed("no", "eV")])
    assert mean.value == pytest.approx(2.0) and mean.uncertainty == pytest.approx(1.0) and mean.provenance["failed"] == 1
    bound = ensemble_average([values[0], Quantity(2.0, unit="eV", status=Status.UPPER_BOUND)])
    assert bound.status is Status.UPPER_BOUND
    assert math.isnan(ensemble_average(values[:1]).uncertainty)
    assert ensemble_average([Quantity.failed("no", "eV")]).status is Status.FAILED


def test_boltzmann_weights():
    gap, T_K = 0.05, 600.0
    weight = 1 / (1 + math.exp(-gap / (BOLTZMANN_eV_PER_K * T_K)))
    mean = ensemble_average([Quantity(0.0), Quantity(1.0)], [-3.0, -3.0 + gap], T_K)
    assert mean.value == pytest.approx(1 - weight) and mean.provenance["effective"] < 2


def test_a_failed_ordering_takes_its_energy_with_it():
    members, energies = [Quantity(0.0), Quantity(1.0)], [-3.0, -2.95]
    whole = ensemble_average(members, energies, 600.0)
    assert ensemble_average([Quantity.failed("no"), *members], [-9.0, *energies], 600.0).value == pytest.approx(whole.value)


def test_a_dopant_of_lower_charge_brings_mobile_ions_in():
    parent = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.1), ["Zr", "O"], [[0, 0, 0], [0.25] * 3])  # fluorite ZrO2
    disordered = doped(parent, DopingConfig(host="Zr", dopant="Y", fraction=0.25))
    assert disordered.composition["Li"] == pytest.approx(1.0) and disordered.composition["Y"] == pytest.approx(1.0)
    made = order(disordered, DisorderConfig(n=2, max_atoms=13, composition_tolerance=0))
    assert made.charge_e == 0 and made.orderings[0].structure.composition.formula == "Li1 Y1 Zr3 O8"


def test_fluorine_for_oxygen_leaves_lithium_vacancies():
    parent = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.6), ["O", "Li"], [[0, 0, 0], [0.25] * 3])  # Li2O
    disordered = doped(parent, DopingConfig(host="O", dopant="F", fraction=0.25))
    assert disordered.composition["Li"] == pytest.approx(7.0)
    made = order(disordered, DisorderConfig(max_atoms=12, composition_tolerance=0)).orderings[0].structure
    assert made.composition.formula == "Li7 O3 F1"


def test_vacancies_and_what_cannot_be_doped():
    parent = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.6), ["O", "Li"], [[0, 0, 0], [0.25] * 3])
    assert doped(parent, DopingConfig(host="O", fraction=0.25)).composition["Li"] == pytest.approx(6.0), "Li2O lost as a unit"
    with pytest.raises(ChemistryError, match="cannot have"):
        doped(parent, DopingConfig(host="S", dopant="F"))
    with pytest.raises(ChemistryError, match="compensate at once"):
        doped(parent, DopingConfig(host="Li", dopant="Mg", fraction=0.25))
    with pytest.raises(ChemistryError, match="would have to go"):
        doped(parent, DopingConfig(host="O", dopant="Cl", fraction=1.0, dopant_charge=7))


def test_voids_of_an_fcc_crystal_are_its_holes():
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.8), ["Cu"], [[0, 0, 0]])
    distance = copper.lattice.get_all_distances(voids(copper), copper.frac_coords).min(axis=1)
    assert (distance > 2.0).sum() >= 4 and distance.max() == pytest.approx(2.4, abs=0.1), "octahedral holes, a/2 from the atoms"
