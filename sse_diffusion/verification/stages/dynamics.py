"""The molecular-dynamics stages: the short gate, and transport at several temperatures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sse_diffusion.core.config import build
from sse_diffusion.core.results import Status
from sse_diffusion.verification.md_gate import MDGateConfig, md_gate
from sse_diffusion.verification.stage import BaseStage, FunnelContext, Member, StageConfig, StageOutcome, rank
from sse_diffusion.verification.supercell import supercell_atoms
from sse_diffusion.verification.transport.study import TransportConfig, run_transport


@dataclass(frozen=True, kw_only=True)
class DynamicsStageConfig(StageConfig):
    """Settings of a stage that runs dynamics.

    Attributes:
        protocol: keyword arguments of the stage's protocol (:class:`MDGateConfig`, :class:`TransportConfig`).
        limit_eV_per_atom: the best ``max_candidates`` below this value of ``rank_by`` enter; ``None`` for no limit.
        fallback: when fewer than ``max_candidates`` lie below the limit, fill up with the next best; the reason says so.
    """

    rank_by: str = "gibbs_above_hull_eV_per_atom"
    protocol: Mapping[str, Any] = field(default_factory=dict)
    limit_eV_per_atom: float | None = None
    fallback: bool = True


class _DynamicsStage(BaseStage):
    """The best candidates that contain the mobile ion, and the protocol read from YAML."""

    config_class: type[StageConfig] = DynamicsStageConfig
    in_workers = True
    protocol_class: type[MDGateConfig] | type[TransportConfig]

    def select(self, members: Sequence[Member], context: FunnelContext) -> dict[str, str]:
        """Those without the ion, above the limit (unless ``fallback``), and beyond the budget stay out."""
        left_out: dict[str, str] = {}
        eligible = []
        for member in rank(members, self.config.rank_by):
            ion = context.ion_of(member)
            if ion == "none":
                left_out[member.id] = "no mobile ion was named"
            elif ion not in {e.symbol for e in member.structure.composition.elements}:
                left_out[member.id] = f"it contains no {ion}"
            else:
                eligible.append(member)
        budget = len(eligible) if self.config.max_candidates is None else self.config.max_candidates
        for position, member in enumerate(eligible, start=1):
            if position > budget:
                left_out[member.id] = (
                    f"rank {position} of {len(eligible)} by {self.config.rank_by}; the budget of this stage is {budget}"
                )
            elif not self.config.fallback and not self._within(member):
                left_out[member.id] = f"{self.config.rank_by} is not below {self.config.limit_eV_per_atom:g}"
        return left_out

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """The engine."""
        return context.engine_id

    def depends_on_member(self, member: Member, context: FunnelContext) -> Any:
        """The ion."""
        return context.ion_of(member)

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Load the engine; read the protocol."""
        _ = self.protocol, context.potential

    @cached_property
    def protocol(self) -> Any:
        """The dataclass behind ``config.protocol``."""
        return build(self.protocol_class, self.config.protocol)

    def supercell_atoms(self, member: Member) -> int:
        """Atoms that the dynamics will have."""
        protocol = self.protocol
        return supercell_atoms(len(member.structure), protocol.min_atoms, protocol.max_atoms, protocol.hard_max_atoms)

    def _within(self, member: Member) -> bool:
        """Whether the candidate lies below the limit."""
        value = member.values.get(self.config.rank_by)
        return self.config.limit_eV_per_atom is None or (value is not None and value <= self.config.limit_eV_per_atom)


class MDGateStage(_DynamicsStage):
    """The short MD gate."""

    protocol_class = MDGateConfig

    def atom_steps(self, member: Member, context: FunnelContext) -> float:
        """Atoms of the supercell times steps."""
        return float(self.supercell_atoms(member) * self.protocol.dynamics().steps)

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``md_status``, ``md_mobile``, ``md_msd_A2``, ``md_diffusivity_cm2_per_s``, ...; files in ``md/<id>``."""
        folder = context.out_dir / "md" / member.id
        result = md_gate(member.structure, context.ion_of(member), context.potential, self.protocol, folder)
        diffusivity = result.diffusivity
        values = {
            "md_ion": result.mobile_ion,
            "md_status": str(result.status),
            "md_mobile": result.mobile,
            "md_msd_A2": result.msd_A2,
            "md_framework_msd_A2": result.framework_msd_A2,
            "md_framework_shift": result.framework_shift,
            "md_hops": result.hops,
            "md_diffusivity_cm2_per_s": diffusivity.value,
            "md_diffusivity_sd": diffusivity.uncertainty,
            "md_diffusivity_status": str(diffusivity.status),
            "md_n_atoms": result.n_atoms,
            "md_kept_ps": result.kept_ps,
            "md_seconds": round(result.seconds, 1),
        }
        note = (
            ""
            if self._within(member)
            else f"{self.config.rank_by} is above {self.config.limit_eV_per_atom:g}; tested as the next best"
        )
        return StageOutcome(bool(result.mobile), values, "; ".join(text for text in (result.reason, note) if text))


@dataclass(frozen=True, kw_only=True)
class TransportStageConfig(DynamicsStageConfig):
    """Settings of the transport stage.

    Attributes:
        min_conductivity_S_per_cm: least conductivity at the protocol's target temperature (upper end of its interval);
            ``None``: any.
    """

    min_conductivity_S_per_cm: float | None = None


class TransportStage(_DynamicsStage):
    """Dynamics at several temperatures with replicas, Arrhenius fit, sigma at the target temperature; off in the shipped
    funnels."""

    config_class = TransportStageConfig
    protocol_class = TransportConfig

    def atom_steps(self, member: Member, context: FunnelContext) -> float:
        """Atoms times steps of all temperatures and replicas."""
        return float(self.protocol.atom_steps(self.supercell_atoms(member)))

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``transport_*``; runs and ``transport.json`` in ``transport/<id>``."""
        folder = context.out_dir / "transport" / member.id
        result = run_transport(member.structure, context.ion_of(member), context.potential, self.protocol, folder)
        sigma, energy = result.conductivity_target, result.tracer_fit.activation_energy_eV
        low, high = sigma.provenance.get("interval_95", (None, sigma.value))
        values = {
            "transport_sigma_S_per_cm": sigma.value,
            "transport_sigma_low_S_per_cm": low,
            "transport_sigma_high_S_per_cm": high,
            "transport_sigma_status": str(sigma.status),
            "transport_nernst_einstein_S_per_cm": result.nernst_einstein_target.value,
            "transport_target_K": self.protocol.target_K,
            "transport_activation_energy_eV": energy.value,
            "transport_activation_energy_sd_eV": energy.uncertainty,
            "transport_non_arrhenius": result.tracer_fit.non_arrhenius,
            "transport_seconds": round(result.seconds, 1),
        }
        least = self.config.min_conductivity_S_per_cm
        reasons = [sigma.reason] if sigma.reason else []
        enough = least is None or (math.isfinite(high) and high >= least)
        if not enough:
            reasons.append(f"sigma at {self.protocol.target_K:g} K is not above {least:g} S/cm")
        return StageOutcome(enough and sigma.status is not Status.FAILED, values, "; ".join(reasons))
