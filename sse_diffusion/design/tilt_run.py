"""``sse tilt``: propose crystals of a formula, weigh them by a force field's free energy at the asked state point, draw some."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import DataError
from sse_diffusion.core.provenance import git_commit, package_versions
from sse_diffusion.core.threads import set_threads
from sse_diffusion.design.proposals import DiffusionProposer, Proposer, propose
from sse_diffusion.design.tilted_population import TiltConfig, tilted_population
from sse_diffusion.diffusion.sample import write_candidates
from sse_diffusion.thermo.request import parse_request
from sse_diffusion.verification.potential import load_potential

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def run_tilt(cfg: DictConfig, proposer: Proposer | None = None) -> int:
    """Write ``<out>/{sampled.json, relaxations/, summary.json, crystals.csv, crystals.extxyz, cifs/}``; interrupted, it goes on.

    Args:
        cfg: composed ``configs/tilt.yaml``.
        proposer: where candidates come from; the diffusion model of ``cfg.checkpoint`` by default.

    Raises:
        ConfigError, ChemistryError: the question cannot be asked, or ``out`` holds another one.
        CheckpointError, EngineError: something needed cannot be loaded. DataError: no proposal could be relaxed.
    """
    out, values = Path(str(cfg.out)), plain(cfg)
    config = build(TiltConfig, values["tilt"])
    set_threads(cfg.threads)
    proposer = proposer or DiffusionProposer(str(cfg.checkpoint), values["sampler"])
    request = parse_request(values["ask"], proposer.specs())
    proposals = propose(proposer, request, int(cfg.n), int(cfg.seed), out, bool(cfg.overwrite))
    potential = load_potential(values["verification"]["engine"])
    population = tilted_population(
        proposals.candidates, potential, request.temperature_K, request.pressure_GPa, config, out / "relaxations"
    )
    record = population.to_dict()
    flat: dict[str, int | str] = {"proposed": len(proposals.candidates), "structures": len(population.members)}
    for rank, member in enumerate(population.members[:3], start=1):
        flat[f"weight_{rank}"] = f"{member.weight:.3g} space group {member.space_group}, {len(member.candidates)} proposals"
    origin = {"question": proposals.key, "commit": git_commit(), "versions": package_versions()}
    write_json_atomically(out / "summary.json", flat | record | origin)
    if not population.members:
        first = next(iter(population.left_out.values()))
        raise DataError(
            f"none of {len(proposals.candidates)} proposals could be relaxed: {first}", "raise n or tilt.relax.max_steps"
        )
    (out / "cifs").mkdir(exist_ok=True)
    write_candidates(population.resample(int(cfg.draw), int(cfg.seed)), out)
    log.info("effective sample size %.1f of %d", population.effective_sample_size, len(proposals.candidates))
    return 0
