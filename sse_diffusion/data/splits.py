"""Train / val / test splits without leakage: all crystals of one reduced formula stay on one side."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import gcd

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.data.rows import CrystalRow

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How rows without a split get one.

    Attributes:
        val_fraction: share of the formulas (not of the rows) that validate.
        test_fraction: share of the formulas held out for the end.
        seed: another seed gives another assignment.
        keep_column: use the split a row came with; False assigns every row anew.
    """

    val_fraction: float = 0.05
    test_fraction: float = 0.0
    seed: int = 0
    keep_column: bool = True

    def __post_init__(self) -> None:
        """Refuse fractions that leave nothing to train on."""
        if min(self.val_fraction, self.test_fraction) < 0 or self.val_fraction + self.test_fraction >= 1:
            found = f"val_fraction={self.val_fraction}, test_fraction={self.test_fraction}"
            raise ConfigError(f"split fractions must be >= 0 and add up to less than 1; found {found}", "e.g. 0.05 and 0.05")


def reduced_formula(species: NDArray[np.int64]) -> str:
    """Composition in lowest terms, elements by atomic number: ``"3:3 17:1"`` for Li3Cl. A key, not for display."""
    numbers, counts = np.unique(species, return_counts=True)
    divisor = reduce(gcd, counts.tolist())
    return " ".join(f"{z}:{n // divisor}" for z, n in zip(numbers.tolist(), counts.tolist(), strict=True))


def assign_splits(rows: Sequence[CrystalRow], config: SplitConfig | None = None) -> list[CrystalRow]:
    """Give every row a split.

    A row keeps its own split; a row without one follows other rows of its formula; formulas without any are assigned by
    a hash of formula and seed, so a formula's side does not depend on the rest of the table or on the machine.

    Raises:
        DataError: a row carries a split name other than train, val, test.
    """
    config = config or SplitConfig()
    keys = [reduced_formula(row.species) for row in rows]
    known: dict[str, str] = {}
    if config.keep_column:
        for row, key in zip(rows, keys, strict=True):
            if row.split is not None:
                _check_name(row)
                known.setdefault(key, row.split)
    result = []
    for row, key in zip(rows, keys, strict=True):
        if config.keep_column and row.split is not None:
            result.append(row)
        else:
            result.append(replace(row, split=known.get(key) or _split_of(key, config)))
    return result


def check_leakage(rows: Iterable[CrystalRow]) -> None:
    """Make sure that no reduced formula is on two sides.

    Raises:
        DataError: a formula occurs in more than one split; names the first three and an id on each side.
    """
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row.split is not None:
            sides[reduced_formula(row.species)].setdefault(row.split, row.id)
    leaking = [ids for ids in sides.values() if len(ids) > 1]
    if leaking:
        shown = "; ".join(", ".join(f"{name} ({split})" for split, name in ids.items()) for ids in leaking[:3])
        hint = "regroup the table by formula, or set data.splits.keep_column=false to split it here"
        raise DataError(f"{len(leaking)} reduced formula(s) occur in more than one split: {shown}", hint)


def split_counts(rows: Iterable[CrystalRow]) -> dict[str, int]:
    """Rows per split."""
    return dict(Counter(row.split or "unassigned" for row in rows))


def _split_of(key: str, config: SplitConfig) -> str:
    """Deterministic side of a formula: SHA-256 of seed and formula as a number in [0, 1)."""
    digest = hashlib.sha256(f"{config.seed}|{key}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < config.val_fraction:
        return "val"
    return "test" if position < config.val_fraction + config.test_fraction else "train"


def _check_name(row: CrystalRow) -> None:
    if row.split not in SPLITS:
        raise DataError(f"row {row.id} has split {row.split!r}", f"use one of {', '.join(SPLITS)}, or leave the column out")
