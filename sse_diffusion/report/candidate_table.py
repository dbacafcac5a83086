"""The table of every sampled crystal: sortable, filterable, with the stage and reason where each one stopped."""

from __future__ import annotations

import math

from sse_diffusion.report.markup import element, fixed, formula, paragraph, text
from sse_diffusion.report.run_folder import STAGES, RunFolder, number, truth

STAGE_WORDS = {
    "sample": "sampling",
    "structure": "structure check",
    "composition": "charge balance",
    "constraints": "hard constraints",
    "unique": "duplicate",
    "novel": "already known",
    "predict": "predicted stability",
    "static": "unrelaxed energy",
    "relax": "relaxation",
    "hull": "energy above hull",
    "window": "electrochemical window",
    "disagreement": "second engine",
    "mechanics": "elastic tensor",
    "phonons": "phonons",
    "md_gate": "molecular dynamics",
    "transport": "conductivity by dynamics",
    "report": "reached the end",
    "": "reached the end",
}
"""What a stage is called on the page."""

HEADER = (
    "id",
    "formula",
    "space group",
    "atoms",
    "surprisal",
    "E hull predicted",
    "log σ predicted",
    "E hull unrelaxed",
    "E hull relaxed",
    "MD",
    "stopped at",
    "reason",
)

CAPTION = (
    "Energies in eV/atom above the hull; surprisal in nats per orbit; log σ: predicted log10 of S/cm at the temperature asked, "
    "with its 95 % interval (?: outside the predictor's domain). Click a heading to sort."
)


def candidate_table(run: RunFolder) -> str:
    """Filter controls and the table; one sentence when the run has no table."""
    if not run.rows:
        return paragraph("This run has no candidate table yet.")
    present = [s for s in STAGES if any(_stage(row) == s for row in run.rows)]
    options = "".join(element("option", text(STAGE_WORDS[s]), value=s) for s in present)
    controls = element("label", "Search " + element("input", type="search", id="filter-words", placeholder="e.g. Li S hull"))
    controls += element(
        "label", "Stopped at " + element("select", element("option", "anywhere", value="") + options, id="filter-stage")
    )
    controls += element("span", f"{len(run.rows)} rows", id="filter-count", role="status")
    head = "".join(element("th", element("button", text(name), type="button"), scope="col") for name in HEADER)
    body = "".join(_row(row, row.get("id") in run.cifs) for row in run.rows)
    caption = element("caption", CAPTION)
    table = element("table", f"{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", id="candidates")
    return element("div", controls, class_="controls") + element(
        "div", table, class_="scroll", tabindex="0", role="region", aria_label="All candidates"
    )


def _stage(row: dict[str, str]) -> str:
    """Stage where the candidate stopped; the last one when it never did."""
    return row.get("stopped_at") or "report"


def _row(row: dict[str, str], has_card: bool) -> str:
    """One candidate."""
    stage = _stage(row)
    name = row.get("id", "")
    anchor = element("a", text(name), href=f"#card-{name}") if has_card else text(name)
    cells = [
        _cell(anchor, name),
        _cell(formula(row.get("formula", "")), row.get("formula", "")),
        _cell(text(_space_group(row)), row.get("space_group_found") or row.get("space_group", "")),
        _cell(text(row.get("n_atoms", "")), row.get("n_atoms", ""), numeric=True),
    ]
    cells += [_number(row, "surprisal", 2), _number(row, "predicted_e_hull_eV_per_atom"), _conductivity(row)]
    cells += [_number(row, "static_e_above_hull_eV_per_atom"), _number(row, "e_above_hull_eV_per_atom")]
    cells += [
        _cell(text(_md(row)), _md(row)),
        _cell(text(STAGE_WORDS.get(stage, stage)), _order(stage)),
        _cell(text(row.get("reason", "")), row.get("reason", "")),
    ]
    words = " ".join((name, row.get("formula", ""), row.get("reason", ""), STAGE_WORDS.get(stage, stage), _md(row))).lower()
    return element("tr", "".join(cells), data_stage=stage, data_words=words)


def _cell(content: str, sort_by: object, numeric: bool = False) -> str:
    """A cell with its sorting key."""
    return element("td", content, data_sort=sort_by, class_="number" if numeric else None)


def _number(row: dict[str, str], column: str, digits: int = 3) -> str:
    """The cell of a number."""
    value = number(row.get(column))
    finite = math.isfinite(value)
    return _cell(text(fixed(value, digits) if finite else ""), f"{value:.6g}" if finite else "", numeric=True)


def predicted_conductivity(row: dict[str, str]) -> str:
    """Predicted log10 of S/cm with its 95 % interval; a question mark outside the predictor's domain; empty without one."""
    name = "predicted_log10_conductivity"
    value, low, high = (number(row.get(name + end)) for end in ("", "_low", "_high"))
    doubt = "" if truth(row.get(f"{name}_in_domain")) else " ?"
    return f"{fixed(value, 1)} ({fixed(low, 1)} to {fixed(high, 1)}){doubt}" if math.isfinite(value) else ""


def _conductivity(row: dict[str, str]) -> str:
    """The cell of it."""
    words = predicted_conductivity(row)
    return _cell(text(words), row["predicted_log10_conductivity"] if words else "", numeric=True)


def _space_group(row: dict[str, str]) -> str:
    """Asked group, and the one found by symmetry search when it differs."""
    asked, found = row.get("space_group", ""), row.get("space_group_found", "")
    return f"{asked} (found {found})" if asked and found and asked != found else asked or found


def _md(row: dict[str, str]) -> str:
    """Verdict of the MD gate in one word."""
    mobile = truth(row.get("md_mobile"))
    return "mobile" if mobile else "not mobile" if mobile is False and row.get("md_status") else row.get("md_status", "")


def _order(stage: str) -> str:
    """Position of a stage, as a sorting key."""
    return str(STAGES.index(stage)) if stage in STAGES else ""
