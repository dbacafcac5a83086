r"""The cell: a variance-preserving process in the subspace that the space group leaves free.

The logarithmic cell k, less ln(N)/3 in its volume component (so that big and small cells look alike), is standardised with
the training mean and standard deviation of its crystal family, then

    x_t = cos(phi) x_0 + sin(phi) eps,   phi = pi t / 2,        v = cos(phi) eps - sin(phi) x_0   (Salimans & Ho 2022)

The network learns v, which is EDM's preconditioning for data of unit variance.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sse_diffusion.core.lattice import FAMILIES, N_CELL, cell_fixed_value, cell_free, family_index

MIN_STD = 0.02
"""Smallest spread given to a component (families with few crystals in a small data set)."""


def cell_statistics(group: np.ndarray, cell: np.ndarray, n_atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the size-free cell by family.

    Args:
        group: (n,) space groups.
        cell: (n, 6) logarithmic cells.
        n_atoms: (n,) atoms in the conventional cell.

    Returns:
        mean (6 families, 6) and std (6 families, 6); families without crystals take the overall values.
    """
    values = cell.copy()
    values[:, -1] -= np.log(n_atoms) / 3.0
    family = family_index()[group]
    mean = np.tile(values.mean(0), (len(FAMILIES), 1))
    std = np.tile(values.std(0), (len(FAMILIES), 1))
    for index in range(len(FAMILIES)):
        rows = values[family == index]
        if len(rows) >= 8:
            mean[index], std[index] = rows.mean(0), rows.std(0)
    return mean, np.maximum(std, MIN_STD)


class CellNoise(nn.Module):
    """Forward process, target and inverse of the cell; its statistics are part of the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(FAMILIES), N_CELL))
        self.register_buffer("std", torch.ones(len(FAMILIES), N_CELL))
        self.register_buffer("family", torch.from_numpy(family_index()), persistent=False)
        self.register_buffer("is_free", torch.from_numpy(cell_free()), persistent=False)
        self.register_buffer("fixed", torch.tensor(cell_fixed_value(), dtype=torch.float32), persistent=False)

    def fit(self, group: np.ndarray, cell: np.ndarray, n_atoms: np.ndarray) -> None:
        """Take the statistics of a training set."""
        mean, std = cell_statistics(group, cell, n_atoms)
        self.mean.copy_(torch.from_numpy(mean))
        self.std.copy_(torch.from_numpy(std))

    def standardise(self, cell: Float[Tensor, "b 6"], group: Int64[Tensor, " b"], n_atoms: Tensor) -> Float[Tensor, "b 6"]:
        """k -> x; fixed components are zero."""
        family = self.family[group]
        x = (cell - self._size(n_atoms) - self.mean[family]) / self.std[family]
        return x * self.is_free[group]

    def restore(self, x: Float[Tensor, "b 6"], group: Int64[Tensor, " b"], n_atoms: Tensor) -> Float[Tensor, "b 6"]:
        """x -> k; fixed components take their exact value."""
        family = self.family[group]
        k = x * self.std[family] + self.mean[family] + self._size(n_atoms)
        return torch.where(self.is_free[group], k, self.fixed[group])

    @staticmethod
    def _size(n_atoms: Tensor) -> Float[Tensor, "b 6"]:
        shift = torch.zeros(len(n_atoms), N_CELL, device=n_atoms.device)
        shift[:, -1] = n_atoms.float().clamp_min(1).log() / 3.0
        return shift

    @staticmethod
    def signal_and_noise(t: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b 1"]]:
        """cos(phi) and sin(phi), as columns."""
        phi = t[:, None] * (math.pi / 2)
        return phi.cos(), phi.sin()

    def corrupt(
        self, x: Float[Tensor, "b 6"], t: Float[Tensor, " b"], noise: Float[Tensor, "b 6"], group: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b 6"], Float[Tensor, "b 6"]]:
        """Noisy x_t and the target v."""
        signal, spread = self.signal_and_noise(t)
        noise = noise * self.is_free[group]
        return signal * x + spread * noise, signal * noise - spread * x
