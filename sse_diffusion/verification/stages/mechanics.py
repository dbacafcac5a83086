"""Stage: elastic moduli, Born stability and dendrite criteria of the relaxed candidate (8 to 24 relaxations: off by default)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sse_diffusion.core.config import build
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.verification.mechanics.dendrites import griffith_overpotential, monroe_newman, volume_per_ion_ratio
from sse_diffusion.verification.mechanics.elastic import ElasticConfig, elastic_tensor
from sse_diffusion.verification.mechanics.tensor import UNITS
from sse_diffusion.verification.stage import BaseStage, FunnelContext, Member, StageConfig, StageOutcome

STEPS_PER_STRAIN = 10
"""Usual steps of a relaxation at fixed cell, for time estimates only."""


@dataclass(frozen=True, kw_only=True)
class MechanicsStageConfig(StageConfig):
    """Settings of the mechanics stage.

    Attributes:
        protocol: keyword arguments of :class:`ElasticConfig`; the pressure is the one asked for unless it is given here.
        ion_volume_ratio: partial molar volume of the ion over that of lithium metal. The default is the sphere of Shannon's
            radius (Ahmad et al., ACS Cent. Sci. 4, 996 (2018)); ``None`` takes the volume of the crystal per ion, an upper
            estimate. The verdict of a stiff crystal turns between the two.
        surface_energy_J_per_m2, flaw_size_um: of Griffith's limit.
    """

    protocol: Mapping[str, Any] = field(default_factory=dict)
    ion_volume_ratio: float | None = 0.085
    surface_energy_J_per_m2: float = 1.0
    flaw_size_um: float = 1.0


class MechanicsStage(BaseStage):
    """Elastic tensor of what the relax stage gave; a Born-unstable crystal does not pass."""

    config_class = MechanicsStageConfig
    in_workers = True

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """Engine and pressure."""
        return [context.engine_id, context.pressure_GPa]

    def depends_on_member(self, member: Member, context: FunnelContext) -> Any:
        """The ion: dendrites are of lithium."""
        return context.ion_of(member)

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Load the engine; read the protocol."""
        self._protocol = build(ElasticConfig, {"pressure_GPa": context.pressure_GPa, **self.config.protocol})
        _ = context.potential

    def atom_steps(self, member: Member, context: FunnelContext) -> float:
        """At most 24 strained cells."""
        return float(len(member.structure) * 24 * STEPS_PER_STRAIN)

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``bulk_modulus_GPa``, ..., their ``_sd``, ``born_stable``, and for lithium conductors the dendrite criteria."""
        result = elastic_tensor(member.structure, context.potential, self._protocol)
        values: dict[str, Any] = {"born_stable": result.born_stable}
        for name, unit in UNITS.items():
            column = f"{name}_{unit}" if unit else name
            values |= {column: result.quantities[name].value, f"{column}_sd": result.quantities[name].uncertainty}
        bulk = result.quantities["bulk_modulus"]
        smallest = result.quantities["smallest_stiffness"]
        values["mechanics_status"] = str(bulk.status)
        if context.ion_of(member) == "Li" and bulk.status is not Status.FAILED:
            values |= self._dendrites(member, result.quantities)
        if smallest.status is Status.FAILED or not result.born_stable:
            return StageOutcome(False, values, bulk.reason)
        return StageOutcome(True, values, bulk.reason)

    def _dendrites(self, member: Member, quantities: Mapping[str, Quantity]) -> dict[str, Any]:
        """Monroe-Newman and Griffith against lithium metal, with their caution."""
        ratio = self.config.ion_volume_ratio
        if ratio is None:
            lithium = int(member.structure.composition["Li"])
            if not lithium:
                return {}
            ratio = volume_per_ion_ratio(member.structure.volume, lithium)
        poisson = quantities["poisson_ratio"].value
        ripple = monroe_newman(quantities["shear_modulus"], poisson, ratio)
        crack = griffith_overpotential(
            quantities["youngs_modulus"], poisson, self.config.surface_energy_J_per_m2, self.config.flaw_size_um
        )
        return {
            "monroe_newman_kJ_per_mol_nm": ripple.value,
            "monroe_newman_verdict": ripple.provenance["verdict"],
            "griffith_overpotential_V": crack.value,
            "dendrite_caution": ripple.provenance["caution"],
        }
