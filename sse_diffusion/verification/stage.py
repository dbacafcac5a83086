"""What a stage of the funnel is, and what travels through it.

A new stage is one file with one class::

    class PercolationStage(BaseStage):
        config_class = PercolationConfig            # a frozen dataclass that extends StageConfig

        def evaluate(self, member, context):
            barrier = ...member.structure...
            return StageOutcome(barrier < self.config.max_barrier_eV, {"barrier_eV": barrier}, "why not")

and one entry in a funnel YAML: ``stages.percolation: {implementation: my_module:PercolationStage, max_barrier_eV: 0.6}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.core.candidate import Candidate
    from sse_diffusion.core.results import Quantity
    from sse_diffusion.predictors.protocol import Predictor
    from sse_diffusion.thermo.chemistry import Chemistry
    from sse_diffusion.thermo.hull import ReferenceHull
    from sse_diffusion.verification.duplicates import ReferenceMatcher
    from sse_diffusion.verification.novelty import KnownIndex
    from sse_diffusion.verification.potential import Potential, PotentialInfo

BUDGET_FIELDS = ("enabled", "gate", "everyone", "max_candidates", "rank_by", "max_seconds", "limit_eV_per_atom", "fallback")
"""Settings that decide who is computed, not what is computed: results stay valid when they change."""

COMPANY_FIELDS = ("together",)
"""Settings that decide with whom a candidate is computed, which leaves its result what it is."""


OVERHEAD_ATOMS = 10
"""What an evaluation costs whatever its size, in atoms (CHGNet on one core: 12 ms, and 1.2 ms per atom of a sulfide)."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Settings that every stage has.

    Attributes:
        enabled: leave the stage out with ``false``.
        gate: ``false`` records the result but lets everything go on.
        everyone: also those that an earlier stage stopped (cheap screens whose rates refer to all candidates).
        max_candidates: how many enter; ``None`` for all.
        rank_by: name of an earlier stage's value; the smallest enter first (missing values last). ``-name``: the largest.
        max_seconds: computing time of the whole stage over all sessions; ``None`` for no limit.
    """

    enabled: bool = True
    gate: bool = True
    everyone: bool = False
    max_candidates: int | None = None
    rank_by: str = ""
    max_seconds: float | None = None


@dataclass(frozen=True)
class StageOutcome:
    """What a stage says about one candidate.

    Attributes:
        passed: whether it met the stage's criterion.
        values: results under the names of the columns they fill (plain numbers, booleans, text).
        reason: why it did not pass, or a remark.
        structure: the structure that later stages work on, when the stage changed it.
    """

    passed: bool
    values: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    structure: Structure | None = None


@dataclass(frozen=True)
class StageResult:
    """A stage outcome as stored: with id, key, time, and the structure as a pymatgen dictionary."""

    id: str
    stage: str
    key: str
    passed: bool
    reason: str
    values: dict[str, Any]
    seconds: float
    structure: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> StageResult:
        """Inverse of :meth:`to_dict`; raises KeyError when a field is missing."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__})


@dataclass
class Member:
    """A candidate on its way: its current structure, what was found, and where it stopped."""

    candidate: Candidate
    structure: Structure
    values: dict[str, Any] = field(default_factory=dict)
    results: dict[str, StageResult] = field(default_factory=dict)
    stopped_at: str = ""
    reason: str = ""

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.candidate.id

    @property
    def alive(self) -> bool:
        """True while no stage has stopped it."""
        return not self.stopped_at

    def stop(self, stage: str, reason: str) -> None:
        """Mark where and why it ends."""
        self.stopped_at, self.reason = stage, reason

    def accept(self, result: StageResult, gate: bool) -> None:
        """Take over a result; stop when it did not pass and the stage is a gate."""
        self.results[result.stage] = result
        self.values.update(result.values)
        if result.structure is not None:
            from pymatgen.core import Structure

            self.structure = Structure.from_dict(result.structure)
        if gate and not result.passed and self.alive:
            self.stop(result.stage, result.reason)


class EnergyAboveHullPredictor(Protocol):
    """What the ``predict`` stage needs."""

    def predict_e_hull(self, structures: Sequence[Structure]) -> list[Quantity]:
        """Energy above the hull in eV/atom, one per structure."""
        ...


LOADED = {
    "potential": "engine_id",
    "hull": "hull_id",
    "predictor": "predictor_id",
    "conductivity": "conductivity_id",
}
"""What a context loads when first asked -> the field that identifies it."""


@dataclass
class FunnelContext:
    """What stages share. Dear things are loaded when a stage first needs them, so that a finished run resumes in seconds.

    Attributes:
        out_dir: run folder; stage results go to ``out_dir/stages``, dynamics to ``out_dir/md``.
        temperature_K, pressure_GPa: state point of the Gibbs energies.
        mobile_ion: the ion that should move; ``candidate.info["mobile_ion"]`` wins over it; ``"none"`` for none.
        chemistry: hard constraints, or ``None``.
        potential_loader, hull_loader, predictor_loader, conductivity_loader: called at most once.
        engine_id, hull_id, predictor_id, conductivity_id: names that change when what is loaded changes; part of the result keys.
        known: index of known crystals, or ``None``.
        reference: matcher against reference structures (wins over ``known``), or ``None``.
        reference_id: name of the reference set.
        engine_info: what the engine says of itself, once it was loaded here or in a worker.
    """

    out_dir: Path
    temperature_K: float = 300.0
    pressure_GPa: float = 1.01325e-4
    mobile_ion: str = "none"
    chemistry: Chemistry | None = None
    potential_loader: Callable[[], Potential] | None = None
    engine_id: str = ""
    hull_loader: Callable[[], ReferenceHull] | None = None
    hull_id: str = ""
    predictor_loader: Callable[[], EnergyAboveHullPredictor] | None = None
    predictor_id: str = ""
    conductivity_loader: Callable[[], Predictor] | None = None
    conductivity_id: str = ""
    known: KnownIndex | None = None
    reference: ReferenceMatcher | None = None
    reference_id: str = ""

    engine_info: PotentialInfo | None = None

    @cached_property
    def potential(self) -> Potential:
        """The engine."""
        potential: Potential = _loaded(self.potential_loader, "force field")
        self.engine_info = potential.info
        return potential

    @cached_property
    def hull(self) -> ReferenceHull:
        """The reference hull."""
        return _loaded(self.hull_loader, "hull table")

    @cached_property
    def predictor(self) -> EnergyAboveHullPredictor | None:
        """The predictor, or ``None`` when there is none."""
        return None if self.predictor_loader is None else self.predictor_loader()

    @cached_property
    def conductivity(self) -> Predictor | None:
        """Predicts log10 of the conductivity at the state point; ``None`` when there is no such predictor."""
        return None if self.conductivity_loader is None else self.conductivity_loader()

    def __getstate__(self) -> dict[str, Any]:
        """For another process: everything but what was loaded, which each process loads for itself."""
        return {name: value for name, value in vars(self).items() if name not in LOADED}

    def take_over(self, other: FunnelContext) -> None:
        """Keep what ``other`` has loaded, where this run means the same."""
        for name, identity in LOADED.items():
            if name in vars(other) and getattr(self, identity) == getattr(other, identity):
                vars(self)[name] = vars(other)[name]
        self.engine_info = self.potential.info if "potential" in vars(self) else self.engine_info

    def ion_of(self, member: Member) -> str:
        """The mobile ion of one candidate; ``"none"`` for none."""
        return str(member.candidate.info.get("mobile_ion", self.mobile_ion))


def _loaded(loader: Callable[[], Any] | None, what: str) -> Any:
    """Call the loader, or say that the run has none."""
    from sse_diffusion.core.errors import ConfigError

    if loader is None:
        raise ConfigError(f"this run has no {what}, and a stage needs one", "set it in the configuration or disable the stage")
    return loader()


class Stage(Protocol):
    """The one protocol of all stages; :class:`BaseStage` gives everything but ``evaluate``."""

    name: str
    config: StageConfig
    in_workers: bool

    @property
    def together(self) -> int:
        """How many candidates are computed at a time in one process."""
        ...

    def select(self, members: Sequence[Member], context: FunnelContext) -> dict[str, str]:
        """Id -> reason of those that do not enter."""
        ...

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """What all results of this stage depend on besides config and structure (plain values)."""
        ...

    def depends_on_member(self, member: Member, context: FunnelContext) -> Any:
        """What one member's result depends on besides its structure."""
        ...

    def atom_steps(self, member: Member, context: FunnelContext) -> float:
        """Force evaluations times (atoms + ``OVERHEAD_ATOMS``) that the result is expected to take, for time estimates."""
        ...

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Called once when at least one result is missing: load engines, compute in batch."""
        ...

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """The result of one candidate; may raise, which becomes the candidate's reason."""
        ...

    def evaluate_together(
        self, members: Iterator[Member], context: FunnelContext
    ) -> Iterator[tuple[Member, StageOutcome, float]]:
        """Each with its outcome and its seconds, in any order; at most ``together`` are taken before one is given back."""
        ...


class BaseStage:
    """Defaults of a stage: everyone enters up to the budget, results depend on config and structure alone.

    Attributes:
        config_class: the schema of its settings.
        in_workers: whether ``evaluate`` may run in another process, where ``prepare`` is called with no members. True for stages
            whose cost is in ``evaluate``; false for those that look at all members together.
    """

    config_class: type[StageConfig] = StageConfig
    in_workers: bool = False

    def __init__(self, name: str, config: StageConfig | None = None) -> None:
        """Keep the name under which results are stored, and the settings."""
        self.name = name
        self.config: Any = config or self.config_class()

    @property
    def together(self) -> int:
        """How many candidates are computed at a time in one process, by ``evaluate_together`` where it is more than one."""
        return 1

    def select(self, members: Sequence[Member], context: FunnelContext) -> dict[str, str]:
        """Leave out all but the ``max_candidates`` smallest by ``rank_by``."""
        limit = self.config.max_candidates
        if limit is None or len(members) <= limit:
            return {}
        ranked = rank(members, self.config.rank_by)
        by = f" by {self.config.rank_by}" if self.config.rank_by else ""
        return {
            m.id: f"rank {position} of {len(ranked)}{by}; the budget of this stage is {limit}"
            for position, m in enumerate(ranked, start=1)
            if position > limit
        }

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """Nothing."""
        return None

    def depends_on_member(self, member: Member, context: FunnelContext) -> Any:
        """Nothing."""
        return None

    def atom_steps(self, member: Member, context: FunnelContext) -> float:
        """None: a stage without a force field."""
        return 0.0

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Nothing to prepare."""

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """To be written by the stage."""
        raise NotImplementedError

    def evaluate_together(
        self, members: Iterator[Member], context: FunnelContext
    ) -> Iterator[tuple[Member, StageOutcome, float]]:
        """To be written by a stage that computes several at a time."""
        raise NotImplementedError


def rank(members: Sequence[Member], name: str) -> list[Member]:
    """Members by rising ``values[name]``, by falling ones for ``-name``; missing and non-finite values last; order of proposal
    decides ties."""
    sign, name = (-1.0, name[1:]) if name.startswith("-") else (1.0, name)

    def key(member: Member) -> float:
        """The value; infinity for what is no finite number."""
        value = member.values.get(name)
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.inf
        return sign * number if math.isfinite(number) else math.inf

    return sorted(members, key=key) if name else list(members)
