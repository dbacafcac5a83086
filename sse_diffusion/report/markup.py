"""Small HTML builders; every one escapes the text it is given."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def text(value: object) -> str:
    """Escaped text of anything; empty for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return escape(str(value), quote=True)


def element(tag: str, content: str = "", **attributes: object) -> str:
    """``<tag a="b">content</tag>``; ``content`` is markup, attribute values are escaped; ``class_`` and ``data_x`` work."""
    pairs = "".join(f' {k.rstrip("_").replace("_", "-")}="{text(v)}"' for k, v in attributes.items() if v is not None)
    return f"<{tag}{pairs}>" if tag in ("input", "br") else f"<{tag}{pairs}>{content}</{tag}>"


def paragraph(words: str, **attributes: object) -> str:
    """A paragraph of plain (escaped) words."""
    return element("p", text(words), **attributes)


def bullet_list(items: Iterable[str]) -> str:
    """An unordered list of plain sentences."""
    return element("ul", "".join(element("li", text(item)) for item in items))


def definition_table(pairs: Iterable[tuple[str, object]], caption: str = "") -> str:
    """Two columns: name and value; pairs with an empty value are left out."""
    rows = "".join(f'<tr><th scope="row">{text(k)}</th><td>{text(v)}</td></tr>' for k, v in pairs if text(v))
    head = element("caption", text(caption)) if caption else ""
    return element("table", f"{head}<tbody>{rows}</tbody>", class_="facts")


def plain_table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table of escaped cells."""
    head = "".join(element("th", text(h), scope="col") for h in header)
    body = "".join(
        element("tr", "".join(element("td", text(c), data_label=h) for h, c in zip(header, row, strict=True))) for row in rows
    )
    lead = element("caption", text(caption)) if caption else ""
    return element("table", f"{lead}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", class_="stack")


def json_script(payload: Any, **attributes: object) -> str:
    """JSON inside a script element; ``<`` is escaped so that no text can close the element."""
    body = json.dumps(payload, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return element("script", body, type="application/json", **attributes)


def data_uri(content: str, media_type: str) -> str:
    """The text as a base64 data URI."""
    return f"data:{media_type};base64,{base64.b64encode(content.encode()).decode()}"


_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def subscripts(words: str) -> str:
    """Plain text with subscript digits (Unicode, so that copying stays plain)."""
    return words.translate(_SUBSCRIPT)


def formula(words: str) -> str:
    """An escaped chemical formula with subscript digits."""
    return text(subscripts(words))


def fixed(value: float, digits: int = 3, unit: str = "") -> str:
    """A number with fixed digits; a dash when it is not known."""
    if not math.isfinite(value):
        return "–"
    tail = f" {unit}" if unit else ""
    return f"{value:.{digits}f}{tail}".replace("-", "\u2212", 1) if value < 0 else f"{value:.{digits}f}{tail}"


def scientific(value: float, unit: str = "") -> str:
    """A number as ``1.4 x 10^-5`` in Unicode; a dash when it is not known."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return f"0 {unit}".strip()
    exponent = math.floor(math.log10(abs(value)))
    raised = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10**exponent:.1f} × 10{raised} {unit}".strip()
