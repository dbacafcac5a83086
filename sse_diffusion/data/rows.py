"""The row types every reader produces: an accepted crystal, a rejected row, and the report that holds both."""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import OutputError


@dataclass(frozen=True, eq=False)
class CrystalRow:
    """One ordered, periodic crystal that passed validation.

    Attributes:
        id: name of the row, unique within its table.
        species: atomic numbers, shape (N,), int64.
        frac: fractional coordinates in [0, 1), shape (N, 3), float64.
        lattice: row vectors in Angstrom, shape (3, 3), float64.
        labels: label name -> number (NaN when unknown) or text.
        split: ``"train"``, ``"val"`` or ``"test"``; None when the table has no split.
    """

    id: str
    species: NDArray[np.int64]
    frac: NDArray[np.float64]
    lattice: NDArray[np.float64]
    labels: dict[str, float | str] = field(default_factory=dict)
    split: str | None = None

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the cell as read."""
        return len(self.species)

    @property
    def volume_A3_per_atom(self) -> float:
        """Cell volume per atom, Angstrom^3."""
        return float(abs(np.linalg.det(self.lattice))) / self.n_atoms


@dataclass(frozen=True)
class Rejection:
    """A row that was refused.

    Attributes:
        row: position in the table (0-based; for a CIF folder, in sorted file order).
        id: name of the row as far as it could be read.
        reason: category, the key under which rejections are counted.
        detail: what exactly was found.
    """

    row: int
    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class TableReport:
    """What came out of a table: nothing is dropped without a :class:`Rejection`.

    Attributes:
        source: path or name of the source.
        rows: accepted crystals, in table order.
        rejected: refused rows, in table order.
        seconds: wall time of reading and validating.
        notes: remarks about the whole table (a label column that does not exist, ...).
    """

    source: str
    rows: list[CrystalRow]
    rejected: list[Rejection]
    seconds: float = math.nan
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Rejected rows per reason, most frequent first."""
        return dict(Counter(r.reason for r in self.rejected).most_common())

    def missing_labels(self) -> dict[str, int]:
        """Accepted rows whose label is unknown (NaN or empty), per label."""
        missing: Counter[str] = Counter()
        for row in self.rows:
            for name, value in row.labels.items():
                missing[name] += value == "" or (isinstance(value, float) and math.isnan(value))
        return dict(missing)

    def splits(self) -> dict[str, int]:
        """Accepted rows per split; rows without one count under ``"unassigned"``."""
        return dict(Counter(row.split or "unassigned" for row in self.rows))

    def summary(self) -> str:
        """Several lines for a person: accepted, rejected by reason, first example of each reason, unknown labels."""
        total = len(self.rows) + len(self.rejected)
        counted = f"{len(self.rows)} of {total} rows accepted, {len(self.rejected)} rejected"
        lines = [f"{self.source}: {counted} ({self.seconds:.1f} s)"]
        lines.append("  splits: " + ", ".join(f"{k} {v}" for k, v in sorted(self.splits().items())))
        for reason, count in self.counts().items():
            first = next(r for r in self.rejected if r.reason == reason)
            lines.append(f"  rejected, {reason}: {count} (first: row {first.row}, {first.id}: {first.detail})")
        for label, count in self.missing_labels().items():
            if count:
                lines.append(f"  unknown label {label}: {count} rows")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def write_rejections(self, path: str | Path) -> None:
        """Write the refused rows as CSV (row, id, reason, detail).

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            with Path(path).open("w", newline="") as handle:
                writer = csv.writer(handle)
                writer.writerow(["row", "id", "reason", "detail"])
                writer.writerows([r.row, r.id, r.reason, r.detail] for r in self.rejected)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}", "choose a folder you can write to") from error
