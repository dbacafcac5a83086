"""Speed of the evaluation's own metrics on one core: crystals, or pairs, per second.

    python benchmarks/evaluation_speed.py [n=300] [repeats=3]

On crystals of the training table (the embedded prototypes without it). Samples are the same crystals with every site moved by
0.05 Angstrom, so that every formula meets its reference and the matcher does its full work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from measure import histogram, one_core, options, peak_memory_gb, training_setup, write
from tqdm import tqdm

from sse_diffusion.verification.metrics.coverage import CoverageConfig, fingerprints
from sse_diffusion.verification.metrics.distributions import profile
from sse_diffusion.verification.metrics.match import rms_distances
from sse_diffusion.verification.metrics.uniqueness import unique_and_novel
from sse_diffusion.verification.validity import composition_validity, structural_validity

if TYPE_CHECKING:
    from pymatgen.core import Structure

DISPLACEMENT_A = 0.05


def per_second(work: Callable[[], object], items: int, repeats: int, label: str) -> float:
    """Items per second: median over repeats after one uncounted call, which loads libraries and tables."""
    runs = []
    for _ in tqdm(range(repeats + 1), desc=label):
        start = time.perf_counter()
        work()
        runs.append(time.perf_counter() - start)
    return round(items / float(np.median(runs[1:])), 2)


def first_pass(samples: list[Structure]) -> float:
    """Compositions checked per second; each formula only once, because the check remembers its verdicts."""
    composition_validity(samples[0])
    start = time.perf_counter()
    for sample in samples[1:]:
        composition_validity(sample)
    return round((len(samples) - 1) / (time.perf_counter() - start), 2)


def moved(structure: Structure, seed: int) -> Structure:
    """A copy with every site moved by the same distance in a random direction."""
    copy, rng = structure.copy(), np.random.default_rng(seed)
    step = rng.normal(size=(len(copy), 3))
    step *= DISPLACEMENT_A / np.linalg.norm(step, axis=1, keepdims=True)
    for site, vector in enumerate(step):
        copy.translate_sites(site, vector, frac_coords=False)
    return copy


def main(arguments: list[str]) -> None:
    """Time every metric and write the speeds."""
    asked = options(arguments, n=300, repeats=3)
    one_core()
    _, data, _, table = training_setup("diffusion/denoiser@denoiser=tiny")
    rows = np.random.default_rng(0).permutation(data.indices("train"))[: asked["n"]]
    references = [data.dataset.orbits(i).to_structure() for i in rows]
    samples = [moved(s, k) for k, s in enumerate(references)]
    n, repeats, few = len(samples), asked["repeats"], samples[: max(1, len(samples) // 5)]
    named = [(str(k), s) for k, s in enumerate(references)]
    write("evaluation_speed", {
        "eval_structural_validity_per_s": per_second(lambda: [structural_validity(s) for s in samples], n, repeats, "structure"),
        "eval_composition_validity_per_s": first_pass(samples),
        "eval_match_pairs_per_s": per_second(lambda: rms_distances(references, samples, label=""), n, repeats, "match"),
        "eval_uniqueness_per_s": per_second(lambda: unique_and_novel(samples, progress=False), n, repeats, "uniqueness"),
        "eval_novelty_per_s": per_second(lambda: unique_and_novel(samples, named, progress=False), n, repeats, "novelty"),
        "eval_space_groups_per_s": per_second(lambda: profile(samples, progress=False), n, repeats, "distributions"),
        "eval_fingerprints_per_s": per_second(
            lambda: fingerprints(few, CoverageConfig(), progress=False), len(few), repeats, "fingerprints"
        ),
        "eval_n": n, "eval_table": table, "eval_atoms": histogram(np.array([len(s) for s in samples])),
        "peak_memory_gb": round(peak_memory_gb(), 3),
    })  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
