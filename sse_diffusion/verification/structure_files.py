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

EXTXYZ_SUFFIXES = (".extxyz", ".xyz")
CIF_SUFFIXES = (".cif",)


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


def read_structures(source: str | Path) -> ReadStructures:
    """Read one CIF, one extxyz file (all frames), or a folder of both.

    A single file that cannot be used raises; in a folder the bad files are listed in ``rejected`` and the rest goes on.

    Raises:
        DataError: nothing at ``source``, nothing readable in it, or partial occupancy in a single file.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(
            f"input {path} does not exist", "give a .cif or .extxyz file, or a folder of them: sse verify input=my.cif out=DIR"
        )
    if path.is_file():
        return ReadStructures(_read_file(path))
    result = ReadStructures()
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in (*CIF_SUFFIXES, *EXTXYZ_SUFFIXES))
    for file in files:
        try:
            result.candidates += _read_file(file)
        except DataError as error:
            result.rejected[file.name] = str(error)
    if not result.candidates:
        why = "; ".join(f"{name}: {text}" for name, text in result.rejected.items()) or "it holds no .cif or .extxyz file"
        raise DataError(f"folder {path} has no usable crystal: {why}", "give a folder of ordered crystals as .cif or .extxyz")
    result.candidates = _unique_ids(result.candidates)
    return result


def _read_file(path: Path) -> list[Candidate]:
    """All crystals of one file."""
    suffix = path.suffix.lower()
    if suffix in CIF_SUFFIXES:
        named = [(path.stem, _read_cif(path))]
    elif suffix in EXTXYZ_SUFFIXES:
        named = _read_extxyz(path)
    else:
        raise DataError(f"{path}: files ending in {suffix or 'nothing'} are not read", "convert it to .cif or .extxyz")
    candidates = [
        Candidate(re.sub(r"[^A-Za-z0-9._-]+", "-", name), _checked(s, path), info={"source": path.name}) for name, s in named
    ]
    return _unique_ids(candidates)


def _read_cif(path: Path) -> Structure:
    """The first structure of a CIF, primitive cell."""
    from pymatgen.io.cif import CifParser

    hint = "open it in a viewer (VESTA, ase gui) to see what is wrong, or export it again"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns about rounding of coordinates, which it repairs
            structures = CifParser(path).parse_structures(primitive=True, on_error="raise")
    # the parser lets errors of many kinds through, depending on where the text goes wrong
    except Exception as error:
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
    except Exception as error:  # as for CIF: the reader raises whatever the text makes it raise
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


def _checked(structure: Structure, path: Path) -> Structure:
    """The structure without oxidation states, when it is ordered and made of elements."""
    from pymatgen.core import DummySpecies

    if not structure.is_ordered:
        mixed = [site.species_string for site in structure if not site.is_ordered]
        raise DataError(
            f"{path} has partial occupancy on {len(mixed)} of {len(structure)} sites (for example {mixed[0]})",
            "disorder is not yet ordered automatically: choose one ordering (pymatgen's OrderDisorderedStructureTransformation, "
            "or a supercell with whole atoms) and give that",
        )
    if any(isinstance(site.specie, DummySpecies) for site in structure):
        raise DataError(f"{path} holds a site that is no element", "replace dummy atoms by elements")
    return structure.copy().remove_oxidation_states()


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
