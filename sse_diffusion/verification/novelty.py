"""Is a crystal already known? A shipped index of (reduced formula, space group) of the training crystals answers without them.

The index is a sorted array of 64-bit hashes (8 bytes per crystal, no structures, no formulas), so it ships with a checkpoint
while the data stay where their licence keeps them. It is coarser than a structure comparison: another crystal of the same
formula and space group counts as known, so novelty is under-counted, never over-counted, as long as the space group is found.
When the reference crystals themselves are at hand, use :class:`sse_diffusion.verification.duplicates.ReferenceMatcher`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.symmetry import find_symmetry

if TYPE_CHECKING:
    from pymatgen.core import Structure


SYMPREC_A = 0.1
"""Distance tolerance of the space-group search, as in the field's generation benchmarks."""


def find_space_group(structure: Structure, symprec: float = SYMPREC_A) -> int:
    """Space-group number (1-230) that moyo finds; 0 when it finds none (for example overlapping atoms).

    Args:
        structure: ordered crystal.
        symprec: distance tolerance in Angstrom.
    """
    return find_symmetry(structure, symprec).number


class KnownIndex:
    """Set of (reduced formula, space group) pairs kept as hashes.

    Build it with :meth:`build`, keep it with :meth:`save`, read it with ``KnownIndex(path)``.

    Args:
        path: ``.npy`` file of sorted ``uint64`` hashes.

    Raises:
        DataError: the file is missing or is no such array.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        hint = "rebuild the index from the training table, or set the path to null to skip the novelty stage"
        try:
            hashes = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"index of known crystals {path} cannot be read: {error}", hint) from error
        if hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise DataError(
                f"index of known crystals {path} holds {hashes.dtype} of {hashes.ndim} dimensions, not uint64 of 1", hint
            )
        self._hashes = hashes

    @classmethod
    def build(cls, pairs: Iterable[tuple[str, int]]) -> KnownIndex:
        """Index of (formula, space group) pairs; formulas may be unreduced."""
        index = cls.__new__(cls)
        index._hashes = np.unique(np.fromiter((_hash(_reduce(formula), group) for formula, group in pairs), dtype=np.uint64))
        return index

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ``.npy`` file (8 bytes per pair)."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as handle:
            np.save(handle, self._hashes, allow_pickle=False)

    def __len__(self) -> int:
        """Number of distinct pairs."""
        return len(self._hashes)

    @property
    def fingerprint(self) -> str:
        """Short hash of the content."""
        return hashlib.blake2b(self._hashes.tobytes(), digest_size=8).hexdigest()

    def contains(self, structure_or_formula: Structure | str, space_group: int | None = None) -> bool:
        """Whether the pair is known.

        Args:
            structure_or_formula: a crystal, or any formula of it.
            space_group: 1-230; found by moyo (symprec 0.1 A) when left out with a structure.

        Raises:
            ValueError: a formula without a space group.
        """
        if isinstance(structure_or_formula, str):
            if space_group is None:
                raise ValueError("a formula needs its space group")
            formula = _reduce(structure_or_formula)
        else:
            formula = structure_or_formula.composition.reduced_formula
            space_group = find_space_group(structure_or_formula) if space_group is None else space_group
        key = np.uint64(_hash(formula, space_group))
        position = int(np.searchsorted(self._hashes, key))
        return position < len(self._hashes) and self._hashes[position] == key


def _reduce(formula: str) -> str:
    """Reduced formula with pymatgen's order of elements."""
    from pymatgen.core import Composition

    return Composition(formula).reduced_formula


def _hash(reduced_formula: str, space_group: int) -> int:
    """First 8 bytes of BLAKE2b of ``formula|group``: the same on every platform and Python version."""
    return int.from_bytes(hashlib.blake2b(f"{reduced_formula}|{int(space_group)}".encode(), digest_size=8).digest(), "little")
