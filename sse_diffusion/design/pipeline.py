"""From a question to tested candidates: parse, sample, funnel, files, report; every step resumable."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import read_json, write_json_atomically
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import ConfigError, OutputError
from sse_diffusion.core.provenance import git_commit, hash_of_config, package_versions
from sse_diffusion.core.replay import replay_command
from sse_diffusion.core.threads import set_threads
from sse_diffusion.design import outputs
from sse_diffusion.design.ledger import write_ledger
from sse_diffusion.design.proposals import DiffusionProposer, Proposals, Proposer, propose
from sse_diffusion.thermo.request import Request, parse_request
from sse_diffusion.verification.funnel import FunnelConfig, FunnelReport, build_stages, run_funnel
from sse_diffusion.verification.funnel_records import funnel_counts
from sse_diffusion.verification.stage import FunnelContext
from sse_diffusion.verification.verify import engine_and_hull, executor_and_budget
from sse_diffusion.verification.verify_records import data_versions

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sse_diffusion.predictors.stability import CompositionStability

log = logging.getLogger(__name__)


def run_design(cfg: DictConfig, proposer: Proposer | None = None) -> int:
    """Answer ``cfg.ask`` in ``cfg.out``; go on where an earlier call stopped.

    Args:
        cfg: composed ``configs/design.yaml``.
        proposer: where candidates come from; the diffusion model of ``cfg.checkpoint`` by default.

    Returns:
        0 when the run is complete.

    Raises:
        ConfigError, ChemistryError: the question cannot be asked, or ``out`` holds another one.
        CheckpointError, EngineError, DataError: something needed cannot be loaded.
        OutputError: ``out`` cannot be written (found out before any work).
    """
    started = time.monotonic()
    out = Path(str(cfg.out)).expanduser()
    check_writable(out)
    if int(cfg.n) < 1:
        raise ConfigError(f"n={cfg.n} crystals cannot be sampled", "give n=1 or more")
    values = plain(cfg)
    set_threads(cfg.threads)
    proposer = proposer or DiffusionProposer(str(cfg.checkpoint), values["sampler"])
    request = parse_request(values["ask"], proposer.specs())
    stages = build_stages(build(FunnelConfig, values["verification"]["funnel"]))
    context = make_context(values, request, out)
    proposals = propose(proposer, request, int(cfg.n), int(cfg.seed), out, bool(cfg.overwrite))
    session = Session(
        out, values, request, proposals, proposer.identity()["checkpoint_sha256"], context, started, replay_command("design", cfg)
    )
    executor, budget = executor_and_budget(values, len(proposals.candidates))
    report = run_funnel(proposals.candidates, stages, context, session.write, executor, budget)
    write_json_atomically(out / "budget.json", budget.report())
    session.finish(report)
    return 0


def check_writable(out: Path) -> None:
    """Make ``out`` and try to write in it.

    Raises:
        OutputError: it cannot be written.
    """
    probe = out / ".write-test"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror or error}", "choose another folder with out=...") from error


def make_context(values: dict[str, Any], request: Request, out: Path) -> FunnelContext:
    """What the funnel's stages share; engine, hull and predictor are loaded when first needed."""
    context = FunnelContext(
        out_dir=out,
        temperature_K=request.temperature_K,
        pressure_GPa=request.pressure_GPa,
        mobile_ion=request.mobile_ion,
        chemistry=request.chemistry,
        **engine_and_hull(values["verification"]["engine"], str(values["hull"])),
    )
    _add_known(context, values)
    _add_predictor(context, values)
    _add_conductivity(context, values)
    return context


def _add_known(context: FunnelContext, values: dict[str, Any]) -> None:
    """The index of known crystals, when there is one."""
    from sse_diffusion.core.checkpoint import checkpoint_dir
    from sse_diffusion.core.errors import CheckpointError
    from sse_diffusion.verification.novelty import KnownIndex

    path = values["known"]
    if path == "auto":
        try:
            found = checkpoint_dir(str(values["checkpoint"])) / "known.npy"
        except CheckpointError:  # another proposer than the diffusion model has no checkpoint folder
            return
        path = found if found.is_file() else None
        if path is None:
            log.warning("the checkpoint has no known.npy: novelty is not checked")
    if path:
        context.known = KnownIndex(path)


def _add_predictor(context: FunnelContext, values: dict[str, Any]) -> None:
    """The stability predictor, when there is one."""
    from sse_diffusion.core.checkpoint import checkpoints_root

    folder = values["predictor"]
    if folder == "auto":
        shipped = checkpoints_root() / "stability_composition"
        folder = shipped if shipped.is_dir() else None
    if not folder:
        return

    record = read_json(Path(folder) / "config.json")
    context.predictor_loader = partial(_load_predictor, folder)
    context.predictor_id = hash_of_config(record if isinstance(record, dict) else {"folder": str(folder)})


def _add_conductivity(context: FunnelContext, values: dict[str, Any]) -> None:
    """The conductivity predictor, where lithium is to move and the predictor knows the state point."""
    from sse_diffusion.core.checkpoint import checkpoint_dir
    from sse_diffusion.predictors.conductivity.predictor import TEMPERATURE_RANGE_K, PRESSURE_RANGE_GPa
    from sse_diffusion.predictors.registry import load_predictor

    folder = values["conductivity_predictor"]
    state = ((context.temperature_K, TEMPERATURE_RANGE_K), (context.pressure_GPa, PRESSURE_RANGE_GPa))
    if not folder or context.mobile_ion != "Li":
        return
    if not all(low <= value <= high for value, (low, high) in state):
        log.warning(
            "no conductivities are predicted: the predictor does not reach %g K and %g GPa", *(value for value, _ in state)
        )
        return
    path = checkpoint_dir("conductivity" if folder == "auto" else str(folder))
    asked = {"temperature_K": context.temperature_K, "pressure_GPa": context.pressure_GPa}
    context.conductivity_loader = partial(load_predictor, "log10_conductivity", path, **asked)
    context.conductivity_id = hash_of_config(read_json(path / "config.json") or {"folder": str(path)})


def _load_predictor(folder: Path | str) -> CompositionStability:
    """The predictor; its weights are read here. At module level, so that workers of the funnel can be sent its name."""
    from sse_diffusion.predictors.stability import CompositionStability

    return CompositionStability.load(folder)


@dataclass
class Session:
    """One call of ``sse design`` on a run folder: keeps the books and writes the files.

    Attributes:
        out: run folder.
        values: the configuration as plain values.
        request: the parsed question.
        proposals: what was sampled.
        checkpoint_sha256: of the weights.
        context: the funnel's context.
        started: ``time.monotonic()`` at the start.
        replay: the command that asks the same again.
    """

    out: Path
    values: dict[str, Any]
    request: Request
    proposals: Proposals
    checkpoint_sha256: str
    context: FunnelContext
    started: float
    replay: str
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    before: dict[str, Any] = field(init=False)
    earlier: list[dict[str, Any]] = field(init=False)
    commit: str = field(default_factory=git_commit)

    def __post_init__(self) -> None:
        """Read what earlier sessions left."""
        self.before = read_json(self.out / "summary.json") or {}
        sessions = read_json(self.out / "sessions.json")
        self.earlier = sessions if isinstance(sessions, list) else []

    def write(self, report: FunnelReport) -> None:
        """Table, summary and session book after each stage, so that a kill leaves them up to date."""
        outputs.write_candidates(report.members, self.out)
        outputs.write_summary(self.out, self.summary(report, {}))

    def finish(self, report: FunnelReport) -> None:
        """All files, then the page, then the summary with the time of both."""
        writing = time.monotonic()
        limit = float(self.values["survivor_limit_eV_per_atom"])
        outputs.write_candidates(report.members, self.out)
        outputs.write_crystals(report.members, self.out, limit)
        summary = self.summary(report, {})
        outputs.write_summary(self.out, summary)
        outputs.write_readme(self.out, self._protocol(summary, limit))
        names = ("commit", "config_hash", "checkpoint_sha256", "seed", "engine", "versions", "data", "conditions", "replay")
        write_ledger(report.members, self.out, {name: summary[name] for name in names})
        self._page()
        outputs.write_summary(self.out, self.summary(report, {"report": round(time.monotonic() - writing, 2)}))
        self._page()  # once more, so that the page shows its own summary; it takes a second
        log.info("report: %s", self.out / "report" / "index.html")

    def summary(self, report: FunnelReport, more_seconds: dict[str, float]) -> dict[str, Any]:
        """Everything that summary.json holds."""
        book = [*self.earlier, {"date": self.date, "seconds": round(time.monotonic() - self.started, 2)}]
        write_json_atomically(self.out / "sessions.json", book)
        seconds = {"sample": self.proposals.seconds, **report.seconds, **more_seconds}
        return {
            **funnel_counts(report),
            "peak_memory_gb": max(peak_memory_gb(), float(self.before.get("peak_memory_gb") or 0.0)),
            "seconds_total": round(sum(s["seconds"] for s in book), 2),
            "seed": int(self.values["seed"]),
            "checkpoint_sha256": self.checkpoint_sha256,
            "checkpoint": str(self.values["checkpoint"]),
            "config_hash": hash_of_config({k: v for k, v in self.values.items() if k not in ("out", "overwrite", "threads")}),
            "date": self.date,
            "seconds": {k: round(v, 2) for k, v in seconds.items()},
            "stages_done": list(report.stage_names),
            "sessions": len(book),
            "versions": package_versions(),
            "conditions": self.values["ask"],
            "engine": self._engine(),
            "hull": str(self.values["hull"]),
            "data": data_versions(self.context),
            "replay": self.replay,
            "commit": self.commit,
        }

    def _engine(self) -> dict[str, Any]:
        """What the engine says of itself; a resumed run that needed none keeps what was written before."""
        if self.context.engine_info is not None:
            return {**self.context.engine_info.to_dict(), "id": self.context.engine_id}
        engine = self.before.get("engine")
        if isinstance(engine, dict) and engine.get("id") == self.context.engine_id:
            return engine
        return {"name": str(self.values["verification"]["engine"].get("name")), "id": self.context.engine_id}

    def _protocol(self, summary: dict[str, Any], limit: float) -> dict[str, Any]:
        """Fields of README.txt."""
        engine, verification = summary["engine"], self.values["verification"]
        described = " ".join(str(engine[k]) for k in ("name", "version") if engine.get(k))
        theory = f" ({engine['level_of_theory']}; licence {engine.get('licence')})" if engine.get("level_of_theory") else ""
        return {
            "engine": described + theory,
            "relax": _listed(verification["relax"]),
            "hull": summary["hull"],
            "md": _listed(verification["md_gate"]),
            "temperature_K": self.request.temperature_K,
            "pressure_GPa": self.request.pressure_GPa,
            "limit": limit,
            "out": self.out,
        }

    def _page(self) -> None:
        """Call the report function that the configuration names: rooms to the right are reached by name only."""
        if self.values["report"]:
            from hydra.utils import get_method

            get_method(str(self.values["report"]))(self.out)


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in settings.items())


def peak_memory_gb() -> float:
    """Largest resident memory of this process plus that of its largest finished child, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    used = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(used * unit / 1e9, 3)
