"""What a run folder says about each candidate, and the counts of the whole funnel."""

from __future__ import annotations

from typing import Any

from sse_diffusion.verification.funnel import FunnelReport
from sse_diffusion.verification.stage import Member

COLUMNS = (
    "id", "formula", "space_group", "space_group_found", "n_atoms", "volume_A3_per_atom", "surprisal", "structurally_valid",
    "composition_valid", "constraint_ok", "unique", "novel", "predicted_e_hull_eV_per_atom", "predicted_e_hull_sd",
    "predicted_log10_conductivity", "predicted_log10_conductivity_low", "predicted_log10_conductivity_high",
    "predicted_log10_conductivity_in_domain",
    "static_e_above_hull_eV_per_atom", "relaxed", "relax_steps", "relax_status", "e_above_hull_eV_per_atom",
    "gibbs_above_hull_eV_per_atom", "decomposition", "stability", "reduction_limit_V", "oxidation_limit_V",
    "reaction_metal_eV_per_atom", "reaction_metal", "md_status", "md_mobile", "md_msd_A2", "md_diffusivity_cm2_per_s",
    "md_diffusivity_sd", "stopped_at", "reason",
)  # fmt: skip
"""Columns of candidates.csv, one row per sampled crystal."""


def candidate_row(member: Member) -> dict[str, Any]:
    """One row of candidates.csv.

    Formula, size, volume and asked space group are those of the crystal as proposed; ``relaxed`` is true when it converged.
    Values of stages that a candidate never reached are empty text; booleans are ``true`` / ``false``.
    """
    structure = member.candidate.structure
    own = {
        "id": member.id,
        "formula": structure.composition.reduced_formula,
        "space_group": member.candidate.space_group or None,
        "n_atoms": len(structure),
        "volume_A3_per_atom": round(structure.volume / len(structure), 4),
        "surprisal": member.candidate.surprisal,
        "stopped_at": member.stopped_at,
        "reason": member.reason or "; ".join(r.reason for r in member.results.values() if r.stage == "md_gate" and r.reason),
    }
    return {name: _cell(own[name] if name in own else member.values.get(name)) for name in COLUMNS}


def funnel_counts(report: FunnelReport, within_eV_per_atom: float = 0.1) -> dict[str, int]:
    """The flat counts of summary.json.

    ``composition_valid`` and ``constraint_violations`` count over all sampled crystals when those stages saw ``everyone``;
    ``relaxed`` counts converged relaxations; ``within_0.1_eV_of_hull`` those at most that far above the static hull.
    """
    values = [member.values for member in report.members]
    heights = [v.get("e_above_hull_eV_per_atom") for v in values]
    return {
        "sampled": len(values),
        "structurally_valid": sum(v.get("structurally_valid") is True for v in values),
        "composition_valid": sum(v.get("composition_valid") is True for v in values),
        "constraint_violations": sum(v.get("constraint_ok") is False for v in values),
        "unique": sum(v.get("unique") is True for v in values),
        "novel": sum(v.get("novel") is True for v in values),
        "relaxed": sum(v.get("relaxed") is True for v in values),
        f"within_{within_eV_per_atom:g}_eV_of_hull": sum(h is not None and h <= within_eV_per_atom for h in heights),
        "md_gated": sum("md_status" in v for v in values),
        "md_mobile": sum(v.get("md_mobile") is True for v in values),
    }


def _cell(value: Any) -> Any:
    """CSV form: missing and NaN as empty text, booleans in lower case, floats with six significant digits."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return float(f"{value:.6g}") if isinstance(value, float) else value
