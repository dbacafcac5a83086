"""Does a proposal equal the true crystal? StructureMatcher with the field's tolerances, in processes, with a cap per pair.

The root-mean-square displacement is in units of (V/N)^(1/3), as StructureMatcher gives it and as the field reports it
(Jiao et al., DiffCSP, NeurIPS 2023).
"""

from __future__ import annotations

import logging
import math
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sse_diffusion.core.time_limit import TimeIsUpError, time_limit
from sse_diffusion.verification.duplicates import field_matcher

if TYPE_CHECKING:
    from pymatgen.core import Structure

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

CPU_SECONDS_PER_PAIR = 20.0
MOST_LATTICE_POINTS = 1e5
CHUNK = 8


def rms_distance(truth: Structure | None, proposal: Structure | None, cpu_seconds: float = CPU_SECONDS_PER_PAIR) -> float:
    """Normalised root-mean-square displacement of a match; NaN when there is none.

    No match are also: a missing crystal, other elements or ratios, a cell so flat or long that the matcher would run away
    (:func:`is_matchable`), and a pair that takes longer than ``cpu_seconds``.
    """
    if truth is None or proposal is None or not same_ratios(truth, proposal):
        return math.nan
    try:
        with time_limit(cpu_seconds, "cpu"):
            if not is_matchable(proposal):
                return math.nan
            found = field_matcher().get_rms_dist(proposal, truth)
    except TimeIsUpError:
        log.warning("%s: no match after %g s of CPU time; counted as none", proposal.composition.reduced_formula, cpu_seconds)
        return math.nan
    # broken cells make the matcher fail in many ways; the published evaluations count each as no match
    except (ValueError, TypeError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
        log.debug("the matcher failed (%s): counted as no match", error)
        return math.nan
    return math.nan if found is None else float(found[0])


def rms_distances(
    truths: Sequence[Structure | None],
    proposals: Sequence[Structure | None],
    workers: int = 1,
    label: str = "matching",
    cpu_seconds: float = CPU_SECONDS_PER_PAIR,
) -> NDArray[np.float64]:
    """(n,) :func:`rms_distance` of n pairs, NaN where there is no match.

    Args:
        truths: n crystals.
        proposals: n crystals, ``None`` where none was made.
        workers: processes.
        label: of the progress bar; empty for none.
        cpu_seconds: cap of one pair.
    """
    pairs = list(zip(truths, proposals, strict=True))
    return np.array(in_parallel(partial(_rms_of_pair, cpu_seconds=cpu_seconds), pairs, workers, label, lost=math.nan))


def _rms_of_pair(pair: tuple[Structure | None, Structure | None], cpu_seconds: float) -> float:
    return rms_distance(*pair, cpu_seconds)


def same_ratios(first: Structure, second: Structure) -> bool:
    """Whether two crystals have the same elements in the same ratios; without it there is no match."""
    return bool(first.composition.fractional_composition.almost_equals(second.composition.fractional_composition))


def is_matchable(structure: Structure) -> bool:
    """Whether StructureMatcher can be let loose on a crystal: finite numbers, a volume, a cell that is no needle and no sheet.

    The matcher lists all lattice points within 1.3 of the longest edge; in a diverged cell these are millions.
    """
    lattice = np.asarray(structure.lattice.matrix)
    if not (np.isfinite(lattice).all() and np.isfinite(structure.frac_coords).all()):
        return False
    volume = abs(float(np.linalg.det(lattice)))
    if volume < 0.1:
        return False
    longest = max(structure.lattice.get_lll_reduced_lattice().abc)
    return bool(4.2 * (1.3 * longest) ** 3 / volume < MOST_LATTICE_POINTS)


def in_parallel(function: Callable[[T], R], items: Sequence[T], workers: int = 1, label: str = "", lost: Any = None) -> list[R]:
    """``[function(x) for x in items]`` in processes, in order, with a progress bar.

    Args:
        function: picklable; its torch work runs in one thread.
        items: picklable.
        workers: processes; 1 stays in this one.
        label: of the progress bar; empty for none.
        lost: result of an item whose process dies (out of memory, a crash in compiled code); the others go on.
    """
    results: list[R] = []
    with tqdm(total=len(items), desc=label, unit="crystal", disable=not label or len(items) < 50, leave=False) as bar:
        if workers <= 1 or len(items) < 2 * CHUNK:
            for item in items:
                results.append(function(item))
                bar.update()
            return results
        while len(results) < len(items):
            try:
                for result in _pooled(function, items[len(results) :], workers):
                    results.append(result)
                    bar.update()
            except BrokenProcessPool:
                for item in items[len(results) : len(results) + CHUNK * (workers + 1)]:
                    results.append(_alone(function, item, lost))
                    bar.update()
    return results


def _pooled(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    with ProcessPoolExecutor(workers, initializer=_set_up_worker) as pool:
        yield from pool.map(function, items, chunksize=CHUNK)


def _alone(function: Callable[[T], R], item: T, lost: Any) -> R:
    """One item in a process of its own, which may die."""
    with ProcessPoolExecutor(1, initializer=_set_up_worker) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            log.warning("a process died on one item; it counts as failed")
            return lost


def _set_up_worker() -> None:
    """One torch thread; an interrupt is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
