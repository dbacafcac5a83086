"""Which compositions a checkpoint was trained on, as hashes: recognised, not published."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.atomic_files import write_bytes_atomically
from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.data.grouped import composition_key

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

FILE = "trained_on.npy"


class TrainingIndex:
    """Compositions, whatever their scale (``data.grouped.composition_key``), as the first 64 bits of their SHA-256.

    Args:
        hashes: sorted (n,), 8 bytes each; among 10^5 of them a foreign composition is recognised by accident once in 10^14 times.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self.hashes = hashes

    @classmethod
    def of(cls, keys: Iterable[str]) -> Self:
        """Of composition keys."""
        return cls(np.unique(np.fromiter(map(_hash, set(keys)), dtype=np.uint64)))

    @classmethod
    def of_formulas(cls, formulas: Iterable[str]) -> Self:
        """Of formulas, reduced or not."""
        from pymatgen.core import Composition

        return cls.of(composition_key(Composition(formula).get_el_amt_dict()) for formula in set(formulas))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The index of a checkpoint folder; ``None`` when it has none.

        Raises:
            CheckpointError: the file is damaged.
        """
        if not (folder / FILE).is_file():
            return None
        try:
            hashes = np.load(folder / FILE, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CheckpointError(f"{folder / FILE} cannot be read: {error}", "copy the checkpoint again") from error
        if hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise CheckpointError(f"{folder / FILE} holds no hashes", "copy the checkpoint again")
        return cls(hashes)

    def save(self, folder: str | Path) -> None:
        """Write the file into a checkpoint folder."""
        buffer = io.BytesIO()
        np.save(buffer, self.hashes, allow_pickle=False)
        write_bytes_atomically(Path(folder) / FILE, buffer.getvalue())

    def __len__(self) -> int:
        return len(self.hashes)

    def holds(self, crystals: Sequence[Structure | Composition]) -> NDArray[np.bool_]:
        """(n,) whether the composition of each crystal was trained on."""
        amounts = [getattr(crystal, "composition", crystal).get_el_amt_dict() for crystal in crystals]
        return np.isin(np.array([_hash(composition_key(a)) for a in amounts], dtype=np.uint64), self.hashes)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
