"""Parse a crystal into space group, cell and Wyckoff orbits; the inverse is :meth:`Orbits.to_structure`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.lattice import cell_fixed_value, cell_free, lattice_to_log
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table

SYMMETRY_TOLERANCES = (0.1, 0.03, 0.01, 1e-3, 1e-4)
"""symprec (Angstrom) tried in turn: the loosest that reproduces the crystal wins, as in the Materials Project (0.1)."""

MAX_SHIFT = 0.2
"""Largest displacement (Angstrom) of an atom by symmetrisation that still counts as the same crystal."""


@dataclass(frozen=True)
class ParseFailure:
    """Why a crystal has no orbit representation at one tolerance."""

    tolerance: float
    reason: str


def parse_orbits(
    species: np.ndarray, frac: np.ndarray, lattice: np.ndarray, tolerances: tuple[float, ...] = SYMMETRY_TOLERANCES
) -> Orbits:
    """Find the space group and its occupied Wyckoff positions.

    Args:
        species: (N,) atomic numbers.
        frac: (N, 3) fractional coordinates.
        lattice: (3, 3) row vectors, Angstrom.
        tolerances: symprec values in Angstrom, tried in turn.

    Raises:
        DataError: no tolerance gives orbits that reproduce the crystal; the message lists the reason of each.
    """
    failures: list[ParseFailure] = []
    for tolerance in tolerances:
        found = _parse_at(species, frac, lattice, tolerance)
        if isinstance(found, Orbits):
            return found
        failures.append(found)
    reasons = "; ".join(f"{f.tolerance:g} A: {f.reason}" for f in failures)
    raise DataError(
        f"no symmetry description reproduces the crystal ({reasons})", "check the structure for overlapping or misplaced atoms"
    )


def _parse_at(species: np.ndarray, frac: np.ndarray, lattice: np.ndarray, tolerance: float) -> Orbits | ParseFailure:
    from moyopy import Cell, MoyoDataset, Setting

    try:
        cell = Cell(basis=lattice.tolist(), positions=frac.tolist(), numbers=[int(z) for z in species])
        dataset = MoyoDataset(cell, symprec=tolerance, setting=Setting.standard())
    except (ValueError, RuntimeError) as error:
        return ParseFailure(tolerance, f"symmetry search failed ({error})")
    standard = dataset.std_cell
    basis = np.asarray(standard.basis)
    positions, numbers = np.mod(np.asarray(standard.positions), 1.0), np.asarray(standard.numbers)
    group = int(dataset.number)
    k = lattice_to_log(torch.from_numpy(basis)).numpy()
    free = cell_free()[group]
    if np.abs((k - cell_fixed_value()[group])[~free]).max(initial=0.0) > 0.02:
        return ParseFailure(tolerance, f"cell does not fit the lattice system of group {group}")
    orbits = assign_orbits(group, numbers, positions, basis)
    if isinstance(orbits, str):
        return ParseFailure(tolerance, orbits)
    wyckoff, symbols, u = orbits
    found = Orbits(group, np.where(free, k, cell_fixed_value()[group]), symbols, wyckoff, u)
    if found.n_primitive > len(species):
        return ParseFailure(tolerance, f"{found.n_primitive} atoms in the primitive cell of group {group}, {len(species)} given")
    return found


def assign_orbits(
    group: int, species: np.ndarray, frac: np.ndarray, lattice: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
    """Wyckoff index (M,), species (M,), free coordinates (M, 3) of a standardised cell; a sentence when it does not fit."""
    table = wyckoff_table()
    left = np.ones(len(species), dtype=bool)
    wyckoff, symbols, free = [], [], []
    while left.any():
        seed = int(np.flatnonzero(left)[0])
        members = _members(group, seed, species, frac, lattice)
        match = _match_position(group, members, frac, lattice)
        if match is None:
            return f"an orbit of {len(members)} atoms of Z={species[seed]} fits no Wyckoff position of group {group}"
        position, u = match
        if not left[members].all() or len(members) != table.multiplicity[position]:
            return f"overlapping orbits in group {group}"
        left[members] = False
        wyckoff.append(position)
        symbols.append(species[seed])
        free.append(u)
    return np.array(wyckoff), np.array(symbols), np.array(free)


def _distance(difference: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Periodic distance of small fractional differences (nearest integer shift), Angstrom."""
    return np.linalg.norm((difference - np.round(difference)) @ lattice, axis=-1)


def _members(group: int, seed: int, species: np.ndarray, frac: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Atoms that the group's operations map the seed atom onto."""
    table = wyckoff_table()
    rotation, translation = table.images(table.positions(group)[-1])
    images = rotation @ frac[seed] + translation
    same = np.flatnonzero(species == species[seed])
    distance = _distance(images[:, None] - frac[same][None], lattice)
    return np.unique(same[distance.argmin(axis=1)])


def _match_position(group: int, members: np.ndarray, frac: np.ndarray, lattice: np.ndarray) -> tuple[int, np.ndarray] | None:
    """The Wyckoff position whose images are the members, and the free coordinates of the representative."""
    table = wyckoff_table()
    for position in table.positions(group):
        if table.multiplicity[position] != len(members):
            continue
        rotation, translation = table.images(position)
        u = (frac[members] - translation[0]) @ table.left_inverse[position].T
        shift = _distance(u @ rotation[0].T + translation[0] - frac[members], lattice)
        for candidate in np.argsort(shift)[: 1 if table.dof[position] == 0 else 4]:
            if shift[candidate] > MAX_SHIFT:
                break
            images = rotation @ u[candidate] + translation
            distance = _distance(images[:, None] - frac[members][None], lattice)
            nearest = distance.argmin(axis=1)
            if len(np.unique(nearest)) == len(members) and distance.min(axis=1).max() < MAX_SHIFT:
                return position, np.mod(u[candidate], 1.0) * table.free[position]
    return None
