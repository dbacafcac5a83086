"""The life of one candidate in words, with the commands that replay it; of `sse design` and of `sse verify` runs."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import read_json
from sse_diffusion.core.errors import ConfigError, DataError, did_you_mean
from sse_diffusion.design.ledger import query_text

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run_explain(cfg: DictConfig) -> str:
    """``sse explain id=ID run=RUN_DIR``: the text of :func:`explain`.

    Raises:
        ConfigError: no such candidate in the run. DataError: no run there.
    """
    return explain(str(cfg.id), Path(str(cfg.run)))


def explain(candidate: str, run: Path) -> str:
    """What happened to a candidate, stage by stage.

    Raises:
        ConfigError: the run has no candidate of that id (with the closest one). DataError: ``run`` is no run folder.
    """
    rows, summary, table = _read(run)
    if candidate not in rows:
        close = did_you_mean(candidate, list(rows)).split("known:")[0].strip()
        raise ConfigError(f"{run} has no candidate {candidate!r}", f"{close} ids are in {table}".strip())
    row = rows[candidate]
    lines = [f"{candidate}: {row['formula']}, {row['n_atoms']} atoms{_group(row)}", *_origin(row, summary), ""]
    for stage in _stages(run, summary):
        record = read_json(run / "stages" / stage / f"{candidate}.json")
        if isinstance(record, dict):
            lines.append(_line(stage, record))
    end = f"stopped at {row['stopped_at']}: {row['reason']}" if row["stopped_at"] else "passed every stage"
    lines += ["", end, *_tools(summary), "", "Replay:", *_commands(candidate, run, summary)]
    return "\n".join(lines)


def _read(run: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any], Path]:
    """(candidate rows by id, what the run says of itself, the file of the rows)."""
    table, page = run / "candidates.csv", run / "verification.json"
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as handle:
            return {row["id"]: row for row in csv.DictReader(handle)}, read_json(run / "summary.json") or {}, table
    record = read_json(page)
    if isinstance(record, dict):
        return {row["id"]: row for row in record.get("crystals", [record])}, record, page
    raise DataError(
        f"{run} holds neither candidates.csv nor verification.json",
        "give the out= folder of an `sse design` or `sse verify` run as run=",
    )


def _group(row: dict[str, Any]) -> str:
    """The space group that was asked for, else the one that was found."""
    return f", space group {row.get('space_group') or row.get('space_group_found') or 'unknown'}"


def _origin(row: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """Where it came from."""
    if "source" not in row:
        checkpoint = str(summary.get("checkpoint_sha256", ""))[:12]
        return [f"proposed by the diffusion model, seed {summary.get('seed')}, checkpoint {checkpoint}"]
    lines = [f"read from {row['source']}"]
    if row.get("disorder_of"):
        lines.append(
            f"an ordering ({row['disorder_kind']}, {row['disorder_ewald_eV_per_atom']:.3f} eV/atom by point charges) of the "
            f"disordered {row['disorder_of']}: {row['disorder_multiple']} cell(s), "
            f"composition off by {row['disorder_composition_error']:.2g}"
        )
    return lines


def _stages(run: Path, summary: dict[str, Any]) -> list[str]:
    """Stages that left results, in the order in which the run did them; those of an earlier, other funnel after them."""
    present = {p.name for p in (run / "stages").glob("*") if p.is_dir()}
    done = [stage for stage in summary.get("stages_done", []) if stage in present]
    return done + sorted(present - set(done))


def _line(stage: str, record: dict[str, Any]) -> str:
    """One stage."""
    values = ", ".join(f"{k} {_short(v)}" for k, v in record.get("values", {}).items() if v not in (None, ""))
    verdict = "passed" if record.get("passed") else "failed"
    reason = f" because {record['reason']}" if record.get("reason") and not record.get("passed") else ""
    return f"  {stage:12s} {verdict}{reason} ({record.get('seconds', 0):.2f} s): {values}"


def _short(value: Any) -> str:
    """Four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tools(summary: dict[str, Any]) -> list[str]:
    """Program, engine and table behind the numbers, as far as the run tells."""
    engine = summary.get("engine")
    name = f"{engine.get('name', '')} {engine.get('version', '')}".strip() if isinstance(engine, dict) else engine
    facts = {"commit": summary.get("commit"), "engine": name, "hull": summary.get("hull")}
    told = ", ".join(f"{k} {v}" for k, v in facts.items() if v)
    return [f"computed with {told}"] if told else []


def _commands(candidate: str, run: Path, summary: dict[str, Any]) -> list[str]:
    """Commands that make and test it again."""
    commands = [f"  {summary['replay']} out=NEW_FOLDER"] if summary.get("replay") else []
    cif = run / "cifs" / f"{candidate}.cif"
    if cif.is_file():
        commands.append(f"  sse verify input={shlex.quote(str(cif))} out=NEW_FOLDER")
    if (run / "ledger.db").is_file():
        commands.append(f"  ase db {shlex.quote(str(run / 'ledger.db'))} candidate={query_text(candidate)} -l")
    return commands
