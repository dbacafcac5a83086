"""The proposing step: sample once, keep what was sampled, reuse it while the question is the same."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sse_diffusion.core.atomic_files import read_json, write_json_atomically
from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.provenance import hash_of_config, sha256_of_file
from sse_diffusion.predictors.registry import judges_of

if TYPE_CHECKING:
    from sse_diffusion.thermo.conditions import ConditionSpec
    from sse_diffusion.thermo.request import Request

log = logging.getLogger(__name__)

FILE = "sampled.json"
OWN_FILES = (
    "sampled.json",
    "sessions.json",
    "candidates.csv",
    "candidates.extxyz",
    "relaxed.extxyz",
    "summary.json",
    "README.txt",
    "ledger.db",
)
OWN_FOLDERS = ("stages", "md", "cifs", "report")


class Proposer(Protocol):
    """Where candidates come from."""

    def specs(self) -> dict[str, ConditionSpec]:
        """Conditions it knows."""
        ...

    def identity(self) -> dict[str, Any]:
        """Plain values that change when its crystals would; must hold ``checkpoint_sha256``."""
        ...

    def propose(self, request: Request, n: int, seed: int) -> list[Candidate]:
        """Crystals for a request."""
        ...


@dataclass(frozen=True)
class DiffusionProposer:
    """The diffusion model of a checkpoint.

    Attributes:
        checkpoint: shipped name or folder.
        sampler: keyword arguments of its sampler's config.
    """

    checkpoint: str
    sampler: Mapping[str, Any]

    def specs(self) -> dict[str, ConditionSpec]:
        """Conditions of the checkpoint, read without its weights."""
        from sse_diffusion.diffusion.sample import checkpoint_specs

        return checkpoint_specs(self.checkpoint)

    def identity(self) -> dict[str, Any]:
        """Hash of the weights, and the sampler's settings."""
        from sse_diffusion.core.checkpoint import WEIGHTS, checkpoint_dir
        from sse_diffusion.core.errors import CheckpointError

        weights = checkpoint_dir(self.checkpoint) / WEIGHTS
        if not weights.is_file():
            raise CheckpointError(f"{weights} is missing", "copy the checkpoint again")
        return {"checkpoint_sha256": sha256_of_file(weights), "sampler": dict(self.sampler)}

    def propose(self, request: Request, n: int, seed: int) -> list[Candidate]:
        """Sample ``n`` crystals; see :func:`sse_diffusion.diffusion.generate.sample_candidates`."""
        from sse_diffusion.core.config import build
        from sse_diffusion.diffusion.generate import sample_candidates
        from sse_diffusion.diffusion.samplers import SamplerConfig

        return sample_candidates(self.checkpoint, request, n, seed, build(SamplerConfig, self.sampler))


@dataclass(frozen=True)
class Proposals:
    """What was sampled.

    Attributes:
        candidates: crystals in the order of their numbers.
        seconds: time that sampling them took, whenever that was.
        key: hash of the question: request, n, seed, checkpoint, sampler.
    """

    candidates: list[Candidate]
    seconds: float
    key: str


def propose(proposer: Proposer, request: Request, n: int, seed: int, out: Path, overwrite: bool = False) -> Proposals:
    """Candidates of this run: read from ``out/sampled.json`` when it answers the same question, else sampled and kept there.

    Raises:
        ConfigError: ``out`` holds the answer to another question and ``overwrite`` is false.
        OutputError: ``out`` cannot be written.
    """
    identity = proposer.identity()
    question = {"ask": request.to_dict(), "n": n, "seed": seed, **identity}
    if judges := judges_of(request.conditions):
        question["judges"] = judges
    key = hash_of_config(question)
    record = read_json(out / FILE)
    if isinstance(record, dict) and record.get("key") == key:
        log.info("reusing the %d crystals sampled before", len(record["candidates"]))
        return _proposals(record)
    if isinstance(record, dict):
        changed = _changes(record.get("question", {}), question)
        if not overwrite:
            hint = "choose another folder with out=..., or overwrite=true to throw the old run away"
            raise ConfigError(f"{out} holds a run of another question (changed: {', '.join(changed)})", hint)
        _clear(out)
    started = time.monotonic()
    candidates = proposer.propose(request, n, seed)
    seconds = round(time.monotonic() - started, 3)
    stored = {"key": key, "question": question, "seconds": seconds, "candidates": [_to_dict(c) for c in candidates]}
    write_json_atomically(out / FILE, stored)
    # read back, so that a first run and a resumed one work on the same digits
    return _proposals(read_json(out / FILE))


def _proposals(record: Any) -> Proposals:
    from pymatgen.core import Structure

    candidates = [
        Candidate(
            c["id"],
            Structure.from_dict(c["structure"]),
            c["space_group"],
            math.nan if c["surprisal"] is None else c["surprisal"],
            c["info"],
        )
        for c in record["candidates"]
    ]
    return Proposals(candidates, float(record["seconds"]), record["key"])


def _to_dict(candidate: Candidate) -> dict[str, Any]:
    return {
        "id": candidate.id,
        "structure": candidate.structure.as_dict(),
        "space_group": candidate.space_group,
        "surprisal": candidate.surprisal,
        "info": candidate.info,
    }


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of what differs; the parts of ``ask`` by their own names."""
    before, after = (
        {**{f"ask.{k}": v for k, v in q.get("ask", {}).items()}, **{k: v for k, v in q.items() if k != "ask"}} for q in (old, new)
    )
    # what was stored went through JSON, so compare in that form
    return sorted(
        k for k in {*before, *after} if hash_of_config({"v": before.get(k)}) != hash_of_config({"v": after.get(k)})
    ) or ["the program"]


def _clear(out: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for name in OWN_FILES:
        (out / name).unlink(missing_ok=True)
    for name in OWN_FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
