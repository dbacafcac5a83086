"""The generative model: the denoiser with the corruption of each field and the conditions it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from sse_diffusion.core.checkpoint import CONFIG, Checkpoint, load_checkpoint, save_checkpoint
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import CheckpointError, ConfigError
from sse_diffusion.core.orbit_batch import MASKED_WYCKOFF, OrbitBatch
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.condition_tensors import COMPOSITION, encode, encode_composition
from sse_diffusion.diffusion.corruption.cell import CellNoise
from sse_diffusion.diffusion.corruption.coordinates import CoordinateNoise, CoordinateNoiseConfig
from sse_diffusion.diffusion.corruption.discrete import MaskingConfig
from sse_diffusion.diffusion.denoiser import DenoiserConfig, OrbitTransformer
from sse_diffusion.thermo.conditions import ConditionSpec

KIND = "crystal_model"
VERSION = 3
SINCE = {2: ("denoiser.time_cell.", "denoiser.conditions.elements.")}
"""Parameters by the version that brought them; fresh ones contribute zero, so older checkpoints mean what they meant."""


class CrystalModel(nn.Module):
    """Everything a checkpoint holds.

    Args:
        denoiser: network size.
        specs: conditions, by name.
        coordinates: noise scales of the coordinates.
        masking: schedule of the discrete fields.
    """

    def __init__(
        self,
        denoiser: DenoiserConfig,
        specs: Mapping[str, ConditionSpec],
        coordinates: CoordinateNoiseConfig | None = None,
        masking: MaskingConfig | None = None,
    ) -> None:
        super().__init__()
        self.specs = dict(specs)
        self.masking = masking or MaskingConfig()
        self.denoiser = OrbitTransformer(denoiser, self.specs)
        self.coordinate_noise = CoordinateNoise(coordinates or CoordinateNoiseConfig())
        self.cell_noise = CellNoise()
        table = wyckoff_table()
        free = torch.zeros(MASKED_WYCKOFF + 1, 3, dtype=torch.bool)
        free[:-1] = torch.from_numpy(table.free)
        self.register_buffer("free_table", free, persistent=False)
        self.register_buffer("multiplicity", torch.tensor([*table.multiplicity, 0]), persistent=False)
        self.register_buffer("first_position", torch.tensor(table.start[:-1]), persistent=False)

    def is_free(self, batch: OrbitBatch) -> Bool[Tensor, "b m 3"]:
        """Which coordinates move."""
        return self.free_table[batch.wyckoff] & batch.mask[..., None]

    def atoms(self, batch: OrbitBatch) -> Int64[Tensor, " b"]:
        """Atoms in each conventional cell."""
        return (self.multiplicity[batch.wyckoff] * batch.mask).sum(-1)

    def null_conditions(self, n: int) -> dict[str, Tensor]:
        """Every field unknown, for n crystals."""
        nulls: dict[str, Tensor] = {name: encode(spec, [None] * n) for name, spec in self.specs.items()}
        nulls[COMPOSITION] = encode_composition([None] * n)
        return {k: v.to(self.first_position.device) for k, v in nulls.items()}

    def with_conditions(self, specs: Mapping[str, ConditionSpec]) -> CrystalModel:
        """A copy that knows further conditions and has a property head: adapters for fine-tuning.

        The new fields start silent (zero-initialised), so the copy samples what this model samples until it is trained; this
        model stays as it is. Conditions that it already knows keep their own scale.
        """
        known = {**specs, **self.specs}
        new = [name for name in specs if name not in self.specs]
        config = replace(self.denoiser.config, properties=True)
        grown = CrystalModel(config, {n: known[n] for n in (*self.specs, *new)}, self.coordinate_noise.config, self.masking)
        grown.denoiser.conditions.silence(new)
        old = self.state_dict()
        if self.denoiser.property_names != grown.denoiser.property_names:  # the head counts the fields: it is learnt anew
            old = {name: value for name, value in old.items() if ".property_out." not in name}
        grown.load_state_dict(old, strict=False)
        return grown.to(self.first_position.device)

    def config(self) -> dict[str, Any]:
        """Plain dictionary from which :meth:`from_config` builds the same architecture."""
        return {
            "denoiser": asdict(self.denoiser.config),
            "coordinates": asdict(self.coordinate_noise.config),
            "masking": asdict(self.masking),
            "conditions": {name: asdict(spec) for name, spec in self.specs.items()},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CrystalModel:
        """Inverse of :meth:`config`; unknown keys raise ``ConfigError``."""
        specs = {name: build(ConditionSpec, spec) for name, spec in config["conditions"].items()}
        return cls(
            build(DenoiserConfig, config["denoiser"]),
            specs,
            build(CoordinateNoiseConfig, config.get("coordinates")),
            build(MaskingConfig, config.get("masking")),
        )


def save_model(model: CrystalModel, path: str | Path, extra: Mapping[str, Any] | None = None, half: bool = False) -> None:
    """Export a model as a checkpoint folder (see :mod:`sse_diffusion.core.checkpoint`).

    Args:
        model: what to store.
        path: folder.
        extra: further entries of the configuration.
        half: store learnt matrices as 16-bit floats (half the size; rounding is far below the training noise).
    """
    state = model.state_dict()
    if half:
        matrices = {name for name, p in model.named_parameters() if p.dim() >= 2}
        state = {name: value.half() if name in matrices else value for name, value in state.items()}
    save_checkpoint(path, KIND, VERSION, {"model": model.config(), **(extra or {})}, state)


def load_model(name_or_path: str | Path, device: str = "cpu") -> tuple[CrystalModel, Checkpoint]:
    """Load an exported model in evaluation mode.

    Raises:
        CheckpointError: missing, truncated, or weights that do not fit the configuration.
    """
    checkpoint = load_checkpoint(name_or_path, KIND, VERSION)
    try:
        model = CrystalModel.from_config(checkpoint.config["model"])
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{checkpoint.path / CONFIG} does not describe a model ({error})", "copy the checkpoint again"
        ) from error
    tensors = {k: v.float() for k, v in checkpoint.tensors.items()}
    younger = tuple(name for version, names in SINCE.items() if version > checkpoint.config["version"] for name in names)
    fresh = {k: v for k, v in model.state_dict().items() if k.startswith(younger)}
    tensors = {**fresh, **tensors}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {checkpoint.path} do not fit its config.json", "copy the checkpoint again"
        ) from error
    return model.to(device).eval(), checkpoint
