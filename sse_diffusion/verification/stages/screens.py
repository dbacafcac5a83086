"""Screens that need no force field: validity, hard constraints, duplicates, novelty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sse_diffusion.verification.duplicates import duplicate_of
from sse_diffusion.verification.novelty import SYMPREC_A, find_space_group
from sse_diffusion.verification.stage import BaseStage, FunnelContext, Member, StageConfig, StageOutcome
from sse_diffusion.verification.structure_files import structure_hash
from sse_diffusion.verification.validity import composition_validity, structural_validity


class StructureStage(BaseStage):
    """Structural validity by the field's definition; absurd volumes stop here too, under their own reason."""

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``structurally_valid``, ``absurd_volume``, ``space_group_found``."""
        verdict = structural_validity(member.structure)
        group = find_space_group(member.structure) if verdict and not verdict.absurd_volume else None
        values = {"structurally_valid": verdict.valid, "absurd_volume": verdict.absurd_volume, "space_group_found": group}
        return StageOutcome(verdict.valid and not verdict.absurd_volume, values, verdict.reason)


class CompositionStage(BaseStage):
    """CDVAE's SMACT check."""

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``composition_valid``."""
        verdict = composition_validity(member.structure)
        return StageOutcome(verdict.valid, {"composition_valid": verdict.valid}, verdict.reason)


class ConstraintsStage(BaseStage):
    """The hard chemistry that was asked for."""

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """The constraints."""
        return None if context.chemistry is None else repr(_sorted_fields(context.chemistry))

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``constraint_ok``; the space group is the one the proposer built in (looked up when it is unknown)."""
        if context.chemistry is None:
            return StageOutcome(True, {"constraint_ok": True})
        violations = context.chemistry.violations(member.structure, member.candidate.space_group or None)
        return StageOutcome(not violations, {"constraint_ok": not violations}, "; ".join(violations))


class UniqueStage(BaseStage):
    """Keeps the first of equal crystals."""

    _duplicates: dict[str, str | None]

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """All crystals in their order: who is first depends on them."""
        return [structure_hash(m.structure) for m in members]

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Compare all within each formula."""
        firsts = duplicate_of([m.structure for m in members])
        self._duplicates = {m.id: None if k is None else members[k].id for m, k in zip(members, firsts, strict=True)}

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``unique`` and ``duplicate_of``."""
        first = self._duplicates[member.id]
        return StageOutcome(
            first is None, {"unique": first is None, "duplicate_of": first}, f"the same crystal as {first}" if first else ""
        )


@dataclass(frozen=True, kw_only=True)
class NovelConfig(StageConfig):
    """Settings of the novelty stage.

    Attributes:
        symprec_A: tolerance of the space-group search when the hashed index answers.
    """

    symprec_A: float = SYMPREC_A


class NovelStage(BaseStage):
    """Stops known crystals: matched against reference structures when there are some, else by formula and space group."""

    config_class = NovelConfig

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """The reference set."""
        if context.reference is not None:
            return ["reference", context.reference_id]
        return None if context.known is None else ["index", context.known.fingerprint]

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``novel`` (``None`` when there is nothing to compare with)."""
        formula = member.structure.composition.reduced_formula
        if context.reference is not None:
            name = context.reference.match(member.structure)
            return StageOutcome(name is None, {"novel": name is None}, f"equals the known crystal {name}" if name else "")
        if context.known is None:
            return StageOutcome(True, {"novel": None}, "there is no index of known crystals to compare with")
        group = find_space_group(member.structure, self.config.symprec_A)
        known = context.known.contains(formula, group)
        reason = f"{formula} in space group {group} is among the training crystals" if known else ""
        return StageOutcome(not known, {"novel": not known}, reason)


def _sorted_fields(record: Any) -> list[tuple[str, Any]]:
    """Fields with sets sorted, so that the text is the same in every process."""
    return sorted((k, sorted(v) if isinstance(v, set | frozenset) else v) for k, v in vars(record).items())
