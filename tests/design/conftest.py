"""A design run in a second: made-up proposals, Lennard-Jones instead of a force field, a hull of elements."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase.calculators.lj import LennardJones
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import config_dir
from sse_diffusion.thermo.conditions import load_condition_specs
from sse_diffusion.thermo.hull import COLUMNS as HULL_COLUMNS
from sse_diffusion.verification.potential import Evaluation, PotentialInfo


def crystal(symbols: tuple[str, str], a: float, group: str = "Fm-3m", second: float = 0.5) -> Structure:
    """A binary crystal, primitive."""
    return Structure.from_spacegroup(group, Lattice.cubic(a), list(symbols), [[0, 0, 0], [second] * 3]).get_primitive_structure()


CANDIDATES = [
    Candidate("t-00000", crystal(("Li", "Cl"), 5.13), 225, 1.5),
    Candidate("t-00001", crystal(("Li", "Cl"), 5.2), 225, 1.6),  # a twin of the first
    Candidate("t-00002", crystal(("Li", "Br"), 5.5), 225),
    Candidate("t-00003", Structure(Lattice.cubic(3.2), ["Li", "Cl"], [[0, 0, 0], [0.5] * 3]), 221, 2.0),
    Candidate("t-00004", Structure(Lattice.cubic(4.0), ["Li", "Cl"], [[0, 0, 0], [0.02] * 3]), 1, 9.0),  # atoms overlap
    Candidate("t-00005", crystal(("Na", "Cl"), 5.6), 225, 3.0),  # violates the constraints
]


class FakeProposer:
    """Gives the list above and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def specs(self) -> dict[str, Any]:
        return load_condition_specs(None, config_dir())

    def identity(self) -> dict[str, Any]:
        return {"checkpoint_sha256": "ab" * 32}

    def propose(self, request: Any, n: int, seed: int) -> list[Candidate]:
        self.calls += 1
        return CANDIDATES[:n]


class LJEngine:
    """Lennard-Jones behind the Potential contract; counts evaluations; can be told to be interrupted."""

    info = PotentialInfo("LJ", "1", "MIT", "toy", "toy", frozenset({"Li", "Na", "Cl", "Br"}), "linear")

    def __init__(self) -> None:
        self.calls = 0
        self.interrupt_at: int | None = None

    def evaluate(self, atoms: list[Any]) -> list[Evaluation]:
        results = []
        for one in atoms:
            self.calls += 1
            if self.calls == self.interrupt_at:
                raise KeyboardInterrupt
            one.calc = self.calculator()
            results.append(Evaluation(one.get_potential_energy(), one.get_forces(), one.get_stress(voigt=False)))
        return results

    def calculator(self) -> LennardJones:
        return LennardJones(sigma=2.3, epsilon=0.05, rc=6.0, smooth=True)


@pytest.fixture()
def engine(monkeypatch: pytest.MonkeyPatch) -> LJEngine:
    """The engine that `load_potential` gives in this test."""
    fake = LJEngine()
    monkeypatch.setattr("sse_diffusion.verification.potential.load_potential", lambda cfg: fake)
    return fake


@pytest.fixture()
def proposer() -> FakeProposer:
    """A proposer that samples nothing."""
    return FakeProposer()


@pytest.fixture()
def design_config(tmp_path: Path) -> Callable[..., Any]:
    """``design_config("n=4")``: the composed configuration with toy hull, tiny MD and an out folder of this test."""
    hull = tmp_path / "hull.csv"
    with hull.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, HULL_COLUMNS)
        writer.writeheader()
        for symbol in ("Li", "Na", "Cl2", "Br2"):
            row = {"formula": symbol, "energy_eV_per_atom": 0.0, "volume_A3_per_atom": 20.0, "source": "computed"}
            writer.writerow(row | {"energy_scheme": "toy", "converged": "true"})

    def _config(*overrides: str, md_gate: bool = False) -> Any:
        settings = [
            "verification/executor=serial",  # the engine of these tests is a fake that no other process knows
            f"hull={hull}",
            f"out={tmp_path / 'out'}",
            "n=6",
            "predictor=null",
            "conductivity_predictor=null",
            "known=null",
            "ask.elements.allow=[Li,Cl,Br]",
        ]
        md = {
            "drop_ps": 0.02,
            "keep_ps": 0.06,
            "frame_every_fs": 4,
            "min_atoms": 8,
            "max_atoms": 8,
            "gate_lag_ps": 0.02,
            "min_keep_ps": 0.02,
        }
        settings += [f"verification.md_gate.{k}={v}" for k, v in md.items()] + [
            "verification.relax.max_steps=3",
            "ask.n_atoms=[1,24]",
        ]
        settings += [f"+verification.funnel.stages.md_gate.enabled={str(md_gate).lower()}"]
        return compose("design", [*settings, *overrides])

    return _config
