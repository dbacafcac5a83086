"""`sse tilt`: from a question to drawn crystals on disk, resumable."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.config import build, config_dir, plain
from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.design import tilt_run
from sse_diffusion.design.tilted_population import TiltConfig
from sse_diffusion.testing.rigid_ions import RigidIons
from sse_diffusion.thermo.conditions import load_condition_specs


class TwoPhases:
    """Proposes CsCl twice and rock salt once, or only collapsed cells."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.calls = scale, 0

    def specs(self):
        return load_condition_specs(None, config_dir())

    def identity(self):
        return {"checkpoint_sha256": "ab" * 32}

    def propose(self, request, n, seed):
        self.calls += 1
        salt = AseAtomsAdaptor.get_structure(bulk("KCl", "rocksalt", a=6.3 * self.scale))
        cesium = [Structure(Lattice.cubic(a * self.scale), ["K", "Cl"], [[0, 0, 0], [0.5] * 3]) for a in (3.6, 3.8)]
        return [Candidate(f"p-{i}", s) for i, s in enumerate([*cesium, salt])]


@pytest.fixture
def asked(composed: Callable, out_dir, monkeypatch):
    monkeypatch.setattr(tilt_run, "load_potential", lambda values: RigidIons())
    return lambda *more: composed("tilt", "ask.formula=KCl", f"out={out_dir}", "draw=8", *more)


def test_pressure_decides_what_is_drawn(asked, out_dir):
    proposer = TwoPhases()
    assert tilt_run.run_tilt(asked("ask.pressure_GPa=0"), proposer) == 0
    summary = json.loads((out_dir / "summary.json").read_text())
    assert summary["structures"] == 2 and summary["status"] == "ok" and summary["members"][0]["space_group"] == 225
    assert summary["provenance"]["config"]["relax"]["fmax_eV_per_A"] == 0.02  # of configs/tilt.yaml, over the group's 0.05
    rows = list(csv.DictReader((out_dir / "crystals.csv").open()))
    assert {r["space_group"] for r in rows} == {"225"} and len(rows) == len(list((out_dir / "cifs").glob("*.cif"))) == 8
    tilt_run.run_tilt(asked("ask.pressure_GPa=0"), proposer)
    assert proposer.calls == 1
    tilt_run.run_tilt(asked("ask.pressure_GPa=5", "overwrite=true"), proposer)
    assert {r["space_group"] for r in csv.DictReader((out_dir / "crystals.csv").open())} == {"221"}


def test_nothing_to_draw_says_why(asked, out_dir):
    with pytest.raises(DataError, match="collapsed"):
        tilt_run.run_tilt(asked(), TwoPhases(scale=0.4))
    assert json.loads((out_dir / "summary.json").read_text())["status"] == "failed"


def test_the_yaml_holds_the_defaults_of_the_dataclass(composed):
    values = plain(composed("tilt"))["tilt"]
    given, default = build(TiltConfig, {k: v for k, v in values.items() if k != "relax"}), TiltConfig()
    assert given == default
    with pytest.raises(ConfigError, match="atoms"):
        build(TiltConfig, {**values, "atomz": 3})
