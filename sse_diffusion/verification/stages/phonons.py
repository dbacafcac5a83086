"""Stage: harmonic phonons of the relaxed candidate: dynamic stability and vibrational free energy (off by default: minutes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sse_diffusion.core.config import build
from sse_diffusion.thermo.gibbs import (
    MAX_TEMPERATURE_K,
    MIN_TEMPERATURE_K,
    REFERENCE_TEMPERATURE_K,
    g_delta_eV_per_atom,
    reduced_mass_amu,
)
from sse_diffusion.verification.phonons import PhononConfig, PhononResult, phonons
from sse_diffusion.verification.stage import BaseStage, FunnelContext, Member, StageConfig, StageOutcome

USUAL_DISPLACEMENTS_PER_ATOM = 2
"""For time estimates only: six without symmetry."""
USUAL_SUPERCELL_ATOMS = 128


@dataclass(frozen=True, kw_only=True)
class PhononStageConfig(StageConfig):
    """Settings of the phonon stage.

    Attributes:
        protocol: keyword arguments of :class:`PhononConfig`; the pressure is the one asked for unless it is given here.
    """

    protocol: Mapping[str, Any] = field(default_factory=dict)


class PhononStage(BaseStage):
    """Phonons of what the relax stage gave; a crystal with an imaginary mode does not pass."""

    config_class = PhononStageConfig
    in_workers = True

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """Engine and state point."""
        return [context.engine_id, context.temperature_K, context.pressure_GPa]

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Load the engine; read the protocol."""
        self._protocol = build(PhononConfig, {"pressure_GPa": context.pressure_GPa, **self.config.protocol})
        _ = context.potential

    def atom_steps(self, member: Member, context: FunnelContext) -> float:
        """Displaced supercells times their atoms, roughly."""
        return float(len(member.structure) * USUAL_DISPLACEMENTS_PER_ATOM * USUAL_SUPERCELL_ATOMS)

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``phonon_stable``, ``phonon_lowest_THz``, ``vibrational_free_energy_eV_per_atom`` at the state point and
        ``phonon_minus_descriptor_eV_per_atom``: what the Gibbs energies change by when phonons replace the descriptor."""
        result = phonons(member.structure, context.potential, self._protocol)
        free = result.free_energy(context.temperature_K)
        values = {
            "phonon_stable": result.stable,
            "phonon_lowest_THz": result.lowest_THz.value,
            "phonon_status": str(result.lowest_THz.status),
            "vibrational_free_energy_eV_per_atom": free.value,
            "phonon_minus_descriptor_eV_per_atom": beyond_descriptor(result, context.temperature_K),
        }
        return StageOutcome(bool(result.stable), values, result.lowest_THz.reason)


def beyond_descriptor(result: PhononResult, temperature_K: float) -> float | None:
    """[F_vib(T) - U_vib(298 K)] - G_delta(V, m; T), eV/atom (see :mod:`sse_diffusion.thermo.gibbs`); None where one of them is
    not known (imaginary modes, an element, a temperature outside 300-2000 K)."""
    modes, cell = result.modes, result.structure
    in_range = MIN_TEMPERATURE_K <= temperature_K <= MAX_TEMPERATURE_K
    if modes is None or cell is None or cell.composition.is_element or not in_range:
        return None
    mass = reduced_mass_amu(cell.composition)
    delta = float(g_delta_eV_per_atom(cell.volume / len(cell), mass, temperature_K))
    return modes.free_energy_eV_per_atom(temperature_K) - modes.energy_eV_per_atom(REFERENCE_TEMPERATURE_K) - delta
