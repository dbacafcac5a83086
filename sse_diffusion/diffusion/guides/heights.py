"""Who judges how high a crystal lies above the static hull: the denoiser's head, its composition, or any structure predictor.

Each gives the probability of an interval of the static height E (eV/atom). Where dG_hull is asked, temperature and pressure have
turned it into such an interval already (:mod:`.gibbs_guide`), so that a judge needs to know nothing of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.diffusion.guides.guide import Seen, Stage, called
from sse_diffusion.diffusion.guides.property_guide import judged, log_interval_probability
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.predictors.protocol import Predictor
from sse_diffusion.predictors.registry import available, load_predictor
from sse_diffusion.predictors.stability import HULL, CompositionStability
from sse_diffusion.thermo.competition import Standing
from sse_diffusion.thermo.conditions import ConditionSpec
from sse_diffusion.thermo.hull import EnergySchemeError
from sse_diffusion.thermo.phases import MP_SCHEME

STATIC, GIBBS = "energy_above_hull_eV_per_atom", "gibbs_above_hull_eV_per_atom"

SPREAD_eV_PER_ATOM = 0.08
"""Standard deviation of generated crystals about what their composition's best crystal is predicted to be, beyond the
predictor's own: polymorphs, and arrangements that are not quite right (docs/guidance.md says how it was measured)."""

UNKNOWN = (0.1, 0.2)
"""Mean and standard deviation (eV/atom) of a crystal of which nothing is known."""

OFFSETS = {(MP_SCHEME, "CHGNet-0.3.0/MP2020"): (-0.008, 0.048)}
"""(Scheme of a prediction, scheme of the phases) -> mean and standard deviation of the difference of formation energies, eV/atom,
over the 14,334 crystals that both know (``hull_chgnet-0.3.0-all.json``)."""

FAR = 1e3


@dataclass(frozen=True)
class Question:
    """Between which static heights dG_hull is as asked.

    Attributes:
        lo, hi: (n,) eV/atom, +-inf for open ends.
        standing: of the crystals among their competitors.
        atoms: (n, 95) by atomic number.
    """

    lo: Float[np.ndarray, " n"]
    hi: Float[np.ndarray, " n"]
    standing: Standing
    atoms: Float[np.ndarray, "n z"]


@runtime_checkable
class HeightJudge(Protocol):
    """One opinion.

    Attributes:
        stages: where there is one.
    """

    stages: frozenset[Stage]

    def log_p(self, seen: Seen, asked: Question) -> Float[Tensor, " n"]:
        """log p(lo <= E <= hi) of each crystal."""


class HeadJudge:
    """The denoiser's property head; before coordinates from group, sites and elements, afterwards from the whole crystal.

    It is a Gaussian of the transformed height (a square root), continued as an odd function below the hull. What an estimated
    volume leaves open is left out: it is small beside the head's width.
    """

    stages: frozenset[Stage] = frozenset({"discrete", "final"})

    def __init__(self, model: CrystalModel) -> None:
        self.model, self.column, self.spec = model, model.denoiser.property_names.index(STATIC), model.specs[STATIC]
        self.hidden = [name for name in (STATIC, GIBBS) if name in model.specs]

    def log_p(self, seen: Seen, asked: Question) -> Float[Tensor, " n"]:
        """See :class:`HeightJudge`."""
        found = judged(self.model, seen, self.hidden)
        lo, hi = (_odd(self.spec, end) for end in (asked.lo, asked.hi))
        mean, std = found.mean[:, self.column], found.log_std[:, self.column].exp()
        return _log_p(lo, hi, mean.double(), std.double())


class CompositionJudge:
    """The best crystal of a composition (checkpoint stability_composition, calibrated on new chemical systems), with a spread."""

    stages: frozenset[Stage] = frozenset({"discrete", "final"})

    def __init__(self, predictor: CompositionStability | None = None) -> None:
        self.predictor = predictor or CompositionStability.load()
        self.scale = self.predictor.calibration.scale_68.get(HULL.name, 1.0)

    def log_p(self, seen: Seen, asked: Question) -> Float[Tensor, " n"]:
        """See :class:`HeightJudge`."""
        answered = np.flatnonzero(~np.isnan(asked.standing.shift))
        rows = [{int(z): float(row[z]) for z in np.flatnonzero(row)} for row in asked.atoms[answered]]
        found, deviation = self.predictor.distributions(rows)
        mean, std = np.full(len(asked.lo), np.nan), np.ones(len(asked.lo))
        mean[answered] = found[:, 0]
        std[answered] = np.hypot(self.scale * deviation[:, 0], SPREAD_eV_PER_ATOM)
        return _log_p(asked.lo, asked.hi, mean, np.hypot(std, asked.standing.shift_std))


class StructureJudge:
    """Any predictor of finished crystals, in eV/atom: of a formation energy, or of the height itself.

    Args:
        predictor: with its own calibrated uncertainty; one whose ``name`` speaks of ``above_hull`` predicts the height, any other
            the formation energy. A crystal that it fails on is judged as one of which nothing is known.
        energy_scheme: of the phase table; formation energies are taken as ``predictor.energy_scheme`` (default MP2020).

    Raises:
        EnergySchemeError: two schemes between which no measured offset is known.
    """

    stages: frozenset[Stage] = frozenset({"final"})

    def __init__(self, predictor: Predictor, energy_scheme: str = MP_SCHEME) -> None:
        self.predictor, self.of_height = predictor, "above_hull" in predictor.name
        schemes = getattr(predictor, "energy_scheme", MP_SCHEME), energy_scheme
        if not self.of_height and schemes not in OFFSETS and schemes[0] != schemes[1]:
            raise EnergySchemeError(
                f"formation energies of scheme {schemes[0]!r} cannot be placed on a hull of {schemes[1]!r}",
                "set sampler.phases to a table of that scheme",
            )
        self.offset, self.offset_std = OFFSETS.get(schemes, (0.0, 0.0))

    def log_p(self, seen: Seen, asked: Question) -> Float[Tensor, " n"]:
        """See :class:`HeightJudge`."""
        found = self.predictor.predict([orbits.to_structure() for orbits in seen.batch.to_orbits()])
        # A height that a predictor cuts at 0 is wanted as it was before: how far below the hull decides when it is hot.
        value = np.array([q.provenance.get("signed_value", q.value) for q in found], dtype=float)
        std = np.array([q.uncertainty for q in found], dtype=float)
        if not self.of_height:
            value, std = value + self.offset - asked.standing.static_hull, np.hypot(std, self.offset_std)
        known = np.isfinite(value) & (std > 0)
        return _log_p(asked.lo, asked.hi, np.where(known, value, UNKNOWN[0]), np.where(known, std, UNKNOWN[1]))


def height_judges(names: Sequence[str], model: CrystalModel, energy_scheme: str) -> list[HeightJudge]:
    """The judges of ``sampler.height_judges``: ``head`` (left out where a checkpoint has none), ``composition``, a property of
    ``configs/predictors/property`` in eV/atom (``formation_energy``, ``energy_above_hull``), or an import path ``my_module:make``
    of a function that returns a :class:`~sse_diffusion.predictors.protocol.Predictor` or a judge.

    Raises:
        ConfigError: no such judge, or none is left. EnergySchemeError: of another energy scheme than the phases.
    """
    judges: list[HeightJudge] = []
    registered = available()
    for name in names:
        if name == "head":
            judges += [HeadJudge(model)] if STATIC in model.denoiser.property_names else []
        elif name == "composition":
            judges.append(CompositionJudge())
        else:
            made = load_predictor(name) if name in registered else called(name, "judge")
            judges.append(StructureJudge(made, energy_scheme) if isinstance(made, Predictor) else made)
    if not judges:
        raise ConfigError(f"sampler.height_judges={list(names)} leaves nobody to judge dG_hull", "set it to [head, composition]")
    return judges


def unknown_log_p(lo: Float[np.ndarray, " n"], hi: Float[np.ndarray, " n"]) -> Float[Tensor, " n"]:
    """No opinion: the probability that a crystal of which nothing is known is as asked."""
    return _log_p(lo, hi, np.full_like(lo, UNKNOWN[0]), np.full_like(lo, UNKNOWN[1]))


def _log_p(lo: object, hi: object, mean: object, std: object) -> Float[Tensor, " n"]:
    interval = torch.stack([torch.as_tensor(end).clamp(-FAR, FAR) for end in (lo, hi)], dim=-1)
    return log_interval_probability(interval[:, None], torch.as_tensor(mean)[:, None], torch.as_tensor(std)[:, None])[:, 0]


def _odd(spec: ConditionSpec, height: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Standardised height, with the transform continued as an odd function."""
    transformed = spec.standardised(np.abs(np.clip(height, -FAR, FAR))) * spec.std + spec.mean
    return (np.sign(height) * transformed - spec.mean) / spec.std
