"""How good the mechanics predictor is on rows it did not see."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.predictors.conformal import LEVELS, grouped_coverage
from sse_diffusion.predictors.descriptors.table import DescriptorTable
from sse_diffusion.predictors.mechanics import FRACTIONS, PROPERTIES
from sse_diffusion.predictors.mechanics_data import SOURCES, ElasticRows

if TYPE_CHECKING:
    from sse_diffusion.predictors.mechanics_training import OutOfFold

Array = NDArray[np.float64]

N_BOOTSTRAP = 1000
FAR_EDGES = (0, 25, 50, 75, 95, 101)
"""Of the bins of the percentile of the distance to the training data."""
HBAR_OVER_K = 7.638235e-12
"""hbar / k_B in K s."""


def score_folds(run: OutOfFold, rows: ElasticRows, table: DescriptorTable) -> dict[str, Any]:
    """Errors and coverage per property and table, and the Debye temperature by Anderson's formula on the same rows."""
    errors = np.abs(run.labels - run.mean)
    formula = np.log10(
        debye_temperature(10 ** run.mean[:, 0], 10 ** run.mean[:, 1], *table.columns(["density_g_cm3", "volume_per_atom_A3"]).T)
    )
    tables = {name: rows.source == i for i, name in enumerate(SOURCES)} | {"all": np.ones(len(rows), dtype=bool)}
    tables["with_lithium"] = table.columns([FRACTIONS[2]])[:, 0] > 0
    result: dict[str, Any] = {"n_groups": int(run.groups.max()) + 1}
    for column, name in enumerate(PROPERTIES):
        scores = errors[:, column] / run.scale[:, column]
        covered = {key: grouped_coverage(scores, run.folds, level) for key, level in LEVELS.items()}
        constant = np.abs(run.labels[:, column] - np.nanmedian(run.labels[:, column]))
        by_table = {}
        for where, chosen in tables.items():
            known = chosen & np.isfinite(errors[:, column])
            if not known.any():
                continue
            by_table[where] = {
                "n": int(known.sum()),
                "mae_log10": _with_interval(errors[known, column], run.groups[known]),
                "mae_log10_constant": round(float(constant[known].mean()), 4),
                **{f"coverage_{key}": _with_interval(c[known], run.groups[known]) for key, c in covered.items()},
            }
            if name == "debye_temperature":
                by_formula = np.abs(formula - run.labels[:, column])[known]
                by_table[where]["mae_log10_from_moduli"] = _with_interval(by_formula, run.groups[known])
        result[name] = {**by_table, "by_distance": by_distance(errors[:, column], covered["95"], run.far)}
    return result


def by_distance(errors: Array, covered: Array, far: Array) -> dict[str, Any]:
    """Whether the error grows with the distance to the training data: errors and coverage by percentile of the distance, and
    Spearman's rank correlation of error and percentile."""
    from scipy.stats import spearmanr

    known = np.isfinite(errors)
    result: dict[str, Any] = {"spearman": round(float(spearmanr(far[known], errors[known]).statistic), 3)}
    for low, high in pairwise(FAR_EDGES):
        rows = known & (far >= low) & (far < high)
        if rows.any():
            result[f"{low:g}-{min(high, 100):g}"] = {
                "n": int(rows.sum()),
                "mae_log10": round(float(errors[rows].mean()), 4),
                "coverage_95": round(float(covered[rows].mean()), 3),
            }
    return result


def debye_temperature(bulk_GPa: Array, shear_GPa: Array, density_g_cm3: Array, volume_per_atom_A3: Array) -> Array:
    """Debye temperature (n,) in K from the mean sound velocity (Anderson, J. Phys. Chem. Solids 24, 909 (1963)):

    theta = hbar / k (6 pi^2 / V)^(1/3) v_m with V the volume per atom, v_m = [(2 / v_t^3 + 1 / v_l^3) / 3]^(-1/3),
    v_t = (G / rho)^(1/2), v_l = ((K + 4 G / 3) / rho)^(1/2).
    """
    transverse = 1e3 * np.sqrt(shear_GPa / density_g_cm3)  # sqrt(GPa / (g / cm^3)) = 1000 m/s
    longitudinal = 1e3 * np.sqrt((bulk_GPa + 4 * shear_GPa / 3) / density_g_cm3)
    mean = ((2 / transverse**3 + 1 / longitudinal**3) / 3) ** (-1 / 3)
    return np.asarray(HBAR_OVER_K * (6 * np.pi**2 / (volume_per_atom_A3 * 1e-30)) ** (1 / 3) * mean)


def _with_interval(values: Array, groups: NDArray[np.int64]) -> list[float]:
    """Mean of ``values`` (n,) and its 95 % interval from a bootstrap over groups."""
    _, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(0).integers(0, len(sums), size=(N_BOOTSTRAP, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return [round(float(x), 4) for x in (values.mean(), *np.quantile(means, [0.025, 0.975]))]
