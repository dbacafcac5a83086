r"""Sequential Monte Carlo over the particles of each crystal asked for, with the guides' log-likelihoods as potentials.

Crystal i is a population of K particles. Their discrete parts x are drawn from the model, q(x), and weighted,

    w(x) = exp(sum_guides strength log p(asked | x)),

so that one particle drawn from the weights is a sample of q(x) w(x) / Z as K grows (the error of a mean falls as 1/K); with
strength 1 and the exact likelihood that is Bayes' posterior q(x | asked). Dead ends have weight zero. If a guide speaks at the
final stage, all K are resampled (systematic, when the effective sample size is below half), finished, weighted again by
(:class:`~sse_diffusion.thermo.tilt.FeynmanKac`), and one is drawn then. Particle 0 of a population has the streams that the
crystal has without particles, so crystal i depends on (seed, i) and K only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.rng import categorical, uniform
from sse_diffusion.diffusion.decode import Decoded
from sse_diffusion.diffusion.guides.guide import Guide, Seen, log_likelihood
from sse_diffusion.diffusion.hard_chemistry import ATTEMPT_STRIDE
from sse_diffusion.diffusion.samplers import Start
from sse_diffusion.thermo.tilt import FeynmanKac

PARTICLE_STRIDE = 1_000_000 * ATTEMPT_STRIDE
"""Particle k of a crystal draws from its stream + k * stride: beyond any attempt, and the same crystal number modulo
:data:`~sse_diffusion.diffusion.hard_chemistry.ATTEMPT_STRIDE`."""

STREAM_RESAMPLE, STREAM_SURVIVOR = 30, 31


class Made(NamedTuple):
    """A finished crystal.

    Attributes:
        crystal: the crystal.
        surprisal: of its discrete part, nats per orbit.
        ess: smallest effective sample size of its population over the stages; ``None`` without particles.
    """

    crystal: Orbits
    surprisal: float
    ess: float | None = None


class Swarm:
    """Particles of b crystals on their way.

    Args:
        stream: (b,) random stream of each crystal.
        particles: K of each.
        seed: of all random numbers.
        guides: potentials.

    Attributes:
        streams: (b K,) random stream of every place, crystal by crystal.
    """

    def __init__(self, stream: Int64[Tensor, " b"], particles: int, seed: int, guides: Sequence[Guide]) -> None:
        self.stream, self.particles, self.seed, self.guides = stream, particles, seed, guides
        self.streams = (stream[:, None] + PARTICLE_STRIDE * torch.arange(particles, device=stream.device)).flatten()
        self.kernel = FeynmanKac(len(stream), particles, device=stream.device)
        self.carried = any("final" in guide.stages for guide in guides)
        self._energy = torch.full((len(self.streams),), torch.inf, dtype=torch.float64, device=stream.device)
        self._parts: list[tuple[Int64[Tensor, " r"], Decoded, Start | None]] = []
        self._finished: list[tuple[Int64[Tensor, " r"], OrbitBatch, Float[Tensor, " r"]]] = []

    def add(self, places: Int64[Tensor, " r"], decoded: Decoded, start: Start | None, usable: Bool[Tensor, " r"]) -> None:
        """Discrete parts of some places, and which of them meet the constraints."""
        gain = log_likelihood(self.guides, Seen("discrete", decoded.batch))
        self._energy[places] = torch.where(usable, -gain, torch.inf)
        self._parts.append((places, decoded, start))

    def survivors(self) -> Iterator[tuple[Int64[Tensor, " r"], Decoded, Start | None]]:
        """Once all are added: places that go on, with their discrete parts. One per crystal, or K if a final guide waits."""
        k = self.particles
        self.kernel.reweight(self._energy.view(-1, k))
        first = k * torch.arange(len(self.stream), device=self.stream.device)[:, None]
        if self.carried:
            ancestors = self.kernel.resample(uniform(self.seed, self.stream, STREAM_RESAMPLE, ()))
            places = first + torch.arange(k, device=first.device)
        else:
            ancestors, places = self._draw()[:, None], first
        ancestors, places = (first + ancestors).flatten(), places.flatten()
        self._energy[places] = self._energy[ancestors]
        alive = torch.isfinite(self._energy[places])
        ancestors, places = ancestors[alive], places[alive]
        owner, position = torch.empty_like(self.streams), torch.empty_like(self.streams)
        for number, (rows, _, _) in enumerate(self._parts):
            owner[rows], position[rows] = number, torch.arange(len(rows), device=rows.device)
        for number, (_, decoded, start) in enumerate(self._parts):
            here = owner[ancestors] == number
            chosen = position[ancestors[here]]
            if len(chosen):
                yield places[here], decoded.select(chosen), None if start is None else start.select(chosen)

    def finish(self, places: Int64[Tensor, " r"], batch: OrbitBatch, surprisal: Float[Tensor, " r"]) -> None:
        """Finished crystals of some places."""
        if self.carried:
            self._energy[places] -= log_likelihood(self.guides, Seen("final", batch))
        self._finished.append((places, batch, surprisal))

    def crystals(self) -> dict[int, Made]:
        """One crystal of each population that has any, by its row."""
        chosen = torch.zeros_like(self.stream)
        if self.carried:
            self.kernel.reweight(self._energy.view(-1, self.particles))
            chosen = self._draw()
        ess = torch.stack(self.kernel.effective_sizes).amin(0)
        wanted = torch.zeros_like(self.streams, dtype=torch.bool).view(-1, self.particles)
        wanted[ess > 0, chosen[ess > 0]] = True
        made: dict[int, Made] = {}
        for places, batch, surprisal in self._finished:
            here = wanted.flatten()[places]
            rows = places[here] // self.particles
            crystals = batch.select(here).to_orbits()
            made |= dict(zip(rows.tolist(), map(Made, crystals, surprisal[here].tolist(), ess[rows].tolist()), strict=True))
        return made

    def _draw(self) -> Int64[Tensor, " b"]:
        """One particle of each population by its weight."""
        return categorical(self.kernel.weights.log(), uniform(self.seed, self.stream, STREAM_SURVIVOR, ()))
