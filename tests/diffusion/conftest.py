"""A small model with random weights: heads that start at zero would make every symmetry test trivial."""

from __future__ import annotations

import pytest
import torch

from sse_diffusion.diffusion.denoiser import DenoiserConfig
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.thermo.conditions import load_condition_specs


@pytest.fixture(scope="session")
def random_model() -> CrystalModel:
    generator = torch.Generator().manual_seed(0)
    model = CrystalModel(
        DenoiserConfig(width=32, depth=2, heads=4, pair_width=16, n_radial=12, max_orbits=10), load_condition_specs()
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
            else:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()
