"""The likelihood and the mixture of the ensemble."""

from __future__ import annotations

import math

import pytest
import torch

from sse_diffusion.predictors.ensemble import EnsembleMLP, laplace_nll, mixture


def test_likelihood_is_a_density_and_the_tail_its_integral() -> None:
    mu, log_scale = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)
    y = torch.linspace(-12, 12, 480_001, dtype=torch.float64)
    density = (-laplace_nll(mu, log_scale, y, torch.tensor(False))).exp()
    assert torch.trapezoid(density, y).item() == pytest.approx(1.0, abs=1e-5)
    for bound in (-0.5, 0.3, 1.1):
        below = y <= bound
        tail = (-laplace_nll(mu, log_scale, torch.tensor(bound, dtype=torch.float64), torch.tensor(True))).exp()
        assert tail.item() == pytest.approx(torch.trapezoid(density[below], y[below]).item(), abs=1e-4)


def test_censored_likelihood_has_finite_gradients_far_out() -> None:
    mu = torch.tensor([-50.0, 50.0], requires_grad=True)
    laplace_nll(mu, torch.full((2,), -3.0), torch.zeros(2), torch.tensor([True, True])).sum().backward()
    assert mu.grad is not None
    assert torch.isfinite(mu.grad).all()
    assert mu.grad[1] > 0


def test_mixture_variance_adds_within_and_between() -> None:
    mu = torch.tensor([[[0.0]], [[2.0]]])
    mean, deviation = mixture(mu, torch.zeros(2, 1, 1))
    assert mean.item() == 1.0
    assert deviation.item() == pytest.approx(math.sqrt(2.0 + 1.0))


def test_members_are_independent() -> None:
    model = EnsembleMLP(4, 2, 8, 2, 3, seed=1)
    x = torch.randn(5, 4)
    mu, _ = model(x)
    assert mu.shape == (3, 5, 2)
    mu[0].sum().backward()
    grads = [weight.grad for weight in model.weights]
    assert all(g is not None and g[0].abs().sum() > 0 and g[1:].abs().sum() == 0 for g in grads)
    stacked, _ = model(x.expand(3, -1, -1))
    assert torch.allclose(stacked, mu)
