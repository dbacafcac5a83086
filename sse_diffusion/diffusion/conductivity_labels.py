"""Conductivities that the noise-aware head learns: the composition predictor's, and measured ones where there are any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from sse_diffusion.data.grouped import composition_key
from sse_diffusion.predictors.conductivity.arrhenius import REFERENCE_K
from sse_diffusion.predictors.conductivity.tables import ConductivityRow
from sse_diffusion.predictors.protocol import Predictor

if TYPE_CHECKING:
    from pymatgen.core import Composition

REPEAT_SD = 0.41
"""Decades between repeats of one material in the literature (docs/predictors.md)."""
NEAR_K = 10.0
"""A measurement this close to 300 K counts as one at 300 K: at 0.3 eV it is off by 0.2 decades at most."""


@dataclass(frozen=True, eq=False)
class ConductivityLabels:
    """log10 of sigma in S/cm at 300 K of n compositions: each label is a Gaussian.

    Attributes:
        value, sd: what is learnt: measured where that is known, else the teacher's.
        in_domain: whether the teacher answers from within its domain.
        teacher, teacher_sd: the teacher's.
        measured: NaN where unknown.
        activation_eV: the teacher's activation energies.
    """

    value: Float[np.ndarray, " n"]
    sd: Float[np.ndarray, " n"]
    in_domain: Bool[np.ndarray, " n"]
    teacher: Float[np.ndarray, " n"]
    teacher_sd: Float[np.ndarray, " n"]
    measured: Float[np.ndarray, " n"]
    activation_eV: Float[np.ndarray, " n"]

    @property
    def known(self) -> Bool[np.ndarray, " n"]:
        """Which rows teach a value. Beyond its domain the teacher says what it was trained on, on average."""
        return self.in_domain | ~np.isnan(self.measured)


def label_compositions(
    compositions: Sequence[Composition], teacher: Predictor, rows: Sequence[ConductivityRow] = ()
) -> ConductivityLabels:
    """Labels of n compositions.

    Args:
        compositions: of crystals.
        teacher: the conductivity predictor at 300 K; its ``uncertainty`` is the label's standard deviation.
        rows: measurements. The median of those near 300 K replaces the teacher's value; a material with any value below a
            detection limit is left to the teacher, which has learnt limits as limits.
    """
    found = teacher.predict(compositions)  # a Composition stands for an unknown structure
    value = np.array([q.value for q in found], dtype=float)
    sd = np.array([q.uncertainty for q in found], dtype=float)
    activation = np.array([q.provenance.get("activation_eV", np.nan) for q in found], dtype=float)
    measurements = near_room_temperature(rows)
    keys = [composition_key(c.get_el_amt_dict()) for c in compositions]
    measured, scatter = np.array([measurements.get(key, (np.nan, np.nan)) for key in keys]).reshape(-1, 2).T
    known = ~np.isnan(measured)
    return ConductivityLabels(
        np.where(known, measured, value),
        np.where(known, scatter, sd),
        np.array([q.ok for q in found], dtype=bool),
        value,
        sd,
        measured,
        activation,
    )


def near_room_temperature(rows: Sequence[ConductivityRow]) -> dict[str, tuple[float, float]]:
    """Composition -> median log10 sigma near 300 K and standard deviation of a further measurement."""
    values: dict[str, list[float]] = defaultdict(list)
    limited = {row.key for row in rows if row.censored}
    for row in rows:
        if row.measured and abs(row.temperature_K - REFERENCE_K) <= NEAR_K and row.key not in limited:
            values[row.key].append(row.log10_sigma)
    return {key: (float(np.median(v)), float(np.hypot(REPEAT_SD, np.std(v)))) for key, v in values.items()}
