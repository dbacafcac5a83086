"""Prototypes: symmetry, neutrality and bond lengths of every parent; decorations neutral, valid, deterministic, plentiful."""

from __future__ import annotations

import math

import numpy as np
import pytest
import spglib

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.prototypes.decorate import DecorationConfig, Geometry, decorate, decorated_crystals, geometry_of
from sse_diffusion.data.prototypes.ions import IONS
from sse_diffusion.data.prototypes.library import PROTOTYPES, prototype
from sse_diffusion.data.prototypes.radii import ionic_radius
from sse_diffusion.data.rows import CrystalRow, TableReport
from sse_diffusion.data.sources import load_source

NAMES = list(PROTOTYPES)


@pytest.fixture(scope="module")
def report() -> TableReport:
    """The default library of crystals."""
    return decorated_crystals(DecorationConfig(max_per_prototype=60, labels=("band_gap_eV",)), progress=False)


def space_group(row: CrystalRow, symprec: float = 1e-3) -> int:
    """Space-group number of a row by spglib."""
    return spglib.get_symmetry_dataset((row.lattice, row.frac, row.species), symprec=symprec).number


@pytest.mark.parametrize("name", NAMES)
def test_parent_has_its_space_group_multiplicities_and_no_charge(name: str) -> None:
    proto = PROTOTYPES[name]
    parent = proto.structure()
    data = spglib.get_symmetry_dataset((parent.lattice.matrix, parent.frac_coords, parent.atomic_numbers), symprec=1e-3)
    assert data.number == proto.number
    assert len(parent) == sum(site.multiplicity for site in proto.sites)
    assert len({role.element for role in proto.roles.values()}) == len(proto.roles)
    for charges in (proto.parent_charges, *proto.patterns):
        assert proto.net_charge(charges) == 0, charges
        assert all(charge in IONS for charge in charges)
    assert any(year in proto.reference for year in map(str, range(1930, 2026)))


@pytest.mark.parametrize("name", NAMES)
def test_parent_distances_are_those_of_ionic_radii(name: str) -> None:
    """Nearest counter-ion of every ion within 25 % of the sum of Shannon radii."""
    proto = PROTOTYPES[name]
    shape = geometry_of(proto)
    ions = [(role.element, role.charge) for role in proto.roles.values()]
    charges = np.array(proto.parent_charges)[shape.role]
    for atom in range(len(shape.role)):
        nearest, partner = min(_neighbours(shape, atom, charges))
        own, other = shape.role[atom], shape.role[partner]
        expected = ionic_radius(*ions[own], shape.coordination[own]) + ionic_radius(*ions[other], shape.coordination[other])
        assert nearest == pytest.approx(expected, rel=0.25), (ions[own], ions[other])


def _neighbours(shape: Geometry, atom: int, charges: np.ndarray) -> list[tuple[float, int]]:
    """(distance, index) of all counter-ions over the neighbouring cells."""
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    distance = np.linalg.norm((shape.frac[:, None] + grid - shape.frac[atom]) @ shape.lattice, axis=-1).min(axis=1)
    return [(float(distance[j]), j) for j in range(len(charges)) if charges[j] * charges[atom] < 0]


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("rock_salt", 44.86),
        ("spinel", 132.0),
        ("olivine", 291.4),
        ("lgps", 957.3),
        ("argyrodite", 239.6),
        ("tetragonal_llzo", 1092.2),
    ],
)
def test_parent_keeps_its_measured_cell(name: str, volume: float) -> None:
    """Primitive-cell volumes in Angstrom^3 from the published lattice parameters."""
    parent = next(decorate(PROTOTYPES[name], DecorationConfig(max_per_prototype=1)))
    assert abs(np.linalg.det(parent.lattice)) == pytest.approx(volume, rel=2e-3)


def test_library_is_large_enough_valid_and_named_uniquely(report: TableReport) -> None:
    assert len(NAMES) >= 25
    assert len(report.rows) >= 1500
    assert report.rejected == []
    assert len({row.id for row in report.rows}) == len(report.rows)
    assert {row.id.split("-")[0] for row in report.rows} == set(NAMES)
    assert all(math.isnan(row.labels["band_gap_eV"]) and row.split is None for row in report.rows)
    lithium = sum(3 in row.species for row in report.rows)
    assert lithium / len(report.rows) > 0.1


def test_decorations_keep_the_symmetry_of_their_prototype(report: TableReport) -> None:
    for row in report.rows[::25]:
        assert space_group(row) == PROTOTYPES[row.id.split("-")[0]].number, row.id


def test_decorations_are_neutral(report: TableReport) -> None:
    """Some combination of the ions' listed charges makes every crystal neutral, role by role as in the prototype."""
    charges_of = {element: {q for q, elements in IONS.items() if element in elements} for es in IONS.values() for element in es}
    for row in report.rows:
        proto = PROTOTYPES[row.id.split("-")[0]]
        roles = geometry_of(proto).role
        elements = [_symbol(int(row.species[np.flatnonzero(roles == r)[0]])) for r in range(len(proto.roles))]
        patterns = (proto.parent_charges, *proto.patterns)
        assert any(all(q in charges_of[e] for e, q in zip(elements, p, strict=True)) for p in patterns), row.id


def _symbol(number: int) -> str:
    from pymatgen.core import Element

    return Element.from_Z(number).symbol


def test_known_compounds_get_reasonable_cells(report: TableReport) -> None:
    """Cubic lattice constants of compounds that are not parents, measured values in Angstrom, within 6 %."""
    everything = {row.id: row for name in ("rock_salt", "fluorite", "perovskite", "spinel", "antifluorite")
                  for row in decorate(PROTOTYPES[name], DecorationConfig(max_per_prototype=10_000))}  # fmt: skip
    measured = {
        "rock_salt-LiF": 4.026, "rock_salt-KI": 7.066, "rock_salt-MgO": 4.211, "fluorite-BaF2": 6.200, "fluorite-CeO2": 5.411,
        "perovskite-BaZrO3": 4.193, "perovskite-KMgF3": 3.989, "spinel-ZnCr2O4": 8.327, "antifluorite-OLi2": 4.611,
    }  # fmt: skip
    centring = {"rock_salt": 4, "fluorite": 4, "perovskite": 1, "spinel": 4, "antifluorite": 4}
    for name, a in measured.items():
        volume = abs(np.linalg.det(everything[name].lattice)) * centring[name.split("-")[0]]
        assert volume ** (1 / 3) == pytest.approx(a, rel=0.06), name


def test_decoration_is_deterministic() -> None:
    config = DecorationConfig(max_per_prototype=20)
    first, second = (list(decorate(PROTOTYPES["spinel"], config)) for _ in range(2))
    assert [row.id for row in first] == [row.id for row in second]
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.lattice, b.lattice) and np.array_equal(a.frac, b.frac) and np.array_equal(a.species, b.species)
    more = [row.id for row in decorate(PROTOTYPES["spinel"], DecorationConfig(max_per_prototype=30))]
    assert more[:20] == [row.id for row in first]


def test_source_gives_split_rows_within_the_size_limit() -> None:
    cfg = {"kind": "prototypes", "max_per_prototype": 3, "labels": ["x"], "validation": {"max_sites": 52}, "progress": False}
    loaded = load_source(cfg)
    assert {row.split for row in loaded.rows} <= {"train", "val"}
    assert max(row.n_atoms for row in loaded.rows) <= 52
    assert loaded.counts().keys() == {"too many sites"}  # the garnets, refused by name


def test_unknown_prototype_and_ion_are_refused_with_a_hint() -> None:
    with pytest.raises(DataError, match="did you mean 'spinel'"):
        prototype("spinell")
    with pytest.raises(DataError, match=r"no ionic radius for He\+4"):
        ionic_radius("He", 4, 6)
