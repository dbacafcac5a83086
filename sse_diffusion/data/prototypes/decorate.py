"""Crystals from prototypes: charge-balanced substitution, volumes from sums of ionic radii. Deterministic, no randomness.

For a prototype with cation-anion contacts p of mean length d_p and multiplicity n_p, an assignment of ions to roles has
radius sums L_p. With L_p^0 those of the parent compound, the cell is scaled linearly by

    s = sum_p n_p L_p / sum_p n_p L_p^0

so the parent keeps its measured volume. How badly the ions fit the type is max_p |L_p / (s L_p^0) - 1|, the misfit: a
Goldschmidt tolerance factor for any structure type.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sse_diffusion.data.prototypes.ions import IONS, MOBILE_WEIGHT
from sse_diffusion.data.prototypes.library import PROTOTYPES
from sse_diffusion.data.prototypes.prototype import Prototype
from sse_diffusion.data.prototypes.radii import ionic_radius, smallest_coordination
from sse_diffusion.data.rows import CrystalRow, Rejection, TableReport
from sse_diffusion.data.validation import ValidationConfig, validate_crystals

SHELL = 1.25
"""Counter-ions within this factor of the nearest one form the coordination shell."""

RADIUS_RATIO: tuple[tuple[int, float, float], ...] = (
    (3, -0.10, 0.75),
    (4, 0.08, 0.65),
    (5, 0.20, 0.80),
    (6, 0.30, 1.30),
    (8, 0.45, 1.40),
    (99, 0.55, 2.00),
)
"""Cation/anion radius ratios accepted up to a coordination number (generous bounds around Pauling's first rule)."""

Assignment = tuple[tuple[str, int], ...]
"""(element, charge) per role, in the order of the prototype's roles."""


@dataclass(frozen=True, kw_only=True)
class DecorationConfig:
    """How far substitution goes.

    Attributes:
        max_per_prototype: most crystals per prototype; the parent is always kept. 0 keeps only the parents.
        max_misfit: largest misfit (see the module's text).
        min_electronegativity_difference: smallest Pauling difference of every anion and cation: ionic compounds only.
        labels: label names set to NaN on every row.
    """

    max_per_prototype: int = 100
    max_misfit: float = 0.12
    min_electronegativity_difference: float = 0.2
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Geometry:
    """What decoration needs to know about a prototype, worked out once.

    Attributes:
        lattice: primitive cell of the parent, row vectors, Angstrom.
        frac: fractional coordinates, shape (N, 3).
        role: index of each atom's role, shape (N,).
        coordination: coordination number per role (rounded mean).
        contacts: (role, role) -> number of contacts in the primitive cell.
        distances: (role, role) -> mean contact length, Angstrom.
    """

    lattice: NDArray[np.float64]
    frac: NDArray[np.float64]
    role: NDArray[np.int64]
    coordination: tuple[int, ...]
    contacts: dict[tuple[int, int], int]
    distances: dict[tuple[int, int], float]


def decorated_crystals(
    config: DecorationConfig | None = None,
    validation: ValidationConfig | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> TableReport:
    """All prototypes, decorated and validated; ids read ``<prototype>-<formula in role order>``.

    Args:
        config: how far substitution goes.
        validation: limits of a believable crystal; what fails them is reported, not dropped.
        limit: keep only the first crystals.
        progress: show a progress bar.
    """
    start = time.perf_counter()
    config = config or DecorationConfig()
    bar = tqdm(PROTOTYPES.values(), desc="prototypes", unit="type", disable=not progress, leave=False)
    rows = [row for proto in bar for row in decorate(proto, config)][:limit]
    lattice = np.stack([row.lattice for row in rows])
    findings = validate_crystals([row.species for row in rows], [row.frac for row in rows], lattice, validation)
    accepted = [row for row, finding in zip(rows, findings, strict=True) if finding is None]
    rejected = [
        Rejection(i, row.id, finding.reason, finding.detail)
        for i, (row, finding) in enumerate(zip(rows, findings, strict=True))
        if finding is not None
    ]
    return TableReport(f"{len(PROTOTYPES)} embedded prototypes", accepted, rejected, time.perf_counter() - start)


def decorate(proto: Prototype, config: DecorationConfig) -> Iterator[CrystalRow]:
    """The parent of a prototype, then its decorations in a fixed, hashed order that prefers mobile ions."""
    geometry = geometry_of(proto)
    parent: Assignment = tuple((role.element, role.charge) for role in proto.roles.values())
    found: dict[str, Assignment] = {}
    for assignment in _assignments(proto, geometry, config):
        found.setdefault(_name(proto, assignment), assignment)
    parent_name = _name(proto, parent)
    found.pop(parent_name, None)
    chosen = sorted(found, key=_priority(found))[: max(0, config.max_per_prototype - 1)]
    for name in (parent_name, *chosen):
        assignment = parent if name == parent_name else found[name]
        scale, _ = scale_and_misfit(geometry, assignment, parent)
        numbers = np.array([_atomic_number(element) for element, _ in assignment], dtype=np.int64)
        labels: dict[str, float | str] = dict.fromkeys(config.labels, math.nan)
        yield CrystalRow(name, numbers[geometry.role], geometry.frac.copy(), geometry.lattice * scale, labels)


@lru_cache(maxsize=256)
def geometry_of(proto: Prototype) -> Geometry:
    """Primitive cell and cation-anion contacts of a prototype's parent."""
    import spglib
    from pymatgen.core import Lattice, Structure

    full = proto.structure()
    index = {role: i for i, role in enumerate(proto.roles)}
    kinds = [index[role] + 1 for role in full.site_properties["role"]]
    lattice, frac, kinds = spglib.find_primitive((full.lattice.matrix, full.frac_coords, kinds), symprec=1e-3)
    role = np.asarray(kinds, dtype=np.int64) - 1
    elements = [tuple(proto.roles.values())[r].element for r in role]
    frac = frac % 1.0
    frac[frac >= 1.0] = 0.0
    charges = np.array(proto.parent_charges)
    shells: dict[int, list[int]] = defaultdict(list)
    lengths: dict[tuple[int, int], list[float]] = defaultdict(list)
    for atom, neighbours in enumerate(Structure(Lattice(lattice), elements, frac).get_all_neighbors(6.0)):
        own = int(role[atom])
        counter = sorted((n.nn_distance, int(role[n.index])) for n in neighbours if charges[role[n.index]] * charges[own] < 0)
        shell = [(d, other) for d, other in counter if d <= SHELL * counter[0][0]]
        shells[own].append(len(shell))
        if charges[own] > 0:
            for distance, other in shell:
                lengths[own, other].append(distance)
    coordination = tuple(round(float(np.mean(shells[r]))) for r in range(len(proto.roles)))
    contacts = {pair: len(values) for pair, values in lengths.items()}
    return Geometry(lattice, frac, role, coordination, contacts, {pair: float(np.mean(v)) for pair, v in lengths.items()})


def scale_and_misfit(geometry: Geometry, assignment: Assignment, parent: Assignment) -> tuple[float, float]:
    """Linear scale of the cell and misfit of an assignment (equations in the module's text)."""
    new = {pair: _radius_sum(geometry, assignment, pair) for pair in geometry.contacts}
    old = {pair: _radius_sum(geometry, parent, pair) for pair in geometry.contacts}
    scale = sum(n * new[p] for p, n in geometry.contacts.items()) / sum(n * old[p] for p, n in geometry.contacts.items())
    return scale, max(abs(new[p] / (scale * old[p]) - 1.0) for p in new)


def _radius_sum(geometry: Geometry, assignment: Assignment, pair: tuple[int, int]) -> float:
    return sum(ionic_radius(*assignment[role], geometry.coordination[role]) for role in pair)


def _assignments(proto: Prototype, geometry: Geometry, config: DecorationConfig) -> Iterator[Assignment]:
    """Every assignment that is neutral, ionic, of fitting radius ratios and small misfit."""
    parent: Assignment = tuple((role.element, role.charge) for role in proto.roles.values())
    for charges in (proto.parent_charges, *proto.patterns):
        choices = [
            [(element, charge) for element in IONS[charge] if not role.only or element in role.only]
            for role, charge in zip(proto.roles.values(), charges, strict=True)
        ]
        for assignment in itertools.product(*choices):
            elements = [element for element, _ in assignment]
            if len(set(elements)) < len(elements) or not _ionic(geometry, assignment, config):
                continue
            if scale_and_misfit(geometry, assignment, parent)[1] <= config.max_misfit:
                yield assignment


def _ionic(geometry: Geometry, assignment: Assignment, config: DecorationConfig) -> bool:
    """Electronegativity of all cation-anion pairs; coordination and radius ratio of those in contact."""
    anions = [_electronegativity(e) for e, q in assignment if q < 0]
    cations = [_electronegativity(e) for e, q in assignment if q > 0]
    if min(anions) - max(cations) < config.min_electronegativity_difference:
        return False
    for first, second in geometry.contacts:
        cation, anion = (first, second) if assignment[first][1] > 0 else (second, first)
        coordination = geometry.coordination[cation]
        if coordination > 2 and smallest_coordination(*assignment[cation]) > coordination + 1:
            return False  # e.g. gadolinium in a tetrahedron; linear sites pass, the table hardly lists them
        ratio = ionic_radius(*assignment[cation], coordination) / ionic_radius(*assignment[anion], geometry.coordination[anion])
        low, high = next((lo, hi) for limit, lo, hi in RADIUS_RATIO if coordination <= limit)
        if not low <= ratio <= high:
            return False
    return True


def _priority(found: dict[str, Assignment]) -> Callable[[str], float]:
    """Sort key: weighted order by exponential keys (Efraimidis, Spirakis 2006), the uniform numbers being hashes of the names."""

    def key(name: str) -> float:
        """The exponential key of a name; small ones come first."""
        digest = hashlib.sha256(name.encode()).digest()
        uniform = (int.from_bytes(digest[:8], "big") + 1) / (2**64 + 1)
        weight = max(MOBILE_WEIGHT.get(element, 1.0) for element, _ in found[name])
        return -math.log(uniform) / weight

    return key


def _name(proto: Prototype, assignment: Assignment) -> str:
    """``spinel-MgAl2O4``: prototype and formula with the elements in the order of the roles."""
    counts = list(proto.counts().values())
    divisor = math.gcd(*counts)
    parts = [f"{e}{n // divisor if n != divisor else ''}" for (e, _), n in zip(assignment, counts, strict=True)]
    return f"{proto.name}-{''.join(parts)}"


@lru_cache(maxsize=128)
def _atomic_number(element: str) -> int:
    from pymatgen.core import Element

    return int(Element(element).Z)


@lru_cache(maxsize=128)
def _electronegativity(element: str) -> float:
    from pymatgen.core import Element

    return float(Element(element).X)
