r"""Samplers of the continuous fields: functions from noise to crystals, each named for its algorithm.

Coordinates (variance exploding, on the torus) and cell (variance preserving) are moved together over the same times.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.rng import normal, uniform
from sse_diffusion.diffusion.guidance import Weights, guided_continuous, n_evaluations
from sse_diffusion.diffusion.guides.guide import Guide
from sse_diffusion.diffusion.model import CrystalModel

CELL_BOUND = 4.0
STREAM_PRIOR_FREE, STREAM_PRIOR_CELL, STREAM_START, STREAM_NOISE = 11, 12, 13, 10_000


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How crystals are sampled.

    Attributes:
        name: key in :data:`SAMPLERS`, or ``my_module:my_function``.
        steps: outputs of the network in the continuous stage, each one evaluation (more with guidance, see ``evaluations``).
        churn: 0 follows the probability-flow ODE, 1 is fully ancestral.
        guidance: classifier-free guidance weight in the discrete stage: one number, or one by condition (``default`` for the
            others), see :mod:`sse_diffusion.diffusion.guidance`.
        guidance_continuous: of coordinates and cell.
        gradient_strength: power of the property head's likelihood whose gradient moves coordinates and cell; 0 is none.
        gradient_clip: its largest length relative to the network's own output.
        particles: discrete parts drawn per crystal, one of which is kept by its weight; 1: no weighing.
        particle_strength: power of the property head's likelihood in that weight.
        finish_particles: whether all of them are finished and judged with their coordinates before one is kept: a better
            judgement, at K times the cost.
        phases: table in which dG_hull is judged (:func:`~sse_diffusion.thermo.competition.load_phase_table`); ``None``: by the
            head alone.
        height_judges: whose opinion of the static height counts there, see :mod:`sse_diffusion.diffusion.guides.heights`.
        conductivity_judges: who weighs an asked conductivity among particles: ``composition`` (the predictor), ``head`` (the
            noise-aware one, :mod:`sse_diffusion.diffusion.conductivity_head`), or both. The gradient is always the head's.
        conductivity_head: its checkpoint, which must have been trained on this model; ``None``: no head, and no such gradient.
        guides: import paths ``my_module:make`` of further guides (:mod:`sse_diffusion.diffusion.guides.guide`).
        temperature: of the discrete choices.
        batch_tokens: orbits per padded batch; results do not depend on it.
        max_rounds: how often crystals that ended in a dead end of the constraints are drawn again.
        types: checkpoint of structure types that crystals start from; ``None``: everything is left to the diffusion model.
        typed_share: share of crystals that start from a type when no composition is given; ``None``: as in the training table.
        role_prior: weight of how often elements take the roles of a type, beside the denoiser's choice.
        partner_weight: weight of how often elements go together in the training table, with a type or without one.
        type_temperature: of the choice of a type for a given composition; 0 takes the most probable.
        refine_steps: network evaluations of crystals that start from a type.
        start_sigma: noise on a type's mean coordinates from which they are refined, as a fraction of the cell.
        start_cell_time: time from which its mean cell is refined; 1 forgets it.
    """

    name: str = "euler_ancestral"
    steps: int = 40
    churn: float = 1.0
    guidance: Weights = 1.0
    guidance_continuous: Weights = 1.0
    gradient_strength: float = 0.0
    gradient_clip: float = 1.0
    particles: int = 1
    particle_strength: float = 1.0
    finish_particles: bool = False
    phases: str | None = "chgnet-0.3.0-all"
    height_judges: tuple[str, ...] = ("head", "composition")
    conductivity_judges: tuple[str, ...] = ("composition",)
    conductivity_head: str | None = "mp_base_conductivity"
    guides: tuple[str, ...] = ()
    temperature: float = 1.0
    batch_tokens: int = 768
    max_rounds: int = 50
    types: str | None = "structure_types"
    typed_share: float | None = None
    role_prior: float = 0.7
    partner_weight: float = 1.0
    type_temperature: float = 0.5
    refine_steps: int = 10
    start_sigma: float = 0.006
    start_cell_time: float = 0.3

    @property
    def evaluations(self) -> int:
        """Most network evaluations that the continuous fields of one crystal cost (without those of import-path guides)."""
        steps = max(self.steps, self.refine_steps) if self.types else self.steps
        return steps * (n_evaluations(self.guidance_continuous) + (self.gradient_strength != 0.0))


@dataclass(frozen=True)
class Start:
    """Where the continuous fields set out from, instead of from noise.

    Attributes:
        free: (b, m, 3) coordinates.
        cell: (b, 6) logarithmic cell.
        t, t_cell: (b,) times; noise of that time is added first. 1 forgets the given values, a cell at 0 is kept as it is.
        held: (b, m) orbits whose coordinates stay as given; ``None``: none (see :mod:`sse_diffusion.diffusion.inpainting`).
    """

    free: Float[Tensor, "b m 3"]
    cell: Float[Tensor, "b 6"]
    t: Float[Tensor, " b"]
    t_cell: Float[Tensor, " b"]
    held: Bool[Tensor, "b m"] | None = None

    def select(self, rows: Tensor) -> Start:
        """The crystals ``rows``."""
        held = None if self.held is None else self.held[rows]
        return Start(self.free[rows], self.cell[rows], self.t[rows], self.t_cell[rows], held)

    def put_back(self, free: Float[Tensor, "b m 3"]) -> Float[Tensor, "b m 3"]:
        """Coordinates with the held ones at their given values."""
        return free if self.held is None else torch.where(self.held[..., None], self.free, free)

    def final_cell(self, cell: Float[Tensor, "b 6"]) -> Float[Tensor, "b 6"]:
        """Cells with the known ones exactly as given."""
        return torch.where((self.t_cell > 0)[:, None], cell, self.cell)

    @classmethod
    def from_noise(cls, batch: OrbitBatch) -> Start:
        """Nothing is known."""
        one = torch.ones(len(batch), device=batch.device)
        return cls(batch.free, batch.cell, one, one)


@runtime_checkable
class Sampler(Protocol):
    """What a sampler is: a function that overwrites coordinates and cell of a batch."""

    def __call__(
        self, model: CrystalModel, batch: OrbitBatch, config: SamplerConfig, seed: int, index: Int64[Tensor, " b"],
        start: Start | None = None, guides: Sequence[Guide] = (),
    ) -> OrbitBatch:  # fmt: skip
        """Sample; arguments as in :func:`euler_ancestral`."""


def euler_ancestral(
    model: CrystalModel,
    batch: OrbitBatch,
    config: SamplerConfig,
    seed: int,
    index: Int64[Tensor, " b"],
    start: Start | None = None,
    guides: Sequence[Guide] = (),
) -> OrbitBatch:
    r"""Exponential (DDIM-like) Euler steps with a share of fresh noise (Song et al. 2021; Karras et al. 2022, churn).

        u_0|t = u + sigma^2 s,     u' = u_0|t + (sigma_down / sigma) (u - u_0|t) + sigma_up z
        sigma_up = churn sigma' sqrt(1 - sigma'^2 / sigma^2),   sigma_down^2 = sigma'^2 - sigma_up^2

    and the same split for the cell with its signal and noise levels.

    Args:
        model: trained model.
        batch: with group, species and Wyckoff positions; coordinates and cell are overwritten.
        config: steps, churn, guidance.
        seed, index: random streams.
        start: known coordinates and cells to refine.
        guides: those of the continuous stage move coordinates and cell (:mod:`sse_diffusion.diffusion.guides.gradient`).
    """
    m = batch.mask.shape[1]
    is_free, atoms = model.is_free(batch), model.atoms(batch)
    start = start or Start.from_noise(batch)
    u, x = set_out(model, batch, start, seed, index)
    times = torch.linspace(1.0, 0.0, config.steps + 1, device=batch.device)
    for step in range(config.steps):
        t, after = times[step] * start.t, times[step + 1] * start.t
        t_cell, after_cell = times[step] * start.t_cell, times[step + 1] * start.t_cell
        noisy = batch.with_(free=u, cell=model.cell_noise.restore(x, batch.group, atoms))
        output = guided_continuous(model, noisy, x, t, t_cell, config.guidance_continuous, guides, config.gradient_clip)
        last = step == config.steps - 1
        churn = 0.0 if last else config.churn
        z = normal(seed, index, STREAM_NOISE + 2 * step, (m, 3)) * is_free
        u = start.put_back(step_coordinates(model, u, output.free * is_free, t, after, churn, last, z))
        z = normal(seed, index, STREAM_NOISE + 2 * step + 1, (6,)) * model.cell_noise.is_free[batch.group]
        x = step_cell(model, x, output.cell, t_cell, after_cell, churn, z)
    return batch.with_(free=u, cell=start.final_cell(model.cell_noise.restore(x, batch.group, atoms)))


def set_out(
    model: CrystalModel, batch: OrbitBatch, start: Start, seed: int, index: Int64[Tensor, " b"]
) -> tuple[Float[Tensor, "b m 3"], Float[Tensor, "b 6"]]:
    """Noisy coordinates and standardised cell at the time of the start; uniform and normal where that is 1."""
    is_free, m = model.is_free(batch), batch.mask.shape[1]
    anywhere = uniform(seed, index, STREAM_PRIOR_FREE, (m, 3)).float()
    z = normal(seed, index, STREAM_START, (m, 3))
    near = start.free + model.coordinate_noise.sigma(start.t)[:, None, None] * z
    u = torch.where((start.t < 1.0)[:, None, None], torch.remainder(near, 1.0), anywhere) * is_free
    noise = normal(seed, index, STREAM_PRIOR_CELL, (6,)) * model.cell_noise.is_free[batch.group]
    signal, spread = model.cell_noise.signal_and_noise(start.t_cell)
    known = model.cell_noise.standardise(start.cell, batch.group, model.atoms(batch))
    return start.put_back(u), torch.where((start.t_cell < 1.0)[:, None], signal * known + spread * noise, noise)


def step_coordinates(
    model: CrystalModel,
    u: Float[Tensor, "b m 3"],
    prediction: Tensor,
    t: Tensor,
    after: Tensor,
    churn: float,
    last: bool,
    z: Tensor,
) -> Float[Tensor, "b m 3"]:
    """One exponential Euler step of the coordinates from t to ``after``; ``last``: to no noise at all."""
    noise = model.coordinate_noise
    sigma = noise.sigma(t)[:, None, None]
    target = torch.zeros_like(sigma) if last else noise.sigma(after)[:, None, None]
    up = churn * target * (1 - (target / sigma) ** 2).clamp_min(0).sqrt()
    down = (target**2 - up**2).clamp_min(0).sqrt()
    jump = sigma**2 * noise.score(prediction, t)
    return torch.remainder(u + jump * (1 - down / sigma) + up * z, 1.0)


def step_cell(
    model: CrystalModel, x: Tensor, v: Tensor, t: Tensor, after: Tensor, churn: float, z: Tensor
) -> Float[Tensor, "b 6"]:
    """The same of the standardised cell."""
    signal, spread = model.cell_noise.signal_and_noise(t)
    signal_after, spread_after = model.cell_noise.signal_and_noise(after)
    clean, noise = signal * x - spread * v, spread * x + signal * v
    # ancestral share: variance that a jump from t to `after` and back would have
    ratio = (signal / signal_after.clamp_min(1e-6)) ** 2
    up = churn * (spread_after**2 / spread.clamp_min(1e-6) ** 2 * (1 - ratio)).clamp_min(0).sqrt()
    up = torch.minimum(up, spread_after)
    down = (spread_after**2 - up**2).clamp_min(0).sqrt()
    # Both are of unit variance: the bound only keeps an untrained network from degenerate cells.
    return signal_after * clean.clamp(-CELL_BOUND, CELL_BOUND) + down * noise.clamp(-CELL_BOUND, CELL_BOUND) + up * z


SAMPLERS = {
    "euler_ancestral": f"{__name__}:euler_ancestral",
    "heun": "sse_diffusion.diffusion.heun:heun",
    "predictor_corrector": "sse_diffusion.diffusion.predictor_corrector:predictor_corrector",
}
"""Where each sampler is found."""


def sampler(name: str) -> Sampler:
    """A sampler by name, or by import path ``my_module:my_function``.

    Raises:
        ConfigError: unknown name, or nothing at the import path.
    """
    module, _, attribute = SAMPLERS.get(name, name).partition(":")
    if not attribute:
        raise ConfigError(f"no sampler named {name!r}", did_you_mean(name, SAMPLERS))
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"no sampler at {name!r} ({error})", "write my_module:my_function, importable from here") from error
