"""The protocol through which the diffusion room sees any predictor: log p(asked | crystal so far)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.orbit_batch import OrbitBatch
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.thermo.request import Interval

Stage = Literal["discrete", "continuous", "final"]
"""Group, sites and species drawn (no coordinates yet); coordinates and cell noisy; finished."""

Asked = Mapping[str, Interval | str | frozenset[str]]


@dataclass(frozen=True)
class Seen:
    """What a guide is shown.

    Attributes:
        stage: see :data:`Stage`.
        batch: the crystals as far as they are made, with the conditions they were asked with (standardised, see
            :mod:`sse_diffusion.diffusion.condition_tensors`). Coordinates and cell mean nothing at the discrete stage.
        x_cell: (b, 6) standardised noisy cell, at the continuous stage.
        t, t_cell: (b,) times of coordinates and cell, at the continuous stage.
    """

    stage: Stage
    batch: OrbitBatch
    x_cell: Float[Tensor, "b 6"] | None = None
    t: Float[Tensor, " b"] | None = None
    t_cell: Float[Tensor, " b"] | None = None


@runtime_checkable
class Guide(Protocol):
    """Any predictor.

    At the stages ``discrete`` and ``final`` the value weighs particles; at ``continuous`` its gradient with respect to
    ``batch.free``, ``batch.cell`` and ``x_cell`` moves coordinates and cell, so it must be differentiable there.

    Attributes:
        stages: where it has something to say.
    """

    stages: frozenset[Stage]

    def log_likelihood(self, seen: Seen) -> Float[Tensor, " b"]:
        """log p(asked | what is seen), times the guide's strength, up to a constant; -inf rules a crystal out."""


def log_likelihood(guides: Sequence[Guide], seen: Seen) -> Float[Tensor, " b"]:
    """Sum over the guides that speak at this stage, float64."""
    total = torch.zeros(len(seen.batch), dtype=torch.float64, device=seen.batch.device)
    for guide in guides:
        if seen.stage in guide.stages:
            total = total + guide.log_likelihood(seen).to(total)
    return total


def load_guide(path: str, model: CrystalModel, asked: Asked) -> Guide:
    """A user's guide: ``my_module:make`` is called with the model and what was asked, and returns a :class:`Guide`.

    Raises:
        ConfigError: nothing at the import path, or what it returns is no guide.
    """
    guide = called(path, "guide", model, asked)
    if not isinstance(guide, Guide):
        raise ConfigError(f"{path!r} made a {type(guide).__name__}, not a guide", "give it `stages` and `log_likelihood(seen)`")
    return guide


def called(path: str, what: str, *arguments: Any) -> Any:
    """What ``my_module:my_function`` returns.

    Raises:
        ConfigError: nothing is there, or it cannot be called with these.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)(*arguments)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"no {what} at {path!r} ({error})", "write my_module:my_function, importable from here") from error
