"""The library of structure types: arrays only, no element, no single crystal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.structure_types.grouping import Kind, automorphisms, primitive_counts

MAX_ROLES = 8
SMALLEST_SPREAD = 0.003


@dataclass(frozen=True)
class TypeLibrary:
    """V structure types; type v owns orbits ``start[v]:start[v + 1]`` and roles ``role_start[v]:role_start[v + 1]``.

    Attributes:
        group: (V,) space groups.
        count: (V,) crystals of the training table.
        cell: (V, 6) mean logarithmic cell, less ln(N)/3 in its volume component.
        cell_spread: (V, 6) standard deviation of it.
        spread: (V,) root mean square scatter of the members' free coordinates, fractions of the cell.
        start, wyckoff, role, free: (V + 1,), (O,), (O,), (O, 3) orbits: position, role of their element, mean free coordinates.
        role_start, role_atoms: (V + 1,), (R,) atoms of each role in the primitive cell; they ascend within a type.
        symmetry_start, symmetry: (V + 1,), (S, 8) permutations of the roles that change nothing, padded with -1.
    """

    group: np.ndarray
    count: np.ndarray
    cell: np.ndarray
    cell_spread: np.ndarray
    spread: np.ndarray
    start: np.ndarray
    wyckoff: np.ndarray
    role: np.ndarray
    free: np.ndarray
    role_start: np.ndarray
    role_atoms: np.ndarray
    symmetry_start: np.ndarray
    symmetry: np.ndarray

    def __len__(self) -> int:
        return len(self.group)

    @classmethod
    def from_kinds(cls, kinds: Sequence[Kind]) -> TypeLibrary:
        """Means and scatters of collected types; each needs at least two members."""
        means = [_mean_of(kind) for kind in kinds]
        counts = [primitive_counts(kind.first.crystal) for kind in kinds]
        atoms = [[n[z] for z in kind.elements[0]] for kind, n in zip(kinds, counts, strict=True)]
        symmetries = [[(*p, *[-1] * (MAX_ROLES - len(p))) for p in automorphisms(kind)] for kind in kinds]
        return cls(
            group=np.array([kind.first.crystal.group for kind in kinds], dtype=np.int64),
            count=np.array([len(kind.members) for kind in kinds], dtype=np.int64),
            cell=np.stack([m[1] for m in means]).astype(np.float32),
            cell_spread=np.stack([m[2] for m in means]).astype(np.float32),
            spread=np.array([m[3] for m in means], dtype=np.float32),
            start=_offsets([len(kind.labels) for kind in kinds]),
            wyckoff=np.concatenate([kind.first.crystal.wyckoff for kind in kinds]).astype(np.int64),
            role=np.concatenate([kind.labels for kind in kinds]).astype(np.int64),
            free=np.concatenate([m[0] for m in means]).astype(np.float32),
            role_start=_offsets([len(a) for a in atoms]),
            role_atoms=np.concatenate(atoms).astype(np.int64),
            symmetry_start=_offsets([len(s) for s in symmetries]),
            symmetry=np.concatenate(symmetries).astype(np.int64),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TypeLibrary:
        """Inverse of :meth:`arrays`."""
        return cls(**{f.name: np.asarray(arrays[f.name]) for f in fields(cls)})

    def orbits_of(self, v: int) -> slice:
        """Rows of type v in ``wyckoff``, ``role`` and ``free``."""
        return slice(int(self.start[v]), int(self.start[v + 1]))

    def roles_of(self, v: int) -> slice:
        """Rows of type v in ``role_atoms``."""
        return slice(int(self.role_start[v]), int(self.role_start[v + 1]))

    def signature(self, v: int) -> tuple[int, ...]:
        """Atoms of each role in the primitive cell, ascending."""
        return tuple(self.role_atoms[self.roles_of(v)].tolist())

    def symmetries(self, v: int) -> list[tuple[int, ...]]:
        """Permutations of the roles of type v that change nothing."""
        n = int(self.role_start[v + 1] - self.role_start[v])
        return [tuple(p[:n]) for p in self.symmetry[self.symmetry_start[v] : self.symmetry_start[v + 1]].tolist()]

    @cached_property
    def by_signature(self) -> dict[tuple[int, ...], np.ndarray]:
        """Signature -> numbers of its types."""
        found: dict[tuple[int, ...], list[int]] = {}
        for v in range(len(self)):
            found.setdefault(self.signature(v), []).append(v)
        return {key: np.array(numbers) for key, numbers in found.items()}

    @cached_property
    def n_atoms(self) -> np.ndarray:
        """(V,) atoms of the primitive cell."""
        return np.add.reduceat(self.role_atoms, self.role_start[:-1])

    @cached_property
    def dof(self) -> np.ndarray:
        """(V,) free coordinates."""
        return np.add.reduceat(wyckoff_table().dof[self.wyckoff], self.start[:-1])


def _offsets(sizes: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _mean_of(kind: Kind) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean free coordinates, mean cell without its size, its standard deviation, scatter of the coordinates."""
    table, first = wyckoff_table(), kind.first.crystal
    shifts = np.stack([laid.shift for laid in kind.overlays])
    mean = shifts.mean(0)
    dof = max(1, int(table.dof[first.wyckoff].sum()))
    variance = ((shifts - mean) ** 2).sum() / dof / max(1, len(shifts) - 1)
    cells = np.stack([laid.k for laid in kind.overlays])
    cells[:, -1] -= np.log(len(kind.first.frac)) / 3.0
    free = np.mod(first.free + mean, 1.0) * table.free[first.wyckoff]
    return free, cells.mean(0), cells.std(0, ddof=1 if len(cells) > 1 else 0), max(SMALLEST_SPREAD, float(np.sqrt(variance)))
