"""Elastic and vibrational family: what a mechanics predictor makes of the other families; joined, because it costs a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.predictors.descriptors.table import DescriptorTable

if TYPE_CHECKING:
    from sse_diffusion.predictors.mechanics import MechanicsPredictor

NAMES = (
    "predicted_log10_bulk_modulus_GPa",
    "predicted_log10_shear_modulus_GPa",
    "predicted_log10_youngs_modulus_GPa",
    "predicted_log10_debye_temperature_K",
    "predicted_pugh_ratio",
    "predicted_poisson_ratio",
    "predicted_displacement_300K_A2",
)
DISPLACEMENT_A2_u_K = 145.53
"""3 hbar^2 / k_B in A^2 u K."""


def with_elasticity(table: DescriptorTable, predictor: MechanicsPredictor) -> DescriptorTable:
    """The table with NAMES joined; missing where a row has no structure.

    Pugh's ratio is G / K, Poisson's (3 K - 2 G) / (6 K + 2 G); the displacement is the classical mean square one of a Debye solid
    along one direction, 3 hbar^2 T / (m k_B theta^2), at 300 K.

    Args:
        table: with all families of ``describe``.
        predictor: of the shipped or of another checkpoint.
    """
    mean, _ = predictor.model.distributions(table.columns(predictor.model.columns))
    bulk, shear, _, debye = (10**mean).T
    mass, volume = table.columns(["mean_mass_u", "volume_per_atom_A3"]).T
    columns = np.column_stack(
        [
            mean,
            shear / bulk,
            (3 * bulk - 2 * shear) / (6 * bulk + 2 * shear),
            DISPLACEMENT_A2_u_K * 300.0 / (mass * debye**2),
        ]
    )
    return table.joined(NAMES, np.where(np.isnan(volume)[:, None], np.nan, columns))
