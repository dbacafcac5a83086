"""Files of a run folder: tables, crystals, summary, README. Each appears whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import write_bytes_atomically, write_json_atomically
from sse_diffusion.verification.funnel_records import COLUMNS, candidate_row
from sse_diffusion.verification.stage import Member
from sse_diffusion.verification.verify import symmetrised_cif

if TYPE_CHECKING:
    from pymatgen.core import Structure

EXTRA_COLUMNS = ("e_above_hull_sd_eV_per_atom", "duplicate_of")
"""Columns after the funnel's own."""

README = """Files of this run of `sse design`

candidates.csv     one row per sampled crystal: every stage's result, the stage where it stopped and why (empty: it passed all)
candidates.extxyz  all sampled crystals as proposed; info["id"] is the id of the table
relaxed.extxyz     crystals that were relaxed, with their energies
cifs/<id>.cif      symmetrised CIF of each survivor, relaxed (symprec 0.1 A)
md/<id>/md.json    the molecular-dynamics gate of one candidate
summary.json       counts, seconds per stage (summed over all sessions), versions, hashes, what was asked
report/index.html  everything to look at in a browser; one file, loads nothing
ledger.db          ASE database (SQLite), one row per candidate: `ase db ledger.db`, `ase gui ledger.db`
sampled.json, stages/, sessions.json   what a later call needs to go on; delete the folder to start afresh

Protocol beside the numbers
Engine: {engine}
Relaxation: {relax}
Hull: {hull}; reference phases evaluated with the same engine; energies of different schemes are never mixed
Gibbs energies: at {temperature_K:g} K and {pressure_GPa:g} GPa (Bartel et al. 2018 descriptor)
MD gate: {md}
Survivors: relaxed, at most {limit:g} eV/atom above the hull, or sent to molecular dynamics
structurally_valid: no two atoms closer than 0.5 A, volume at least 0.1 A^3; composition_valid: the SMACT check of CDVAE
unique: StructureMatcher within this run; novel: formula and space group not among the known crystals of the index

To go on, or to see that nothing is left to do: the same command again. One candidate in words: sse explain id=ID run={out}
"""


def survivors(members: Sequence[Member], limit_eV_per_atom: float) -> list[Member]:
    """Relaxed members within ``limit_eV_per_atom`` of the hull, and those that went through molecular dynamics."""
    kept = []
    for member in members:
        height = member.values.get("e_above_hull_eV_per_atom")
        near = member.values.get("relaxed") is True and isinstance(height, int | float) and height <= limit_eV_per_atom
        if near or "md_status" in member.values:
            kept.append(member)
    return kept


def write_candidates(members: Sequence[Member], out: Path) -> None:
    """``candidates.csv`` and ``candidates.extxyz``."""
    rows = [table_row(member) for member in members]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *EXTRA_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes_atomically(out / "candidates.csv", text.getvalue().encode())
    frames = [
        (m.candidate.structure, {"id": m.id, "space_group": m.candidate.space_group, "surprisal": m.candidate.surprisal})
        for m in members
    ]
    write_bytes_atomically(out / "candidates.extxyz", extxyz(frames))


def write_crystals(members: Sequence[Member], out: Path, limit_eV_per_atom: float) -> None:
    """``relaxed.extxyz`` and ``cifs/``; CIFs of crystals that no longer count as survivors are removed."""
    relaxed = [m for m in members if "relax" in m.results and m.results["relax"].structure is not None]
    names = ("energy_eV_per_atom", "e_above_hull_eV_per_atom", "gibbs_above_hull_eV_per_atom", "relax_status")
    frames = [(m.structure, {"id": m.id, **{k: m.values[k] for k in names if m.values.get(k) is not None}}) for m in relaxed]
    write_bytes_atomically(out / "relaxed.extxyz", extxyz(frames))
    kept = survivors(members, limit_eV_per_atom)
    for member in kept:
        write_bytes_atomically(out / "cifs" / f"{member.id}.cif", symmetrised_cif(member.structure).encode())
    names_kept = {f"{m.id}.cif" for m in kept}
    for stale in (out / "cifs").glob("*.cif"):
        if stale.name not in names_kept:
            stale.unlink()


def write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    """``summary.json``."""
    write_json_atomically(out / "summary.json", dict(summary))


def write_readme(out: Path, protocol: Mapping[str, Any]) -> None:
    """``README.txt``: what each file is, and the protocol."""
    write_bytes_atomically(out / "README.txt", README.format(**protocol).encode())


def table_row(member: Member) -> dict[str, Any]:
    """One row of ``candidates.csv``: the funnel's columns and :data:`EXTRA_COLUMNS`."""
    spread = member.values.get("e_above_hull_sd")
    extra = {"e_above_hull_sd_eV_per_atom": f"{spread:.6g}" if isinstance(spread, int | float) and spread == spread else ""}
    return {**candidate_row(member), **extra, "duplicate_of": member.values.get("duplicate_of") or ""}


def extxyz(frames: Sequence[tuple[Structure, Mapping[str, Any]]]) -> bytes:
    """Structures with their ``info`` as extended XYZ; empty when there is none."""
    from ase.io import write

    atoms = []
    for structure, info in frames:
        one = structure.to_ase_atoms(msonable=False)
        one.info = dict(info)
        atoms.append(one)
    text = io.StringIO()
    if atoms:
        write(text, atoms, format="extxyz")
    return text.getvalue().encode()
