"""Stages that need energies: single point, relaxation, hull at (T, P)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError, SSEError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.verification.relax import RelaxConfig, RelaxResult, relax, relax_together
from sse_diffusion.verification.stage import OVERHEAD_ATOMS, BaseStage, FunnelContext, Member, StageConfig, StageOutcome
from sse_diffusion.verification.validity import structural_validity

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import PotentialInfo

USUAL_STEPS = 45
"""Steps of a relaxation, for time estimates only."""


@dataclass(frozen=True, kw_only=True)
class StaticConfig(StageConfig):
    """Settings of the single points.

    Attributes:
        max_force_eV_per_A: larger forces mean overlapping atoms; ``None`` for no limit.
    """

    max_force_eV_per_A: float | None = 200.0


class StaticStage(BaseStage):
    """One energy of the crystal as proposed: a third of a relaxation step, and a good order for relaxing."""

    config_class = StaticConfig
    in_workers = True

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """Engine and hull."""
        return [context.engine_id, context.hull_id]

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Load the engine and the hull: a failure here ends the run with its message, not every candidate."""
        _ = context.potential, context.hull

    def atom_steps(self, member: Member, context: FunnelContext) -> float:
        """One evaluation."""
        return float(len(member.structure) + OVERHEAD_ATOMS)

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``static_energy_eV_per_atom``, ``static_e_above_hull_eV_per_atom``, ``static_max_force_eV_per_A``."""
        atoms = member.structure.to_ase_atoms(msonable=False)
        evaluation = context.potential.evaluate([atoms])[0]
        energy = evaluation.energy_eV / len(atoms)
        force = float(np.linalg.norm(evaluation.forces_eV_per_A, axis=1).max())
        above = _above_hull(member, energy, context)
        values = {
            "static_energy_eV_per_atom": energy,
            "static_e_above_hull_eV_per_atom": above.value,
            "static_max_force_eV_per_A": force,
        }
        if not np.isfinite([energy, force]).all():
            return StageOutcome(False, values, "the engine's energy or forces are not finite numbers")
        limit = self.config.max_force_eV_per_A
        if limit is not None and force > limit:
            return StageOutcome(False, values, f"the largest force is {force:.0f} eV/A (> {limit:g}): atoms overlap")
        return StageOutcome(True, values, above.reason)


@dataclass(frozen=True, kw_only=True)
class RelaxStageConfig(StageConfig):
    """Settings of the relaxation stage.

    Attributes:
        protocol: keyword arguments of :class:`RelaxConfig`.
        at_request_pressure: relax under the pressure asked for instead of the protocol's.
        together: candidates in every call of the engine, for one that batches (``engine.batch_atoms``). On a GPU; several worker
            processes take one candidate each.
    """

    protocol: Mapping[str, Any] = field(default_factory=dict)
    at_request_pressure: bool = True
    together: int = 1

    def __post_init__(self) -> None:
        """Refuse a number without meaning (ConfigError)."""
        if self.together < 1:
            raise ConfigError(f"relax.together is {self.together}", "give 1 or more")


class RelaxStage(BaseStage):
    """Relaxation with caps; a crystal that met a cap goes on, marked ``unconverged``."""

    config_class = RelaxStageConfig
    in_workers = True

    @property
    def together(self) -> int:
        """As configured."""
        return int(self.config.together)

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """Engine and pressure."""
        return [context.engine_id, context.pressure_GPa if self.config.at_request_pressure else None]

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Load the engine; read the protocol."""
        values = dict(self.config.protocol)
        if self.config.at_request_pressure:
            values["pressure_GPa"] = context.pressure_GPa
        self._protocol = build(RelaxConfig, values)
        _ = context.potential

    def atom_steps(self, member: Member, context: FunnelContext) -> float:
        """The usual number of steps (31-56 for cells of 12-16 atoms), or the cap."""
        cap = build(RelaxConfig, self.config.protocol).max_steps
        return float((len(member.structure) + OVERHEAD_ATOMS) * min(cap, USUAL_STEPS))

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``relaxed``, ``relax_status``, ``relax_steps``, ``relax_seconds``, ``energy_eV_per_atom``, ...; new structure."""
        refused = _unsupported(member, context.potential.info)
        return refused or self._outcome(relax(member.structure, context.potential, self._protocol), context.potential.info)

    def evaluate_together(
        self, members: Iterator[Member], context: FunnelContext
    ) -> Iterator[tuple[Member, StageOutcome, float]]:
        """Each with its outcome and its seconds when it has ended; the next takes its place."""
        entered: list[Member] = []

        def structures() -> Iterator[Structure]:
            for member in members:
                entered.append(member)
                yield member.structure

        for number, result in relax_together(structures(), context.potential, self._protocol, self.together):
            member, info = entered[number], context.potential.info
            yield member, _unsupported(member, info) or self._outcome(result, info), result.seconds

    def _outcome(self, result: RelaxResult, info: PotentialInfo) -> StageOutcome:
        """What a relaxation says about a candidate."""
        energy = result.energy_eV_per_atom
        values = {
            "engine": f"{info.name} {info.version}",
            "engine_licence": info.licence,
            "level_of_theory": info.level_of_theory,
            "energy_scheme": info.energy_scheme,
            "relaxed": energy.ok,
            "relax_status": str(energy.status),
            "relax_reason": energy.reason,
            "relax_steps": result.steps,
            "relax_fmax_eV_per_A": result.fmax_eV_per_A,
            "relax_seconds": round(result.seconds, 3),
            "energy_eV_per_atom": energy.value,
            "volume_relaxed_A3_per_atom": result.volume_A3_per_atom,
        }
        if energy.status is Status.FAILED:
            return StageOutcome(False, values, energy.reason)
        verdict = structural_validity(result.structure)
        if not verdict or verdict.absurd_volume:
            return StageOutcome(False, values, f"after relaxation: {verdict.reason}", result.structure)
        return StageOutcome(True, values, energy.reason, result.structure)


@dataclass(frozen=True, kw_only=True)
class HullStageConfig(StageConfig):
    """Settings of the hull stage.

    Attributes:
        max_e_above_hull_eV_per_atom: higher ones stop here; ``None`` lets every one with a hull go on (ranking decides).
    """

    max_e_above_hull_eV_per_atom: float | None = None


class HullStage(BaseStage):
    """Energy above the hull, static and as Gibbs energy at the state point asked for; decomposition in words."""

    config_class = HullStageConfig

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """Hull table, engine, state point."""
        return [context.hull_id, context.engine_id, context.temperature_K, context.pressure_GPa]

    def depends_on_member(self, member: Member, context: FunnelContext) -> Any:
        """The energy."""
        return member.values.get("energy_eV_per_atom")

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Load both; refuse a state point that the Gibbs energies do not cover before any candidate is tried."""
        from sse_diffusion.thermo.gibbs import check_pressure, check_temperature

        check_temperature(context.temperature_K)
        check_pressure(context.pressure_GPa)
        _ = context.hull, context.potential

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``e_above_hull_eV_per_atom``, ``gibbs_above_hull_eV_per_atom``, their sd, ``decomposition``."""
        energy = member.values.get("energy_eV_per_atom")
        if energy is None:
            raise ConfigError("there is no relaxed energy", "put the relax stage before the hull stage")
        composition, scheme = member.structure.composition, context.potential.info.energy_scheme
        static = context.hull.energy_above_hull(composition, energy, scheme)
        volume = member.structure.volume / len(member.structure)
        gibbs = context.hull.gibbs_above_hull(composition, energy, volume, scheme, context.temperature_K, context.pressure_GPa)
        values = {
            "e_above_hull_eV_per_atom": static.value,
            "e_above_hull_sd": static.uncertainty,
            "e_above_hull_status": str(static.status),
            "gibbs_above_hull_eV_per_atom": gibbs.value,
            "gibbs_above_hull_status": str(gibbs.status),
            "decomposition": context.hull.decomposition(composition),
            "estimated_phases": ", ".join(static.provenance.get("estimated_phases", [])),
        }
        if static.status is Status.FAILED:
            return StageOutcome(False, values, static.reason)
        limit = self.config.max_e_above_hull_eV_per_atom
        if limit is not None and static.value > limit:
            return StageOutcome(False, values, f"{static.value:.3f} eV/atom above the hull (> {limit:g})")
        return StageOutcome(True, values, gibbs.reason)


def _unsupported(member: Member, info: PotentialInfo) -> StageOutcome | None:
    """The outcome of a candidate with elements that the engine does not know; ``None`` for others."""
    unknown = sorted({e.symbol for e in member.structure.composition.elements} - info.elements)
    if not (unknown and info.elements):
        return None
    names = ", ".join(unknown)
    values = {"relaxed": False, "relax_status": "failed", "unsupported_elements": names}
    return StageOutcome(False, values, f"{info.name} does not know {names}")


def _above_hull(member: Member, energy: float, context: FunnelContext) -> Quantity:
    """Static energy above the hull; a hull that does not apply is a failed quantity, since this value only ranks."""
    try:
        return context.hull.energy_above_hull(member.structure.composition, energy, context.potential.info.energy_scheme)
    except SSEError as error:
        return Quantity.failed(error.message, unit="eV/atom")
