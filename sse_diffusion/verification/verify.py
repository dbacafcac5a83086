"""The verb ``verify``: validity, relaxation, hull at (T, P) and MD gate of crystals that a user hands in."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import write_bytes_atomically, write_json_atomically
from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import ChemistryError, ConfigError
from sse_diffusion.core.provenance import git_commit, hash_of_config, package_versions
from sse_diffusion.core.replay import replay_command
from sse_diffusion.core.threads import set_threads
from sse_diffusion.verification.budget import Budget, BudgetConfig
from sse_diffusion.verification.disorder.order import DisorderConfig
from sse_diffusion.verification.executors.task import Executor, build_executor
from sse_diffusion.verification.funnel import FunnelConfig, FunnelReport, build_stages, run_funnel
from sse_diffusion.verification.potential import SPEED_FIELDS
from sse_diffusion.verification.stage import FunnelContext, Member
from sse_diffusion.verification.structure_files import ReadStructures, read_structures
from sse_diffusion.verification.verify_records import data_versions, ensemble_records, verification_record

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pymatgen.core import Structure

    from sse_diffusion.thermo.hull import ReferenceHull
    from sse_diffusion.verification.potential import Potential

logger = logging.getLogger(__name__)

SHOWN = 20
"""Crystals whose verdict is a line of the log; ``verification.json`` has all."""

MOBILE_IONS = ("Li", "Na", "K", "Mg", "Ag")
"""Order in which ``mobile_ion: auto`` looks for an ion."""


def run_verify(cfg: DictConfig) -> int:
    """Verify ``cfg.input`` and write ``cfg.out``.

    Written: ``verification.json`` (one flat object for one crystal; for several, the shared facts and a list ``crystals`` of flat
    objects, and ``ensembles`` with the means over orderings of disordered crystals), ``<id>_relaxed.cif``, ``ledger.db``,
    ``budget.json`` (expected and actual cost), ``stages/`` and ``md/`` (for resuming). ``verification.json`` is rewritten after
    every stage, so that an interrupted or failed run leaves what it found.

    Returns:
        0 when every crystal could be relaxed, else 1.

    Raises:
        DataError: unreadable input, or disorder that cannot be ordered.
        ChemistryError: the force field lacks an element of the only crystal.
        ConfigError: unknown ion, stage or setting. OutputError: ``out`` cannot be written. EngineError: no force field.
    """
    started = time.monotonic()
    out = Path(cfg.out).expanduser()
    set_threads(cfg.threads)
    read = read_structures(cfg.input, None if cfg.disorder is None else build(DisorderConfig, cfg.disorder))
    candidates = [_with_ion(c, str(cfg.mobile_ion)) for c in read.candidates]
    context = _context(cfg, out)
    stages = build_stages(build(FunnelConfig, cfg.verification.funnel))
    executor, budget = executor_and_budget(plain(cfg), len(candidates))
    page = _Page(cfg, out, context, read, started, budget)
    report = run_funnel(candidates, stages, context, page.write, executor, budget)
    for member in report.members:
        _write_relaxed_cif(member, out)
    page.write(report)
    if cfg.ledger:
        page.write_ledger(report)
    budget.log_result()
    _log_verdicts(report.members, read.rejected)
    _raise_when_unsupported(report.members, context)
    return 0 if not read.rejected and all("energy_eV_per_atom" in m.values for m in report.members) else 1


def _log_verdicts(members: Sequence[Member], rejected: Mapping[str, str]) -> None:
    """A line for each of the first crystals, and for each that could not be read or has no energy."""
    for name, reason in rejected.items():
        logger.warning("%s was not read: %s", name, reason)
    for number, member in enumerate(members):
        found, gibbs = member.values, member.values.get("gibbs_above_hull_eV_per_atom")
        if "energy_eV_per_atom" not in found:
            logger.warning("%s ended at %s: %s", member.id, member.stopped_at, member.reason)
        elif number < SHOWN:
            height = "no height above the hull" if gibbs is None else f"{gibbs:+.3f} eV/atom from the hull"
            mobile = found.get("md_mobile")
            moves = "" if mobile is None else ", the ion moves" if mobile else ", the ion does not move"
            logger.info("%s: %s%s%s", member.id, height, moves, f" ({member.reason})" if member.reason else "")


def executor_and_budget(values: dict[str, Any], n_candidates: int) -> tuple[Executor, Budget]:
    """Where the dear stages run, and the books, from a configuration as plain values (of ``sse verify`` or ``sse design``).

    Raises:
        ConfigError: unknown executor or setting, or a budget that is no time. EngineError: Ray is not there.
    """
    verification = values["verification"]
    executor = build_executor(verification["executor"])
    config = BudgetConfig(limit=values["budget"], watts=values["watts"], seconds_per_atom_step=verification["cost"])
    return executor, Budget(config, str(verification["engine"]["name"]), max(1, min(executor.workers, n_candidates)))


def _context(cfg: DictConfig, out: Path) -> FunnelContext:
    """Engine and hull from their config groups, loaded when first needed."""
    from omegaconf import OmegaConf

    engine: Any = OmegaConf.to_container(cfg.verification.engine, resolve=True)
    return FunnelContext(
        out_dir=out,
        temperature_K=float(cfg.temperature_K),
        pressure_GPa=float(cfg.pressure_GPa),
        **engine_and_hull(engine, str(cfg.hull)),
    )


def engine_and_hull(engine: dict[str, Any], hull: str) -> dict[str, Any]:
    """Arguments of :class:`FunnelContext` for a force field and a reference hull, loaded when first needed.

    Args:
        engine: the config group ``verification/engine`` as plain values.
        hull: shipped name or path.
    """
    return {
        "potential_loader": partial(_load_engine, engine),
        "engine_id": hash_of_config({k: v for k, v in engine.items() if k not in SPEED_FIELDS}),
        "hull_loader": partial(_load_hull, hull),
        "hull_id": hull,
    }


def _load_engine(engine: dict[str, Any]) -> Potential:
    from sse_diffusion.verification.potential import load_potential

    return load_potential(engine)


def _load_hull(name: str) -> ReferenceHull:
    from sse_diffusion.thermo.hull import ReferenceHull

    return ReferenceHull.load(name)


def _with_ion(candidate: Candidate, wanted: str) -> Candidate:
    """The candidate with its mobile ion written into ``info``."""
    from pymatgen.core import Element

    present = {e.symbol for e in candidate.structure.composition.elements}
    if wanted == "auto":
        ion = next((symbol for symbol in MOBILE_IONS if symbol in present), "none")
    elif wanted == "none" or Element.is_valid_symbol(wanted):
        ion = wanted
    else:
        raise ConfigError(f"mobile_ion={wanted} is no element", "give a symbol such as Li, or auto, or none")
    return replace(candidate, info={**candidate.info, "mobile_ion": ion})


@dataclass
class _Page:
    """Writes verification.json and the ledger."""

    cfg: DictConfig
    out: Path
    context: FunnelContext
    read: ReadStructures
    started: float
    budget: Budget
    commit: str = field(default_factory=git_commit)

    def write(self, report: FunnelReport) -> None:
        """The whole state so far."""
        records = [verification_record(member) for member in report.members]
        shared: dict[str, Any] = {
            "temperature_K": self.context.temperature_K,
            "pressure_GPa": self.context.pressure_GPa,
            "hull": self.context.hull_id,
            "stages_done": list(report.stage_names),
            "seconds_this_session": round(time.monotonic() - self.started, 2),
            "seconds": {k: round(v, 2) for k, v in report.seconds.items()},
            "engine_config_hash": self.context.engine_id,
            "replay": replay_command("verify", self.cfg),
            "versions": package_versions(),
            "commit": self.commit,
        }
        if ensembles := ensemble_records(report.members, self.cfg.ensemble_temperature_K):
            shared["ensembles"] = ensembles
        if len(records) == 1 and not self.read.rejected:
            write_json_atomically(self.out / "verification.json", {**records[0], **shared})
        else:
            several = {"n_crystals": len(records), "rejected": self.read.rejected, **shared, "crystals": records}
            write_json_atomically(self.out / "verification.json", several)
        write_json_atomically(self.out / "budget.json", self.budget.report())

    def write_ledger(self, report: FunnelReport) -> None:
        """One row per crystal, by the function that the configuration names: rooms to the right are reached by name only."""
        from hydra.utils import get_method

        info = self.context.engine_info
        provenance = {
            "commit": self.commit,
            "config_hash": hash_of_config({k: v for k, v in plain(self.cfg).items() if k not in ("out", "threads", "budget")}),
            "engine": {**(info.to_dict() if info else {}), "id": self.context.engine_id},
            "data": data_versions(self.context),
            "conditions": {"temperature_K": self.context.temperature_K, "pressure_GPa": self.context.pressure_GPa},
            "replay": replay_command("verify", self.cfg),
            "versions": package_versions(),
        }
        get_method(str(self.cfg.ledger))(report.members, self.out, provenance)


def _write_relaxed_cif(member: Member, out: Path) -> None:
    """``<id>_relaxed.cif``, symmetrised."""
    if "energy_eV_per_atom" in member.values and member.results["relax"].structure is not None:
        write_bytes_atomically(out / f"{member.id}_relaxed.cif", symmetrised_cif(member.structure).encode())


def symmetrised_cif(structure: Structure, symprec: float = 0.1) -> str:
    """CIF text in the space group that spglib finds (symprec in A); in P1 when it finds none."""
    from pymatgen.io.cif import CifWriter

    try:
        return str(CifWriter(structure, symprec=symprec))
    except (ValueError, TypeError, AttributeError) as error:
        logger.warning("%s written without symmetry: %s", structure.composition.reduced_formula, error)
        return str(CifWriter(structure))


def _raise_when_unsupported(members: Sequence[Member], context: FunnelContext) -> None:
    """For a single crystal that the engine does not cover, an error beats a page of empty fields."""
    if len(members) == 1 and (missing := members[0].values.get("unsupported_elements")):
        known = ", ".join(sorted(context.engine_info.elements)) if context.engine_info else ""
        raise ChemistryError(
            f"{members[0].id}: the force field does not know {missing}; what needs no force field is in {context.out_dir}",
            "choose another engine with verification/engine=..." + (f"; this one knows {known}" if known else ""),
        )
