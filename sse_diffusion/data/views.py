"""Other descriptions of the same crystal: its primitive cell without symmetry (P1).

Every crystal is also a crystal of group 1, each atom an orbit with three free coordinates. Shown some of the time, this view
teaches distorted and low-symmetry structures; shown always, it makes the model an all-atom one.
"""

from __future__ import annotations

import logging
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.core.lattice import lattice_to_log
from sse_diffusion.core.orbits import Orbits, to_primitive
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.dataset import FlatOrbits, OrbitDataset

log = logging.getLogger(__name__)


def p1_view(crystal: Orbits) -> Orbits:
    """The primitive cell as a crystal of group 1, in its standard setting: the Niggli-reduced basis."""
    from moyopy import niggli_reduce

    species, frac, _ = crystal.expand()
    lattice, species, frac = to_primitive(crystal.lattice(), species, frac, crystal.group)
    reduced = np.asarray(niggli_reduce(lattice.tolist())[0])
    # rows r = M l with M unimodular: coordinates turn with the inverse of M = r l^-1
    frac = np.mod(frac @ np.linalg.inv(np.round(reduced @ np.linalg.inv(lattice))), 1.0)
    position = next(iter(wyckoff_table().positions(1)))
    cell = lattice_to_log(torch.from_numpy(reduced)).numpy()
    return Orbits(1, cell, species, np.full(len(species), position), frac)


def with_p1_views(dataset: OrbitDataset, cache: Path | None = None) -> OrbitDataset:
    """The data set twice: row ``i + len(dataset)`` is the P1 view of row ``i``, with the same labels and conditions.

    Args:
        dataset: crystals in their own symmetry.
        cache: file that keeps the views; ``None`` keeps nothing.
    """
    views = _stored(cache, dataset) or _views(dataset, cache)
    both = OrbitDataset(FlatOrbits.join(dataset.flat, views), [*dataset.rows, *dataset.rows], dataset.rejected)
    both.set_conditions({name: torch.cat([value, value]) for name, value in dataset.conditions.items()})
    return both


def _views(dataset: OrbitDataset, cache: Path | None) -> FlatOrbits:
    bar = tqdm(range(len(dataset)), desc="P1 views", unit="crystal", disable=len(dataset) < 1000)
    views = FlatOrbits.from_list([p1_view(dataset.orbits(i)) for i in bar])
    if cache is not None:
        with replacing(cache) as partial, partial.open("wb") as handle:
            np.savez_compressed(handle, **vars(views))
    return views


def _stored(cache: Path | None, dataset: OrbitDataset) -> FlatOrbits | None:
    if cache is None or not cache.is_file():
        return None
    try:
        with np.load(cache) as stored:
            views = FlatOrbits(**{k: stored[k] for k in FlatOrbits.__dataclass_fields__})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        log.warning("the cache %s is damaged and is rebuilt", cache)
        return None
    return views if len(views.group) == len(dataset) else None
