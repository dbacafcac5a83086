"""The funnel: how many candidates were tested and passed at each stage, with Wilson intervals, as inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sse_diffusion.report.markup import element, text
from sse_diffusion.report.run_folder import RunFolder, number, truth
from sse_diffusion.verification.metrics.rates import wilson

HULL_LIMIT_eV = 0.1
"""Candidates up to here above the hull count as within reach of synthesis."""


@dataclass(frozen=True)
class Step:
    """One bar: ``passed`` of ``tested``; ``rate`` is False for a mere choice, where a success rate means nothing."""

    name: str
    passed: int
    tested: int
    rate: bool = True


def funnel_steps(run: RunFolder) -> list[Step]:
    """Counts per stage, from the table when there is one, else from the summary; a stage nobody reached is left out."""
    if not run.rows:
        return _steps_of_summary(run.summary)
    total = len(run.rows)
    steps = [Step("Sampled", total, total, rate=False)]
    for column, name in (
        ("structurally_valid", "Structure is sound"),
        ("composition_valid", "Charges can balance"),
        ("constraint_ok", "Obeys the hard constraints"),
        ("unique", "Not a duplicate"),
        ("novel", "Not a known crystal"),
    ):
        steps.append(_counted(name, [truth(row.get(column)) for row in run.rows]))
    static = sum(math.isfinite(number(row.get("static_e_above_hull_eV_per_atom"))) for row in run.rows)
    steps.append(Step("Energy looked at, unrelaxed", static, static, rate=False))
    steps.append(_counted("Relaxed to converged forces", [truth(row.get("relaxed")) for row in run.rows]))
    hull = [number(row.get("e_above_hull_eV_per_atom")) for row in run.rows]
    steps.append(
        _counted(f"Within {HULL_LIMIT_eV:g} eV/atom of the hull", [e <= HULL_LIMIT_eV for e in hull if math.isfinite(e)])
    )
    steps.append(_counted("Ion moves in short MD", [truth(row.get("md_mobile")) for row in run.rows if row.get("md_status")]))
    return [step for step in steps if step.tested]


def funnel_bars(steps: list[Step]) -> str:
    """A list of steps, each with its numbers in words and an inline-SVG bar: pale for tested, full for passed."""
    total = max((s.tested for s in steps), default=0)
    if not total:
        return element("p", "No candidate has been counted yet.")
    return element("ol", "".join(element("li", _words(s) + _bar(s, total)) for s in steps), class_="funnel")


def in_words(step: Step) -> str:
    """``143 of 256 · 56 % (50–62 %)``, or the bare count of a choice."""
    if not step.rate:
        return f"{step.passed}"
    low, high = wilson(step.passed, step.tested)
    return f"{step.passed} of {step.tested} · {100 * step.passed / step.tested:.0f} % ({100 * low:.0f}–{100 * high:.0f} %)"


def _words(step: Step) -> str:
    """Name and numbers of a step."""
    return element("span", text(step.name), class_="funnel-name") + element("span", text(in_words(step)), class_="funnel-count")


def _bar(step: Step, total: int) -> str:
    """Track, tested and passed, each on top of the other; a count that is not zero is at least a sliver."""
    lengths = (("track", total), ("tested", step.tested), ("passed", step.passed))
    bars = "".join(
        f'<rect width="{max(0.6, 100 * count / total) if count else 0:.2f}" height="1" class="funnel-{css}"/>'
        for css, count in lengths
    )
    return element("svg", bars, viewBox="0 0 100 1", preserveAspectRatio="none", aria_hidden="true")


def _counted(name: str, verdicts: list[bool | None]) -> Step:
    """Step of yes/no verdicts; None means not tested."""
    return Step(name, sum(v is True for v in verdicts), sum(v is not None for v in verdicts))


def _steps_of_summary(summary: dict[str, object]) -> list[Step]:
    """Steps from the flat counts, each against the one before (what the table would say more exactly)."""
    sampled = int(number(summary.get("sampled"), 0))
    steps = [Step("Sampled", sampled, sampled, rate=False)]
    chain = (
        ("structurally_valid", "Structure is sound", "sampled"),
        ("composition_valid", "Charges can balance", "sampled"),
        ("unique", "Not a duplicate", "sampled"),
        ("novel", "Not a known crystal", "sampled"),
        ("relaxed", "Relaxed to converged forces", "relaxed"),
        ("within_0.1_eV_of_hull", f"Within {HULL_LIMIT_eV:g} eV/atom of the hull", "relaxed"),
        ("md_mobile", "Ion moves in short MD", "md_gated"),
    )
    for key, name, of in chain:
        if key in summary:
            steps.append(
                Step(
                    name, int(number(summary[key], 0)), int(number(summary.get(of), 0)), rate=of != "relaxed" or key != "relaxed"
                )
            )
    return [s for s in steps if s.tested]
