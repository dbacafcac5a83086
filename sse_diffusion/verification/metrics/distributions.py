"""How far the samples' distributions lie from the reference's: density, number of elements, size, space group.

Wasserstein distances as in Xie et al., "Crystal Diffusion Variational Autoencoder" (ICLR 2022): of the mass density in g/cm^3 and
of the number of elements, over the samples that are valid in structure and composition, against all reference crystals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.verification.metrics.match import in_parallel
from sse_diffusion.verification.metrics.rates import Metric
from sse_diffusion.verification.novelty import find_space_group
from sse_diffusion.verification.validity import composition_validity, structural_validity

if TYPE_CHECKING:
    from pymatgen.core import Structure

N_GROUPS = 230
RESAMPLES = 200
FLOOR_DRAWS = 20
DISTANCES = ("density_g_per_cm3", "n_elements", "n_atoms")
KEYS = ("w_density", "w_n_elements", "w_n_atoms", "p1_share", "p1_share_reference", "jsd_space_group", "jsd_space_group_floor")


@dataclass(frozen=True)
class Profile:
    """What the distances look at, one number per crystal.

    Attributes:
        density_g_per_cm3, n_elements, n_atoms: (n,) of the cells as given.
        space_group: (n,) 1-230 as moyo finds it at 0.1 A; 0 where it finds none.
    """

    density_g_per_cm3: NDArray[np.float64]
    n_elements: NDArray[np.float64]
    n_atoms: NDArray[np.float64]
    space_group: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of crystals."""
        return len(self.n_atoms)


def distances(
    structures: Sequence[Structure | None],
    references: Sequence[Structure],
    *,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Metric]:
    """Distances of the valid samples' distributions from the references', :data:`KEYS`.

    ``jsd_space_group`` is the Jensen-Shannon divergence (base 2, 0 to 1) of the space-group histograms. A finite sample of the
    reference itself does not read 0: ``jsd_space_group_floor`` is what as many random reference crystals read against the rest.
    Intervals: 2.5-97.5 percentiles of bootstrap resamples of the samples, their mean moved to the value.

    Args:
        structures: all samples; None and invalid ones are left out.
        references: crystals of the data.
        seed: of bootstrap and floor.
        workers: processes for the space groups.
        progress: show a progress bar.
    """
    valid = [s for s in structures if s is not None and structural_validity(s).valid and composition_validity(s).valid]
    if not valid or not references:
        reason = "no valid sample" if not valid else "no reference crystals"
        return {key: Metric.missing(reason) for key in KEYS}
    found = profile([*valid, *references], workers, progress)
    sample, reference = _part(found, slice(None, len(valid))), _part(found, slice(len(valid), None))
    return compare(sample, reference, seed)


def profile(structures: Sequence[Structure], workers: int = 1, progress: bool = True) -> Profile:
    """Density, element count, size and space group of every crystal."""
    groups = in_parallel(_space_group, structures, workers, "space groups" if progress else "", lost=0)
    columns = [(s.density, len(s.composition.elements), len(s)) for s in structures]
    density, elements, atoms = np.array(columns, dtype=float).reshape(-1, 3).T
    return Profile(density, elements, atoms, np.array(groups, dtype=np.int64))


def compare(sample: Profile, reference: Profile, seed: int = 0) -> dict[str, Metric]:
    """The distances between two profiles, see :func:`distances`."""
    from scipy.stats import wasserstein_distance

    rng = np.random.default_rng(seed)
    metrics: dict[str, Metric] = {}
    for key, name in zip(("w_density", "w_n_elements", "w_n_atoms"), DISTANCES, strict=True):
        ours, theirs = getattr(sample, name), getattr(reference, name)
        metrics[key] = _with_interval(ours, partial(wasserstein_distance, theirs), rng)
    histogram = space_group_histogram(reference.space_group)
    groups = sample.space_group[sample.space_group > 0]
    metrics["p1_share"] = Metric.rate(int((sample.space_group == 1).sum()), len(sample))
    metrics["p1_share_reference"] = Metric.rate(int((reference.space_group == 1).sum()), len(reference))
    if not len(groups) or not histogram.any():
        reason = "no crystal with a space group"
        return metrics | {"jsd_space_group": Metric.missing(reason), "jsd_space_group_floor": Metric.missing(reason)}
    metrics["jsd_space_group"] = _with_interval(groups, lambda x: jensen_shannon(space_group_histogram(x), histogram), rng)
    metrics["jsd_space_group_floor"] = _floor(reference.space_group, len(groups), rng)
    return metrics


def space_group_histogram(groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """(230,) share of each space group; crystals without one (0) are left out."""
    counts = np.bincount(groups[groups > 0] - 1, minlength=N_GROUPS).astype(float)
    return counts / max(counts.sum(), 1.0)


def jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence in bits: (KL(p|m) + KL(q|m)) / 2 with m = (p + q) / 2; 0 equal, 1 disjoint.

    Source: Lin, IEEE Trans. Inf. Theory 37, 145 (1991).
    """
    middle = 0.5 * (p + q)

    def divergence(a: NDArray[np.float64]) -> float:
        """Kullback-Leibler divergence from the middle, in bits."""
        inside = a > 0
        return float((a[inside] * np.log2(a[inside] / middle[inside])).sum())

    return max(0.0, 0.5 * (divergence(p) + divergence(q)))


def _floor(groups: NDArray[np.int64], size: int, rng: np.random.Generator) -> Metric:
    """Mean divergence of ``size`` random reference crystals from the other ones."""
    known = groups[groups > 0]
    if size >= len(known):
        return Metric.missing(f"{len(known)} reference crystals are too few to draw {size} of them")
    draws = []
    for _ in range(FLOOR_DRAWS):
        order = rng.permutation(known)
        draws.append(jensen_shannon(space_group_histogram(order[:size]), space_group_histogram(order[size:])))
    low, high = np.percentile(draws, [2.5, 97.5])
    return Metric(float(np.mean(draws)), (float(low), float(high)), n=size)


def _with_interval(values: NDArray[Any], distance: Callable[[NDArray[Any]], float], rng: np.random.Generator) -> Metric:
    """Distance, with the spread of bootstrap resamples of the samples laid about it.

    Resampling adds to a distance once more what sampling added, so the resamples' mean is moved back to the value.
    """
    value = float(distance(values))
    resampled = np.array([distance(rng.choice(values, len(values))) for _ in range(RESAMPLES)])
    low, high = value + np.percentile(resampled - resampled.mean(), [2.5, 97.5])
    return Metric(value, (max(0.0, float(low)), float(high)), n=len(values))


def _space_group(structure: Structure) -> int:
    """Number of the space group, without moyo's remarks on cells that are not primitive."""
    logging.getLogger("moyo").setLevel(logging.ERROR)
    return find_space_group(structure)


def _part(whole: Profile, rows: slice) -> Profile:
    return Profile(*(getattr(whole, name)[rows] for name in (*DISTANCES, "space_group")))
