"""The screen by trained predictors: energy above the hull, and the conductivity at the state point asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Quantity
from sse_diffusion.verification.stage import BaseStage, FunnelContext, Member, StageConfig, StageOutcome

CONDUCTIVITY = "predicted_log10_conductivity"
"""Column of log10 of S/cm; ``_low`` and ``_high`` are its 95 % interval, ``_in_domain`` says whether to trust it."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig(StageConfig):
    """Settings of the predictor screen.

    Attributes:
        max_e_hull_eV_per_atom: predicted energies above it stop here; ``None`` for no limit (rank only).
        min_log10_conductivity: crystals whose 95 % interval of log10 sigma (S/cm) ends below it stop here; ``None``: no limit.
    """

    max_e_hull_eV_per_atom: float | None = None
    min_log10_conductivity: float | None = None


class PredictStage(BaseStage):
    """Trained predictors: milliseconds per crystal, used to rank before single points.

    The conductivity is that of the composition: a proposal is ordered and not relaxed, and among measured crystals it is the
    insulators whose files are ordered. A prediction that failed or is outside its predictor's domain never stops a crystal.
    """

    config_class = PredictConfig
    _heights: dict[str, Quantity]
    _conductivities: dict[str, Quantity]

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """The predictors, and the state point where there is a conductivity."""
        stability = context.predictor_id if context.predictor_loader is not None else None
        if context.conductivity_loader is None:
            return stability
        return [stability, context.conductivity_id, context.temperature_K, context.pressure_GPa]

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """One batch for all.

        Raises:
            ConfigError: a least conductivity is asked for, and there is no predictor.
        """
        ids = [m.id for m in missing]
        absent = Quantity.failed("there is no predictor of the energy above the hull", unit="eV/atom")
        heights = context.predictor.predict_e_hull([m.structure for m in missing]) if context.predictor else [absent] * len(ids)
        self._heights = dict(zip(ids, heights, strict=True))
        if context.conductivity is None and self.config.min_log10_conductivity is not None:
            raise ConfigError(
                "min_log10_conductivity is set, but this run has no conductivity predictor",
                "it knows lithium conductors at 150-1200 K and up to 20 GPa; set conductivity_predictor, or leave out the limit",
            )
        self._conductivities = {}
        if context.conductivity is not None:
            found = context.conductivity.predict([m.structure.composition for m in missing])
            self._conductivities = dict(zip(ids, found, strict=True))

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``predicted_e_hull_eV_per_atom``, ``predicted_e_hull_sd``, ``predicted_status``, ``predicted_in_domain``, and the
        columns of :data:`CONDUCTIVITY` where there is a predictor of it."""
        height, limit = self._heights[member.id], self.config.max_e_hull_eV_per_atom
        values = {
            "predicted_e_hull_eV_per_atom": height.value,
            "predicted_e_hull_sd": height.uncertainty,
            "predicted_status": str(height.status),
            "predicted_in_domain": height.ok,
        }
        against, remarks = [], [height.reason]
        if limit is not None and height.ok and height.value > limit:
            against.append(f"predicted {height.value:.3f} eV/atom above the hull (> {limit:g})")
        if (sigma := self._conductivities.get(member.id)) is not None:
            least = self.config.min_log10_conductivity
            low, high = sigma.provenance.get("interval_95", (None, None))
            values |= {CONDUCTIVITY: sigma.value, f"{CONDUCTIVITY}_low": low, f"{CONDUCTIVITY}_high": high}
            values[f"{CONDUCTIVITY}_in_domain"] = sigma.ok
            remarks.append(f"conductivity {sigma.reason}" if sigma.reason else "")
            if least is not None and sigma.ok and high is not None and high < least:
                against.append(f"log10 sigma at {context.temperature_K:g} K is predicted to be {high:.1f} at most (< {least:g})")
        return StageOutcome(not against, values, "; ".join(against or filter(None, remarks)))
