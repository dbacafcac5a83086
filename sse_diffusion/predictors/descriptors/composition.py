"""Composition family: what :mod:`sse_diffusion.predictors.features` computes, and the mean atomic mass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.predictors.features import FEATURE_NAMES, MAX_Z, composition_features

NAMES = (*FEATURE_NAMES, "mean_mass_u")


@lru_cache(maxsize=1)
def atomic_masses() -> NDArray[np.float64]:
    """(MAX_Z + 1,) in u; row 0 is unused."""
    from pymatgen.core.periodic_table import Element

    return np.array([0.0, *(float(Element.from_Z(z).atomic_mass) for z in range(1, MAX_Z + 1))])


def _per_rarest(counts: dict[int, float]) -> dict[int, float]:
    """Fractional counts relative to the rarest element (whole counts are reduced by the features themselves)."""
    rarest = min(counts.values())
    whole = all(float(n).is_integer() for n in counts.values())
    return counts if whole else {z: round(n / rarest, 6) for z, n in counts.items()}


def composition_columns(compositions: Sequence[dict[int, float]]) -> NDArray[np.float64]:
    """(n, len(NAMES)) of compositions by atomic number; none depends on the size of the cell that was counted."""
    compositions = [_per_rarest(c) for c in compositions]
    masses = [sum(n * atomic_masses()[z] for z, n in c.items()) / sum(c.values()) for c in compositions]
    return np.column_stack([composition_features(compositions).astype(float), masses])
