"""How many samples are new crystals: different from each other, and from the crystals the model learned from.

Two crystals are the same when ``StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)`` says so, the field's tolerances. The matcher
never equates different reduced formulas, so crystals are compared within a formula only, formulas in parallel.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.verification.duplicates import ReferenceMatcher, duplicate_of, reduced_formula
from sse_diffusion.verification.metrics.match import in_parallel
from sse_diffusion.verification.metrics.rates import Metric
from sse_diffusion.verification.validity import structural_validity

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.verification.novelty import KnownIndex

log = logging.getLogger(__name__)

NO_REFERENCE = "no reference crystals and no index of known crystals to compare with"


@dataclass(frozen=True)
class UniqueAndNovel:
    """Verdict on every sample.

    Attributes:
        valid: (n,) structurally valid, which is what can be compared at all.
        unique: (n,) valid, and no earlier sample is the same crystal.
        novel: (n,) valid, and no reference is the same crystal; None when there was nothing to compare with.
        metrics: ``uniqueness``, ``novelty``, ``unique_novel`` as fractions of all n samples, and ``uniqueness_of_valid``,
            ``novelty_of_valid``, ``novelty_of_unique`` as fractions of those.
        compared_with: what novelty means here, in words.
    """

    valid: NDArray[np.bool_]
    unique: NDArray[np.bool_]
    novel: NDArray[np.bool_] | None
    metrics: dict[str, Metric]
    compared_with: str = ""


@dataclass(frozen=True)
class _Group:
    """All samples of one reduced formula, and the references of that formula."""

    index: tuple[int, ...]
    samples: tuple[Structure, ...]
    references: tuple[tuple[str, Structure], ...]


def unique_and_novel(
    structures: Sequence[Structure | None],
    references: Iterable[tuple[str, Structure]] | None = None,
    known_index: KnownIndex | None = None,
    *,
    workers: int = 1,
    progress: bool = True,
) -> UniqueAndNovel:
    """Compare samples with each other and with the references.

    A sample that could not be read (None) or is structurally invalid is neither unique nor novel: it stays in the denominator.

    Args:
        structures: all n samples, in order.
        references: (name, crystal) pairs, usually the training table; compared exactly. Consumed once.
        known_index: (formula, space group) pairs, used when ``references`` is None: coarser, under-counts novelty.
        workers: processes.
        progress: show a progress bar.
    """
    valid = np.array([s is not None and structural_validity(s).valid for s in structures], dtype=bool)
    groups = _groups(structures, valid, references)
    duplicate, known = _compare(groups, len(structures), workers, progress)
    unique = valid & ~duplicate
    novel: NDArray[np.bool_] | None = None
    against = ""
    if references is not None:
        novel, against = valid & ~known, "reference crystals, StructureMatcher"
    elif known_index is not None:
        listed = [s is not None and bool(v) and known_index.contains(s) for v, s in zip(valid, structures, strict=True)]
        novel = valid & ~np.array(listed, dtype=bool)
        against = f"{len(known_index)} known (formula, space group) pairs: coarser than a structure comparison"
    return UniqueAndNovel(valid, unique, novel, _metrics(valid, unique, novel), against)


def _metrics(valid: NDArray[np.bool_], unique: NDArray[np.bool_], novel: NDArray[np.bool_] | None) -> dict[str, Metric]:
    """Rates of all samples, and of the valid or unique ones among them."""
    metrics = {
        "uniqueness": _rate(unique, np.ones_like(unique)),
        "uniqueness_of_valid": _rate(unique, valid),
    }
    if novel is None:
        names = ("novelty", "novelty_of_valid", "novelty_of_unique", "unique_novel")
        return metrics | {name: Metric.missing(NO_REFERENCE) for name in names}
    return metrics | {
        "novelty": _rate(novel, np.ones_like(novel)),
        "novelty_of_valid": _rate(novel, valid),
        "novelty_of_unique": _rate(novel, unique),
        "unique_novel": _rate(unique & novel, np.ones_like(novel)),
    }


def _rate(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Metric:
    n = int(among.sum())
    return Metric.rate(int((hits & among).sum()), n) if n else Metric.missing("no such sample")


def _groups(
    structures: Sequence[Structure | None], valid: NDArray[np.bool_], references: Iterable[tuple[str, Structure]] | None
) -> list[_Group]:
    """Samples by reduced formula with the references that can match; the dearest groups first."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, structure in enumerate(structures):
        if structure is not None and valid[index]:
            members[reduced_formula(structure)].append(index)
    matching: dict[str, list[tuple[str, Structure]]] = defaultdict(list)
    for name, reference in references or ():
        formula = reduced_formula(reference)
        if formula in members:
            matching[formula].append((name, reference))
    groups = [
        _Group(tuple(index), tuple(s for i in index if (s := structures[i]) is not None), tuple(matching[formula]))
        for formula, index in members.items()
        if len(index) > 1 or matching[formula]
    ]
    return sorted(groups, key=lambda g: -len(g.samples) * (len(g.samples) + len(g.references)))


def _compare(groups: Sequence[_Group], n: int, workers: int, progress: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(n,) repeats an earlier sample; (n,) equals a reference. A comparison that crashed counts as both."""
    duplicate, known = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    verdicts = in_parallel(_compare_group, groups, workers, "comparing crystals" if progress else "")
    for group, verdict in zip(groups, verdicts, strict=True):
        if verdict is None:
            log.warning("%d crystals of one formula could not be compared", len(group.index))
        duplicate[list(group.index)], known[list(group.index)] = verdict or (True, True)
    return duplicate, known


def _compare_group(group: _Group) -> tuple[list[bool], list[bool]]:
    """Within one formula: which samples repeat an earlier one, which equal a reference."""
    references = ReferenceMatcher(group.references)
    known = [references.match(sample) is not None for sample in group.samples]
    return [earlier is not None for earlier in duplicate_of(group.samples)], known
