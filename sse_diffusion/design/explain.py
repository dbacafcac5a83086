"""The life of one candidate in words, with the commands that replay it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import read_json
from sse_diffusion.core.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

ORDER = ("structure", "composition", "constraints", "unique", "novel", "predict", "static", "relax", "hull", "md_gate")


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
    rows = _rows(run)
    if candidate not in rows:
        close = did_you_mean(candidate, list(rows)).split("known:")[0].strip()
        raise ConfigError(
            f"{run} has no candidate {candidate!r}", f"{close} ids are in the first column of {run / 'candidates.csv'}".strip()
        )
    row = rows[candidate]
    summary = read_json(run / "summary.json") or {}
    lines = [f"{candidate}: {row['formula']}, {row['n_atoms']} atoms, space group {row['space_group'] or 'unknown'}"]
    lines.append(
        f"proposed by the diffusion model, seed {summary.get('seed')}, "
        f"checkpoint {str(summary.get('checkpoint_sha256', ''))[:12]}"
    )
    lines.append("")
    for stage in _stages(run):
        record = read_json(run / "stages" / stage / f"{candidate}.json")
        if isinstance(record, dict):
            lines.append(_line(stage, record))
    end = f"stopped at {row['stopped_at']}: {row['reason']}" if row["stopped_at"] else "passed every stage"
    lines += ["", end, "", "Replay:", *_commands(candidate, run, summary)]
    return "\n".join(lines)


def _rows(run: Path) -> dict[str, dict[str, str]]:
    """The table by id."""
    path = run / "candidates.csv"
    if not path.is_file():
        raise DataError(f"{path} does not exist", "give the out= folder of an `sse design` run as run=")
    with path.open(newline="", encoding="utf-8") as handle:
        return {row["id"]: row for row in csv.DictReader(handle)}


def _stages(run: Path) -> list[str]:
    """Stages that left results, the built-in ones in their order, others after them."""
    present = {p.name for p in (run / "stages").glob("*") if p.is_dir()}
    return [s for s in ORDER if s in present] + sorted(present - set(ORDER))


def _line(stage: str, record: dict[str, Any]) -> str:
    """One stage."""
    values = ", ".join(f"{k} {_short(v)}" for k, v in record.get("values", {}).items() if v not in (None, ""))
    verdict = "passed" if record.get("passed") else "failed"
    reason = f" because {record['reason']}" if record.get("reason") and not record.get("passed") else ""
    return f"  {stage:12s} {verdict}{reason} ({record.get('seconds', 0):.2f} s): {values}"


def _short(value: Any) -> str:
    """Four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commands(candidate: str, run: Path, summary: dict[str, Any]) -> list[str]:
    """Commands that make and test it again."""
    commands = [
        f"  sse design n={summary.get('sampled')} seed={summary.get('seed')} "
        f"checkpoint={summary.get('checkpoint')} out=NEW_FOLDER"
    ]
    if (run / "cifs" / f"{candidate}.cif").is_file():
        commands.append(f"  sse verify input={run / 'cifs' / f'{candidate}.cif'} out=NEW_FOLDER")
    return [*commands, f"  ase db {run / 'ledger.db'} candidate={candidate} -l"]
