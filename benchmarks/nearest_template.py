"""A control for structure prediction: the training crystal with the most similar composition, its elements exchanged.

    python benchmarks/nearest_template.py [data=mp] [max_sites=20] [limit=0] [workers=1]

No learning: for a validation crystal, among the training crystals with equally many atoms of each element in the primitive cell,
the one whose elements are closest is copied (root of the squared differences of standardised elemental properties, summed over
the elements, equally frequent ones matched at least cost). No reduced formula is in both sets. It needs the training crystals at
hand; a model must do better than this, or be able to do more. Matcher and RMSE as in `sse evaluate task=csp`.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np
from measure import machine, options, write
from tqdm import tqdm

from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import plain
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.data.datamodule import CrystalDataModule, LoaderConfig
from sse_diffusion.diffusion.structure_types.build import element_features
from sse_diffusion.diffusion.structure_types.grouping import primitive_counts, role_orders
from sse_diffusion.diffusion.structure_types.scorer import elements_by_frequency
from sse_diffusion.verification.metrics.match import rms_distances
from sse_diffusion.verification.metrics.rates import wilson


def element_distances() -> np.ndarray:
    """(95, 95) distance of two elements in standardised properties."""
    features = element_features().numpy()
    return np.sqrt(((features[:, None] - features[None]) ** 2).sum(-1))


def nearest(composition: dict[int, int], candidates: list[tuple[Orbits, tuple[int, ...]]], distance: np.ndarray) -> Orbits | None:
    """The closest candidate with its elements exchanged; ``None`` when there is none."""
    orders = np.array(role_orders(composition))
    if not candidates or not len(orders):
        return None
    roles = np.array([elements for _, elements in candidates])
    cost = distance[orders[None], roles[:, None]].sum(-1)
    k, p = np.unravel_index(int(cost.argmin()), cost.shape)
    crystal, elements = candidates[int(k)]
    exchange = dict(zip(elements, orders[p].tolist(), strict=True))
    species = np.array([exchange[int(z)] for z in crystal.species])
    return Orbits(crystal.group, crystal.cell, species, crystal.wyckoff, crystal.free)


def main(arguments: list[str]) -> None:
    """Predict every validation crystal and write the rates."""
    given = options(arguments, data="mp", max_sites=20, limit=0, workers=1)
    cfg = compose("train", [f"data={given['data']}"])
    data = CrystalDataModule(plain(cfg.data), LoaderConfig(cache_dir=cfg.loader.cache_dir))
    library: dict[tuple[int, ...], list[tuple[Orbits, tuple[int, ...]]]] = defaultdict(list)
    for i in data.indices("train"):
        crystal = data.dataset.orbits(int(i))
        signature, elements = elements_by_frequency(primitive_counts(crystal))
        library[signature].append((crystal, elements))
    asked = [data.dataset.orbits(int(i)) for i in data.indices("val")]
    asked = [c for c in asked if c.n_primitive <= given["max_sites"]][: given["limit"] or None]
    distance, proposals = element_distances(), []
    for crystal in tqdm(asked, desc="nearest templates", unit="crystal"):
        composition = primitive_counts(crystal)
        proposals.append(nearest(composition, library[elements_by_frequency(composition)[0]], distance))
    truths = [c.to_structure() for c in asked]
    rms = np.array(rms_distances(truths, [p and p.to_structure() for p in proposals], given["workers"]))
    small, hit = np.array([c.n_primitive <= 8 for c in asked]), np.isfinite(rms)
    numbers = {"protocol": " ".join((__doc__ or "").split()), **machine()}
    for name, rows in {"": np.ones(len(rms), bool), "_up_to_8": small, "_above_8": ~small}.items():
        k, n = int(hit[rows].sum()), int(rows.sum())
        numbers |= {f"match_rate{name}": k / n, f"match_rate{name}_ci95": wilson(k, n), f"k{name}": k, f"n{name}": n}
    write(
        "nearest_template",
        numbers | {"rmse": float(rms[hit].mean()), "match_rate_rmse_0.1": float((rms < 0.1).mean())},
        speed=False,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
