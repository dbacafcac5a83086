r"""Any property predictor as a guide: what the diffusion model was never conditioned on can be asked all the same.

    log p(lo <= y <= hi | crystal so far) = log(Phi((hi - mu) / s) - Phi((lo - mu) / s))

with mu and s the predictor's value and half-width of its calibrated 68 % interval, in the transformed unit of the question
(log10 of a conductivity). A predictor that answers for compositions judges as soon as the elements are drawn, and those only:
of generated crystals, all of them ordered, the conductivity predictor thinks a decade less than of their partially occupied
relatives. One that needs the structure judges finished crystals. A crystal outside the predictor's training domain counts as not
answered: there the predictor falls back on the mean of what it was trained on, which beats most of what it does know, and
sampling would run away from everything known.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Status
from sse_diffusion.diffusion.guides.gibbs_guide import NEVER, atoms_by_element
from sse_diffusion.diffusion.guides.guide import Seen, Stage
from sse_diffusion.diffusion.guides.property_guide import POINT_WIDTH, log_interval_probability
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.predictors.protocol import Predictor
from sse_diffusion.thermo.conditions import ConditionSpec
from sse_diffusion.thermo.request import Interval

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

log = logging.getLogger(__name__)

EVERYWHERE = 1e4
"""Stands for an open end, in standard deviations of the property."""


class PredictorGuide:
    """The probability that a crystal's property is as asked, by a predictor.

    A crystal that the predictor cannot answer for, or only outside its domain, is as good as ruled out; where it can answer for
    none, all weigh alike.

    Args:
        model: that generates.
        spec: of the property; its transform of the asked value has the predictor's unit.
        predictor: with calibrated uncertainties.
        asked: range, in ``spec.unit``.
        strength: power of the probability by stage; 1 is Bayes' rule.

    Raises:
        ConfigError: the units differ, or nothing is weighed at the stage at which the predictor judges.
    """

    def __init__(
        self, model: CrystalModel, spec: ConditionSpec, predictor: Predictor, asked: Interval, strength: Mapping[Stage, float]
    ) -> None:
        unit = f"log10({spec.unit})" if spec.transform == "log10" else spec.unit
        if predictor.unit != unit:
            raise ConfigError(f"{spec.name} is asked in {unit!r}, its predictor answers in {predictor.unit!r}")
        self.model, self.predictor, self.name = model, predictor, spec.name
        half = 0.5 * POINT_WIDTH if asked.lo == asked.hi else 0.0
        standardised = spec.standardise(asked.lo) - half, spec.standardise(asked.hi) + half
        self.interval = torch.tensor(standardised, dtype=torch.float64).clamp(-EVERYWHERE, EVERYWHERE) * spec.std + spec.mean
        stage: Stage = "final" if needs_structure(predictor) else "discrete"
        self.strength = strength.get(stage, 0.0)
        if not self.strength:
            hint = "set sampler.finish_particles=true" if stage == "final" else "set sampler.particle_strength"
            raise ConfigError(f"{spec.name} is judged at the stage {stage!r}, which is not weighed", hint)
        self.stages: frozenset[Stage] = frozenset({stage})

    def log_likelihood(self, seen: Seen) -> Float[Tensor, " b"]:
        """See :class:`~sse_diffusion.diffusion.guides.guide.Guide`."""
        return (self.strength * self.log_p(seen)).to(seen.batch.device)

    def log_p(self, seen: Seen) -> Float[Tensor, " b"]:
        """log p(asked | what is seen), float64."""
        if seen.stage == "final":
            return self._judged([orbits.to_structure() for orbits in seen.batch.to_orbits()])
        return self._of_compositions(atoms_by_element(self.model, seen.batch))

    def _of_compositions(self, atoms: Float[np.ndarray, "b z"]) -> Float[Tensor, " b"]:
        """Each distinct composition is predicted once; an empty row is a dead end."""
        from pymatgen.core import Composition, Element

        rows, inverse = np.unique(atoms, axis=0, return_inverse=True)
        made = np.flatnonzero(rows.any(axis=1))
        formulas = [Composition({Element.from_Z(int(z)): float(row[z]) for z in np.flatnonzero(row)}) for row in rows[made]]
        found = torch.full((len(rows),), NEVER, dtype=torch.float64)
        found[torch.from_numpy(made)] = self._judged([c.reduced_composition for c in formulas])
        return found[torch.from_numpy(inverse.reshape(-1))]

    def _judged(self, crystals: Sequence[Structure | Composition]) -> Float[Tensor, " n"]:
        if not crystals:
            return torch.zeros(0, dtype=torch.float64)
        found = self.predictor.predict(crystals)  # a Composition stands for an unknown structure
        mean = torch.tensor([[q.value if q.ok else math.nan] for q in found], dtype=torch.float64)
        std = torch.tensor([[q.uncertainty] for q in found], dtype=torch.float64)
        answered = torch.isfinite(mean) & (std > 0)
        if not answered.any():
            log.warning("the predictor of %s answers for none of %d crystals: all weigh alike", self.name, len(crystals))
        z = (self.interval - mean.nan_to_num(0.0)) / torch.where(answered, std, 1.0)
        log_p = log_interval_probability(z[:, None], torch.zeros_like(mean), torch.ones_like(mean))
        return torch.where(answered, log_p, NEVER).clamp_min(NEVER)[:, 0]


def needs_structure(predictor: Predictor) -> bool:
    """Whether it has no answer for a composition, tried on lithium chloride."""
    from pymatgen.core import Composition

    return predictor.predict([Composition("LiCl")])[0].status is Status.FAILED
