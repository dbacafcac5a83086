"""Coverage: do the samples reach the reference crystals (recall), and do they stay near them (precision)?

Definition of Xie et al. (CDVAE, ICLR 2022), after Ganea et al. (GeoMol, NeurIPS 2021): a reference crystal is covered when the
nearest sample lies within 0.4 in the structure fingerprint and the nearest sample within 10 in the scaled composition fingerprint
(as published, the two nearest need not be the same sample). Precision is the same with samples and references exchanged, out of
all n samples, so that one that is invalid or has no fingerprint counts against it. The composition fingerprint is scaled to zero
mean and unit deviation over the reference crystals (the original took both from its own training data).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.verification.metrics.crystal_fingerprints import Fingerprint, composition_fingerprint, fingerprint
from sse_diffusion.verification.metrics.match import in_parallel
from sse_diffusion.verification.metrics.rates import Metric
from sse_diffusion.verification.validity import composition_validity, structural_validity

if TYPE_CHECKING:
    from pymatgen.core import Structure

log = logging.getLogger(__name__)

T = TypeVar("T")
KEYS = ("coverage_recall", "coverage_precision")


@dataclass(frozen=True, kw_only=True)
class CoverageConfig:
    """Cutoffs and caps.

    Attributes:
        structure_cutoff: in the structure fingerprint; the published value for MP-20.
        composition_cutoff: in the scaled composition fingerprint; the published value for MP-20.
        max_samples: as many samples are drawn when there are more (a fingerprint costs 0.1-1 s).
        max_references: as many references are drawn when there are more.
        max_seconds: per crystal.
        seed: of the draws.
        workers: processes.
    """

    structure_cutoff: float = 0.4
    composition_cutoff: float = 10.0
    max_samples: int = 1000
    max_references: int = 1000
    max_seconds: float = 30.0
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse values that have no meaning (ConfigError)."""
        if min(self.max_samples, self.max_references, self.workers) < 1 or not self.max_seconds > 0:
            raise ConfigError("coverage needs max_samples, max_references, workers >= 1 and max_seconds > 0")


def coverage(
    structures: Sequence[Structure | None],
    references: Sequence[Structure],
    config: CoverageConfig | None = None,
    progress: bool = True,
) -> dict[str, Metric]:
    """``coverage_recall`` of the references and ``coverage_precision`` of the samples.

    Args:
        structures: all samples; None and crystals invalid in structure or composition stay in the denominator of precision.
        references: crystals of the data.
        config: see :class:`CoverageConfig`; the caps that were met are logged.
        progress: show a progress bar.
    """
    config = config or CoverageConfig()
    rng = np.random.default_rng(config.seed)
    samples, chosen = _draw(structures, config.max_samples, rng), _draw(references, config.max_references, rng)
    if len(samples) < len(structures) or len(chosen) < len(references):
        text = "coverage: %d of %d samples against %d of %d references (drawn with seed %d)"
        log.info(text, len(samples), len(structures), len(chosen), len(references), config.seed)
    valid = [s for s in samples if s is not None and structural_validity(s).valid and composition_validity(s).valid]
    if not valid or not chosen:
        reason = "no valid sample" if not valid else "no reference crystals"
        return {key: Metric.missing(reason) for key in KEYS}
    found = fingerprints([*valid, *(s for s in chosen if s is not None)], config, progress)
    ours, theirs = [f for f in found[: len(valid)] if f.complete], [f for f in found[len(valid) :] if f.complete]
    lost = len(found) - len(ours) - len(theirs)
    if lost:
        log.info("coverage: %d of %d crystals have no fingerprint, for example: %s", lost, len(found), _first_reason(found))
    if not ours or not theirs:
        return {key: Metric.missing("no crystal has a fingerprint: " + _first_reason(found)) for key in KEYS}
    mean, scale = composition_scale([s for s in references if s is not None])
    return covered(ours, theirs, len(samples), mean, scale, config)


def covered(
    ours: Sequence[Fingerprint],
    theirs: Sequence[Fingerprint],
    n_samples: int,
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    config: CoverageConfig,
) -> dict[str, Metric]:
    """Recall and precision from complete fingerprints.

    Args:
        ours, theirs: of samples and references.
        n_samples: denominator of the precision: all samples that were looked at.
        mean, scale: (132,) of the composition fingerprint.
        config: cutoffs.
    """
    from scipy.spatial.distance import cdist

    structure = cdist(*(np.stack([f.structure for f in group if f.structure is not None]) for group in (ours, theirs)))
    scaled = [np.stack([(f.composition - mean) / scale for f in g if f.composition is not None]) for g in (ours, theirs)]
    composition = cdist(*scaled)

    def hits(axis: int) -> int:
        """Crystals whose nearest of the others is within both cutoffs."""
        near = (structure.min(axis=axis) <= config.structure_cutoff) & (composition.min(axis=axis) <= config.composition_cutoff)
        return int(near.sum())

    return {
        "coverage_recall": Metric.rate(hits(0), len(theirs)),
        "coverage_precision": Metric.rate(hits(1), n_samples),
    }


def composition_scale(references: Sequence[Structure]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(132,) mean and standard deviation of the references' composition fingerprints; a constant feature has deviation 1.

    Raises:
        DataError: none of them has a fingerprint.
    """
    rows, counts = [], []
    for composition, count in Counter(s.composition.reduced_composition for s in references).items():
        try:
            rows.append(composition_fingerprint(composition))
            counts.append(count)
        except DataError as error:
            log.debug("left out of the scale: %s", error.message)
    if not rows:
        raise DataError("no reference crystal has a composition fingerprint", "give references of common elements")
    mean = np.average(rows, axis=0, weights=counts)
    deviation = np.sqrt(np.average((np.array(rows) - mean) ** 2, axis=0, weights=counts))
    return mean, np.where(deviation > 1e-9, deviation, 1.0)


def fingerprints(structures: Sequence[Structure], config: CoverageConfig, progress: bool = True) -> list[Fingerprint]:
    """Fingerprint of every crystal, in order."""
    lost = Fingerprint(None, None, "the process died")
    one = partial(_quietly, max_seconds=config.max_seconds)
    return in_parallel(one, structures, config.workers, "fingerprints" if progress else "", lost=lost)


def _quietly(structure: Structure, max_seconds: float) -> Fingerprint:
    """A fingerprint without the symmetry library's remarks on cells that are not primitive."""
    logging.getLogger("moyo").setLevel(logging.ERROR)
    return fingerprint(structure, max_seconds)


def _draw(items: Sequence[T], most: int, rng: np.random.Generator) -> list[T]:
    """All items, or as many as allowed, drawn without replacement and kept in order."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.sort(rng.choice(len(items), most, replace=False)).tolist()]


def _first_reason(found: Sequence[Fingerprint]) -> str:
    return next((f.reason for f in found if f.reason), "")
