"""What every sampler must do; a plug-in's tests inherit this mixin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.corruption.coordinates import wrapped_score
from sse_diffusion.diffusion.denoiser import ContinuousOutput, DenoiserConfig, OrbitTransformer, Properties
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import Sampler, SamplerConfig
from sse_diffusion.thermo.conditions import load_condition_specs

CENTRE, WIDTH = 0.3, 0.05


class SamplerConformance:
    """Inherit and define ``sampler`` (the function, as a staticmethod) and, if needed, ``configs``."""

    sampler: Sampler
    configs: tuple[SamplerConfig, ...] = (SamplerConfig(steps=64),)

    def test_exact_on_a_wrapped_gaussian(self) -> None:
        """With the exact score of a wrapped normal the sampler returns its mean and width."""
        model, batch = _toy(4000)
        for config in self.configs:
            with _exact_score(model):
                out = self.sampler(model, batch, config, 0, torch.arange(len(batch)))
            off = out.free[:, 0] - CENTRE
            off = off - off.round()
            assert abs(off.mean().item()) < 0.003, f"mean is off by {off.mean().item():.4f} ({config})"
            assert abs(off.std().item() / WIDTH - 1) < 0.08, f"width is {off.std().item():.4f}, not {WIDTH} ({config})"

    def test_a_crystal_does_not_depend_on_its_batch(self) -> None:
        """Crystal i is the same alone and in company."""
        model, batch = _toy(8)
        index = torch.arange(8)
        for config in self.configs:
            with _exact_score(model):
                together = self.sampler(model, batch, config, 1, index)
                alone = self.sampler(model, batch.select(torch.tensor([5])), config, 1, torch.tensor([5]))
            assert torch.allclose(together.free[5], alone.free[0], atol=1e-5)
            assert torch.allclose(together.cell[5], alone.cell[0], atol=1e-5)

    def test_coordinates_stay_in_the_cell(self) -> None:
        """Free coordinates lie in [0, 1) and are finite."""
        model, batch = _toy(64)
        for config in self.configs:
            with _exact_score(model):
                out = self.sampler(model, batch, config, 2, torch.arange(64))
            assert torch.isfinite(out.cell).all() and (out.free >= 0).all() and (out.free < 1).all()


def _toy(n: int) -> tuple[CrystalModel, OrbitBatch]:
    """One atom in P1, n times, and a model whose score is replaced by the exact one."""
    model = CrystalModel(DenoiserConfig(width=16, depth=1, heads=2, pair_width=8, n_radial=4), load_condition_specs()).eval()
    position = wyckoff_table().positions(1)[0]
    one = Orbits(1, np.array([0, 0, 0, 0, 0, 1.2]), np.array([3]), np.array([position]), np.zeros((1, 3)))
    return model, OrbitBatch.from_orbits([one] * n, model.null_conditions(n))


@contextmanager
def _exact_score(model: CrystalModel) -> Iterator[None]:
    """Replace the network by the exact score of a wrapped normal (mean CENTRE, width WIDTH); the cell has no drift."""
    noise = model.coordinate_noise

    def continuous(batch: OrbitBatch, x_cell: torch.Tensor, t: torch.Tensor, t_cell: torch.Tensor) -> ContinuousOutput:
        """Stands in for the network."""
        sigma = noise.sigma(t)[:, None, None].expand_as(batch.free)
        score = wrapped_score(batch.free - CENTRE, (sigma**2 + WIDTH**2).sqrt())
        return ContinuousOutput(
            score * sigma / noise.norm(t)[:, None, None], torch.zeros_like(x_cell), Properties(*torch.zeros(2, len(t), 0))
        )

    denoiser: OrbitTransformer = model.denoiser
    denoiser.__dict__["continuous"] = continuous
    try:
        yield
    finally:
        del denoiser.__dict__["continuous"]
