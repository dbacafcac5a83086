"""Stage: electrochemical window, decomposition in words, and what the crystal does to electrodes, on the engine's own hull."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.verification.stability.interface import InterfaceReaction, reaction_with
from sse_diffusion.verification.stability.partners import METAL, partner_composition
from sse_diffusion.verification.stability.products import decomposition_words
from sse_diffusion.verification.stability.subject import Subject
from sse_diffusion.verification.stability.window import electrochemical_window
from sse_diffusion.verification.stage import BaseStage, FunnelContext, Member, StageConfig, StageOutcome


@dataclass(frozen=True, kw_only=True)
class WindowStageConfig(StageConfig):
    """Settings of the window stage.

    Attributes:
        partners: what the crystal touches: ``metal`` (the mobile ion's), ``LCO``, ``LFP``, ``NMC111``, ``NMC811``, ``S``, or
            formulas. Partners with Co, Fe, Mn or Ni need a hull table with these elements.
    """

    partners: tuple[str, ...] = (METAL,)

    def __post_init__(self) -> None:
        """ConfigError for a partner that is no formula."""
        for partner in self.partners:
            partner_composition(partner)


class WindowStage(BaseStage):
    """Records; stops nobody."""

    config_class = WindowStageConfig

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """Hull table and engine."""
        return [context.hull_id, context.engine_id]

    def depends_on_member(self, member: Member, context: FunnelContext) -> Any:
        """The energy, and the ion whose metal the potentials are measured against."""
        return [member.values.get("energy_eV_per_atom"), context.ion_of(member)]

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Load both: a failure here ends the run with its message."""
        _ = context.hull, context.potential

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``reduction_limit_V``, ``oxidation_limit_V``, their ``_sd`` and ``_reaction``, ``stability`` (decomposition in
        words), ``reaction_<partner>`` and ``reaction_<partner>_eV_per_atom``."""
        energy = member.values.get("energy_eV_per_atom")
        if energy is None:
            raise ConfigError("there is no relaxed energy", "put the relax stage before the window stage")
        ion = context.ion_of(member)
        subject = Subject(member.structure.composition.reduced_formula, energy, context.potential.info.energy_scheme)
        window = electrochemical_window(context.hull, subject, ion)
        values = {
            "reduction_limit_V": window.reduction.value,
            "reduction_limit_sd": window.reduction.uncertainty,
            "reduction_reaction": window.reduction_reaction,
            "oxidation_limit_V": window.oxidation.value,
            "oxidation_limit_sd": window.oxidation.uncertainty,
            "oxidation_reaction": window.oxidation_reaction,
            "stability": decomposition_words(context.hull, subject),
        }
        reasons = [window.reduction.reason, window.oxidation.reason]
        for partner in self.config.partners:
            if partner == METAL and ion == "none":
                continue
            reaction = reaction_with(context.hull, subject, partner, ion)
            values[f"reaction_{partner}_eV_per_atom"] = reaction.energy.value
            values[f"reaction_{partner}"] = _words(reaction)
            reasons.append(reaction.energy.reason)
        return StageOutcome(True, values, "; ".join(dict.fromkeys(reason for reason in reasons if reason)))


def _words(reaction: InterfaceReaction) -> str:
    """The equation, ``none``, or why it is unknown."""
    if reaction.energy.reason:
        return f"unknown: {reaction.energy.reason}"
    return reaction.equation if reaction.reacts else "none"
