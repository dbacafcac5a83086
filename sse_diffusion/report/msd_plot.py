"""Mean squared displacement of the MD gate as inline SVG: mobile ion against framework, with the lag of the verdict marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from sse_diffusion.report.markup import element, paragraph, text
from sse_diffusion.report.run_folder import number, record_of

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 118, 16, 52


def msd_svg(record: dict[str, Any], mobile_ion: str) -> str:
    """The plot of one MD gate; a sentence when the run holds no curve.

    Args:
        record: ``md.json``: ``times_ps``, ``msd_mobile_A2``, ``msd_framework_A2`` (equal lengths, ps and Angstrom^2) and,
            when present, ``provenance.gate_lag_ps``: the lag at which the verdict is read.
        mobile_ion: symbol for the label of the curve.
    """
    times = _finite(record.get("times_ps"))
    mobile, framework = _finite(record.get("msd_mobile_A2")), _finite(record.get("msd_framework_A2"))
    if len(times) < 2 or len(mobile) != len(times):
        return paragraph("The molecular-dynamics record holds no displacement curve.")
    has_framework = len(framework) == len(times)
    ceiling = _nice_ceiling(max([*mobile, *(framework if has_framework else [])]))
    last = max(times) or 1.0
    scale_x = (WIDTH - LEFT - RIGHT) / last
    scale_y = (HEIGHT - TOP - BOTTOM) / ceiling

    def point(time: float, value: float) -> tuple[float, float]:
        """Pixel of a lag and a displacement."""
        return LEFT + time * scale_x, HEIGHT - BOTTOM - value * scale_y

    parts = [_window(record, last, point), _axes(last, ceiling, point)]
    parts.append(_curve(times, mobile, point, "msd-mobile"))
    names = [(point(times[-1], mobile[-1])[1], "msd-mobile-text", f"{mobile_ion or 'mobile ion'}")]
    if has_framework:
        parts.append(_curve(times, framework, point, "msd-framework"))
        names.append((point(times[-1], framework[-1])[1], "msd-framework-text", "framework"))
    if len(names) == 2 and abs(names[0][0] - names[1][0]) < 16:  # keep the two labels apart where the curves end together
        upper, lower = sorted(names)
        names = [(upper[0] - 8, *upper[1:]), (upper[0] + 10, *lower[1:])]
    parts += [f'<text x="{WIDTH - RIGHT + 8}" y="{y + 4:.1f}" class="{css}">{text(name)}</text>' for y, css, name in names]
    spoken = f"Mean squared displacement after {last:.1f} ps: {mobile_ion} {mobile[-1]:.2f} square angstrom"
    spoken += f", framework {framework[-1]:.2f} square angstrom." if has_framework else "."
    return element("svg", "".join(parts), viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="msd", role="img", aria_label=spoken)


def _finite(values: object) -> list[float]:
    """A list of finite numbers, or an empty list when any of them is not."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return []
    numbers = [number(v) for v in values]
    return numbers if all(math.isfinite(v) for v in numbers) else []


def _nice_ceiling(value: float) -> float:
    """The next of 1, 2, 2.5, 5 x 10^k above ``value``; 1 when nothing moved."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 2.5, 5, 10, 20) if m * power >= 1.02 * value)


def gate_lag(record: dict[str, Any]) -> float:
    """Lag in ps at which the gate reads its verdict; NaN when the record does not say."""
    provenance = record.get("provenance")
    return number(provenance.get("gate_lag_ps")) if isinstance(provenance, dict) else math.nan


def kept_window(record: dict[str, Any]) -> str:
    """Which part of the run the curves average over, in words; empty when the record does not say."""
    provenance = record_of(record.get("provenance"))
    start, kept = number(provenance.get("drop_ps")), number(record.get("kept_ps"))
    if not math.isfinite(start) or not math.isfinite(kept):
        return ""
    return f"Averaged over the kept window, {start:g} to {start + kept:.2f} ps of the run; the time before it is dropped."


def _window(record: dict[str, Any], last: float, point: Callable[[float, float], tuple[float, float]]) -> str:
    """The part of the curve up to the lag of the verdict, shaded, and the lag itself, labelled."""
    lag = gate_lag(record)
    if not math.isfinite(lag) or not 0 < lag <= last:
        return ""
    x0, x1 = point(0, 0)[0], point(lag, 0)[0]
    band = f'<rect x="{x0:.1f}" y="{TOP}" width="{x1 - x0:.1f}" height="{HEIGHT - TOP - BOTTOM}" class="msd-window"/>'
    line = f'<line x1="{x1:.1f}" x2="{x1:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="msd-lag"/>'
    return f'{band}{line}<text x="{x1 - 6:.1f}" y="{TOP + 13}" text-anchor="end" class="msd-tick">judged at {lag:g} ps</text>'


def _axes(last: float, ceiling: float, point: Callable[[float, float], tuple[float, float]]) -> str:
    """Grid, tick labels and axis titles."""
    parts = []
    for i in range(5):
        value = ceiling * i / 4
        x, y = point(0, value)
        parts.append(f'<line x1="{x}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="msd-grid"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end" class="msd-tick">{value:.3g}</text>')
    for i in range(5):
        time = last * i / 4
        x, y = point(time, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle" class="msd-tick">{time:.3g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle" class="msd-title">lag time / ps</text>')
    centre = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text transform="translate(13 {centre}) rotate(-90)" text-anchor="middle" class="msd-title">displacement² / Å²</text>'
    )
    return "".join(parts)


def _curve(times: list[float], values: list[float], point: Callable[[float, float], tuple[float, float]], css: str) -> str:
    """One polyline."""
    dots = " ".join("{:.1f},{:.1f}".format(*point(t, v)) for t, v in zip(times, values, strict=True))
    return f'<polyline points="{dots}" class="{css}"/>'
