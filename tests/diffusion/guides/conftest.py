"""A small random model with a property head, two properties, a temperature and a mobile ion."""

from __future__ import annotations

import pytest
import torch

from sse_diffusion.diffusion.denoiser import DenoiserConfig
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.thermo.conditions import ConditionSpec

SPECS = (
    ConditionSpec(name="gibbs_above_hull_eV_per_atom", unit="eV/atom", kind="continuous", std=0.1, label="gibbs"),
    ConditionSpec(name="band_gap_eV", unit="eV", kind="continuous", mean=2.0, std=1.5, label="gap"),
    ConditionSpec(name="temperature_K", unit="K", kind="continuous", mean=900.0, std=500.0, label="state:temperature_K"),
    ConditionSpec(name="mobile_ion", kind="categorical", choices=("Li", "Na", "none"), label="structure:mobile_ion"),
)


@pytest.fixture(scope="session")
def judging() -> CrystalModel:
    generator = torch.Generator().manual_seed(1)
    config = DenoiserConfig(width=32, depth=2, heads=4, pair_width=16, n_radial=12, max_orbits=10, properties=True)
    model = CrystalModel(config, {spec.name: spec for spec in SPECS})
    with torch.no_grad():
        for parameter in model.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.dim() >= 2 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()
