"""Reading crystals that a user hands in, and naming a structure by its content."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.errors import DataError

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.verification.disorder.order import DisorderConfig

EXTXYZ_SUFFIXES = (".extxyz", ".xyz")
CIF_SUFFIXES = (".cif",)
OCCUPANCY_TOLERANCE = 1.05
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RuntimeError, OSError)
"""What the readers raise, depending on where a text goes wrong (seen on thousands of damaged files: all but three of these).

A library that is missing, or memory that is short, is no fault of the file and ends the run.
"""


@dataclass
class ReadStructures:
    """Crystals that were read, and for each that was not the error in words."""

    candidates: list[Candidate] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)


def structure_hash(structure: Structure) -> str:
    """First 16 hex digits of a SHA-256 of cell, species and coordinates to 1e-5 (order of atoms matters)."""
    cell = np.round(structure.lattice.matrix, 5) + 0.0
    frac = np.round(structure.frac_coords, 5) + 0.0
    text = ",".join(str(site.specie) if site.is_ordered else site.species_string for site in structure)
    return hashlib.sha256(cell.tobytes() + frac.tobytes() + text.encode()).hexdigest()[:16]


def read_structures(source: str | Path, disorder: DisorderConfig | None = None) -> ReadStructures:
    """Read one CIF, one extxyz file (all frames), or a folder of both.

    A single file that cannot be used raises; in a folder the bad files are listed in ``rejected`` and the rest goes on.

    Args:
        source: file or folder.
        disorder: how crystals with partial occupancy become ordered ones (``docs/disorder.md``); ``None`` refuses them. Their
            candidates carry ``info["disorder_of"]``, the name of the crystal they stand for.

    Raises:
        DataError: nothing at ``source``, nothing readable in it, or partial occupancy that cannot be ordered in a single file.
    """
    from tqdm import tqdm

    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(
            f"input {path} does not exist", "give a .cif or .extxyz file, or a folder of them: sse verify input=my.cif out=DIR"
        )
    if path.is_file():
        return ReadStructures(_read_file(path, disorder))
    result = ReadStructures()
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in (*CIF_SUFFIXES, *EXTXYZ_SUFFIXES))
    for file in tqdm(files, desc="reading", unit="file", disable=len(files) < 20, leave=False):
        try:
            result.candidates += _read_file(file, disorder)
        except DataError as error:
            result.rejected[file.name] = str(error)
    if not result.candidates:
        why = "; ".join(f"{name}: {text}" for name, text in result.rejected.items()) or "it holds no .cif or .extxyz file"
        raise DataError(f"folder {path} has no usable crystal: {why}", "give a folder of ordered crystals as .cif or .extxyz")
    result.candidates = _unique_ids(result.candidates)
    return result


def _read_file(path: Path, disorder: DisorderConfig | None) -> list[Candidate]:
    """All crystals of one file."""
    suffix = path.suffix.lower()
    if suffix in CIF_SUFFIXES:
        named = [(path.stem, read_cif(path))]
    elif suffix in EXTXYZ_SUFFIXES:
        named = _read_extxyz(path)
    else:
        raise DataError(f"{path}: files ending in {suffix or 'nothing'} are not read", "convert it to .cif or .extxyz")
    candidates: list[Candidate] = []
    for name, structure in named:
        identity = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".") or "crystal"
        _check_elements(structure, path)
        if structure.is_ordered:
            ordered = structure.copy().remove_oxidation_states()
            candidates.append(Candidate(identity, ordered, info={"source": path.name}))
        else:
            candidates += _orderings(identity, structure, path, disorder)
    return _unique_ids(candidates)


def _orderings(identity: str, structure: Structure, path: Path, disorder: DisorderConfig | None) -> list[Candidate]:
    """Ordered crystals for one with partial occupancy: ``<id>`` when there is one, else ``<id>-o1``, ``<id>-o2``, ..."""
    from sse_diffusion.verification.disorder.order import DisorderError, order

    if disorder is None:
        mixed = [site.species_string for site in structure if not site.is_ordered]
        raise DataError(
            f"{path} has partial occupancy on {len(mixed)} of {len(structure)} sites (for example {mixed[0]})",
            "let it be ordered (disorder.n=1, docs/disorder.md), or give a supercell with whole atoms",
        )
    try:
        made = order(structure, disorder)
    except DisorderError as error:
        raise DataError(f"{path} cannot be ordered: {error.message}", error.hint) from error
    shared = {"source": path.name, "disorder_of": identity, **made.facts()}
    several = len(made.orderings) > 1
    return [
        Candidate(
            f"{identity}-o{number}" if several else identity,
            one.structure,
            info={**shared, "disorder_kind": one.kind, "disorder_ewald_eV_per_atom": one.ewald_eV_per_atom},
        )
        for number, one in enumerate(made.orderings, start=1)
    ]


def read_cif(path: Path) -> Structure:
    """The first structure of a CIF, primitive cell; partial occupancies stay as they are.

    Occupancies of one site that add up to more than one by rounding (up to ``OCCUPANCY_TOLERANCE``) are scaled to one.

    Raises:
        DataError: it cannot be read.
    """
    from pymatgen.io.cif import CifParser

    hint = "open it in a viewer (VESTA, ase gui) to see what is wrong, or export it again"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns about rounding of coordinates, which it repairs
            structures = CifParser(path, occupancy_tolerance=OCCUPANCY_TOLERANCE).parse_structures(
                primitive=True, on_error="raise"
            )
    except _UNREADABLE as error:
        raise DataError(f"{path} is not a readable CIF: {type(error).__name__}: {str(error)[:200]}", hint) from error
    if not structures:
        raise DataError(f"{path} holds no crystal structure", hint)
    return structures[0]


def _read_extxyz(path: Path) -> list[tuple[str, Structure]]:
    """(name, structure) of every frame; the name is ``info["id"]`` when given."""
    from ase.io import read
    from pymatgen.io.ase import AseAtomsAdaptor

    try:
        frames = read(path, index=":", format="extxyz")
    except _UNREADABLE as error:
        raise DataError(
            f"{path} is not a readable extxyz file: {type(error).__name__}: {str(error)[:200]}", "write it with ase.io.write"
        ) from error
    named = []
    for index, atoms in enumerate(frames):
        if atoms.cell.rank < 3:
            raise DataError(
                f"{path}: frame {index} has no cell", "only periodic crystals can be verified; write the Lattice field"
            )
        atoms.calc = None
        named.append((str(atoms.info.get("id", f"{path.stem}-{index}")), AseAtomsAdaptor.get_structure(atoms)))
    return named


def _check_elements(structure: Structure, path: Path) -> None:
    """Raise DataError when there is no atom, or one that is no element."""
    from pymatgen.core import DummySpecies

    if not len(structure):
        raise DataError(f"{path} holds no atoms", "check the file")
    if any(isinstance(specie, DummySpecies) for site in structure for specie in site.species):
        raise DataError(f"{path} holds a site that is no element", "replace dummy atoms by elements")


def _unique_ids(candidates: list[Candidate]) -> list[Candidate]:
    """Ids made distinct by a suffix where two files share a name."""
    seen: dict[str, int] = {}
    result = []
    for candidate in candidates:
        count = seen.get(candidate.id, 0)
        seen[candidate.id] = count + 1
        name = candidate.id if count == 0 else f"{candidate.id}-{count + 1}"
        result.append(Candidate(name, candidate.structure, candidate.space_group, candidate.surprisal, candidate.info))
    return result
