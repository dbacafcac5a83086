"""All prototypes by name."""

from __future__ import annotations

from sse_diffusion.core.errors import DataError, did_you_mean
from sse_diffusion.data.prototypes.binary import BINARY
from sse_diffusion.data.prototypes.halide import HALIDE
from sse_diffusion.data.prototypes.oxide import OXIDE
from sse_diffusion.data.prototypes.polyanion import POLYANION
from sse_diffusion.data.prototypes.prototype import Prototype
from sse_diffusion.data.prototypes.sulfide import SULFIDE

PROTOTYPES: dict[str, Prototype] = {p.name: p for family in (BINARY, OXIDE, HALIDE, POLYANION, SULFIDE) for p in family}
"""Name -> prototype, in a fixed order."""


def prototype(name: str) -> Prototype:
    """One prototype by name.

    Raises:
        DataError: no such prototype (with the closest name).
    """
    if name not in PROTOTYPES:
        raise DataError(f"unknown prototype {name!r}", did_you_mean(name, PROTOTYPES))
    return PROTOTYPES[name]
