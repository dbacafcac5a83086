"""Two harmonic phases with a volume: every thermodynamic quantity in closed form, and samplers that use the tilt's weights.

H_i(y, V) = E_i + k_i |y|^2 / 2 + K_i (V - V_i)^2 / 2 + P V       y: n displacements (Angstrom) from the site of phase i
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sse_diffusion.core.units import BOLTZMANN_eV_PER_K, eV_PER_A3_PER_GPa
from sse_diffusion.thermo.tilt import FeynmanKac

MODES = 6
SITE = 3.0
"""The phases sit at -3 and +3 Angstrom of the first displacement: far beyond any thermal motion, so the closed form is exact."""


@dataclass(frozen=True)
class TwoPhases:
    """The model at one state point; phase 1 lies ``gap`` lower and is the stiff one.

    Attributes:
        temperature: K.
        pressure: GPa.
        gap: E_2 - E_1, eV (E_1 = 0).
        stiffness: k_i, eV/A^2.
        volumes: V_i, A^3.
        bulk: K of both, eV/A^6.
        spread: variance of the proposal's displacements, A^2.
        volume_spread: variance of its volumes, A^6.
    """

    temperature: float
    pressure: float = 0.0
    gap: float = 0.03
    stiffness: tuple[float, float] = (4.0, 1.0)
    volumes: tuple[float, float] = (17.0, 23.0)
    bulk: float = 0.0094
    spread: float = 0.03
    volume_spread: float = 6.0

    @property
    def thermal(self) -> float:
        """kT, eV."""
        return BOLTZMANN_eV_PER_K * self.temperature

    @property
    def grounds(self) -> Float[Tensor, "2"]:
        """E_i, eV."""
        return torch.tensor([0.0, self.gap], dtype=torch.float64)

    @property
    def centres(self) -> Float[Tensor, "2 d"]:
        """Minimum of each phase: displacements, then volume."""
        centres = torch.zeros(2, MODES + 1, dtype=torch.float64)
        centres[:, 0], centres[:, -1] = torch.tensor([-SITE, SITE]), torch.tensor(self.volumes)
        return centres

    @property
    def springs(self) -> Float[Tensor, "2 d"]:
        """Spring constant of each coordinate in each phase."""
        return torch.tensor([[k] * MODES + [self.bulk] for k in self.stiffness], dtype=torch.float64)

    @property
    def widths(self) -> Float[Tensor, " d"]:
        """Variance of each coordinate under the proposal."""
        return torch.tensor([self.spread] * MODES + [self.volume_spread], dtype=torch.float64)

    def phase(self, x: Float[Tensor, "*b d"]) -> Int64[Tensor, "*b"]:
        """0 or 1."""
        return (x[..., 0] > 0).long()

    def energy(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """H without P V, eV."""
        i = self.phase(x)
        return self.grounds[i] + 0.5 * (self.springs[i] * (x - self.centres[i]) ** 2).sum(-1)

    def proposal(self, shape: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "p n d"]:
        """Draws of q: a Gaussian at each phase, half of the draws each."""
        which = (torch.arange(shape[1]) % 2).expand(shape)
        noise = torch.randn(*shape, MODES + 1, generator=generator, dtype=torch.float64)
        return self.centres[which] + self.widths.sqrt() * noise

    def tilt(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Reduced energy u = H / kT + log q: q exp(-u) is the Boltzmann distribution."""
        y = x - self.centres[self.phase(x)]
        log_q = math.log(0.5) - 0.5 * (y**2 / self.widths + torch.log(2 * math.pi * self.widths)).sum(-1)
        return (self.energy(x) + self.pressure * eV_PER_A3_PER_GPa * x[..., -1]) / self.thermal + log_q

    def log_z(self) -> Float[Tensor, "2"]:
        """log of the configuration integral of each phase, closed form."""
        pressure, thermal = self.pressure * eV_PER_A3_PER_GPa, self.thermal
        work = pressure * torch.tensor(self.volumes, dtype=torch.float64) - pressure**2 / (2 * self.bulk)
        return -(self.grounds + work) / thermal + 0.5 * torch.log(2 * math.pi * thermal / self.springs).sum(-1)

    def population(self) -> float:
        """Of phase 1, closed form."""
        return float(torch.softmax(self.log_z(), 0)[0])


def annealed(
    model: TwoPhases, particles: int, seed: int = 0, levels: int = 8, moves: int = 2, weighted: bool = True
) -> tuple[Tensor, FeynmanKac]:
    """Langevin dynamics in q exp(-lambda u), lambda from 0 to 1: with acceptance and weights, or (not weighted) without both."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, particles)
    x, weights = model.proposal(shape, generator), FeynmanKac(1, particles)
    for step in range(1, levels + 1):
        scale = (step / levels) ** 2
        if weighted:
            weights.reweight(scale * model.tilt(x))
            chosen = weights.resample(torch.rand(1, generator=generator), likeness=x[..., 0])
            x = x.gather(1, chosen[..., None].expand_as(x))
        i = model.phase(x)
        stiff = (scale * model.springs / model.thermal + (1 - scale) / model.widths)[i]
        shift = scale * model.pressure * eV_PER_A3_PER_GPa / model.thermal * torch.eye(MODES + 1, dtype=torch.float64)[-1]
        size, centre = 0.8 / stiff, model.centres[i]
        for _ in range(moves):
            force = stiff * (x - centre) + shift
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            new = x - size * force + (2 * size).sqrt() * noise
            if weighted:  # Metropolis: Langevin steps alone are off by their size
                there = stiff * (new - centre) + shift
                climb = ((new - x) * (force + there)).sum(-1) / 2
                back = (x - new + size * there) ** 2 / (4 * size)
                accept = torch.rand(shape, generator=generator).log() < -climb - (back - noise**2 / 2).sum(-1)
                new = torch.where(accept[..., None], new, x)
            x = new
        weights.moved(scale * model.tilt(x))
    return x, weights


def guided_diffusion(
    model: TwoPhases, populations: int, particles: int, seed: int = 0, steps: int = 40, weighted: bool = True
) -> tuple[Tensor, FeynmanKac]:
    """Reverse diffusion from noise 6 Angstrom to 0 of a generator that draws from q, guided by the gradient of the tilt.

    The generator's own step is exact (a mixture over the two sites). The guess of u at noise sigma is u of the denoised estimate,
    with a strength that grows as the noise falls. Displacements only (volume and pressure play no part).
    """
    generator = torch.Generator().manual_seed(seed)
    shape, s2 = (populations, particles), model.spread
    sigmas = torch.cat([torch.logspace(math.log10(6.0), math.log10(0.02), steps), torch.zeros(1)]).double()
    sites = model.centres[:, :-1]
    ground = model.grounds / model.thermal
    excess = torch.tensor(model.stiffness, dtype=torch.float64) / model.thermal - 1.0 / s2
    weights = FeynmanKac(populations, particles)

    def normal() -> Tensor:
        return torch.randn(*shape, MODES, generator=generator, dtype=torch.float64)

    def squares_and_sites(x: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        distance = ((x[..., None, :] - sites) ** 2).sum(-1)
        return distance, torch.softmax(-distance / (2 * (s2 + variance)), -1)

    def strength(variance: Tensor) -> Tensor:
        return 1.0 / (1.0 + 4.0 / model.thermal * s2 * variance / (s2 + variance))

    x = sites[torch.randint(2, shape, generator=generator)] + normal() * math.sqrt(s2 + float(sigmas[0]) ** 2)
    for before, after in zip(sigmas[:-1] ** 2, sigmas[1:] ** 2, strict=True):
        site = (torch.rand(shape, generator=generator) > squares_and_sites(x, before)[1][..., 0]).long()
        y, shrink = x - sites[site], s2 / (s2 + before)
        mean = (shrink + after / before * (1 - shrink)) * y
        variance = after * (before - after) / before + (1 - after / before) ** 2 * shrink * before
        pull = strength(before) * variance * excess[site] / (1 + variance * excess[site]) * shrink**2
        guided = mean - pull[..., None] * y
        new = guided + variance.sqrt() * normal()
        log_ratio = ((new - guided) ** 2 - (new - mean) ** 2).sum(-1) / (2 * variance)
        x = sites[site] + new
        if weighted:
            distance, share = squares_and_sites(x, after)
            guess = (share * (ground + 0.5 * excess * (s2 / (s2 + after)) ** 2 * distance)).sum(-1)
            weights.reweight(strength(after) * guess, log_ratio)
            if after > 0:
                chosen = weights.resample(torch.rand(populations, generator=generator), likeness=x[..., 0])
                x = x.gather(1, chosen[..., None].expand_as(x))
    return x, weights
