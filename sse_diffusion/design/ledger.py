"""The ledger: an ASE database with one row per candidate, so that `ase db` and `ase gui` work on it as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sse_diffusion.core.atomic_files import replacing, standard_json
from sse_diffusion.verification.stage import Member

FILE = "ledger.db"


def write_ledger(members: Sequence[Member], out: Path, provenance: Mapping[str, Any]) -> Path:
    """Write ``out/ledger.db``: the latest structure of each candidate, numbers to query by, all stage results as data.

    Args:
        members: candidates after the funnel.
        out: run folder.
        provenance: commit, hashes, seed, engine, versions, conditions: stored with each row.

    Raises:
        OutputError: the file cannot be written.
    """
    from ase.db import connect

    target = out / FILE
    shared = standard_json(dict(provenance))
    with replacing(target) as partial:
        partial.unlink(missing_ok=True)
        with connect(str(partial), type="db", append=False) as database:
            for member in members:
                atoms = member.structure.to_ase_atoms(msonable=False)
                atoms.info = {}
                stages = {
                    name: {"passed": r.passed, "reason": r.reason, "values": r.values} for name, r in member.results.items()
                }
                data = standard_json({"stages": stages, "info": member.candidate.info})
                database.write(atoms, key_value_pairs=query_keys(member), data={**data, "provenance": shared})
    return target


def query_keys(member: Member) -> dict[str, Any]:
    """Numbers, booleans and words that `ase db ledger.db 'md_mobile=1'` can select by; missing ones are left out."""
    formula = member.candidate.structure.composition.reduced_formula
    pairs: dict[str, Any] = {"candidate": query_text(member.id), "reduced_formula": query_text(formula)}
    pairs |= {"spacegroup_asked": member.candidate.space_group, "stopped_at": member.stopped_at or "passed"}
    if member.reason:
        pairs["reason"] = query_text(member.reason)
    for key, value in member.values.items():
        if isinstance(value, bool | int | float) and value == value:
            pairs[key] = value
    return pairs


def query_text(text: str) -> str:
    """The text as ASE's database takes it: what reads as a number or truth value (``001``, ``NaN``) begins with ``_``."""
    if text.lower() in ("true", "false"):
        return f"_{text}"
    try:
        float(text)
    except ValueError:
        return text
    return f"_{text}"
