"""Protocol of a molecular-dynamics run."""

from __future__ import annotations

from dataclasses import dataclass, field

from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.core.units import AMBIENT_PRESSURE_GPa
from sse_diffusion.verification.dynamics.guards import GuardConfig

ENSEMBLES = ("nve", "nvt", "npt")
CELL_SHAPES = ("isotropic", "full")


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """State point, integrator, output and caps; everything but ``steps`` and ``max_seconds`` decides the numbers.

    Attributes:
        ensemble: ``nve``, ``nvt`` or ``npt``.
        temperature_K: of the thermostat, and of the start velocities.
        pressure_GPa: of the barostat.
        timestep_fs: 2 fs suits cells without hydrogen; use 0.5 fs with it.
        steps: number of steps in all; raising it continues a finished run.
        frame_every: steps between stored frames.
        block_frames: frames in a block on disk: what a kill can lose.
        friction_per_ps: of the Langevin thermostat; 0 in ``nve``.
        barostat_ps: relaxation time of the volume.
        compressibility_per_GPa: rough isothermal compressibility; it sets the speed of the barostat, not the volume.
        cell_shape: ``isotropic`` scales the cell; ``full`` moves its six strain components.
        seeds: one replica each: start velocities and thermostat noise.
        max_seconds: wall time of all replicas together over all sessions.
        guards: see :class:`GuardConfig`.
    """

    ensemble: str = "nvt"
    temperature_K: float = 1000.0
    pressure_GPa: float = AMBIENT_PRESSURE_GPa
    timestep_fs: float = 2.0
    steps: int = 1500
    frame_every: int = 10
    block_frames: int = 10
    friction_per_ps: float = 5.0
    barostat_ps: float = 1.0
    compressibility_per_GPa: float = 0.03
    cell_shape: str = "isotropic"
    seeds: tuple[int, ...] = (0,)
    max_seconds: float = float("inf")
    guards: GuardConfig = field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        """Refuse protocols that cannot be run."""
        for name, known in (("ensemble", ENSEMBLES), ("cell_shape", CELL_SHAPES)):
            if getattr(self, name) not in known:
                raise ConfigError(f"dynamics.{name}={getattr(self, name)!r} is unknown", did_you_mean(getattr(self, name), known))
        for name in ("temperature_K", "timestep_fs", "frame_every", "block_frames", "barostat_ps", "compressibility_per_GPa"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"dynamics.{name}={getattr(self, name)} is not positive", "give a positive number")
        if self.friction_per_ps < 0 or (self.friction_per_ps == 0 and self.ensemble != "nve"):
            raise ConfigError(
                f"dynamics.friction_per_ps={self.friction_per_ps} thermalises nothing",
                "give a positive number (1-5), or ensemble=nve",
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"dynamics.seeds={self.seeds} must be distinct, at least one", "one seed per replica, e.g. [0, 1]")

    @property
    def frame_ps(self) -> float:
        """Time between stored frames."""
        return self.timestep_fs * self.frame_every / 1000.0

    @property
    def friction(self) -> float:
        """Friction in 1/ps; none in ``nve``."""
        return 0.0 if self.ensemble == "nve" else self.friction_per_ps
