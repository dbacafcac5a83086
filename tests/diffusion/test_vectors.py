"""What the angles of the neighbours add: structures with the same distances but different angles are told apart."""

from __future__ import annotations

import math

import torch

from sse_diffusion.diffusion.vectors import NeighbourAngles

WIDTH, PAIR, RADIAL = 16, 8, 4


def layer(seed: int = 0) -> NeighbourAngles:
    torch.manual_seed(seed)
    module = NeighbourAngles(WIDTH, PAIR, RADIAL, channels=6)
    torch.nn.init.normal_(module.out[-1].weight)
    return module.eval()


def three_orbits(angle: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, pairs and vectors of one atom with two neighbours of other orbits at a given angle; all distances alike."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 3, WIDTH, generator=generator)
    pair = torch.randn(1, 3, 3, PAIR, generator=generator)
    vector = torch.zeros(1, 3, 3, RADIAL, 3)
    vector[0, 0, 1, 2] = torch.tensor([1.0, 0.0, 0.0])
    vector[0, 0, 2, 2] = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
    return x, pair, vector


def test_the_angle_between_neighbours_of_two_orbits_is_seen() -> None:
    """Pair features are the same at 90 and 180 degrees; these are not."""
    x, pair, straight = three_orbits(math.pi)
    _, _, bent = three_orbits(math.pi / 2)
    module, cube = layer(), torch.eye(3)[None]
    change = module(x, pair, straight, cube) - module(x, pair, bent, cube)
    assert change[0, 0].abs().max() > 1e-2
    assert not change[0, 1:].any()  # the others see no vectors at all


def test_invariants_do_not_turn_with_the_frame() -> None:
    """Turn all vectors (or change the basis and the metric with it): nothing changes."""
    x, pair, vector = three_orbits(1.1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))[0]
    basis = turn @ torch.diag(torch.tensor([1.3, 0.8, 1.0]))
    inverse = torch.linalg.inv(basis)
    module = layer()
    here, there = module(x, pair, vector, torch.eye(3)[None]), module(x, pair, vector @ basis.mT, (inverse.mT @ inverse)[None])
    torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)


def test_the_order_of_the_orbits_does_not_matter() -> None:
    x, pair, vector = three_orbits(0.7)
    order = torch.tensor([2, 0, 1])
    module, cube = layer(), torch.eye(3)[None]
    shuffled = module(x[:, order], pair[:, order][:, :, order], vector[:, order][:, :, order], cube)
    torch.testing.assert_close(shuffled, module(x, pair, vector, cube)[:, order], atol=1e-5, rtol=1e-4)


def test_a_fresh_layer_changes_nothing() -> None:
    x, pair, vector = three_orbits(0.7)
    assert torch.equal(NeighbourAngles(WIDTH, PAIR, RADIAL, 6)(x, pair, vector, torch.eye(3)[None]), x)
