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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.errors import ConfigError, OutputError
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.verification.budget import Budget, BudgetConfig
from sse_diffusion.verification.executors.serial import SerialExecutor
from sse_diffusion.verification.executors.task import Executor, Job, Task, read_result
from sse_diffusion.verification.stage import BUDGET_FIELDS, COMPANY_FIELDS, FunnelContext, Member, Stage, StageResult, rank
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
    "predict": "sse_diffusion.verification.stages.predict:PredictStage",
    "static": "sse_diffusion.verification.stages.energies:StaticStage",
    "relax": "sse_diffusion.verification.stages.energies:RelaxStage",
    "hull": "sse_diffusion.verification.stages.energies:HullStage",
    "window": "sse_diffusion.verification.stages.window:WindowStage",
    "disagreement": "sse_diffusion.verification.stages.disagreement:DisagreementStage",
    "mechanics": "sse_diffusion.verification.stages.mechanics:MechanicsStage",
    "phonons": "sse_diffusion.verification.stages.phonons:PhononStage",
    "md_gate": "sse_diffusion.verification.stages.dynamics:MDGateStage",
    "transport": "sse_diffusion.verification.stages.dynamics:TransportStage",
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
    executor: Executor | None = None,
    budget: Budget | None = None,
) -> FunnelReport:
    """Send candidates through the stages.

    Args:
        candidates: with distinct ids.
        stages: from :func:`build_stages`.
        context: state point, engine, hull, output folder.
        after_stage: called with the report so far after each stage (to write tables that survive a kill).
        executor: where the dear stages are computed; in this process by default. Its workers are ended on return.
        budget: time that the call may take, and the books; no limit by default.

    Raises:
        ConfigError: two candidates share an id, or an id cannot be a file name.
        OutputError: results cannot be written (those written before stay).
        SSEError: something that every candidate of a stage needs cannot be loaded (engine, hull table).
    """
    members = [Member(candidate, candidate.structure) for candidate in candidates]
    _check_ids(members)
    place = executor or SerialExecutor()
    run = _Run(context, place, budget or Budget(BudgetConfig()))
    run.budget.forecast(stages, members, context)
    with _alone_in(context.out_dir):
        try:
            return _run_stages(members, stages, run, after_stage)
        finally:
            place.close()


@dataclass(frozen=True)
class _Run:
    """What all stages of one call share."""

    context: FunnelContext
    executor: Executor
    budget: Budget


def _run_stages(
    members: list[Member], stages: Sequence[Stage], run: _Run, after_stage: Callable[[FunnelReport], None] | None
) -> FunnelReport:
    """All stages, in order."""
    seconds: dict[str, float] = {}
    report = FunnelReport(members, seconds, ())
    for number, stage in enumerate(stages):
        alive = [member for member in members if member.alive]
        left_out = stage.select(alive, run.context)
        for member in alive:
            if member.id in left_out:
                member.stop(stage.name, left_out[member.id])
        entering = [m for m in members if m.alive or stage.config.everyone]
        seconds[stage.name] = _run_stage(stage, stages[number + 1 :], entering, run)
        logger.info("%s: %d in, %d left out, %d go on", stage.name, len(alive), len(left_out), sum(m.alive for m in members))
        report = FunnelReport(members, seconds, (*report.stage_names, stage.name))
        if after_stage is not None:
            after_stage(report)
    return report


def _run_stage(stage: Stage, later: Sequence[Stage], members: list[Member], run: _Run) -> float:
    """Read or compute the result of every member; returns the computing time over all sessions."""
    from tqdm import tqdm

    context, budget = run.context, run.budget
    ranked = rank(members, stage.config.rank_by)  # so that time is spent on the best
    missing, spent = _read_results(stage, ranked, run)
    if stage.config.rank_by:
        too_dear = budget.too_dear(stage, later, ranked, {m.id for m in ranked} - {t.id for t in missing}, context)
        for task in missing:
            if task.id in too_dear:
                task.member.stop(stage.name, too_dear[task.id])
        missing = [task for task in missing if task.id not in too_dear]
    if not missing:
        return spent

    def handed_out() -> Iterator[Task]:
        """The missing ones, as long as there is time."""
        for task in missing:
            reason = budget.too_late(stage, task.member, context)
            if stage.config.max_seconds is not None and spent >= stage.config.max_seconds:
                reason = f"the stage's time budget of {stage.config.max_seconds:g} s was spent on candidates before this one"
            if reason:
                task.member.stop(stage.name, reason)
                bar.update()
            else:
                yield task

    place = run.executor if stage.in_workers and run.executor.workers > 1 and len(missing) > 1 else SerialExecutor()
    job = Job(stage, context, [task.member for task in missing], members)
    with tqdm(total=len(missing), desc=stage.name, unit="crystal", disable=len(missing) < 2, leave=False) as bar:
        for task, result in place.run(job, handed_out()):
            if isinstance(result, str):
                task.member.stop(stage.name, result)
            else:
                spent += result.seconds
                _accept(stage, task.member, result, run, now=True)
            bar.update()
    return spent + place.preparing_s


def _read_results(stage: Stage, members: list[Member], run: _Run) -> tuple[list[Task], float]:
    """Take over the results that are there; the tasks that are left, and the computing time of those that are not."""
    keys = _keys(stage, members, run.context)
    folder = run.context.out_dir / "stages" / stage.name
    missing: list[Task] = []
    spent = 0.0
    for member in members:
        task = Task(member, keys[member.id], folder / f"{member.id}.json")
        result = read_result(task.path, task.key)
        if result is None:
            missing.append(task)
        else:
            spent += result.seconds
            _accept(stage, member, result, run, now=False)
    return missing, spent


def _accept(stage: Stage, member: Member, result: StageResult, run: _Run, now: bool) -> None:
    """Enter a result in the books and in the member."""
    run.budget.learn(stage, member, run.context, result, now)
    member.accept(result, stage.config.gate)


def _keys(stage: Stage, members: list[Member], context: FunnelContext) -> dict[str, str]:
    """Key of every member's result at this stage."""
    protocol = {k: v for k, v in asdict(stage.config).items() if k not in BUDGET_FIELDS + COMPANY_FIELDS}
    shared = {"stage": stage.name, "protocol": protocol, "depends_on": stage.depends_on(members, context)}
    return {
        m.id: hash_of_config({**shared, "structure": structure_hash(m.structure), "own": stage.depends_on_member(m, context)})
        for m in members
    }


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the run folder, so that a second run on it does not compute everything twice; freed when this process ends.

    Raises:
        OutputError: another process holds it, or the folder cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two runs on one folder are then the user's business
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}", "choose a folder that you can write") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            hint = "wait for it, or choose another folder with out=DIR"
            raise OutputError(f"another process is at work in {folder}", hint) from error
        except OSError:
            logger.debug("%s: this file system has no locks", folder)
        yield


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
