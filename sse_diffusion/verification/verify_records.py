"""What `sse verify` says about each crystal, about all orderings of a disordered one, and about the tables behind the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from sse_diffusion.core.provenance import sha256_of_file
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.verification.disorder.ensemble import ensemble_average
from sse_diffusion.verification.stage import FunnelContext, Member

ENSEMBLE_VALUES = {
    "energy_eV_per_atom": "eV/atom",
    "volume_relaxed_A3_per_atom": "A^3/atom",
    "e_above_hull_eV_per_atom": "eV/atom",
    "gibbs_above_hull_eV_per_atom": "eV/atom",
    "md_msd_A2": "A^2",
    "md_diffusivity_cm2_per_s": "cm^2/s",
}
"""Values that are averaged over the orderings of a disordered crystal, with their units."""
STATUS_OF = {
    "energy_eV_per_atom": "relax_status",
    "volume_relaxed_A3_per_atom": "relax_status",
    "e_above_hull_eV_per_atom": "e_above_hull_status",
    "gibbs_above_hull_eV_per_atom": "gibbs_above_hull_status",
    "md_diffusivity_cm2_per_s": "md_diffusivity_status",
}


def data_versions(context: FunnelContext) -> dict[str, Any]:
    """The tables that a run leans on, with hashes of their content."""
    from sse_diffusion.thermo.hull import SHIPPED_TABLES

    name = context.hull_id
    path = Path(str(files("sse_diffusion.thermo") / "assets" / SHIPPED_TABLES[name])) if name in SHIPPED_TABLES else Path(name)
    hull_sha256 = sha256_of_file(path) if path.is_file() else ""
    known = None if context.known is None else context.known.fingerprint
    return {"hull": name, "hull_sha256": hull_sha256, "known": known, "predictor": context.predictor_id}


def ensemble_records(members: Sequence[Member], temperature_K: float | None) -> dict[str, Any]:
    """Disordered crystal -> property -> mean over its orderings with spread, as plain quantities."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        if parent := member.candidate.info.get("disorder_of"):
            groups.setdefault(str(parent), []).append(member)
    return {parent: _ensemble(group, temperature_K) for parent, group in groups.items() if len(group) > 1}


def _ensemble(members: Sequence[Member], temperature_K: float | None) -> dict[str, Any]:
    """Means of the properties that any member has."""
    energies = [m.values.get("energy_eV_per_atom", math.nan) * len(m.structure) for m in members]
    known = all(math.isfinite(e) for e in energies)
    result = {}
    for name, unit in ENSEMBLE_VALUES.items():
        if any(name in m.values for m in members):
            quantities = [_quantity(m, name, unit) for m in members]
            result[name] = ensemble_average(quantities, energies if known else None, temperature_K if known else None).to_dict()
    return result


def _quantity(member: Member, name: str, unit: str) -> Quantity:
    """A member's value with its status; failed when it is missing."""
    value = member.values.get(name)
    if value is None or not math.isfinite(value):
        return Quantity.failed(member.reason or "not computed", unit)
    status = member.values.get(STATUS_OF.get(name, ""), Status.OK)
    return Quantity(float(value), unit=unit, status=Status(status))


def verification_record(member: Member) -> dict[str, Any]:
    """Flat results of one crystal: identity, values of every stage, reasons, verdict."""
    structure = member.candidate.structure
    reasons = {f"{name}_reason": result.reason for name, result in member.results.items() if result.reason}
    return {
        "id": member.id,
        "source": member.candidate.info.get("source", ""),
        "formula": structure.composition.reduced_formula,
        "n_atoms": len(structure),
        "mobile_ion": member.candidate.info.get("mobile_ion", "none"),
        **{k: v for k, v in member.candidate.info.items() if k.startswith("disorder")},
        "volume_A3_per_atom": round(structure.volume / len(structure), 4),
        **member.values,
        **reasons,
        "stopped_at": member.stopped_at,
        "reason": member.reason,
    }
