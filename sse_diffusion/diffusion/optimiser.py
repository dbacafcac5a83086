"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sse_diffusion.core.errors import ConfigError, did_you_mean

NAMES = ("adamw", "muon")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW or Muon with warm-up, a constant stretch and a cosine decay (WSD).

    Attributes:
        name: ``adamw``, or ``muon`` for the matrices inside the blocks and AdamW for all else (:class:`MuonAdamW`).
        learning_rate: of AdamW, at the plateau.
        muon_learning_rate: of Muon, at the plateau; per unit of an update whose elements have the size of AdamW's.
        weight_decay: on matrices.
        warmup_steps: linear warm-up.
        decay_fraction: last share of the steps over which the rate falls to ``final_fraction``.
        total_steps: length of the schedule.
        final_fraction: of the learning rate, at the end.
        betas: of Adam.
        ema_decay: of the averaged weights, per step.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    muon_learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 500
    decay_fraction: float = 0.5
    total_steps: int = 10_000
    final_fraction: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ConfigError(f"unknown optimiser {self.name!r}", did_you_mean(self.name, NAMES))


def rate_at(step: int, config: OptimiserConfig) -> float:
    """Learning rate at a step, as a fraction of the plateau."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    decay_steps = max(1, int(config.total_steps * config.decay_fraction))
    progress = min(1.0, max(0.0, (step - (config.total_steps - decay_steps)) / decay_steps))
    return config.final_fraction + (1 - config.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear layers inside repeated blocks (``ModuleList``): not embeddings, input layers and output heads."""
    blocks = [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]
    layers = [layer for block in blocks for layer in block.modules() if isinstance(layer, nn.Linear)]
    return list(dict.fromkeys(layer.weight for layer in layers))


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser of a configuration; weight decay on matrices only."""
    hidden = hidden_matrices(model) if config.name == "muon" else []
    taken = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=tuple(config.betas), fused=True)
    return MuonAdamW(hidden, adamw, config.muon_learning_rate, config.weight_decay) if hidden else adamw


class MuonAdamW(torch.optim.Optimizer):
    r"""Muon (Jordan et al. 2024) for hidden matrices and AdamW for the other parameters, as one optimiser.

    Muon replaces the momentum M of a matrix by the nearest orthogonal one, M = U S V^T -> U V^T, by Newton and Schulz's
    iteration; times 0.2 sqrt(max(rows, columns)) its elements have the size of AdamW's steps (Liu et al. 2025), so that both
    parts live with similar learning rates. Groups and state are those of the two optimisers: schedules, checkpoints and
    resumption see nothing unusual.

    Args:
        hidden: matrices for Muon.
        adamw: optimiser of the others.
        learning_rate, weight_decay: of Muon.
    """

    def __init__(
        self, hidden: Iterable[nn.Parameter], adamw: torch.optim.AdamW, learning_rate: float, weight_decay: float
    ) -> None:
        groups = [{"params": list(hidden)}]
        self.muon = torch.optim.Muon(groups, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = adamw
        super().__init__([*self.muon.param_groups, *adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Both parts work on the groups and the state of the whole."""
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self.muon.state = self.adamw.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also what ``load_state_dict`` ends with: new groups and a new state."""
        super().__setstate__(state)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | Tensor | None:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.muon.step()
        self.adamw.step()
        return loss
