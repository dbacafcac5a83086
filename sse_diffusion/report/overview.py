"""The parts of the page that are about the run as a whole: headline, key figures, limits, provenance."""

from __future__ import annotations

import math
from typing import Any

from sse_diffusion.report.markup import bullet_list, definition_table, element, paragraph, plain_table, subscripts, text
from sse_diffusion.report.run_folder import RunFolder, number, record_of


def mobile_ion_of(summary: dict[str, Any]) -> str:
    """Symbol of the ion asked for; empty when none was."""
    ion = (summary.get("conditions") or {}).get("mobile_ion") if isinstance(summary.get("conditions"), dict) else ""
    return "" if ion in (None, "none") else str(ion)


def headline(run: RunFolder) -> str:
    """Title, the question in one sentence, the answer in one sentence, key figures."""
    s = run.summary
    ion = mobile_ion_of(s)
    kind = f"{ion} conductors" if ion else "Crystals"
    parts = [
        element("p", "sse-diffusion · design report", class_="kicker"),
        element("h1", text(f"{kind}: what was proposed and what held up")),
    ]
    parts.append(paragraph(question_in_words(s.get("conditions")), class_="question"))
    parts.append(paragraph(answer_in_words(run, ion), class_="answer"))
    parts.append(_figures(s))
    engine = record_of(s.get("engine"))
    facts = (
        ("Date", s.get("date")),
        ("Seed", s.get("seed")),
        ("Checkpoint", _checkpoint(s)),
        ("Engine", " ".join(str(engine[k]) for k in ("name", "version") if engine.get(k))),
    )
    parts.append(
        element(
            "dl",
            "".join(element("div", element("dt", text(k)) + element("dd", text(v))) for k, v in facts if text(v)),
            class_="meta",
        )
    )
    return "".join(parts)


def question_in_words(conditions: object) -> str:
    """The ask as one sentence."""
    if not isinstance(conditions, dict) or not conditions:
        return "What was asked is not recorded in this run."
    ion = conditions.get("mobile_ion")
    words = f"Asked for {ion}-ion conductors" if ion not in (None, "none") else "Asked for crystals"
    chemistry = record_of(conditions.get("elements"))
    if chemistry.get("allow"):
        words += f" made of {', '.join(map(str, chemistry['allow']))}"
    if chemistry.get("forbid"):
        words += f" without {', '.join(map(str, chemistry['forbid']))}"
    if conditions.get("formula"):
        words += f" of formula {conditions['formula']}"
    if "temperature_K" in conditions:
        words += (
            f", at {conditions['temperature_K']:g} K"
            if isinstance(conditions["temperature_K"], int | float)
            else f", at {conditions['temperature_K']}"
        )
    pressure = number(conditions.get("pressure_GPa"))
    if math.isfinite(pressure):
        words += " and ambient pressure" if pressure < 2e-4 else f" and {pressure:g} GPa"
    if "energy_above_hull_eV_per_atom" in conditions:
        words += f", with an energy above the hull of {conditions['energy_above_hull_eV_per_atom']} eV/atom"
    return words.replace("of <", "below ").replace("of >", "above ") + "."


def answer_in_words(run: RunFolder, ion: str) -> str:
    """What came out, as one or two sentences that name the best candidate."""
    s = run.summary
    counts = {k: int(number(s.get(k), 0)) for k in ("sampled", "relaxed", "within_0.1_eV_of_hull", "md_gated", "md_mobile")}
    if not counts["sampled"]:
        return "The run has not been summarised yet; the parts below show what is there."
    near = counts["within_0.1_eV_of_hull"]
    words = f"Of {counts['sampled']} crystals sampled, {counts['relaxed']} were relaxed"
    words += f" and {near} of these lie within 0.1 eV/atom of the hull."
    if counts["md_gated"]:
        words += f" {counts['md_gated']} went through short molecular dynamics;"
        words += f" {ion or 'the ion'} moves in {counts['md_mobile'] or 'none'} of them."
    survivors = run.survivors()
    if survivors:
        best = survivors[0]
        energy = number(best.get("e_above_hull_eV_per_atom"))
        words += f" Best: {subscripts(best.get('formula') or best['id'])}" + (
            f", {1000 * energy:.0f} meV/atom above the hull." if math.isfinite(energy) else "."
        )
    return words


def limits(run: RunFolder) -> str:
    """What the numbers on this page do not say, in plain words."""
    engine = record_of(run.summary.get("engine"))
    name, level = engine.get("name") or "a machine-learned force field", engine.get("level_of_theory")
    items = [
        f"Energies come from {name}{f' (trained on {level})' if level else ''}, not from a new density-functional calculation. "
        "Differences of 0.03 to 0.05 eV/atom between candidates are within its error.",
        "The convex hull is made of reference phases evaluated with the same engine. A phase missing from that table makes every "
        "candidate near it look more stable than it is.",
        "Energies above the hull are those of static, perfectly ordered crystals; the Gibbs energy adds a statistical descriptor "
        "for vibrations, "
        "not computed phonons. Disorder and partial occupancy, the rule among good electrolytes, are not modelled.",
        "“New” means: not in the reference table of known crystals used here. It may still be published elsewhere.",
    ]
    if run.md:
        items.append(
            "The MD gate is a few picoseconds at high temperature in a small cell. It tells a conductor from an "
            "insulator. Its diffusivity is "
            "no conductivity at room temperature, and a slow conductor can look immobile."
        )
    else:
        items.append("No molecular dynamics was run, so nothing on this page speaks of conductivity.")
    items.append(
        "Intervals beside counts are Wilson 95 % intervals: they cover chance in sampling, not errors of the model or the engine."
    )
    items.append("Nothing here says that a crystal can be made, or that it survives against an electrode, air or water.")
    missing = [element("p", text(note), class_="note") for note in run.notes]
    return bullet_list(items) + "".join(missing)


def provenance(run: RunFolder) -> str:
    """Versions, hashes, time and memory."""
    s = run.summary
    engine = record_of(s.get("engine"))
    memory, total = number(s.get("peak_memory_gb")), number(s.get("seconds_total"))
    facts = definition_table(
        [
            ("Commit", s.get("commit")),
            ("Checkpoint SHA-256", s.get("checkpoint_sha256")),
            ("Configuration hash", s.get("config_hash")),
            ("Seed", s.get("seed")),
            ("Time, all sessions together", duration(total)),
            ("Peak memory", f"{memory:.1f} GB" if math.isfinite(memory) else ""),
            *((f"Engine: {k.replace('_', ' ')}", _listed(v)) for k, v in engine.items()),
        ],
        "Where the numbers come from",
    )
    seconds = record_of(s.get("seconds"))
    times = (
        plain_table(("stage", "time"), [(k, duration(number(v))) for k, v in seconds.items()], "Time per stage")
        if seconds
        else ""
    )
    versions = record_of(s.get("versions"))
    packages = plain_table(("package", "version"), versions.items(), "Versions") if versions else ""
    return element("div", facts + times + packages, class_="columns")


def duration(seconds: float) -> str:
    """Seconds as words: ``42.0 s``, ``3 min 20 s``."""
    if not math.isfinite(seconds):
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _figures(summary: dict[str, Any]) -> str:
    """Large numbers."""
    keys = (
        ("sampled", "sampled"),
        ("novel", "new and sound"),
        ("relaxed", "relaxed"),
        ("within_0.1_eV_of_hull", "within 0.1 eV of hull"),
        ("md_mobile", "mobile in MD"),
    )
    items = [element("div", element("dt", text(words)) + element("dd", text(summary[k]))) for k, words in keys if k in summary]
    return element("dl", "".join(items), class_="figures") if items else ""


def _checkpoint(summary: dict[str, Any]) -> str:
    """Name and the head of the hash."""
    digest = str(summary.get("checkpoint_sha256") or "")
    return " ".join(part for part in (str(summary.get("checkpoint") or ""), f"({digest[:12]}…)" if digest else "") if part)


def _listed(value: object) -> str:
    """Lists joined by commas; long ones counted."""
    if isinstance(value, list | tuple | set | frozenset):
        words = sorted(map(str, value))
        return f"{len(words)} of them" if len(words) > 30 else ", ".join(words)
    return "" if value is None else str(value)
