"""The molecular-dynamics stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sse_diffusion.core.config import build
from sse_diffusion.verification.md_gate import MDGateConfig, md_gate
from sse_diffusion.verification.stage import BaseStage, FunnelContext, Member, StageConfig, StageOutcome, rank


@dataclass(frozen=True, kw_only=True)
class MDGateStageConfig(StageConfig):
    """Settings of the MD stage.

    Attributes:
        protocol: keyword arguments of :class:`MDGateConfig`.
        limit_eV_per_atom: the best ``max_candidates`` below this value of ``rank_by`` enter; ``None`` for no limit.
        fallback: when fewer than ``max_candidates`` lie below the limit, fill up with the next best; the reason says so.
    """

    rank_by: str = "gibbs_above_hull_eV_per_atom"
    protocol: Mapping[str, Any] = field(default_factory=dict)
    limit_eV_per_atom: float | None = None
    fallback: bool = True


class MDGateStage(BaseStage):
    """The short MD gate for the best candidates that contain the mobile ion."""

    config_class = MDGateStageConfig

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
        self._protocol = build(MDGateConfig, self.config.protocol)
        _ = context.potential

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``md_status``, ``md_mobile``, ``md_msd_A2``, ``md_diffusivity_cm2_per_s``, ...; files in ``md/<id>``."""
        folder = context.out_dir / "md" / member.id
        result = md_gate(member.structure, context.ion_of(member), context.potential, self._protocol, folder)
        diffusivity = result.diffusivity
        values = {
            "md_ion": result.mobile_ion,
            "md_status": str(result.status),
            "md_mobile": result.mobile,
            "md_msd_A2": result.msd_A2,
            "md_framework_msd_A2": result.framework_msd_A2,
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

    def _within(self, member: Member) -> bool:
        """Whether the candidate lies below the limit."""
        value = member.values.get(self.config.rank_by)
        return self.config.limit_eV_per_atom is None or (value is not None and value <= self.config.limit_eV_per_atom)
