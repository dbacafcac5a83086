r"""Free-energy tilt of finished crystals, exp(-lambda E / kT), for energies of the user's own (a force field, dG_hull, dPhi)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K
from sse_diffusion.diffusion.guides.guide import Seen, Stage


class EnergyTilt:
    """Weigh crystals by -lambda E / kT at the end; a guide like any other (it needs ``sampler.particles`` of at least 2).

    Args:
        energy: eV of each crystal; not a number rules a crystal out. Where compositions differ give a quantity that may be
            compared between them (per atom above the hull, or a grand potential).
        temperature_K: T.
        strength: lambda.

    Raises:
        ConfigError: the temperature is not positive.
    """

    stages: frozenset[Stage] = frozenset({"final"})

    def __init__(self, energy: Callable[[list[Orbits]], Any], temperature_K: float, strength: float = 1.0) -> None:
        if not temperature_K > 0.0:
            raise ConfigError(f"temperature_K is {temperature_K}", "give a temperature above 0 K")
        self.energy, self.per_eV = energy, strength / (BOLTZMANN_eV_PER_K * temperature_K)

    def log_likelihood(self, seen: Seen) -> Float[Tensor, " b"]:
        """-lambda E / kT.

        Raises:
            ConfigError: ``energy`` did not return one number per crystal.
        """
        values = np.asarray(self.energy(seen.batch.to_orbits()), dtype=np.float64)
        if values.shape != (len(seen.batch),):
            raise ConfigError(f"the energy returned shape {values.shape} for {len(seen.batch)} crystals", "return one eV each")
        return torch.from_numpy(-self.per_eV * np.where(np.isnan(values), np.inf, values)).to(seen.batch.device)
