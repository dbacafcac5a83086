"""The result of an evaluation: ``metrics.json`` with flat keys, and ``metrics.md``, the same as a table with the protocols."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sse_diffusion.core.atomic_files import read_json, write_bytes_atomically, write_json_atomically
from sse_diffusion.core.provenance import git_commit, package_versions
from sse_diffusion.verification.metrics.rates import Metric

METRICS_JSON, METRICS_TABLE = "metrics.json", "metrics.md"


def write_metrics(out: Path, metrics: Mapping[str, Metric], protocol: Mapping[str, str], extra: Mapping[str, Any]) -> None:
    """Write ``out/metrics.json`` and ``out/metrics.md``, each whole or not at all.

    Flat keys of the JSON: those of ``extra`` as they are; ``<key>``, ``<key>_ci95``, ``<key>_k``, ``<key>_n`` of every metric,
    ``<key>_reason`` where it is missing; ``protocol_<key>``; then ``commit``, ``machine`` and ``versions`` (a mapping).

    Args:
        out: folder, made when absent.
        metrics: numbers by key.
        protocol: how a number was computed, by its key or by the beginning of several keys.
        extra: counts, seconds, settings and provenance of the run: plain values.

    Raises:
        ValueError: two entries would have the same key.
        OutputError: the folder cannot be written.
    """
    record: dict[str, Any] = {}
    flat = [flatten(metrics), {f"protocol_{key}": text for key, text in protocol.items()}]
    for part in (dict(extra), *flat, {"commit": git_commit(), "machine": machine(), "versions": package_versions()}):
        if clash := set(record) & set(part):
            raise ValueError(f"two entries of the record are called {sorted(clash)[0]!r}")
        record |= part
    write_json_atomically(out / METRICS_JSON, record)
    write_bytes_atomically(out / METRICS_TABLE, table(metrics, protocol, extra).encode())


def flatten(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Flat entries of metrics, see :func:`write_metrics`."""
    record: dict[str, Any] = {}
    for key, metric in metrics.items():
        record[key] = metric.value
        record |= {f"{key}_ci95": list(metric.ci95)} if metric.ci95 is not None else {}
        record |= {f"{key}_k": metric.k} if metric.k is not None else {}
        record |= {f"{key}_n": metric.n} if metric.n is not None else {}
        record |= {f"{key}_reason": metric.reason} if metric.reason else {}
    return record


def protocol_of(key: str, protocol: Mapping[str, str]) -> str:
    """The protocol whose name is the longest beginning of ``key``; empty when there is none."""
    names = [name for name in protocol if key == name or key.startswith(f"{name}_")]
    return protocol[max(names, key=len)] if names else ""


def table(metrics: Mapping[str, Metric], protocol: Mapping[str, str], extra: Mapping[str, Any]) -> str:
    """Markdown: one line per metric with interval, count and protocol, then the plain entries of ``extra``."""
    lines = ["| metric | value | 95 % interval | k/n | protocol |", "|---|---|---|---|---|"]
    for key, metric in metrics.items():
        value = "missing" if metric.value is None else f"{metric.value:.4g}"
        interval = f"{metric.ci95[0]:.4g} to {metric.ci95[1]:.4g}" if metric.ci95 else ""
        count = f"{metric.k}/{metric.n}" if metric.k is not None else f"n = {metric.n}" if metric.n is not None else ""
        how = "; ".join(text for text in (metric.reason, protocol_of(key, protocol)) if text)
        lines.append(f"| {key} | {value} | {interval} | {count} | {how.replace('|', '/')} |")
    plain = {k: v for k, v in extra.items() if isinstance(v, str | int | float | bool)}
    return "\n".join([*lines, "", *(f"- {key}: {value}" for key, value in plain.items()), ""])


def summary(out: Path) -> str:
    """The numbers of ``out/metrics.json`` for a terminal: key, value, interval, count, protocol."""
    record = read_json(out / METRICS_JSON) or {}
    protocol = {k.removeprefix("protocol_"): v for k, v in record.items() if k.startswith("protocol_")}
    keys = [k for k in record if f"{k}_n" in record or f"{k}_reason" in record]
    lines = []
    for key in keys:
        value, interval, k, n = (record.get(f"{key}{end}") for end in ("", "_ci95", "_k", "_n"))
        shown = "missing" if value is None else f"{value:.4g}"
        between = f"{interval[0]:.3g}-{interval[1]:.3g}" if interval else ""
        count = f"{k}/{n}" if k is not None else f"n={n}" if n is not None else ""
        how = record.get(f"{key}_reason") or protocol_of(key, protocol)
        lines.append(f"  {key:<{max(map(len, keys))}}  {shown:<8} {between:<15} {count:<11} {how}".rstrip())
    return "\n".join(lines)


def machine() -> str:
    """Processor, its cores and the platform in words."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def _processor() -> str:
    """The model name that Linux lists, else what Python knows."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or "unknown processor"
