"""From partial occupancies to ordered supercells: the electrostatically lowest ones, and random ones for an ensemble.

1. The smallest compact supercell in which whole atoms represent the occupancies well enough, else the best within the size limit.
2. Whole atoms on each group of sites, as neutral as possible; what rounding changed is stated.
3. Two sites nearer than ``min_distance`` times the sum of the covalent radii exclude each other when one of them may stay empty:
   a split site holds one atom.
4. Ewald energies of all decorations up to symmetry for small cells, of annealed ones otherwise; the lowest crystals are kept.

Point charges order what differs in charge. Ions of one charge (S and Se, Cl and Br) are drawn at random on their sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.verification.disorder import search, sites
from sse_diffusion.verification.disorder.charges import Charges, guess_charges
from sse_diffusion.verification.disorder.electrostatics import ewald_matrix

if TYPE_CHECKING:
    from pymatgen.core import Structure

ENUMERATE_UP_TO = 20_000
SYMPREC_A = 0.01
SAME_eV = 1e-4
"""Cells whose electrostatic energies differ by less may be the same crystal."""
ANION_MARGIN = 0.4
"""Added to ``min_distance`` between two anions: their covalent radii say little of how near they come (peroxides: 1.45 A)."""


class DisorderError(DataError):
    """A disordered crystal of which no ordered supercell can be made, with the reason."""


@dataclass(frozen=True, kw_only=True)
class DisorderConfig:
    """How disordered crystals are ordered.

    Attributes:
        n: how many of the electrostatically lowest orderings.
        n_random: how many random ones besides, drawn among those in which no two atoms sit too near.
        max_atoms: size up to which cells are multiplied to represent the occupancies.
        hard_max_atoms: a single cell may be as large as this.
        composition_tolerance: misplaced atoms per atom that a supercell may have to be good enough; larger multiples are tried
            else.
        min_distance: sites nearer than this times the sum of the covalent radii exclude each other. When no decoration fits,
            half of the way to ``loose_distance`` and then that is tried, and the result says so.
        loose_distance: see above.
        seed: of annealing and random draws.
    """

    n: int = 1
    n_random: int = 0
    max_atoms: int = 64
    hard_max_atoms: int = 200
    composition_tolerance: float = 0.02
    min_distance: float = 0.7
    loose_distance: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers without meaning (ConfigError)."""
        if self.n < 0 or self.n_random < 0 or self.n + self.n_random < 1:
            raise ConfigError(f"disorder asks for n={self.n} and n_random={self.n_random} orderings", "ask for at least one")
        if not 1 <= self.max_atoms <= self.hard_max_atoms:
            raise ConfigError(
                f"disorder.max_atoms={self.max_atoms} and hard_max_atoms={self.hard_max_atoms}",
                "1 <= max_atoms <= hard_max_atoms",
            )


@dataclass(frozen=True)
class Ordering:
    """One ordered supercell.

    Attributes:
        structure: ordered, without oxidation states.
        ewald_eV_per_atom: electrostatic energy of the point charges.
        kind: ``lowest`` or ``random``.
    """

    structure: Structure
    ewald_eV_per_atom: float
    kind: Literal["lowest", "random"]


@dataclass(frozen=True)
class Orderings:
    """All orderings of one disordered crystal and what they stand for.

    Attributes:
        orderings: lowest first, then random ones; fewer than asked for when there are no more distinct ones.
        multiple: cells in the supercell.
        composition_error: largest difference of an element's atomic fraction from the average crystal.
        misplaced_per_atom: atoms by which the counts on the sites differ from the occupancies, per atom.
        charge_e: of the supercell with the charges used.
        charges: those charges.
        arrangements: decorations with these counts, symmetry not used.
        method: ``enumeration`` or ``annealing``.
        min_distance: the fraction of the covalent radii that was kept (the configured one, unless nothing fitted).
    """

    orderings: tuple[Ordering, ...]
    multiple: int
    composition_error: float
    misplaced_per_atom: float
    charge_e: float
    charges: Charges = field(repr=False)
    arrangements: float
    method: Literal["enumeration", "annealing"]
    min_distance: float

    def facts(self) -> dict[str, Any]:
        """Flat JSON values for records and ledgers."""
        return {
            "disorder_multiple": self.multiple,
            "disorder_composition_error": round(self.composition_error, 5),
            "disorder_misplaced_per_atom": round(self.misplaced_per_atom, 5),
            "disorder_charge_e": round(self.charge_e, 3),
            "disorder_arrangements": self.arrangements,
            "disorder_method": self.method,
            "disorder_min_distance": self.min_distance,
        }


def order(structure: Structure, config: DisorderConfig | None = None) -> Orderings:
    """Ordered supercells of a crystal with partial occupancies.

    Args:
        structure: with at least one partially occupied or mixed site; the cell is taken as it is (give the primitive one).

    Raises:
        DisorderError: nothing to order, too large, or no decoration without two atoms on one place.
    """
    config = config or DisorderConfig()
    groups = sites.partial_groups(structure)
    if not groups:
        raise DisorderError("the crystal has no partially occupied site", "it can be used as it is")
    charges = guess_charges(structure.composition)
    multiple, counts = _multiple(structure, groups, charges, config)
    supercell = _supercell(structure, multiple)
    in_supercell = {g.key: g for g in sites.partial_groups(supercell)}
    groups = [in_supercell[g.key] for g in groups]  # a supercell may list its sites in another order
    for min_distance in np.linspace(config.min_distance, config.loose_distance, 3).tolist():
        problem = decoration(supercell, groups, counts, charges, min_distance)
        found = _search(problem, supercell, groups, config)
        if found is not None:
            break
    else:
        raise DisorderError(
            "no decoration was found without two atoms on sites that exclude each other (nearer than "
            f"{config.loose_distance:g} of their covalent radii): the occupancies ask for more atoms than there is room for",
            "look at the partial occupancies of neighbouring sites in the CIF",
        )
    method, kept = found
    orderings = tuple(
        Ordering(made := _decorated(supercell, groups, state), energy / len(made), kind) for state, energy, kind in kept
    )
    n_atoms = len(orderings[0].structure)
    return Orderings(
        orderings, multiple, _composition_error(structure, orderings[0].structure), counts.deviation / n_atoms, counts.charge,
        charges, problem.arrangements(), method, min_distance,
    )  # fmt: skip


def _multiple(
    structure: Structure, groups: Sequence[sites.Group], charges: Charges, config: DisorderConfig
) -> tuple[int, sites.Counts]:
    """The number of cells and the whole atoms in them."""
    fixed_charge = sum(charges.of.get(s, 0.0) for s in sites.full_sites(structure).values())
    per_cell = structure.composition.num_atoms
    if per_cell > config.hard_max_atoms:
        raise DisorderError(
            f"one cell holds {per_cell:.0f} atoms (> {config.hard_max_atoms})",
            "raise disorder.hard_max_atoms, or give a smaller cell",
        )
    best: tuple[float, int, sites.Counts] | None = None
    for multiple in range(1, max(1, int(config.max_atoms / per_cell)) + 1):
        counts = sites.whole_counts(groups, multiple, fixed_charge, charges.of, per_cell)
        error = counts.deviation / (per_cell * multiple)
        if best is None or error < best[0] - 1e-9:
            best = error, multiple, counts
        if error <= config.composition_tolerance:
            break
    assert best is not None
    return best[1], best[2]


def _supercell(structure: Structure, multiple: int) -> Structure:
    """The most compact supercell of that multiple."""
    from sse_diffusion.verification.supercell import compact_multiple

    return compact_multiple(structure, [multiple]).structure


def decoration(
    supercell: Structure, groups: Sequence[sites.Group], counts: sites.Counts, charges: Charges, min_distance: float
) -> search.Decoration:
    """Sites, charges, couplings and exclusions as arrays; fields as in :class:`Orderings` and :class:`DisorderConfig`."""
    open_sites = np.concatenate([g.sites for g in groups])
    full = sites.full_sites(supercell)
    closed = np.array(list(full), dtype=np.int64)
    width = max(len(g.species) for g in groups)
    options = [g.species + ("",) * (width - len(g.species)) for g in groups for _ in g.sites]
    charge = np.array([[charges.of.get(s, 0.0) for s in row] for row in options])
    filled = np.array([[float(s != "") for s in row] for row in options])
    matrix = _coupling(supercell)
    fixed = np.array([charges.of.get(full[i], 0.0) for i in closed])
    near = supercell.distance_matrix / _contact(supercell) < min_distance + ANION_MARGIN * _anion_pairs(supercell, charges)
    may_be_empty = np.array(["" in g.species for g in groups for _ in g.sites])
    clash = near[np.ix_(open_sites, open_sites)] & (may_be_empty[:, None] | may_be_empty[None])
    np.fill_diagonal(clash, False)
    blocked = near[np.ix_(open_sites, closed)].sum(axis=1) * may_be_empty
    ends = np.cumsum([len(g.sites) for g in groups])
    return search.Decoration(
        groups=tuple(np.arange(e - len(g.sites), e) for g, e in zip(groups, ends, strict=True)),
        counts=counts.of,
        charge=charge,
        filled=filled,
        coupling=matrix[np.ix_(open_sites, open_sites)],
        field=2 * matrix[np.ix_(open_sites, closed)] @ fixed,
        clash=clash.astype(np.float64),
        blocked=blocked.astype(np.float64),
        constant_eV=float(fixed @ matrix[np.ix_(closed, closed)] @ fixed),
    )


def _coupling(supercell: Structure) -> NDArray[np.float64]:
    """Ewald matrix of all sites."""
    return ewald_matrix(np.asarray(supercell.lattice.matrix), np.asarray(supercell.frac_coords))


def _contact(supercell: Structure) -> NDArray[np.float64]:
    """(N, N) smallest sum of covalent radii of any two species that the sites may hold, Angstrom."""
    radii = np.array([min(_radius(s) for s in sites.site_species(site)) for site in supercell])
    return radii[:, None] + radii[None]


def _anion_pairs(supercell: Structure, charges: Charges) -> NDArray[np.bool_]:
    """(N, N) true where both sites hold anions whatever they hold."""
    anion = np.array([all(charges.of.get(s, 0.0) < 0 for s in sites.site_species(site)) for site in supercell])
    return anion[:, None] & anion[None]


@lru_cache(maxsize=128)
def _radius(symbol: str) -> float:
    """Covalent radius, Angstrom (B. Cordero et al., Dalton Trans. 2832 (2008), as in ASE)."""
    from ase.data import atomic_numbers, covalent_radii

    return float(covalent_radii[atomic_numbers["H" if symbol in ("D", "T") else symbol]])


Found = tuple[Literal["enumeration", "annealing"], list[tuple[NDArray[np.int64], float, Literal["lowest", "random"]]]]


def _search(
    problem: search.Decoration, supercell: Structure, groups: Sequence[sites.Group], config: DisorderConfig
) -> Found | None:
    """The states to keep with their energies; ``None`` when every one that was found has a clash."""
    rng = np.random.default_rng(config.seed)
    enumerate_all = problem.arrangements() <= ENUMERATE_UP_TO
    states = search.all_states(problem) if enumerate_all else search.anneal(problem, rng, max(search.REPLICAS, 2 * config.n))
    energies, clashes = problem.energies(states)
    states, energies = states[clashes < 0.5], energies[clashes < 0.5]
    if not len(states):
        return None
    kinds = search.distinct(states, _permutations(supercell, groups))
    states, energies = states[kinds], energies[kinds]
    kept: list[tuple[NDArray[np.int64], float, Literal["lowest", "random"]]] = []
    kept += [(states[k], float(energies[k]), "lowest") for k in _lowest(states, energies, supercell, groups, config.n)]
    if config.n_random:
        drawn = _random(problem, states if enumerate_all else None, config.n_random, rng)
        kept += [(state, float(energy), "random") for state, energy in zip(drawn, problem.energies(drawn)[0], strict=True)]
    return ("enumeration" if enumerate_all else "annealing"), kept


def _lowest(
    states: NDArray[np.int64], energies: NDArray[np.float64], supercell: Structure, groups: Sequence[sites.Group], number: int
) -> list[int]:
    """Indices of the lowest states that are different crystals.

    The symmetry of the supercell does not know rotations of the crystal that turn the supercell into another one; states of equal
    energy are therefore compared as structures.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(ltol=0.01, stol=0.02, angle_tol=1, scale=False)
    kept: dict[int, Structure] = {}
    for index in np.argsort(energies, kind="stable").tolist():
        if len(kept) == number:
            break
        crystal = _decorated(supercell, groups, states[index])
        rivals = [other for k, other in kept.items() if abs(energies[k] - energies[index]) < SAME_eV]
        if not any(matcher.fit(other, crystal) for other in rivals):
            kept[index] = crystal
    return list(kept)


def _random(
    problem: search.Decoration, states: NDArray[np.int64] | None, number: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Random states without clashes: of all that there are, or annealed with the clashes as the only energy."""
    if states is not None:
        return states[rng.permutation(len(states))[:number]]
    drawn = search.anneal(problem.without_charges(), rng, 4 * number)
    return drawn[problem.energies(drawn)[1] < 0.5][:number]


def _permutations(supercell: Structure, groups: Sequence[sites.Group]) -> NDArray[np.int64]:
    """(G, n) image of each open site under the symmetry of the average crystal; the identity alone when none is found."""
    import spglib
    from scipy.spatial import cKDTree

    open_sites = np.concatenate([g.sites for g in groups])
    identity = np.arange(len(open_sites))[None]
    kinds = np.zeros(len(supercell), dtype=np.int64)
    for number, group in enumerate(groups, start=1):
        kinds[group.sites] = number
    for index, symbol in sites.full_sites(supercell).items():
        kinds[index] = 1000 + supercell[index].species.elements[0].Z if symbol else 0
    frac = np.asarray(supercell.frac_coords) % 1.0 % 1.0
    found = spglib.get_symmetry((supercell.lattice.matrix, frac, kinds), symprec=SYMPREC_A)
    if found is None:
        return identity
    tree = cKDTree(frac[open_sites] % 1.0, boxsize=1.0)
    tolerance = 3 * SYMPREC_A / min(supercell.lattice.abc)
    images = []
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        distance, image = tree.query((frac[open_sites] @ rotation.T + translation) % 1.0 % 1.0)
        if distance.max() < tolerance and len(set(image.tolist())) == len(image):
            images.append(image)
    return np.array(images) if images else identity


def _decorated(supercell: Structure, groups: Sequence[sites.Group], state: NDArray[np.int64]) -> Structure:
    """The ordered supercell of one state, sorted by element."""
    from pymatgen.core import Structure

    symbols = dict(sites.full_sites(supercell))
    names = [name for g in groups for name in [g.species] * len(g.sites)]
    for site, options, option in zip(np.concatenate([g.sites for g in groups]), names, state, strict=True):
        symbols[int(site)] = options[option]
    occupied = [i for i in range(len(supercell)) if symbols.get(i)]
    frac = np.asarray(supercell.frac_coords)[occupied]
    return Structure(supercell.lattice, [symbols[i] for i in occupied], frac).get_sorted_structure()


def _composition_error(average: Structure, ordered: Structure) -> float:
    """Largest difference of an element's atomic fraction."""
    wanted, made = average.composition.element_composition, ordered.composition.element_composition
    symbols = {e.symbol for e in wanted} | {e.symbol for e in made}
    return max(abs(wanted[s] / wanted.num_atoms - made[s] / made.num_atoms) for s in symbols)
