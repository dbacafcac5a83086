"""Validity of a crystal exactly as the field counts it, plus a volume check that the field's count lacks.

Both checks follow Xie et al., "Crystal Diffusion Variational Autoencoder" (ICLR 2022, arXiv:2110.06197), so that rates can be
compared with published ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.thermo.charge_balance import imbalance

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

MIN_DISTANCE_A = 0.5
MIN_VOLUME_A3 = 0.1
ABSURD_VOLUME_A3_PER_ATOM = (4.0, 100.0)


@dataclass(frozen=True)
class Validity:
    """Outcome of a validity check; true in a boolean context when the crystal is valid by the field's definition.

    Attributes:
        valid: the field's verdict.
        reason: what is wrong, in words; also set when only ``absurd_volume`` is.
        absurd_volume: the volume per atom lies outside 4-100 A^3 (the field's check passes diverged cells).
    """

    valid: bool
    reason: str = ""
    absurd_volume: bool = False

    def __bool__(self) -> bool:
        """The field's verdict."""
        return self.valid


def structural_validity(structure: Structure) -> Validity:
    """CDVAE's structural check: every interatomic distance >= 0.5 A and cell volume >= 0.1 A^3.

    As in the original, the distance of an atom to its own periodic image is not looked at; cells collapsed that way are
    caught by ``absurd_volume`` (volume per atom outside 4-100 A^3), which does not change ``valid``.
    """
    lattice = structure.lattice.matrix
    volume = abs(float(np.linalg.det(lattice)))
    if not (np.isfinite(lattice).all() and np.isfinite(structure.frac_coords).all()):
        return Validity(False, "the cell or the coordinates are not finite numbers")
    if volume < MIN_VOLUME_A3:
        return Validity(False, f"cell volume {volume:.3g} A^3 is below {MIN_VOLUME_A3} A^3", absurd_volume=True)
    per_atom = volume / len(structure)
    low, high = ABSURD_VOLUME_A3_PER_ATOM
    absurd = not low <= per_atom <= high
    volume_reason = f"volume per atom {per_atom:.4g} A^3 is outside {low:g}-{high:g} A^3" if absurd else ""
    if len(structure) > 1:
        distances = structure.distance_matrix + np.eye(len(structure)) * (MIN_DISTANCE_A + 10.0)
        i, j = np.unravel_index(int(np.argmin(distances)), distances.shape)
        if distances[i, j] < MIN_DISTANCE_A:
            pair = f"{structure[i].specie}-{structure[j].specie}"
            return Validity(False, f"atoms {i} and {j} ({pair}) are {distances[i, j]:.2f} A apart (< {MIN_DISTANCE_A} A)", absurd)
    return Validity(True, volume_reason, absurd)


def composition_validity(composition: Structure | Composition | Mapping[str, int]) -> Validity:
    """CDVAE's SMACT check, see :func:`sse_diffusion.thermo.charge_balance.imbalance`."""
    reason = imbalance(composition)
    return Validity(not reason, reason)
