"""One card per survivor: 3D view, energies with uncertainty, decomposition, MD verdict with its plot, CIF download."""

from __future__ import annotations

import math
import re
from typing import Any

from sse_diffusion.report.candidate_table import predicted_conductivity
from sse_diffusion.report.crystal_view import viewer_data
from sse_diffusion.report.markup import (
    data_uri,
    definition_table,
    element,
    fixed,
    formula,
    json_script,
    paragraph,
    scientific,
    text,
)
from sse_diffusion.report.msd_plot import kept_window, msd_svg
from sse_diffusion.report.run_folder import RunFolder, number, record_of, truth

MOST_VIEWERS = 24
"""Cards beyond this many carry no 3D view, so that the page stays light."""


def cards(run: RunFolder, mobile_ion: str) -> str:
    """All cards, best first; a sentence when nothing survived."""
    survivors = run.survivors()
    if not survivors:
        return paragraph("No candidate survived all the tests of this run. The table below says where each one stopped.")
    return "".join(card(run, row, mobile_ion, i < MOST_VIEWERS) for i, row in enumerate(survivors))


def card(run: RunFolder, row: dict[str, str], mobile_ion: str, with_view: bool = True) -> str:
    """One survivor."""
    name = row["id"]
    record = run.md.get(name)
    title = element("h3", f"{formula(row.get('formula', ''))} {element('span', text(name), class_='id')}")
    facts = definition_table(_facts(row, record))
    link = element(
        "a",
        f"Download {text(name)}.cif",
        href=data_uri(run.cifs[name], "chemical/x-cif"),
        download=f"{name}.cif",
        class_="button",
    )
    left = _view(run, name, mobile_ion) if with_view else paragraph("No picture: only the best candidates get one.")
    right = title + _verdict(row, mobile_ion) + facts + element("p", link)
    plot = element("div", _plot(record, mobile_ion), class_="plot")
    return element(
        "article",
        element("div", left, class_="view") + element("div", right, class_="words") + plot,
        class_="card",
        id=f"card-{name}",
    )


def energy_above_hull(row: dict[str, str], record: dict[str, Any] | None = None) -> str:
    """Energy above the hull; with the spread that estimated reference phases bring, when some decide it."""
    value, spread = number(row.get("e_above_hull_eV_per_atom")), number(row.get("e_above_hull_sd_eV_per_atom"))
    if not math.isfinite(value):
        return ""
    estimated = math.isfinite(spread) and spread > 0
    return f"{fixed(value)} ± {fixed(spread)} eV/atom (estimated reference phases)" if estimated else f"{fixed(value)} eV/atom"


def _facts(row: dict[str, str], record: dict[str, Any] | None) -> list[tuple[str, object]]:
    """Names and values of the card's table; empty ones are dropped by the table."""
    predicted, spread = number(row.get("predicted_e_hull_eV_per_atom")), number(row.get("predicted_e_hull_sd"))
    shown = f"{fixed(predicted)} ± {fixed(spread)} eV/atom" if math.isfinite(spread) else f"{fixed(predicted)} eV/atom"
    gibbs, volume = number(row.get("gibbs_above_hull_eV_per_atom")), number(row.get("volume_A3_per_atom"))
    pairs = [
        ("Energy above hull, relaxed", energy_above_hull(row)),
        ("Gibbs energy above hull, at T and P asked", f"{fixed(gibbs)} eV/atom" if math.isfinite(gibbs) else ""),
        ("Predicted before relaxing", shown if math.isfinite(predicted) else ""),
        ("log10 of S/cm predicted from the composition (95 %)", predicted_conductivity(row)),
        ("Decomposes into", row.get("decomposition") or ""),
        ("Electrochemical window, hull of the phases", _window(row)),
        ("With the ion's metal", row.get("reaction_metal") or ""),
        ("Space group", row.get("space_group_found") or row.get("space_group")),
        ("Atoms per primitive cell", row.get("n_atoms")),
        ("Volume", f"{volume:.1f} Å³/atom" if math.isfinite(volume) else ""),
        ("Relaxation", _relaxation(row)),
        ("Surprisal", fixed(number(row.get("surprisal")), 2, "nats per orbit") if row.get("surprisal") else ""),
    ]
    return pairs + _md_facts(row, record)


def _window(row: dict[str, str]) -> str:
    """Reduction to oxidation limit; empty without both."""
    lower, upper = number(row.get("reduction_limit_V")), number(row.get("oxidation_limit_V"))
    return f"{lower:.2f} to {upper:.2f} V" if math.isfinite(lower) and math.isfinite(upper) else ""


def _relaxation(row: dict[str, str]) -> str:
    """Status and steps."""
    status = {"ok": "converged"}.get(row.get("relax_status", ""), row.get("relax_status", ""))
    steps = number(row.get("relax_steps"))
    return f"{status}, {steps:.0f} steps" if math.isfinite(steps) else status


def _md_facts(row: dict[str, str], record: dict[str, Any] | None) -> list[tuple[str, object]]:
    """What molecular dynamics measured."""
    if not row.get("md_status"):
        return []
    diffusivity, spread = number(row.get("md_diffusivity_cm2_per_s")), number(row.get("md_diffusivity_sd"))
    shown = scientific(diffusivity) + (f" ± {scientific(spread)}" if math.isfinite(spread) else "") + " cm²/s"
    record = record or {}
    bound = (
        (record.get("diffusivity") or {}).get("status") == "upper_bound" if isinstance(record.get("diffusivity"), dict) else False
    )
    return [
        ("MD: displacement² of the ion", fixed(number(row.get("md_msd_A2")), 2, "Å²")),
        ("MD: displacement² of the framework", fixed(number(record.get("framework_msd_A2")), 2, "Å²") if record else ""),
        ("MD: framework from its places² (liquid: 0.3)", fixed(number(record.get("framework_shift")), 2, "") if record else ""),
        ("MD: hops seen", record.get("hops")),
        ("MD: diffusivity" + (", upper bound" if bound else ""), shown if math.isfinite(diffusivity) else ""),
        ("MD: atoms", record.get("n_atoms")),
    ]


def _verdict(row: dict[str, str], mobile_ion: str) -> str:
    """One sentence above the facts."""
    ion = mobile_ion or "the ion"
    mobile = truth(row.get("md_mobile"))
    if mobile and row.get("md_status"):
        return paragraph(f"{ion} moves in the short MD run.", class_="verdict good")
    if mobile is False and row.get("md_status"):
        return paragraph(f"{ion} is not called mobile by the short MD run.", class_="verdict poor")
    if row.get("md_status"):
        return paragraph(f"Molecular dynamics gave no verdict: {row.get('reason') or row['md_status']}.", class_="verdict")
    return paragraph("Stable enough; not yet tested in molecular dynamics.", class_="verdict")


def _plot(record: dict[str, Any] | None, mobile_ion: str) -> str:
    """Displacement plot with its caption; nothing when there was no MD."""
    if not record:
        return ""
    provenance = record_of(record.get("provenance"))
    temperature = number(provenance.get("temperature_K"))
    at = f" at {temperature:.0f} K" if math.isfinite(temperature) else ""
    words = [f"Mean squared displacement{at}. A conductor keeps climbing; an insulator stays flat, like the framework."]
    words += [kept_window(record), sentence(record.get("reason"))]
    return element("figure", msd_svg(record, mobile_ion) + element("figcaption", text(" ".join(w for w in words if w))))


def sentence(words: object) -> str:
    """A reason as a sentence: capital first, full stop last; empty for nothing."""
    plain = str(words or "").strip().rstrip(".")
    return f"{plain[0].upper()}{plain[1:]}." if plain else ""


def _view(run: RunFolder, name: str, mobile_ion: str) -> str:
    """Canvas, its data, the colour legend and the supercell button."""
    structure = run.structures.get(name)
    if structure is None:
        return paragraph("The crystal could not be read, so there is no picture.")
    data = viewer_data(structure, mobile_ion)
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    spoken = f"Unit cell of {structure.composition.reduced_formula} with {len(structure)} atoms."
    spoken += " Arrow keys rotate, plus and minus zoom."
    canvas = element(
        "canvas", text(spoken), id=f"view-{safe}", data_crystal=f"data-{safe}", tabindex="0", role="img", aria_label=spoken
    )
    legend = "".join(_legend_item(s) for s in data["species"])
    button = element("button", "2 × 2 × 2 cells", type="button", data_supercell=f"view-{safe}", aria_pressed="false")
    bar = element("div", element("ul", legend, class_="legend") + button, class_="view-bar")
    hint = paragraph("Drag to rotate, wheel or pinch to zoom.", class_="hint")
    return canvas + json_script(data, id=f"data-{safe}") + bar + hint


def _legend_item(species: dict[str, Any]) -> str:
    """A coloured dot and the element; the mobile ion says so."""
    dot = element("span", "", class_="dot mobile" if species["mobile"] else "dot", style=f"background:{species['colour']}")
    return element("li", dot + text(species["symbol"]) + (" (mobile)" if species["mobile"] else ""))
