"""The covariance of log10(sigma T) between two measurements: chemistry, structure and temperature."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from gpytorch.kernels import Kernel, MaternKernel, ScaleKernel
from torch import Tensor

from sse_diffusion.predictors.conductivity.arrhenius import reduced_inverse_temperature
from sse_diffusion.predictors.conductivity.inputs import CELL_COLUMNS, STRUCTURE_COLUMNS, Array, Inputs, cumulative_fractions
from sse_diffusion.predictors.features import FEATURE_NAMES, MAX_Z

if TYPE_CHECKING:
    pass

N_STATISTICS = len(FEATURE_NAMES) - MAX_Z
TAU = (0,)
WIDTHS = {"elements": MAX_Z, "statistics": N_STATISTICS, "cell": 1 + len(CELL_COLUMNS), "structure": 1 + len(STRUCTURE_COLUMNS)}
"""Column blocks after tau; the first column of cell and structure is 1 where known, else 0."""
CLIP = 4.0
"""Standardised features are cut here."""


def block(name: str) -> tuple[int, ...]:
    """Columns of a block in the matrix of :meth:`Scaling.matrix`."""
    start = 1 + sum(list(WIDTHS.values())[: list(WIDTHS).index(name)])
    return tuple(range(start, start + WIDTHS[name]))


@dataclass(frozen=True, eq=False)
class Scaling:
    """Centre and scale (F,) of statistics, cell and structure in the training rows."""

    centre: Array
    scale: Array

    @classmethod
    def of(cls, inputs: Inputs) -> Scaling:
        """Measured on the rows where a feature is known; an unknown column keeps 0 and 1."""
        values = _raw(inputs)
        known = ~np.isnan(values).all(0)
        centre, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
        centre[known], scale[known] = np.nanmean(values[:, known], 0), np.nanstd(values[:, known], 0)
        return cls(centre, np.where(scale > 1e-6, scale, 1.0))

    def matrix(self, inputs: Inputs) -> Tensor:
        """(n, 1 + sum of WIDTHS) float64: what the kernel reads."""
        z = np.clip((_raw(inputs) - self.centre) / self.scale, -CLIP, CLIP)
        statistics, cell, structure = np.split(z, [N_STATISTICS, N_STATISTICS + len(CELL_COLUMNS)], axis=1)
        columns = [
            reduced_inverse_temperature(inputs.temperature_K)[:, None],
            cumulative_fractions(inputs.composition),
            statistics / np.sqrt(N_STATISTICS),
            _with_flag(cell),
            _with_flag(structure),
        ]
        return torch.from_numpy(np.concatenate([np.asarray(c, dtype=float) for c in columns], axis=1))


def _raw(inputs: Inputs) -> Array:
    return np.concatenate([inputs.composition[:, MAX_Z:], inputs.cell, inputs.structure], axis=1)


def _with_flag(values: Array) -> Array:
    """1 where any column is known; then the columns, 0 (the mean) where missing, over the square root of their number."""
    known = ~np.isnan(values).all(1)
    return np.column_stack([known, np.nan_to_num(values) / np.sqrt(values.shape[1])])


class EarthMoverKernel(Kernel):
    """exp(-d / l) with d the L1 distance of cumulative fractions: the earth mover's distance of two compositions."""

    has_lengthscale = True

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: object) -> Tensor:
        """Covariance of each pair, or of each row with itself."""
        if diag:
            return torch.ones(len(x1), dtype=x1.dtype)
        return torch.exp(-torch.cdist(x1, x2, p=1) / self.lengthscale.squeeze())


class KnownMatern(MaternKernel):
    """A Matern kernel among the rows whose block is known (first column 1); what is unknown contributes nothing."""

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **options: object) -> Tensor:
        """Covariance of each pair, or of each row with itself."""
        known = x1[:, 0] * x2[:, 0] if diag else x1[:, :1] * x2[:, :1].T
        if not x1[:, 0].any():
            return known
        return known * super().forward(x1[:, 1:], x2[:, 1:], diag=diag, **options)


class ProductOfTau(Kernel):
    """tau tau': a slope in 1/T."""

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: object) -> Tensor:
        """Covariance of each pair, or of each row with itself."""
        return x1[:, 0] * x2[:, 0] if diag else x1 @ x2.T


class ConductivityKernel(Kernel):
    """k(x, x') = k_A + tau tau' k_E: log10(sigma T) = A(x) - E_a(x) tau is exactly straight in 1/T.

    k_A (decades^2) sums an earth mover's kernel on the elements, Matern 3/2 on the statistics of the composition, on the cell and
    on the structure; k_E (eV^2) the first two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.prefactor = torch.nn.ModuleList([
            _scaled(EarthMoverKernel(active_dims=block("elements")), 3.0, 3.0),
            _scaled(MaternKernel(nu=1.5, active_dims=block("statistics")), 2.0, 0.6),
            _scaled(KnownMatern(nu=1.5, active_dims=block("cell")), 0.5, 1.0),
            _scaled(KnownMatern(nu=1.5, active_dims=block("structure")), 0.3, 1.0),
        ])  # fmt: skip
        self.slope = torch.nn.ModuleList([
            _scaled(EarthMoverKernel(active_dims=block("elements")), 0.01, 3.0),
            _scaled(MaternKernel(nu=1.5, active_dims=block("statistics")), 0.02, 0.6),
        ])  # fmt: skip
        self.tau = ProductOfTau(active_dims=TAU)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: object) -> Tensor:
        """Covariance of each pair, or of each row with itself."""

        return self.joined(x1, x2, self.activation(x1, x2, diag), diag)

    def joined(self, x1: Tensor, x2: Tensor, activation: Tensor, diag: bool = False) -> Tensor:
        """The covariance, with :meth:`activation` of the same rows at hand."""
        level = _total(list(self.prefactor), x1, x2, diag)
        return level + _total([self.tau], x1, x2, diag) * activation

    def activation(self, x1: Tensor, x2: Tensor, diag: bool = False) -> Tensor:
        """k_E in eV^2."""
        return _total(list(self.slope), x1, x2, diag)


def _total(kernels: Sequence[Kernel], x1: Tensor, x2: Tensor, diag: bool) -> Tensor:
    parts = [kernel(x1, x2, diag=diag) if diag else kernel(x1, x2).to_dense() for kernel in kernels]
    return functools.reduce(torch.add, parts)


def _scaled(kernel: Kernel, variance: float, lengthscale: float) -> ScaleKernel:
    kernel.lengthscale = lengthscale
    scaled = ScaleKernel(kernel)
    scaled.outputscale = variance
    return scaled
