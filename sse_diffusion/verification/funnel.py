"""The funnel: stages from cheap to dear over a list of candidates, resumable, one JSON per candidate and stage.

A stage result lies in ``<out>/stages/<stage>/<id>.json`` and is written atomically. Its key is a hash of the stage's protocol,
the structure that went in, and what else the answer depends on (engine, hull table, state point, the other candidates for
duplicates). A later run reads results whose key still fits and computes only the missing ones. Budgets (how many candidates, how
much time) are no part of the key: raising one keeps what is there.

No candidate is dropped silently: each ends with ``stopped_at`` and ``reason``, or passes everything. An error while one candidate
is computed becomes its reason; the others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import read_json, standard_json, write_json_atomically
from sse_diffusion.core.errors import ConfigError, OutputError, SSEError
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.verification.stage import BUDGET_FIELDS, FunnelContext, Member, Stage, StageOutcome, StageResult
from sse_diffusion.verification.structure_files import structure_hash

if TYPE_CHECKING:
    from sse_diffusion.core.candidate import Candidate

logger = logging.getLogger(__name__)

STAGES: dict[str, str] = {
    "structure": "sse_diffusion.verification.stages.screens:StructureStage",
    "composition": "sse_diffusion.verification.stages.screens:CompositionStage",
    "constraints": "sse_diffusion.verification.stages.screens:ConstraintsStage",
    "unique": "sse_diffusion.verification.stages.screens:UniqueStage",
    "novel": "sse_diffusion.verification.stages.screens:NovelStage",
    "predict": "sse_diffusion.verification.stages.energies:PredictStage",
    "static": "sse_diffusion.verification.stages.energies:StaticStage",
    "relax": "sse_diffusion.verification.stages.energies:RelaxStage",
    "hull": "sse_diffusion.verification.stages.energies:HullStage",
    "md_gate": "sse_diffusion.verification.stages.dynamics:MDGateStage",
}
"""Stage name -> ``module:class``. A plug-in names its own class in YAML: ``stages.<name>.implementation: my_module:MyStage``."""


@dataclass(frozen=True, kw_only=True)
class FunnelConfig:
    """Which stages run, in which order, and their settings.

    Attributes:
        order: stage names.
        stages: stage name -> keyword arguments of that stage's config dataclass (missing: its defaults).
    """

    order: tuple[str, ...]
    stages: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)


@dataclass
class FunnelReport:
    """What came out.

    Attributes:
        members: all candidates in the order given, each with its results.
        seconds: stage -> computing time over all sessions (loading an engine counts for the stage that needed it).
        stage_names: stages that ran, in order.
    """

    members: list[Member]
    seconds: dict[str, float]
    stage_names: tuple[str, ...]

    def passed(self, stage: str) -> list[Member]:
        """Members whose own check at ``stage`` was good."""
        return [m for m in self.members if stage in m.results and m.results[stage].passed]


def build_stages(config: FunnelConfig) -> list[Stage]:
    """Instantiate the stages of ``config.order``.

    Raises:
        ConfigError: unknown stage, or an unknown key in its settings.
    """
    from sse_diffusion.core.config import build
    from sse_diffusion.core.errors import did_you_mean
    from sse_diffusion.verification.potential import import_target

    stages: list[Stage] = []
    for name in config.order:
        settings = dict(config.stages.get(name) or {})
        target = settings.pop("implementation", STAGES.get(name))
        if not target:
            raise ConfigError(f"unknown funnel stage {name!r}", did_you_mean(name, STAGES))
        stage_class = import_target(target)
        stages.append(stage_class(name, build(stage_class.config_class, settings)))
    unknown = set(config.stages) - set(config.order) - set(STAGES)
    if unknown:
        raise ConfigError(
            f"settings for unknown funnel stage(s) {', '.join(sorted(unknown))}", did_you_mean(min(unknown), STAGES)
        )
    return [stage for stage in stages if stage.config.enabled]


def run_funnel(
    candidates: Iterable[Candidate],
    stages: Sequence[Stage],
    context: FunnelContext,
    after_stage: Callable[[FunnelReport], None] | None = None,
) -> FunnelReport:
    """Send candidates through the stages.

    Args:
        candidates: with distinct ids.
        stages: from :func:`build_stages`.
        context: state point, engine, hull, output folder.
        after_stage: called with the report so far after each stage (to write tables that survive a kill).

    Raises:
        ConfigError: two candidates share an id, or an id cannot be a file name.
        OutputError: results cannot be written (those written before stay).
        SSEError: something that every candidate of a stage needs cannot be loaded (engine, hull table).
    """
    members = [Member(candidate, candidate.structure) for candidate in candidates]
    _check_ids(members)
    seconds: dict[str, float] = {}
    report = FunnelReport(members, seconds, ())
    for stage in stages:
        alive = [member for member in members if member.alive]
        left_out = stage.select(alive, context)
        for member in alive:
            if member.id in left_out:
                member.stop(stage.name, left_out[member.id])
        entering = [m for m in members if m.alive or stage.config.everyone]
        seconds[stage.name] = _run_stage(stage, entering, context)
        logger.info("%s: %d in, %d left out, %d go on", stage.name, len(alive), len(left_out), sum(m.alive for m in members))
        report = FunnelReport(members, seconds, (*report.stage_names, stage.name))
        if after_stage is not None:
            after_stage(report)
    return report


def _run_stage(stage: Stage, members: list[Member], context: FunnelContext) -> float:
    """Read or compute the result of every member; returns the computing time over all sessions."""
    from tqdm import tqdm

    keys = _keys(stage, members, context)
    folder = context.out_dir / "stages" / stage.name
    missing: list[Member] = []
    spent = 0.0
    for member in members:
        result = _read_result(folder / f"{member.id}.json", keys[member.id])
        if result is None:
            missing.append(member)
        else:
            spent += result.seconds
            member.accept(result, stage.config.gate)
    if not missing:
        return spent
    started = time.monotonic()
    stage.prepare(missing, members, context)
    preparing = time.monotonic() - started
    budget = stage.config.max_seconds
    for member in tqdm(missing, desc=stage.name, unit="crystal", disable=len(missing) < 2, leave=False):
        if budget is not None and spent >= budget:
            member.stop(stage.name, f"the stage's time budget of {budget:g} s was spent on candidates before this one")
            continue
        result = _compute(stage, member, context, keys[member.id])
        write_json_atomically(folder / f"{member.id}.json", result.to_dict())
        spent += result.seconds
        # read back what was written, so that a first run and a resumed one work on the same digits
        member.accept(StageResult.from_dict(standard_json(result.to_dict())), stage.config.gate)
    return spent + preparing


def _compute(stage: Stage, member: Member, context: FunnelContext, key: str) -> StageResult:
    """One candidate; whatever goes wrong is its reason and stays with it."""
    started = time.monotonic()
    try:
        outcome = stage.evaluate(member, context)
    except OutputError:
        raise
    except SSEError as error:
        outcome = StageOutcome(False, {}, error.message)
    # a crystal made by a model can upset any library in any way; the run must not end for it, and the reason is kept
    except Exception as error:
        logger.warning("%s: %s failed", stage.name, member.id, exc_info=True)
        outcome = StageOutcome(False, {}, f"{type(error).__name__}: {str(error)[:300]}")
    structure = None if outcome.structure is None else outcome.structure.as_dict()
    return StageResult(
        id=member.id,
        stage=stage.name,
        key=key,
        passed=outcome.passed,
        reason=outcome.reason,
        values=outcome.values,
        seconds=round(time.monotonic() - started, 4),
        structure=structure,
    )


def _keys(stage: Stage, members: list[Member], context: FunnelContext) -> dict[str, str]:
    """Key of every member's result at this stage."""
    protocol = {k: v for k, v in asdict(stage.config).items() if k not in BUDGET_FIELDS}
    shared = {"stage": stage.name, "protocol": protocol, "depends_on": stage.depends_on(members, context)}
    return {
        m.id: hash_of_config({**shared, "structure": structure_hash(m.structure), "own": stage.depends_on_member(m, context)})
        for m in members
    }


def _read_result(path: Path, key: str) -> StageResult | None:
    """The stored result when it belongs to ``key``; ``None`` otherwise."""
    record = read_json(path)
    if not isinstance(record, dict) or record.get("key") != key:
        return None
    try:
        return StageResult.from_dict(record)
    except (KeyError, TypeError):
        return None


def _check_ids(members: Sequence[Member]) -> None:
    """Ids are distinct file names."""
    seen: set[str] = set()
    for member in members:
        if not member.id or member.id != Path(member.id).name or member.id.startswith("."):
            raise ConfigError(
                f"candidate id {member.id!r} cannot be a file name", "use letters, digits, dots, dashes and underscores"
            )
        if member.id in seen:
            raise ConfigError(f"two candidates have the id {member.id!r}", "give every candidate its own id")
        seen.add(member.id)
