"""An engine that ends the process it runs in, for both executors that have processes."""

from __future__ import annotations

import pytest

DEADLY = """
import os, signal
from pathlib import Path
from ase.calculators.lj import LennardJones

class Deadly(LennardJones):
    def __init__(self, log, kills, **kwargs):
        super().__init__(**kwargs)
        self.log, self.kills = Path(log), kills
    def calculate(self, atoms=None, *args, **kwargs):
        if "Na" in atoms.get_chemical_symbols() and len(list(self.log.glob("*"))) < self.kills:
            (self.log / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(atoms, *args, **kwargs)
"""


@pytest.fixture
def deadly_module(tmp_path):
    """Folder with a module ``deadly``, whose calculator kills its process on sodium, so many times."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "deadly.py").write_text(DEADLY)
    return folder


@pytest.fixture
def deadly(tmp_path, deadly_module, monkeypatch):
    """``deadly(kills)``: the engine's configuration."""
    monkeypatch.syspath_prepend(deadly_module)  # spawned processes get the parent's sys.path
    log = tmp_path / "log"
    log.mkdir()
    kwargs = {"sigma": 2.3, "epsilon": 0.05, "rc": 6.0, "smooth": True, "log": str(log)}
    return lambda kills: {"name": "ase", "calculator": "deadly:Deadly", "kwargs": {**kwargs, "kills": kills}}
