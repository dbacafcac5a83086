r"""A noise-aware head for the lithium conductivity, on the crystal token of a denoiser that stays as it is.

    log10 sigma(300 K) ~ N(mean, std^2)        of a masked or noisy crystal
    log10 sigma(T) = log10 sigma(300 K) + log10(300 K / T) - E_a (t(T) - t(300 K)),     t = 1 / (k T ln 10)

with E_a a straight line in log10 sigma(300 K): the teacher's lie within 0.01 eV of one, there is nothing more to learn. The head
also says how probable it is that the teacher's domain holds the crystal: what it learnt from answers from inside only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from sse_diffusion.core.checkpoint import load_checkpoint, save_checkpoint
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import CheckpointError, ConfigError
from sse_diffusion.diffusion.denoiser import LOG_STD_RANGE
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.predictors.conductivity.arrhenius import REFERENCE_K, reduced_inverse_temperature

KIND = "conductivity_head"
VERSION = 1
MOBILE_ION = "Li"


@dataclass(frozen=True, kw_only=True)
class ConductivityHeadConfig:
    """Shape and scale.

    Attributes:
        width: of the crystal token.
        hidden: units.
        dropout: of the crystal token and of the units, in training.
        center, scale: mean and standard deviation of the training labels, log10(S/cm).
        activation_eV, activation_slope_eV: E_a where log10 sigma(300 K) is ``center``, and its change per decade.
    """

    width: int
    hidden: int = 256
    dropout: float = 0.2
    center: float = 0.0
    scale: float = 1.0
    activation_eV: float = 0.4
    activation_slope_eV: float = 0.0


@dataclass(frozen=True)
class JudgedConductivity:
    """What the head says of b crystals: log10 of S/cm, at 300 K if not :meth:`ConductivityHead.at` another temperature.

    ``domain`` is the logit of the probability that the teacher's domain holds the crystal.
    """

    mean: Float[Tensor, " b"]
    std: Float[Tensor, " b"]
    domain: Float[Tensor, " b"]


class ConductivityHead(nn.Module):
    """See the module."""

    def __init__(self, config: ConductivityHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.into, self.out = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, 3)

    def forward(self, crystal: Float[Tensor, "b d"]) -> JudgedConductivity:
        """Of crystal tokens (:meth:`~sse_diffusion.diffusion.denoiser.OrbitTransformer.crystal`)."""
        hidden = nn.functional.silu(self.into(self.dropout(crystal.float())))
        mean, log_std, domain = self.out(self.dropout(hidden)).unbind(-1)
        std = self.config.scale * log_std.clamp(*LOG_STD_RANGE).exp()
        return JudgedConductivity(self.config.center + self.config.scale * mean, std, domain)

    def at(self, said: JudgedConductivity, temperature_K: float) -> JudgedConductivity:
        """What is said at 300 K, at another temperature."""
        tau, c = float(reduced_inverse_temperature(temperature_K)), self.config
        activation = c.activation_eV + c.activation_slope_eV * (said.mean - c.center)
        mean = said.mean + math.log10(REFERENCE_K / temperature_K) - activation * tau
        return replace(said, mean=mean, std=said.std * abs(1.0 - c.activation_slope_eV * tau))

    def save(self, folder: str | Path, model: CrystalModel, trunk: str, training: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint folder that belongs to the weights of ``model``, called ``trunk``."""
        record = {"head": asdict(self.config), "trunk": {"name": trunk, "state_sha256": fingerprint(model)}}
        save_checkpoint(folder, KIND, VERSION, {**record, "training": dict(training or {})}, self.state_dict())

    @classmethod
    def load(cls, checkpoint: str | Path, model: CrystalModel) -> ConductivityHead:
        """The head of a stored checkpoint, for this model.

        Raises:
            CheckpointError: missing, damaged, or trained on other weights than those of ``model``.
        """
        read = load_checkpoint(checkpoint, KIND, VERSION)
        try:
            head = cls(build(ConductivityHeadConfig, read.config["head"]))
            head.load_state_dict(read.tensors)
            trunk = read.config["trunk"]
        except (KeyError, TypeError, RuntimeError, ConfigError) as error:
            raise CheckpointError(f"{read.path} is incomplete: {error}", "copy or train the checkpoint again") from error
        if trunk["state_sha256"] != fingerprint(model):
            raise CheckpointError(
                f"the conductivity head {read.path.name} reads the features of {trunk['name']}, these are other weights",
                "train one (sse train experiment=predictor_conductivity_head trunk=FOLDER) and name it in "
                "sampler.conductivity_head, or set that to null: no gradient of the conductivity",
            )
        return head.to(model.first_position.device).eval().requires_grad_(False)


def fingerprint(model: CrystalModel) -> str:
    """SHA-256 of all weights by name: of what a model is now, not of the file that it came from."""
    digest = sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
