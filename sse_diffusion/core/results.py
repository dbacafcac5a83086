"""Results are frozen dataclasses that carry uncertainty, unit, status and provenance: never ``None``, never a bare float."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How far a result can be trusted."""

    OK = "ok"
    UPPER_BOUND = "upper_bound"
    UNCONVERGED = "unconverged"
    FAILED = "failed"


@dataclass(frozen=True)
class Quantity:
    """A measured or predicted number.

    Attributes:
        value: the number in ``unit``; NaN when ``status`` is ``failed``.
        uncertainty: one standard deviation in ``unit``; NaN when unknown.
        unit: e.g. ``"eV/atom"``; empty for dimensionless.
        status: see :class:`Status`.
        reason: why the status is not ``ok``; empty otherwise.
        provenance: engine, seed, protocol: whatever is needed to compute it again.
    """

    value: float
    uncertainty: float = math.nan
    unit: str = ""
    status: Status = Status.OK
    reason: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def failed(cls, reason: str, unit: str = "", **provenance: Any) -> Quantity:
        """A result that could not be computed, with the reason why."""
        return cls(math.nan, math.nan, unit, Status.FAILED, reason, provenance)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Quantity:
        """Inverse of :meth:`to_dict`."""
        numbers = {key: math.nan if record[key] is None else float(record[key]) for key in ("value", "uncertainty")}
        status, provenance = Status(record["status"]), dict(record["provenance"])
        return cls(**numbers, unit=record["unit"], status=status, reason=record["reason"], provenance=provenance)

    @property
    def ok(self) -> bool:
        """True when the value stands as it is."""
        return self.status is Status.OK

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary; NaN becomes ``None`` so that the JSON is standard."""
        record = asdict(self)
        record["status"] = str(self.status)
        for key in ("value", "uncertainty"):
            if not math.isfinite(record[key]):
                record[key] = None
        return record
