"""The Gaussian process of log10(sigma T): Arrhenius by construction, detection limits censored, noise per table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sse_diffusion.data.grouped import connected_groups
from sse_diffusion.predictors.conductivity.censoring import Array, censored_sites
from sse_diffusion.predictors.conductivity.inputs import Inputs

if TYPE_CHECKING:
    from sse_diffusion.predictors.conductivity.kernel import ConductivityKernel, Scaling

Codes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class GaussianProcessConfig:
    """Choices.

    Attributes:
        steps: of Adam on the marginal likelihood.
        rows: of the random subset of measurements that each step sees (a new one every ten steps): all would cost 20 times more.
        learning_rate: of Adam on the logarithms of the hyperparameters.
        objective: "left_out" (predictive density of groups by all others) or "marginal" (likelihood of all rows).
        censored: treat detection limits as limits (else as exact values).
        soft_noise: standard deviation, in decades, of what soft labels (of dynamics) say beside a measurement, beyond their own.
        soft_offset: standard deviation, in decades, of the error that all soft labels of one table share.
        seed: of the subsets.
    """

    steps: int = 40
    rows: int = 350
    learning_rate: float = 0.12
    objective: str = "left_out"
    censored: bool = True
    soft_noise: float = 0.5
    soft_offset: float = 0.5
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Observations:
    """Labels of n rows.

    Attributes:
        value: (n,) log10(sigma T), sigma in S/cm; where ``censored`` the upper bound.
        censored: (n,).
        table, paper, material: (n,) codes; negative: unknown. Tables of measurements come before those of soft labels.
        own_sd: (n,) standard deviation that a soft label brings along; NaN for measurements.
    """

    value: Array
    censored: NDArray[np.bool_]
    table: Codes
    paper: Codes
    material: Codes
    own_sd: Array

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(n,) a measurement, not a soft label."""
        return np.isnan(self.own_sd)

    @property
    def groups(self) -> Codes:
        """(n,) rows that share a paper or a composition, directly or through others, are one group."""
        return connected_groups(*([None if code < 0 else str(code) for code in codes] for codes in (self.paper, self.material)))

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Observations:
        """Some of the rows."""
        return Observations(*(values[index] for values in vars(self).values()))


class Hyperparameters(nn.Module):
    """Kernel, mean and noise variances (log) per table of measurements; of soft labels, noise and offset as given.

    A soft label is f + offset of its table + noise. The offset is unknown, N(0, soft_offset^2), and integrated out: it adds
    soft_offset^2 to the covariance of all soft labels of one table.
    """

    def __init__(self, n_tables: int, soft_noise: float = 0.5, soft_offset: float = 0.5) -> None:
        super().__init__()
        from sse_diffusion.predictors.conductivity.kernel import ConductivityKernel

        self.kernel: ConductivityKernel = ConductivityKernel()
        self.level = nn.Parameter(torch.tensor(-3.0))
        self.activation_eV = nn.Parameter(torch.tensor(0.42))
        self.log_noise = nn.Parameter(torch.full((n_tables,), math.log(0.15)))
        self.double()
        self.soft = nn.Parameter(torch.tensor([soft_noise, soft_offset], dtype=torch.float64), requires_grad=False)

    def mean(self, x: Tensor) -> Tensor:
        return self.level - self.activation_eV * x[:, 0]

    def noise(self, observations: Observations) -> Tensor:
        """Variance (n,): of the table (of an unknown one, the largest), or of the soft label."""
        table, own = torch.from_numpy(observations.table), torch.from_numpy(observations.own_sd)
        variances = self.log_noise.exp() + 1e-4
        known = table.clamp(0, len(variances) - 1)
        of_table = torch.where(table >= 0, variances[known], self.largest_noise)
        return torch.where(own.isnan(), of_table, own.nan_to_num() ** 2 + self.soft[0] ** 2 + 1e-6)

    @property
    def largest_noise(self) -> Tensor:
        """Variance of the noisiest table of measurements."""
        return (self.log_noise.exp() + 1e-4).max()

    def covariance(self, x: Tensor, observations: Observations) -> Tensor:
        """(n, n) of the labels without their noise."""
        shared = torch.from_numpy(np.where(observations.measured, np.nan, observations.table))
        return self.kernel(x).to_dense() + self.soft[1] ** 2 * (shared[:, None] == shared)

    def log_prior(self) -> Tensor:
        """Broad priors on scales and lengths (on the raw parameters, whose softplus they are), and E_a = 0.42 +- 0.05 eV."""
        raw = [p for part in self.kernel.prefactor for p in part.parameters()]
        return -0.05 * torch.stack([(p**2).sum() for p in raw]).sum() - 0.5 * ((self.activation_eV - 0.42) / 0.05) ** 2


class ArrheniusGaussianProcess:
    """Posterior of log10(sigma T) = A(x) - E_a(x) tau(T).

    Args:
        parameters: hyperparameters.
        scaling: of the features.
        inputs, observations: training rows.
        censored: treat detection limits as limits.
    """

    def __init__(
        self, parameters: Hyperparameters, scaling: Scaling, inputs: Inputs, observations: Observations, censored: bool = True
    ) -> None:
        self.parameters = parameters.requires_grad_(False)
        self.scaling = scaling
        self.observations = observations
        self.x = scaling.matrix(inputs)
        self.value, self.noise = self._pseudo_observations(censored)
        self._condition()

    @classmethod
    def fit(cls, inputs: Inputs, observations: Observations, config: GaussianProcessConfig | None = None) -> Self:
        """Hyperparameters by gradient ascent of the log marginal likelihood (limits taken as values), then the posterior."""
        from sse_diffusion.predictors.conductivity.kernel import Scaling

        config = config or GaussianProcessConfig()
        scaling = Scaling.of(inputs.take(observations.measured))
        x = scaling.matrix(inputs)
        groups = observations.groups
        measured = np.flatnonzero(observations.measured)
        n_tables = int(observations.table[measured].max()) + 1
        parameters = Hyperparameters(n_tables, config.soft_noise, config.soft_offset)
        learnt = [p for p in parameters.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(learnt, lr=config.learning_rate)
        rng = np.random.default_rng(config.seed)
        for step in range(config.steps):
            if step % 10 == 0:
                drawn = measured[rng.permutation(len(measured))[: config.rows]]
                chosen = np.sort(np.concatenate([drawn, np.flatnonzero(~observations.measured)]))
            objective = log_left_out_density if config.objective == "left_out" else log_marginal_likelihood
            loss = -objective(parameters, x[chosen], observations.take(chosen), groups[chosen]) - parameters.log_prior()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return cls(parameters, scaling, inputs, observations, config.censored)

    def predict(self, inputs: Inputs) -> tuple[Array, Array, Array]:
        """Of n rows.

        Returns:
            log10(sigma T) at 300 K (n,), E_a in eV (n,), and the variance (n,) of a measurement of log10(sigma T) at
            ``inputs.temperature_K`` with the noise of the noisiest table.
        """
        x = self.scaling.matrix(inputs)
        kernel = self.parameters.kernel
        with torch.no_grad():
            slope = kernel.activation(x, self.x)
            cross = kernel.joined(x, self.x, slope)
            solved = torch.linalg.solve_triangular(self._factor, cross.T, upper=False)
            variance = kernel(x, diag=True) - (solved**2).sum(0) + self.parameters.largest_noise
            mean = self.parameters.mean(x) + cross @ self._weights
            activation = self._activation(slope)
        at_300K = mean + activation * x[:, 0]
        return at_300K.numpy(), activation.numpy(), variance.clamp(min=1e-6).numpy()

    def activation(self, x: Tensor) -> Tensor:
        """Posterior mean of E_a in eV (n,) of rows of the kernel's matrix."""
        return self._activation(self.parameters.kernel.activation(x, self.x))

    def _activation(self, covariance: Tensor) -> Tensor:
        """Posterior mean of E_a from its covariance (n, m) with the training rows."""
        return self.parameters.activation_eV - covariance @ (self.x[:, 0] * self._weights)

    def left_out(self, groups: Codes) -> tuple[Array, Array]:
        """Mean and variance (n,) of each training row's log10(sigma T), from the rows of all other groups (or folds), in closed
        form: mu_B = y_B - S^-1 (K^-1 y)_B with S = (K^-1)_BB (Rasmussen and Williams 2006, section 5.4.2, for blocks).

        Hyperparameters stay.
        """
        inverse = torch.cholesky_inverse(self._factor)
        mean, variance = np.empty(len(self.value)), np.empty(len(self.value))
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            covariance = torch.linalg.inv(inverse[rows][:, rows])
            mean[rows] = self.value[rows] - covariance @ self._weights[rows]
            variance[rows] = covariance.diagonal()
        extra = self.noise.numpy() - self.parameters.noise(self.observations).numpy()
        return mean, variance - extra  # a censored row's pseudo-noise is no noise of its measurement

    def believed_labels(self) -> Array:
        """Training labels (n,); a limit becomes the posterior mean of what lies below it."""
        believed = (self.value - self.noise * self._weights).numpy()
        censored, value = self.observations.censored, self.observations.value
        return np.where(censored, np.minimum(believed, value), value)

    def state(self) -> dict[str, Tensor]:
        """Hyperparameters for a checkpoint."""
        return {name: value.detach() for name, value in self.parameters.named_parameters()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], inputs: Inputs, observations: Observations) -> Self:
        """Inverse of :meth:`state`, with the training rows that belong to it."""
        from sse_diffusion.predictors.conductivity.kernel import Scaling

        parameters = Hyperparameters(len(state["log_noise"]))
        for name, value in parameters.named_parameters():
            if name in state or name != "soft":  # which checkpoints without soft labels may lack
                value.data.copy_(state[name])
        return cls(parameters, Scaling.of(inputs.take(observations.measured)), inputs, observations)

    def _pseudo_observations(self, censored: bool) -> tuple[Tensor, Tensor]:
        """Values and noise (n,); censored rows by expectation propagation given the others."""
        value = torch.from_numpy(self.observations.value.copy())
        noise = self.parameters.noise(self.observations)
        bound, exact = (np.flatnonzero(self.observations.censored == flag) for flag in (True, False))
        if not censored or not len(bound):
            return value, noise
        with torch.no_grad():
            covariance = self.parameters.covariance(self.x, self.observations)
            factor = torch.linalg.cholesky(covariance[exact][:, exact] + noise[exact].diag())
            residual = value[exact] - self.parameters.mean(self.x[exact])
            mean = (
                self.parameters.mean(self.x[bound])
                + covariance[bound][:, exact] @ torch.cholesky_solve(residual[:, None], factor)[:, 0]
            )
            solved = torch.linalg.solve_triangular(factor, covariance[exact][:, bound], upper=False)
            prior = covariance[bound][:, bound] - solved.T @ solved
        pseudo, spread = censored_sites(mean.numpy(), prior.numpy(), value[bound].numpy(), noise[bound].numpy())
        value[bound], noise[bound] = torch.from_numpy(pseudo), torch.from_numpy(spread)
        return value, noise

    def _condition(self) -> None:
        with torch.no_grad():
            covariance = self.parameters.covariance(self.x, self.observations) + self.noise.diag()
            self._factor = torch.linalg.cholesky(covariance)
            residual = self.value - self.parameters.mean(self.x)
            self._weights = torch.cholesky_solve(residual[:, None], self._factor)[:, 0]


def log_marginal_likelihood(parameters: Hyperparameters, x: Tensor, observations: Observations, groups: Codes) -> Tensor:
    """log p(y) of the training rows, limits taken as values."""
    y = torch.from_numpy(observations.value)
    factor = torch.linalg.cholesky(parameters.covariance(x, observations) + parameters.noise(observations).diag())
    residual = y - parameters.mean(x)
    fit = residual @ torch.cholesky_solve(residual[:, None], factor)[:, 0]
    return -0.5 * fit - factor.diagonal().log().sum() - 0.5 * len(y) * math.log(2 * math.pi)


def log_left_out_density(parameters: Hyperparameters, x: Tensor, observations: Observations, groups: Codes) -> Tensor:
    """Sum over measurements of log p(y_i | rows of other groups): what hyperparameters are for, where tests are new papers.

    Limits count as values."""
    y, measured = torch.from_numpy(observations.value), torch.from_numpy(observations.measured)
    factor = torch.linalg.cholesky(parameters.covariance(x, observations) + parameters.noise(observations).diag())
    inverse = torch.cholesky_inverse(factor)
    weights = inverse @ (y - parameters.mean(x))
    total = torch.zeros((), dtype=y.dtype)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        covariance = torch.linalg.inv(inverse[rows][:, rows])
        variance = covariance.diagonal()
        density = -0.5 * ((covariance @ weights[rows]) ** 2 / variance + (2 * math.pi * variance).log())
        total = total + density[measured[rows]].sum()
    return total
