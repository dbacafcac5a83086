"""The barrier table: fair order, nothing lost or computed twice after kill -9, failures are rows with a reason."""

from __future__ import annotations

import json
import lzma
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.rows import CrystalRow
from sse_diffusion.verification import barrier_table
from sse_diffusion.verification.barrier_table import COLUMNS, BarrierTableConfig, build_table, ordered_tasks
from sse_diffusion.verification.percolation import PercolationConfig

FAST: Mapping[str, Any] = {"points": 300, "finest_A": 0.4}
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_barriers.py"


def rocksalt(name: str, cation: int, anion: int, a: float = 5.0) -> CrystalRow:
    """Primitive rocksalt cell."""
    cell = a / 2 * (np.ones((3, 3)) - np.eye(3))
    return CrystalRow(name, np.array([cation, anion]), np.array([[0.0] * 3, [0.5] * 3]), cell)


@pytest.fixture
def crystals() -> list[CrystalRow]:
    """Salts of Li, Na and Mg, one alloy, one crystal without a mobile ion."""
    salts = [rocksalt(f"li-{i}", 3, 17, 5.0 + 0.05 * i) for i in range(4)] + [rocksalt("mg", 12, 8, 4.2), rocksalt("na", 11, 17)]
    return [*salts, rocksalt("alloy", 3, 47), rocksalt("none", 20, 8)]


def content(path: Path) -> bytes:
    """The table unpacked."""
    return lzma.decompress(path.read_bytes())


def config(folder: Path, **changes: Any) -> BarrierTableConfig:
    """A quick pass into ``folder``."""
    values = {"store": str(folder / "rows.jsonl"), "out": str(folder / "barriers.csv.xz"), "progress": False, **changes}
    return BarrierTableConfig(percolation=PercolationConfig(**FAST), **values)


def test_order_is_by_ion_then_fixed_and_random(crystals: list[CrystalRow]) -> None:
    names = [task.crystal.id for task in ordered_tasks(crystals)]
    assert names == [task.crystal.id for task in ordered_tasks(reversed(crystals))]
    assert set(names[:5]) == {"li-0", "li-1", "li-2", "li-3", "alloy"} and names[5:] == ["na", "mg"]
    assert names[:5] != sorted(names[:5])


def test_table_holds_every_crystal(crystals: list[CrystalRow], tmp_path: Path) -> None:
    out = build_table(crystals, config(tmp_path), "the command")
    table = pd.read_csv(out, keep_default_na=False).set_index("id")
    assert tuple(table.reset_index().columns) == COLUMNS and len(table) == 7
    assert "oxidation states" in table.reason["alloy"] and table.e_1d_eV["alloy"] == ""
    assert table.reason["na"] == "" and 0 < float(table.e_1d_eV["na"]) <= float(table.e_3d_eV["na"])
    about = json.loads((tmp_path / "barriers.json").read_text())
    assert about["crystals_done"] == about["crystals_total"] == 7 and about["command"] == "the command"
    assert about["barriers"]["Li"] == "4 of 5" and about["settings"]["points"] == 300


def test_resumed_equals_uninterrupted(crystals: list[CrystalRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = content(build_table(crystals, config(tmp_path / "whole")))
    part = tmp_path / "part"
    build_table(crystals, config(part, limit=3))
    store = part / "rows.jsonl"
    lines = store.read_text().splitlines()
    assert len(lines) == 1 + 3
    store.write_text("\n".join(lines)[:-25])  # killed while the third row was being written
    build_table(crystals, config(part, limit=1))
    assert len(barrier_table.read_store(store, PercolationConfig(**FAST))) == 3
    assert content(build_table(crystals, config(part))) == whole
    monkeypatch.setattr(barrier_table, "_compute", lambda *_: pytest.fail("nothing is left to compute"))
    assert content(build_table(crystals, config(part))) == whole


def test_other_settings_do_not_mix(crystals: list[CrystalRow], tmp_path: Path) -> None:
    build_table(crystals, config(tmp_path, limit=1))
    with pytest.raises(DataError, match=r"other settings .points, finest_A"):
        build_table(crystals, BarrierTableConfig(store=str(tmp_path / "rows.jsonl"), out=str(tmp_path / "b.csv.xz")))
    with pytest.raises(DataError, match="no crystal of this table holds Li"):
        build_table(crystals[-1:], config(tmp_path))


@pytest.mark.slow
def test_script_survives_kill_nine(crystals: list[CrystalRow], tmp_path: Path) -> None:
    """The shipped script, killed while it runs, then run again."""
    rows = []
    for copy in range(6):
        for crystal in crystals:
            cell = dict(
                zip(("a", "b", "c", "alpha", "beta", "gamma"), _parameters(crystal.lattice * (1 + 0.001 * copy)), strict=True)
            )
            rows.append({"material_id": f"{crystal.id}-{copy}", "split": "train", **cell,
                         "atomic_numbers": crystal.species.tolist(), "frac_coords": crystal.frac.ravel().tolist()})  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    store, out = tmp_path / "rows.jsonl", tmp_path / "b.csv.xz"
    words = [f"data.path={tmp_path / 't.parquet'}", "data=mp", f"store={store}", f"out={out}", "percolation.points=3000"]
    command = [sys.executable, str(SCRIPT), *words]
    killed = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (store.is_file() and store.read_text().count("\n") > 8):
        assert killed.poll() is None, "finished before it could be killed"
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = store.read_text().count("\n")
    assert not out.exists()
    subprocess.run(command, check=True, capture_output=True)
    table = pd.read_csv(out)
    assert len(table) == 42 and table.id.is_unique
    assert before <= store.read_text().count("\n") <= 1 + 42 + 1
    assert not math.isnan(table.e_1d_eV.min())


def _parameters(lattice: np.ndarray) -> list[float]:
    from pymatgen.core import Lattice

    return list(Lattice(lattice).parameters)
