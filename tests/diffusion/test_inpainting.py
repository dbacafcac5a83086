"""Inpainting: what is held stays exactly, counts come out exactly, views describe the same framework, bad input is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import ChemistryError, ConfigError, DataError, SSEError
from sse_diffusion.data.prototypes.library import prototype
from sse_diffusion.diffusion.fix import FixConfig, Given, distinct, inpaint_candidates
from sse_diffusion.diffusion.framework_views import subgroups
from sse_diffusion.diffusion.heun import heun
from sse_diffusion.diffusion.inpainting import Inpainting
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.predictor_corrector import predictor_corrector
from sse_diffusion.diffusion.samplers import SamplerConfig, Start, euler_ancestral
from sse_diffusion.thermo.chemistry import Chemistry
from sse_diffusion.thermo.request import Request

LI = Request({"mobile_ion": "Li"}, Chemistry(require=frozenset({"Li"})), mobile_ion="Li")
QUICK = SamplerConfig(refine_steps=2, max_rounds=8)
POSCAR = Structure.from_spacegroup("Pnma", Lattice.orthorhombic(6.1, 10.5, 4.9), ["Li", "P", "O"],
                                   [[0.3, 0.02, 0.1], [0.1, 0.25, 0.42], [0.4, 0.25, 0.2]])  # fmt: skip
"""Two framework orbits of Pnma and a general one of lithium: 8 Li, 4 P, 4 O."""


def task(model: CrystalModel, structure: Structure, request: Request = LI, **fix: object) -> tuple[Given, Inpainting]:
    asked = FixConfig(**fix)  # type: ignore[arg-type]
    given = Given.of(structure, asked, request)
    return given, given.task(model, asked, request, QUICK, 0)


def apart(a: np.ndarray, b: np.ndarray) -> float:
    difference = a - b
    return float(np.abs(difference - np.round(difference)).max())


def framework_of(structure: Structure) -> Structure:
    return Structure.from_sites([s for s in structure if s.specie.symbol != "Li"])


@pytest.mark.parametrize("name", ["lgps", "cubic_sodium_thiophosphate", "lithium_yttrium_chloride", "scheelite_fluoride"])
def test_every_view_is_the_same_framework(name: str) -> None:
    given = Given.of(prototype(name).structure(), FixConfig(), Request({}, Chemistry(), mobile_ion=_ion(name)))
    views = given.framework.views(True)
    assert views[-1].orbits.group == 1
    assert len({view.orbits.group for view in views}) > 3
    for view in views:
        atoms = view.all_atoms(view.orbits.wyckoff, view.orbits.free)
        assert len(atoms) == len(given.framework.species)
        assert given.framework.distances(atoms[:, None] - given.framework.frac).min(1).max() < 1e-3


def _ion(name: str) -> str:
    return "Na" if "sodium" in name else "Li"


def test_subgroups_of_the_cube_are_thirty_three_classes() -> None:
    """The 48 operations of m-3m have 33 classes of conjugate subgroups: the crystallographic point groups, orientations apart."""
    axes = np.eye(3)[[[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]]
    signs = np.array(np.meshgrid(*[[1, -1]] * 3)).T.reshape(-1, 3)
    cube = (axes[:, None] * signs[:, None, :]).reshape(-1, 3, 3)
    orders = [len(members) for members in subgroups(cube, np.zeros((48, 3)))]
    assert len(orders) == 33
    assert orders[0] == 48 and orders[-1] == 1 and all(48 % n == 0 for n in orders)


@pytest.mark.parametrize("symmetry", ["any", "keep"])
def test_held_parts_come_out_as_given(random_model: CrystalModel, symmetry: str) -> None:
    shifted = POSCAR.copy()
    shifted.translate_sites(range(len(shifted)), [0.123, 0.377, 0.291])
    shifted.perturb(0.01, seed=1)  # held atoms are not symmetrised either
    given, work = task(random_model, shifted, symmetry=symmetry)
    made = work.run(torch.arange(6))
    assert made
    for placement in made.values():
        crystal, framework = given.structure(work, placement), framework_of(shifted)
        held = framework_of(crystal)
        assert crystal.composition == shifted.composition
        assert np.abs(crystal.lattice.matrix - shifted.lattice.matrix).max() < 1e-6
        assert [s.specie for s in held] == [s.specie for s in framework]
        assert apart(held.frac_coords, framework.frac_coords) < 1e-6
        assert symmetry == "any" or placement.crystal.group == work.views[0].orbits.group


def test_placement_i_is_the_same_whatever_n(random_model: CrystalModel) -> None:
    _, work = task(random_model, POSCAR)
    few, many = work.run(torch.tensor([4])), work.run(torch.arange(6))
    assert apart(few[4].ions, many[4].ions) < 1e-3
    assert few[4].surprisal == pytest.approx(many[4].surprisal, rel=1e-3)


@pytest.mark.parametrize("sampler", [euler_ancestral, heun, predictor_corrector])
def test_samplers_keep_held_sites_and_known_cells(random_model: CrystalModel, sampler: object) -> None:
    _, work = task(random_model, POSCAR)
    draft = [work._draft(*work.choices[0])]
    batch = work._masked(draft)
    work._reveal(batch, draft, 0, torch.arange(1))
    batch = batch.select(torch.tensor([0]))
    held = work._of_framework(batch, draft)
    start = Start(batch.free, batch.cell, torch.tensor([1.0]), torch.tensor([0.0]), held)
    if (batch.wyckoff == 1731).any():  # the ions of this view need further orbits
        pytest.skip("more than one orbit")
    with torch.no_grad():
        made = sampler(random_model, batch, SamplerConfig(steps=4), 0, torch.arange(1), start)  # type: ignore[operator]
    assert torch.equal(made.free[held], batch.free[held])
    assert torch.equal(made.cell, batch.cell)
    assert not torch.equal(made.free[~held], batch.free[~held])


def test_what_is_not_held_moves(random_model: CrystalModel) -> None:
    given, work = task(random_model, POSCAR, lattice=False, sites=False)
    placement = next(iter(work.run(torch.arange(4)).values()))
    crystal = given.structure(work, placement)
    assert crystal.composition == POSCAR.composition
    assert np.abs(np.array(crystal.lattice.abc) - POSCAR.lattice.abc).max() > 1e-3
    assert apart(framework_of(crystal).frac_coords, framework_of(POSCAR).frac_coords) > 1e-4


def test_elements_drawn_anew_keep_their_sites(random_model: CrystalModel) -> None:
    request = Request({}, Chemistry(allow=frozenset({"Li", "As", "S", "Se"})), mobile_ion="Li")
    given, work = task(random_model, POSCAR, request, species=False)
    for placement in work.run(torch.arange(4)).values():
        held = framework_of(given.structure(work, placement))
        assert {s.specie.symbol for s in held} <= {"As", "S", "Se"} and len({s.specie for s in held}) == 2
        assert apart(held.frac_coords, framework_of(POSCAR).frac_coords) < 1e-6


def test_repeated_placements_are_dropped(random_model: CrystalModel) -> None:
    """Rock salt has one octahedral hole: however often it is found, it is one placement."""
    rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.13), ["Li", "Cl"], [[0.5] * 3, [0] * 3])
    given, work = task(random_model, rock_salt.get_primitive_structure(), symmetry="keep")
    made = work.run(torch.arange(5))
    kept = distinct(given, made, {i: given.structure(work, p) for i, p in made.items()})
    assert len(made) == 5
    assert len(kept) == len({p.crystal.wyckoff[-1] for p in made.values()}) <= 2


def test_how_many_ions() -> None:
    def count(structure: Structure, request: Request = LI, **fix: object) -> int:
        return Given.of(structure, FixConfig(**fix), request).count  # type: ignore[arg-type]

    bare = framework_of(prototype("olivine").structure())  # four FePO4
    assert count(POSCAR) == 8
    assert count(POSCAR, add={"Li": 5}) == 5
    assert count(bare) == 4  # Fe3+ and Fe2+ are both known: the fewest ions that balance one of them
    asked = Chemistry(formula={"Li": 2, "P": 1, "O": 1})  # type: ignore[arg-type]
    assert count(framework_of(POSCAR), Request({}, asked, mobile_ion="Li")) == 8
    exchanged = Given.of(POSCAR, FixConfig(remove="Li", add={"Na": 4}), Request({}, Chemistry(), mobile_ion="Na"))
    assert exchanged.ion == "Na" and "Li" not in exchanged.framework.counts()


@pytest.mark.parametrize(
    ("fix", "request_", "says"),
    [
        ({"remove": "Na"}, LI, "no Na in the structure"),
        ({"remove": "P"}, LI, "ask.mobile_ion is Li"),
        ({"add": {"Li": 4, "Na": 2}}, LI, "not one ion"),
        ({"add": {"O": 1}}, Request({}, Chemistry()), "also part of the framework"),
        ({}, Request({}, Chemistry()), "no ion to place"),
        ({}, Request({}, Chemistry(forbid=frozenset({"P"})), mobile_ion="Li"), "P of the framework is not allowed"),
        ({}, Request({}, Chemistry(formula={"Li": 1, "P": 2, "O": 1}), mobile_ion="Li"), "does not go with formula"),  # type: ignore[arg-type]
    ],
)
def test_bad_questions_are_named(fix: dict[str, object], request_: Request, says: str) -> None:
    with pytest.raises(SSEError, match=says):
        Given.of(POSCAR, FixConfig(**fix), request_)  # type: ignore[arg-type]


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="symmetry"):
        FixConfig(symmetry="kept")
    with pytest.raises(ConfigError, match="trials"):
        FixConfig(trials=0)


def test_a_count_that_the_group_cannot_hold(random_model: CrystalModel) -> None:
    _, work = task(random_model, POSCAR, add={"Li": 3}, symmetry="keep")
    with pytest.raises(ChemistryError, match="3 ions of Z=3 fit no free Wyckoff positions"):
        work.run(torch.arange(1))


def test_no_room_is_named(random_model: CrystalModel) -> None:
    """Copper metal: every hole is closer to copper than lithium can be."""
    copper = Structure(Lattice.cubic(2.1), ["Cu"], [[0] * 3])
    _, work = task(random_model, copper, add={"Li": 1}, symmetry="keep")
    with pytest.raises(ChemistryError, match="fit no free"):
        work.run(torch.arange(1))


def test_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Given.read(FixConfig(structure=str(tmp_path / "none.cif")), LI)
    broken = tmp_path / "broken.cif"
    broken.write_text("data_nothing")
    with pytest.raises(DataError, match="cannot be used"):
        Given.read(FixConfig(structure=str(broken)), LI)
    path = tmp_path / "fine.cif"
    POSCAR.to(filename=str(path))
    given = Given.read(FixConfig(structure=str(path)), LI)
    assert given.count == len(given.removed) == 8


@pytest.mark.parametrize(
    "config", [SamplerConfig(particles=4), SamplerConfig(gradient_strength=1.0), SamplerConfig(guides=("a:b",))]
)
def test_guides_that_would_be_ignored_are_refused(config: SamplerConfig) -> None:
    with pytest.raises(ConfigError, match="takes no particles"):
        inpaint_candidates("mp_tiny", FixConfig(structure="framework.cif"), Request({}, Chemistry()), 1, config=config)
