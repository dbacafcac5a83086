r"""dG_hull(T, P) judged through thermodynamics: temperature and pressure enter exactly, only the static height is learnt.

The composition is known as soon as the discrete part is. With it

    dG_hull(T, P) = E + shift(composition, volume; T, P)              :mod:`sse_diffusion.thermo.competition`

    log p(lo <= dG_hull <= hi | crystal so far) = sum over judges of log p(lo - shift <= E <= hi - shift | crystal so far)

in closed form for Gaussian judges of the static height E (:mod:`.heights`). Judges count as independent opinions, their
probabilities are multiplied. Before there is a cell the volume is estimated from the composition, then it is the crystal's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.orbit_batch import MAX_SPECIES, OrbitBatch
from sse_diffusion.diffusion.guides.guide import Seen, Stage
from sse_diffusion.diffusion.guides.heights import HeightJudge, Question, unknown_log_p
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.thermo.competition import Competition
from sse_diffusion.thermo.request import Interval

log = logging.getLogger(__name__)

HALF_POINT_eV_PER_ATOM = 0.005
"""A point value is asked as this much to both sides."""

NEVER = -50.0
"""log p of a measured gas that is known not to be as asked."""


class GibbsGuide:
    """The probability that a crystal's Gibbs energy above the hull is as asked.

    A crystal whose composition has no answer (an element without measured Gibbs energies or without a reference phase) is
    judged as one of which nothing is known, and the reason is logged once: log p = 0 would prefer it to every known one.

    Args:
        model: that generates.
        competition: phases at the state point that is asked.
        asked: dG_hull, eV/atom.
        judges: of the static height; those without a stage are not asked there.
        strength: power of the probability by stage; 1 is Bayes' rule, a stage that is left out is not guided.
    """

    def __init__(
        self, model: CrystalModel, competition: Competition, asked: Interval, judges: Sequence[HeightJudge],
        strength: Mapping[Stage, float],
    ) -> None:  # fmt: skip
        self.model, self.competition, self.judges, self.strength = model, competition, tuple(judges), dict(strength)
        half = HALF_POINT_eV_PER_ATOM if asked.lo == asked.hi else 0.0
        self.ends = asked.lo - half, asked.hi + half
        self.stages: frozenset[Stage] = frozenset(stage for stage, power in strength.items() if power != 0.0)
        self._told: set[str] = set()

    def log_likelihood(self, seen: Seen) -> Float[Tensor, " b"]:
        """See :class:`~sse_diffusion.diffusion.guides.guide.Guide`; the final word replaces that on the discrete part."""
        value = self.strength[seen.stage] * self.log_p(seen)
        if seen.stage == "final" and self.strength.get("discrete"):
            value = value - self.strength["discrete"] * self.log_p(Seen("discrete", seen.batch))
        return value.to(seen.batch.device)

    def log_p(self, seen: Seen) -> Float[Tensor, " b"]:
        """log p(asked | what is seen), float64."""
        question = self.question(seen)
        lo, hi, standing = question.lo, question.hi, question.standing
        opinions = [judge.log_p(seen, question).cpu() for judge in self.judges if seen.stage in judge.stages]
        silent = torch.from_numpy(np.isnan(standing.shift))
        total = torch.where(silent, unknown_log_p(*(np.full_like(lo, end) for end in self.ends)), sum(opinions, torch.zeros(1)))
        sure = torch.from_numpy(np.where((lo <= 0.0) & (hi >= 0.0), 0.0, NEVER))
        self._tell(standing.unknown)
        return torch.where(torch.from_numpy(standing.is_gas), sure, total).double()

    def question(self, seen: Seen) -> Question:
        """The asked interval as one of static heights (of a gas: of what is missing from its measured dG_hull)."""
        atoms = atoms_by_element(self.model, seen.batch)
        volume = None if seen.stage == "discrete" else volumes_A3_per_atom(self.model, seen.batch)
        standing = self.competition.standing(atoms, volume)
        return Question(self.ends[0] - standing.shift, self.ends[1] - standing.shift, standing, atoms)

    def _tell(self, reasons: Sequence[str]) -> None:
        for reason in sorted(set(reasons) - self._told - {""}):
            self._told.add(reason)
            log.info("dG_hull: %s; such crystals are judged as if nothing was known of them", reason)


def atoms_by_element(model: CrystalModel, batch: OrbitBatch) -> Float[np.ndarray, "b z"]:
    """Atoms of the conventional cell by atomic number; masked elements (column 0) are not counted."""
    count = model.multiplicity[batch.wyckoff] * (batch.species > 0)
    atoms = torch.zeros(len(batch), MAX_SPECIES + 1, dtype=torch.float64, device=batch.device)
    return np.asarray(atoms.scatter_add_(1, batch.species, count.double()).cpu())


def volumes_A3_per_atom(model: CrystalModel, batch: OrbitBatch) -> Float[np.ndarray, " b"]:
    """Volume of each crystal's cell over its atoms."""
    return np.asarray((torch.exp(3.0 * batch.cell[:, -1].double()) / model.atoms(batch)).cpu())
