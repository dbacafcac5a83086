"""Structure types of a few shipped prototypes, each decorated several times; the scorer has learnt nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sse_diffusion.core.orbits import Orbits
from sse_diffusion.data.orbits import parse_orbits
from sse_diffusion.data.prototypes.decorate import DecorationConfig, decorate
from sse_diffusion.data.prototypes.library import prototype
from sse_diffusion.diffusion.structure_types.build import collect_kinds, element_features
from sse_diffusion.diffusion.structure_types.fit import answers, count_role_elements
from sse_diffusion.diffusion.structure_types.grouping import Kind
from sse_diffusion.diffusion.structure_types.library import TypeLibrary
from sse_diffusion.diffusion.structure_types.proposer import StructureTypes, save_structure_types
from sse_diffusion.diffusion.structure_types.scorer import ScorerConfig, TypeScorer

NAMES = ("rock_salt", "caesium_chloride", "zinc_blende", "fluorite", "rutile", "anatase", "perovskite", "chalcopyrite", "spinel")


def decorations_of(name: str, n: int = 4) -> list[Orbits]:
    """A prototype's parent and some substitutions."""
    rows = decorate(prototype(name), DecorationConfig(max_per_prototype=n))
    return [parse_orbits(row.species, row.frac, row.lattice) for row in rows]


@pytest.fixture(scope="session")
def decorations() -> Callable[..., list[Orbits]]:
    """``decorations("spinel", 4)``: a prototype with other elements and cell sizes."""
    return decorations_of


@pytest.fixture(scope="session")
def substituted() -> Callable[[Orbits, Sequence[int]], Orbits]:
    """``substituted(crystal, [38, 22, 8])``: the same arrangement, its elements by ascending atomic number replaced."""

    def _substituted(crystal: Orbits, elements: Sequence[int]) -> Orbits:
        return replace(crystal, species=np.asarray(elements)[np.unique(crystal.species, return_inverse=True)[1]])

    return _substituted


@pytest.fixture(scope="session")
def kinds() -> list[Kind]:
    return collect_kinds([c for name in NAMES for c in decorations_of(name)])


@pytest.fixture(scope="session")
def library(kinds: list[Kind]) -> TypeLibrary:
    return TypeLibrary.from_kinds(kinds)


def counted(library: TypeLibrary, kinds: Sequence[Kind]) -> np.ndarray:
    """(R, 95) members with each element in each role."""
    return count_role_elements(library, list(answers(kinds).values()))


@pytest.fixture(scope="session")
def types(kinds: list[Kind], library: TypeLibrary) -> StructureTypes:
    torch.manual_seed(0)
    counts = counted(library, kinds)
    return StructureTypes(TypeScorer(library, ScorerConfig(width=8, hidden=16), element_features(), counts), counts, 0.25)


@pytest.fixture(scope="session")
def stored(types: StructureTypes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of their checkpoint."""
    folder = tmp_path_factory.mktemp("structure_types")
    save_structure_types(types, folder)
    return folder


@pytest.fixture(scope="session")
def number_of(library: TypeLibrary) -> Callable[[int, tuple[int, ...]], int]:
    """``number_of(225, (1, 1))``: the type of a group and a signature."""

    def _number_of(group: int, signature: tuple[int, ...]) -> int:
        (found,) = [v for v in range(len(library)) if (library.group[v], library.signature(v)) == (group, signature)]
        return found

    return _number_of
