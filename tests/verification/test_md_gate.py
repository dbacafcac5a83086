"""Behaviour of the MD gate: resume, guards, caps, supercells, errors."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import ConfigError, OutputError
from sse_diffusion.core.results import Status
from sse_diffusion.verification.dynamics.trajectory import Trajectory
from sse_diffusion.verification.md_gate import MDGateConfig, MDGateResult, md_gate
from sse_diffusion.verification.potential import Evaluation, PotentialInfo
from sse_diffusion.verification.supercell import compact_supercell

CELL = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.13), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
SHORT = {"drop_ps": 0.1, "keep_ps": 0.4, "min_keep_ps": 0.2, "gate_lag_ps": 0.2, "block_ps": 0.1}


class Engine:
    """Every atom on a spring of its element (4 eV/A^2 unless given) to its rock-salt site; counts evaluations."""

    info = PotentialInfo("springs", "1", "MIT", "toy", "toy", frozenset({"Li", "Cl"}), "constant")

    def __init__(self, springs=None, die_at=None):
        self.springs, self.die_at = springs or {}, die_at
        self.sites, self.calls = None, 0

    def evaluate(self, atoms):
        self.calls += 1
        if self.die_at is not None and self.calls >= self.die_at:
            raise KeyboardInterrupt
        (cell,) = atoms
        if self.sites is None:
            self.sites = np.round(cell.positions / 2.565) * 2.565
        k = np.array([self.springs.get(s, 4.0) for s in cell.get_chemical_symbols()])[:, None]
        u = cell.positions - self.sites
        return [Evaluation(float((0.5 * k * u**2).sum()), -k * u, np.zeros((3, 3)))]

    def calculator(self):
        raise NotImplementedError


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path):
    config = MDGateConfig(**SHORT)
    whole = md_gate(CELL, "Li", Engine(), config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        md_gate(CELL, "Li", Engine(die_at=130), config, tmp_path / "killed")
    assert (tmp_path / "killed" / "replica_0" / "meta.json").exists() and not (tmp_path / "killed" / "md.json").exists()
    resumed_engine = Engine()
    resumed = md_gate(CELL, "Li", resumed_engine, config, tmp_path / "killed")
    one, two = (Trajectory.load(tmp_path / d / "replica_0").positions_A for d in ("whole", "killed"))
    np.testing.assert_array_equal(one, two)
    assert resumed.msd_A2 == whole.msd_A2 and resumed_engine.calls <= 251 - 100


def test_finished_result_is_read_not_recomputed(tmp_path):
    first = md_gate(CELL, "Li", Engine(), MDGateConfig(**SHORT), tmp_path)
    engine = Engine()
    again = md_gate(CELL, "Li", engine, MDGateConfig(**SHORT), tmp_path)
    assert engine.calls == 0 and again.msd_A2 == first.msd_A2 and again.diffusivity.status is Status.UPPER_BOUND
    md_gate(CELL, "Li", engine, MDGateConfig(**SHORT, seed=5), tmp_path)
    assert engine.calls == 251, "another protocol must not return the old result"


def test_result_survives_json(tmp_path):
    result = md_gate(CELL, "Li", Engine(), MDGateConfig(**SHORT), tmp_path)
    record = json.loads((tmp_path / "md.json").read_text())
    assert MDGateResult.from_dict(record).to_dict() == result.to_dict()
    assert len(record["times_ps"]) == len(record["msd_mobile_A2"]) == len(record["msd_framework_A2"])


def test_wall_cap_is_unconverged_and_a_higher_cap_continues(tmp_path):
    capped = md_gate(CELL, "Li", Engine(), MDGateConfig(**SHORT, max_seconds=1e-6), tmp_path)
    assert capped.status is Status.UNCONVERGED and capped.mobile is None and "wall cap" in capped.reason
    steps = capped.provenance["steps"]
    done = md_gate(CELL, "Li", Engine(), MDGateConfig(**SHORT, max_seconds=60), tmp_path)
    assert done.status is Status.OK and done.mobile is False and done.provenance["steps"] == 250 > steps


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"springs": {"Li": -4.0, "Cl": -4.0}}, "temperature exploded"),
        ({"springs": {"Li": float("nan")}}, "not finite"),
        ({"springs": {"Cl": 0.0}}, "framework"),
    ],
)
def test_guards_name_what_went_wrong(tmp_path, options, word):
    config = MDGateConfig(**{**SHORT, "keep_ps": 1.0, "min_distance_A": 0.0})
    result = md_gate(CELL, "Li", Engine(**options), config, tmp_path)
    assert not result.mobile and word in result.reason and result.diffusivity.status is Status.FAILED


def test_close_atoms_stop_the_run(tmp_path):
    close = CELL.copy()
    close.translate_sites([0], [0.43, 0.43, 0.43])
    result = md_gate(close, "Li", Engine(), MDGateConfig(**SHORT), tmp_path)
    assert result.mobile is None and result.status is Status.FAILED and "of each other" in result.reason


def test_missing_ion_and_bad_protocol(tmp_path):
    result = md_gate(CELL, "Na", Engine(), MDGateConfig(**SHORT), tmp_path)
    assert result.mobile is None and "no Na" in result.reason
    with pytest.raises(ConfigError, match="keep_ps"):
        MDGateConfig(keep_ps=0)


def test_unwritable_output_is_one_clear_error(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(OutputError, match="cannot write"):
        md_gate(CELL, "Li", Engine(), MDGateConfig(**SHORT), blocker / "md")
    assert os.listdir(tmp_path) == ["file"]


@settings(max_examples=25, deadline=None)
@given(
    a=st.floats(3, 9),
    b=st.floats(3, 9),
    c=st.floats(3, 20),
    alpha=st.floats(60, 120),
    gamma=st.floats(60, 120),
    n=st.integers(1, 120),
)
def test_supercell_keeps_density_and_size_limits(a, b, c, alpha, gamma, n):
    lattice = Lattice.from_parameters(a, b, c, alpha, 90, gamma)
    if not lattice.volume > 10:
        return
    frac = np.random.default_rng(n).random((n, 3))
    cell = Structure(lattice, ["Li"] * n, frac)
    result = compact_supercell(cell)
    size = len(result.structure)
    assert size == n * result.multiple
    assert result.structure.volume / size == pytest.approx(cell.volume / n, rel=1e-6)
    assert size <= max(96, n)
    if n <= 48:
        assert size >= 48
    # the shortest translation of the cell itself; a reduced basis need not hold it
    steps = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), -1).reshape(-1, 3)
    lengths = np.linalg.norm(steps[np.any(steps, axis=1)] @ lattice.matrix, axis=1)
    assert result.shortest_image_A >= 0.99 * lengths.min()
