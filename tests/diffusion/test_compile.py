"""``compile=true``: the same numbers, and no failure where there is no compiler."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys

import pytest

from sse_diffusion.diffusion import train
from sse_diffusion.diffusion.model import CrystalModel

COMPARE = """
import copy

import numpy as np
import torch

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion import train
from sse_diffusion.diffusion.denoiser import DenoiserConfig
from sse_diffusion.diffusion.model import CrystalModel

torch.manual_seed(0)
model = CrystalModel(DenoiserConfig(width=32, depth=1, heads=4, pair_width=16, n_radial=12, max_orbits=10), {}).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.1)
compiled = copy.deepcopy(model)
train._compile(compiled, "cpu")
position = wyckoff_table().positions(1)[0]
for n in (2, 5, 9):
    sites = np.full(n, position), np.random.default_rng(n).random((n, 3))
    crystals = [Orbits(1, np.array([0, 0, 0, 0, 0, 1.6]), np.full(n, 3 + i), *sites) for i in range(3)]
    batch = OrbitBatch.from_orbits(crystals, model.null_conditions(3))
    x, t = model.cell_noise.standardise(batch.cell, batch.group, model.atoms(batch)), torch.full((3,), 0.4)
    expected, found = (m.denoiser.continuous(batch, x, t, t) for m in (model, compiled))
    assert expected.free.abs().max() > 1e-3
    torch.testing.assert_close(found.free, expected.free, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.cell, expected.cell, atol=1e-4, rtol=1e-3)
assert compiled.state_dict().keys() == model.state_dict().keys()
assert compiled.denoiser.blocks[0]._compiled_call_impl is not None
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_blocks_compute_the_same() -> None:
    """In an interpreter of its own: the run-time shape checks of the tests cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", COMPARE], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_compiler_training_goes_on_uncompiled(
    random_model: CrystalModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = copy.deepcopy(random_model)
    monkeypatch.setenv("CXX", "no-such-compiler")
    train._compile(model, "cpu")
    assert "no-such-compiler" in caplog.text
    assert all(block._compiled_call_impl is None for block in model.denoiser.blocks)
