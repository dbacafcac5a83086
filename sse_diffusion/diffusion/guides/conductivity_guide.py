r"""The conductivity head as a guide: what is asked of sigma(T), judged from masked or noisy crystals.

    log p(lo <= log10 sigma(T) <= hi | crystal so far) + log p(the teacher's domain holds it | crystal so far)

The second term is the soft form of what :mod:`.predictor_guide` does with crystals outside the predictor's domain: they count as
not answered, or sampling would run away from everything known. Pressure is left out (0.2 decades for 500 MPa).
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from sse_diffusion.diffusion.condition_tensors import encode
from sse_diffusion.diffusion.conductivity_head import ConductivityHead
from sse_diffusion.diffusion.guides.guide import Seen, Stage
from sse_diffusion.diffusion.guides.property_guide import PropertyGuide, crystal_token, log_interval_probability
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.thermo.conditions import ConditionSpec
from sse_diffusion.thermo.request import Interval

CONDUCTIVITY = "conductivity_S_per_cm"
"""What the head judges, as it is asked for."""


class ConductivityGuide(PropertyGuide):
    """The head's probability of what is asked.

    Args:
        model: the head's trunk.
        head: see :mod:`sse_diffusion.diffusion.conductivity_head`.
        spec: of the conductivity.
        asked: range, S/cm.
        strength: power of the probability by stage; 1 is Bayes' rule, a stage that is left out is not guided.
        temperature_K: of the request.
    """

    def __init__(
        self, model: CrystalModel, head: ConductivityHead, spec: ConditionSpec, asked: Interval, strength: Mapping[Stage, float],
        temperature_K: float,
    ) -> None:  # fmt: skip
        super().__init__(model, (), strength)
        self.head, self.spec, self.temperature_K = head, spec, temperature_K
        self.interval = encode(spec, [asked])

    def log_p(self, seen: Seen) -> Float[Tensor, " b"]:
        """log p(asked | what is seen), float64."""
        said = self.head.at(self.head(crystal_token(self.model, seen)), self.temperature_K)
        mean, std = (said.mean - self.spec.mean) / self.spec.std, said.std / self.spec.std
        interval = self.interval.to(mean).expand(len(mean), 1, 2)
        return log_interval_probability(interval, mean[:, None], std[:, None])[:, 0] + logsigmoid(said.domain).double()
