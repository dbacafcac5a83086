"""Bond-valence barriers of every crystal of a table: computed in a process pool, kept row by row, written as one small CSV."""

from __future__ import annotations

import hashlib
import json
import logging
import lzma
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from sse_diffusion.core.atomic_files import write_bytes_atomically, write_json_atomically
from sse_diffusion.core.errors import DataError, OutputError
from sse_diffusion.core.provenance import package_versions
from sse_diffusion.data.rows import CrystalRow
from sse_diffusion.thermo.conditions import mobile_ion_of
from sse_diffusion.verification.percolation import ION_CHARGE, PercolationConfig, percolation_barriers

log = logging.getLogger(__name__)

COLUMNS = ("id", "ion", "e_1d_eV", "e_2d_eV", "e_3d_eV", "reason")
"""Columns of the written table; an empty barrier means none below ``max_barrier_eV``, or nothing computed (see the reason)."""


@dataclass(frozen=True, kw_only=True)
class BarrierTableConfig:
    """What to compute and where to keep it.

    Attributes:
        store: rows as they are finished (JSON lines); a run goes on from it after any interruption.
        out: the table, ``.csv.xz``; a JSON file of the same name beside it says how it was made.
        workers: processes.
        limit: compute at most this many crystals now.
        compute: false only writes the table from the store.
        percolation: see :class:`PercolationConfig`.
        progress: show a progress bar.
    """

    store: str = "runs/barriers/rows.jsonl"
    out: str = "runs/barriers/migration_barriers.csv.xz"
    workers: int = 1
    limit: int | None = None
    compute: bool = True
    percolation: PercolationConfig = field(default_factory=PercolationConfig)
    progress: bool = True


@dataclass(frozen=True)
class Task:
    """One crystal and its mobile ion."""

    crystal: CrystalRow
    ion: str


def ordered_tasks(rows: Iterable[CrystalRow]) -> list[Task]:
    """Crystals with one of the ions of :data:`ION_CHARGE`, ion by ion, each in the order of a hash of the id.

    That order is random but fixed, so that a partial pass is a fair sample, whatever else the table holds.
    """
    from ase.data import chemical_symbols

    tasks = [Task(row, mobile_ion_of(chemical_symbols[z] for z in row.species)) for row in rows]
    ions = list(ION_CHARGE)
    wanted = [task for task in tasks if task.ion in ions]
    return sorted(wanted, key=lambda t: (ions.index(t.ion), hashlib.sha256(t.crystal.id.encode()).digest()))


def build_table(rows: Iterable[CrystalRow], config: BarrierTableConfig, command: str = "") -> Path:
    """Compute what the store lacks and write the table.

    Args:
        rows: crystals of any chemistry; those without a mobile ion are left out.
        config: see :class:`BarrierTableConfig`.
        command: what the user typed, for the JSON file.

    Raises:
        DataError: no crystal holds a mobile ion, or the store was made with other settings.
        OutputError: nothing can be written, or a worker process died.
    """
    tasks = ordered_tasks(rows)
    if not tasks:
        raise DataError("no crystal of this table holds " + ", ".join(ION_CHARGE), "choose another table with data=...")
    store = Path(config.store)
    records = read_store(store, config.percolation)
    todo = [task for task in tasks if task.crystal.id not in records]
    log.info("%d crystals: %d done before, %d to do", len(tasks), len(tasks) - len(todo), len(todo))
    if config.compute and todo:
        _compute(todo[: config.limit], config, store)
        records = read_store(store, config.percolation)
    done = [records[task.crystal.id] for task in tasks if task.crystal.id in records]
    return write_table(done, len(tasks), config, command)


def read_store(path: Path, settings: PercolationConfig) -> dict[str, dict[str, Any]]:
    """Finished rows by id; a line cut by an interruption is left out and computed again.

    Raises:
        DataError: the store was made with other settings.
    """
    if not path.is_file():
        return {}
    records: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "settings" not in record:
            records[record["id"]] = record
        elif record["settings"] != asdict(settings):
            changed = [k for k, v in asdict(settings).items() if record["settings"].get(k) != v]
            raise DataError(f"{path} was made with other settings ({', '.join(changed)})", "give another store=...")
    return records


def barrier_record(task: Task, settings: PercolationConfig) -> dict[str, Any]:
    """The row of one crystal."""
    from pymatgen.core import Lattice, Structure

    crystal = task.crystal
    structure = Structure(Lattice(crystal.lattice), [int(z) for z in crystal.species], crystal.frac)
    result = percolation_barriers(structure, task.ion, settings)
    barriers = (result.e1d_eV, result.e2d_eV, result.e3d_eV)
    values = [round(e, 4) if math.isfinite(e) else None for e in barriers]
    return dict(zip(COLUMNS, [crystal.id, task.ion, *values, result.reason], strict=True))


def write_table(records: Sequence[Mapping[str, Any]], total: int, config: BarrierTableConfig, command: str) -> Path:
    """Write the rows as CSV and, beside it, how they were made."""
    import pandas as pd

    out = Path(config.out)
    text = pd.DataFrame(list(records), columns=list(COLUMNS)).to_csv(index=False, float_format="%.4f")
    write_bytes_atomically(out, lzma.compress(text.encode(), preset=9))
    ok = Counter(r["ion"] for r in records if not r["reason"])
    seen = Counter(r["ion"] for r in records)
    about = {
        "command": command,
        "versions": package_versions(),
        "settings": asdict(config.percolation),
        "crystals_total": total,
        "crystals_done": len(records),
        "barriers": {ion: f"{ok[ion]} of {seen[ion]}" for ion in ION_CHARGE},
        "reasons": dict(Counter(_kind(r["reason"]) for r in records if r["reason"]).most_common(12)),
    }
    write_json_atomically(out.with_name(out.name.split(".")[0] + ".json"), about)
    log.info("%d of %d crystals, %d barriers -> %s", len(records), total, sum(ok.values()), out)
    return out


def _kind(reason: str) -> str:
    """A reason without what is particular to one crystal, under which rows are counted."""
    return "unusual oxidation state" if " has the oxidation state " in reason else reason.split(" with ")[0]


def _compute(tasks: Sequence[Task], config: BarrierTableConfig, store: Path) -> None:
    """Append one row per crystal to the store as soon as it is finished."""
    import bvlain  # noqa: F401  (before the workers are forked, so that they share it)
    from tqdm import tqdm

    waiting = iter(tasks)
    try:
        with (
            _appending(store, config.percolation) as handle,
            ProcessPoolExecutor(config.workers) as pool,
            tqdm(total=len(tasks), desc="barriers", unit="crystal", disable=not config.progress) as bar,
        ):
            running: set[Future[dict[str, Any]]] = set()
            while True:
                # Only a few are handed over: what an interruption loses is what runs.
                while len(running) < 2 * config.workers and (task := next(waiting, None)) is not None:
                    running.add(pool.submit(barrier_record, task, config.percolation))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                handle.writelines(json.dumps(future.result()) + "\n" for future in finished)
                handle.flush()
                bar.update(len(finished))
    except BrokenProcessPool as error:
        raise OutputError("a worker process died (memory?)", "run the same command again: finished rows are kept") from error
    except OSError as error:
        raise OutputError(f"cannot write {store}: {error.strerror or error}", "give another store=...") from error


def _appending(store: Path, settings: PercolationConfig) -> IO[str]:
    """The store opened for appending: a new one starts with its settings, a last line cut by an interruption is ended."""
    store.parent.mkdir(parents=True, exist_ok=True)
    before = store.read_bytes() if store.is_file() else b""
    handle = store.open("a", encoding="utf-8")
    if not before:
        handle.write(json.dumps({"settings": asdict(settings)}) + "\n")
    elif not before.endswith(b"\n"):
        handle.write("\n")
    handle.flush()
    return handle
