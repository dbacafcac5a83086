"""A crystal that was proposed (or handed in) and travels through the funnel under one stable id."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Candidate:
    """One proposed crystal.

    Attributes:
        id: stable name; the same in CIF, extxyz, CSV, ledger and report.
        structure: ordered pymatgen structure of the primitive cell, Angstrom.
        space_group: the space-group number the proposer asked for (1-230); 0 when unknown.
        surprisal: -log p of the discrete part (group, species, Wyckoff) per orbit, in nats; NaN when unknown.
        info: proposer, seed, index, conditions: plain JSON values only.
    """

    id: str
    structure: Structure
    space_group: int = 0
    surprisal: float = math.nan
    info: dict[str, Any] = field(default_factory=dict)
