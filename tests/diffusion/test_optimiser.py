"""Optimisers: which parameters go where, what Muon does to a matrix, and that a stored state goes on."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.optimiser import MuonAdamW, OptimiserConfig, hidden_matrices, make_optimiser


class Small(nn.Module):
    """An embedding, two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inputs = nn.Embedding(5, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 8)) for _ in range(2))
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inputs(x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(h)


def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> float:
    loss = nn.functional.cross_entropy(model(torch.arange(5)), torch.tensor([0, 1, 2, 0, 1]))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


MUON = OptimiserConfig(name="muon", learning_rate=1e-3, muon_learning_rate=0.01, weight_decay=0.0)


def test_every_parameter_is_in_exactly_one_group(random_model: CrystalModel) -> None:
    hidden = {id(p) for p in hidden_matrices(random_model)}
    names = {name for name, p in random_model.named_parameters() if id(p) in hidden}
    assert names and all(".blocks." in name and name.endswith("weight") for name in names)
    for name in ("adamw", "muon"):
        groups = make_optimiser(random_model, OptimiserConfig(name=name, weight_decay=0.1)).param_groups
        listed = [id(p) for group in groups for p in group["params"]]
        assert sorted(listed) == sorted(id(p) for p in random_model.parameters())
        for group in groups:
            assert all((p.dim() >= 2) == (group["weight_decay"] == 0.1) for p in group["params"])
    assert {id(p) for p in groups[0]["params"]} == hidden


def test_a_muon_step_turns_a_matrix_by_equal_amounts_in_all_directions() -> None:
    """Its singular values are alike (Newton and Schulz stop at 0.7 to 1.2), its elements 0.2 times the rate on average."""
    model = Small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step(model, make_optimiser(model, MUON))
    for name, p in model.named_parameters():
        change = p.detach() - before[name]
        if name.startswith("blocks") and p.dim() == 2:
            values = torch.linalg.svdvals(change)[:2]  # three classes: the gradient has rank two
            assert values.min() / values.max() > 0.5 and values.max() == pytest.approx(0.01 * 0.2 * 4, rel=0.3)
        else:  # AdamW: the sign of the gradient, for the first step
            moved = change[change != 0].abs()
            torch.testing.assert_close(moved, torch.full_like(moved, 1e-3), rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_training_goes_on_from_a_stored_state(name: str) -> None:
    config = OptimiserConfig(name=name, learning_rate=1e-2, muon_learning_rate=1e-2)
    whole, part = Small(), Small()
    one = make_optimiser(whole, config)
    losses = [step(whole, one) for _ in range(8)]
    assert losses[-1] < losses[0]
    first = make_optimiser(part, config)
    for _ in range(4):
        step(part, first)
    stored = io.BytesIO()
    torch.save({"model": part.state_dict(), "optimiser": first.state_dict()}, stored)
    stored.seek(0)
    loaded, other = torch.load(stored, weights_only=True), Small()
    other.load_state_dict(loaded["model"])
    second = make_optimiser(other, config)
    second.load_state_dict(loaded["optimiser"])
    assert [step(other, second) for _ in range(4)] == losses[4:]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_a_schedule_moves_both_rates() -> None:
    model = Small()
    optimiser = make_optimiser(model, MUON)
    assert isinstance(optimiser, MuonAdamW)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: 0.5**k)
    step(model, optimiser)
    schedule.step()
    assert [g["lr"] for g in optimiser.muon.param_groups] == [0.005]
    assert [g["lr"] for g in optimiser.adamw.param_groups] == [0.0005, 0.0005]


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ConfigError, match="muno") as error:
        OptimiserConfig(name="muno")
    assert "muon" in str(error.value.hint)
