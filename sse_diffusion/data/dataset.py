"""Crystals as orbits in flat arrays: parsed once, cached, served as PyTorch Geometric ``Data`` or padded batches."""

from __future__ import annotations

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.core.errors import DataError
from sse_diffusion.core.orbit_batch import MASKED_SPECIES, MASKED_WYCKOFF, OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.orbits import parse_orbits
from sse_diffusion.data.rows import CrystalRow, Rejection

if TYPE_CHECKING:
    from torch_geometric.data import Data

log = logging.getLogger(__name__)

CACHE_VERSION = 1


@dataclass(frozen=True)
class FlatOrbits:
    """All orbits of all crystals, concatenated; crystal i owns orbits ``offset[i]:offset[i + 1]``."""

    group: np.ndarray
    cell: np.ndarray
    offset: np.ndarray
    species: np.ndarray
    wyckoff: np.ndarray
    free: np.ndarray

    @classmethod
    def from_list(cls, crystals: Sequence[Orbits]) -> FlatOrbits:
        """Concatenate parsed crystals."""
        sizes = [len(c.species) for c in crystals]
        return cls(
            group=np.array([c.group for c in crystals], dtype=np.int64),
            cell=np.stack([c.cell for c in crystals]),
            offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            species=np.concatenate([c.species for c in crystals]).astype(np.int64),
            wyckoff=np.concatenate([c.wyckoff for c in crystals]).astype(np.int64),
            free=np.concatenate([c.free for c in crystals]),
        )

    @classmethod
    def join(cls, first: FlatOrbits, second: FlatOrbits) -> FlatOrbits:
        """The crystals of one, then those of the other."""
        joined = {k: np.concatenate([getattr(first, k), getattr(second, k)]) for k in cls.__dataclass_fields__ if k != "offset"}
        return cls(offset=np.concatenate([first.offset, first.offset[-1] + second.offset[1:]]), **joined)


class OrbitDataset(Dataset):
    """Parsed crystals with their labels.

    Indexing with one number gives a PyTorch Geometric ``Data``; a list of numbers gives an :class:`OrbitBatch`, which is what
    the training loader uses (one gather instead of a Python loop over crystals).

    Attributes:
        rows: where each crystal comes from.
        ids: name of each crystal.
        labels: per crystal, label name -> value.
        splits: ``train`` / ``val`` / ... per crystal, or ``None``.
        rejected: rows without orbit representation and why.
        conditions: see :meth:`set_conditions`.
    """

    def __init__(self, flat: FlatOrbits, rows: Sequence[CrystalRow], rejected: Sequence[Rejection] = ()) -> None:
        self.flat = flat
        self.rows = list(rows)
        self.ids = [row.id for row in rows]
        self.labels = [row.labels for row in rows]
        self.splits = [row.split for row in rows]
        self.rejected = list(rejected)
        self.conditions: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.flat.group)

    @property
    def n_orbits(self) -> np.ndarray:
        """(n,) orbits of each crystal."""
        return np.diff(self.flat.offset)

    @property
    def n_conventional(self) -> np.ndarray:
        """(n,) atoms in each conventional cell."""
        return np.add.reduceat(wyckoff_table().multiplicity[self.flat.wyckoff], self.flat.offset[:-1])

    def orbits(self, index: int) -> Orbits:
        """One crystal."""
        s = slice(self.flat.offset[index], self.flat.offset[index + 1])
        f = self.flat
        return Orbits(int(f.group[index]), f.cell[index], f.species[s], f.wyckoff[s], f.free[s])

    def set_conditions(self, conditions: dict[str, Tensor]) -> None:
        """Attach condition tensors (one row per crystal) that every batch then carries."""
        for name, value in conditions.items():
            if len(value) != len(self):
                raise DataError(
                    f"condition {name!r} has {len(value)} rows, the data set {len(self)}", "encode it on this data set"
                )
        self.conditions = conditions

    def __getitem__(self, index: int) -> Data:
        from torch_geometric.data import Data

        crystal = self.orbits(index)
        return Data(
            group=torch.tensor([crystal.group]),
            cell=torch.tensor(crystal.cell[None], dtype=torch.float32),
            species=torch.from_numpy(crystal.species),
            wyckoff=torch.from_numpy(crystal.wyckoff),
            free=torch.tensor(crystal.free, dtype=torch.float32),
            num_nodes=len(crystal.species),
            id=self.ids[index],
        )

    def __getitems__(self, indices: Sequence[int]) -> OrbitBatch:
        """Padded batch of several crystals."""
        rows = np.asarray(indices)
        f, sizes = self.flat, self.n_orbits[rows]
        mask = np.arange(sizes.max())[None] < sizes[:, None]
        where = (f.offset[rows][:, None] + np.arange(sizes.max()))[mask]
        species = np.full(mask.shape, MASKED_SPECIES)
        wyckoff = np.full(mask.shape, MASKED_WYCKOFF)
        free = np.zeros((*mask.shape, 3), dtype=np.float32)
        species[mask], wyckoff[mask], free[mask] = f.species[where], f.wyckoff[where], f.free[where]
        return OrbitBatch(
            group=torch.from_numpy(f.group[rows]),
            cell=torch.from_numpy(f.cell[rows].astype(np.float32)),
            species=torch.from_numpy(species),
            wyckoff=torch.from_numpy(wyckoff),
            free=torch.from_numpy(free),
            mask=torch.from_numpy(mask),
            conditions={k: v[torch.from_numpy(rows)] for k, v in self.conditions.items()},
        )


def build_dataset(rows: Sequence[CrystalRow], cache_dir: str | Path | None = None, workers: int = 2) -> OrbitDataset:
    """Parse rows into orbits, with progress; rows without orbits are listed in ``rejected``.

    Args:
        rows: validated crystals.
        cache_dir: where parsed tables are kept under a hash of their content; ``None`` keeps nothing.
        workers: processes.

    Raises:
        DataError: no row could be parsed.
    """
    path = cache_file(rows, cache_dir, "orbits")
    if path is not None and path.is_file():
        try:
            return _from_cache(path, rows)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            log.warning("the cache %s is damaged and is rebuilt", path)
    parsed = _parse_all(rows, workers)
    good = {i: p for i, p in enumerate(parsed) if isinstance(p, Orbits)}
    if not good:
        raise DataError(
            "none of the crystals could be described by symmetry orbits",
            "check units: lattice in Angstrom, fractional coordinates",
        )
    flat = FlatOrbits.from_list(list(good.values()))
    reasons = {i: str(p) for i, p in enumerate(parsed) if not isinstance(p, Orbits)}
    if path is not None:
        _save_cache(path, flat, list(good), reasons)
    return _assemble(flat, list(good), reasons, rows)


def cache_file(rows: Sequence[CrystalRow], cache_dir: str | Path | None, kind: str) -> Path | None:
    """Where something computed from these rows is kept; ``None`` without a folder."""
    return None if cache_dir is None else Path(cache_dir) / f"{kind}-{_fingerprint(rows)}.npz"


def _assemble(flat: FlatOrbits, good: Sequence[int], reasons: dict[int, str], rows: Sequence[CrystalRow]) -> OrbitDataset:
    rejected = [Rejection(row=i, id=rows[i].id, reason="no orbits", detail=text) for i, text in reasons.items()]
    return OrbitDataset(flat, [rows[i] for i in good], rejected)


def _fingerprint(rows: Sequence[CrystalRow]) -> str:
    digest = hashlib.sha256(f"v{CACHE_VERSION}".encode())
    for row in rows:
        for array in (row.species, row.frac, row.lattice):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _save_cache(path: Path, flat: FlatOrbits, good: Sequence[int], reasons: dict[int, str]) -> None:
    texts = np.array(list(reasons.values()), dtype=str)
    bad = np.array(list(reasons), dtype=np.int64)
    with replacing(path) as partial, partial.open("wb") as handle:
        np.savez_compressed(handle, good=np.array(good), bad=bad, reasons=texts, **vars(flat))


def _from_cache(path: Path, rows: Sequence[CrystalRow]) -> OrbitDataset:
    with np.load(path) as stored:
        flat = FlatOrbits(**{k: stored[k] for k in FlatOrbits.__dataclass_fields__})
        reasons = {int(i): str(t) for i, t in zip(stored["bad"], stored["reasons"], strict=True)}
        return _assemble(flat, stored["good"].tolist(), reasons, rows)


def _parse_chunk(rows: Sequence[CrystalRow]) -> list[Orbits | str]:
    logging.getLogger("moyo").setLevel(logging.ERROR)
    parsed: list[Orbits | str] = []
    for row in rows:
        try:
            parsed.append(parse_orbits(row.species, row.frac, row.lattice))
        except DataError as error:
            parsed.append(error.message)
    return parsed


def _parse_all(rows: Sequence[CrystalRow], workers: int, chunk: int = 256) -> list[Orbits | str]:
    chunks = [rows[i : i + chunk] for i in range(0, len(rows), chunk)]
    parsed: list[Orbits | str] = []
    with tqdm(total=len(rows), desc="parsing symmetry", unit="crystal", disable=len(rows) < 1000) as bar:
        if workers <= 1 or len(chunks) == 1:
            results = map(_parse_chunk, chunks)
            for part in results:
                parsed.extend(part)
                bar.update(len(part))
            return parsed
        with ProcessPoolExecutor(workers) as pool:
            for part in pool.map(_parse_chunk, chunks):
                parsed.extend(part)
                bar.update(len(part))
    return parsed
