"""Condition tensors of a data set: labels of its table, of the crystals themselves and of the phases they compete with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.units import AMU_PER_A3_IN_G_PER_CM3
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.dataset import OrbitDataset
from sse_diffusion.diffusion.condition_tensors import encode, encode_numbers
from sse_diffusion.thermo.conditions import ConditionSpec, label_of, mobile_ion_of
from sse_diffusion.thermo.labels import PhaseLabels, PhasesConfig


class ConditionEncoder:
    """One row of every condition tensor per crystal; missing labels are nulls.

    Args:
        dataset: the crystals.
        specs: the conditions.
        phases: where labels that start with ``phases:`` or ``state:`` come from; without, they are nulls.
        seed: of the state points.
    """

    def __init__(
        self, dataset: OrbitDataset, specs: Mapping[str, ConditionSpec], phases: PhasesConfig | None = None, seed: int = 0
    ) -> None:
        self.dataset, self.specs, self.phases, self.seed = dataset, specs, phases, seed

    def fixed(self) -> dict[str, Tensor]:
        """What does not change from epoch to epoch."""
        symbols, labels = self._symbols, self.dataset.labels
        made = {}
        for name, spec in self._of(drawn=False).items():
            if spec.label == "structure:density_g_cm3":
                made[name] = encode_numbers(spec, densities_g_cm3(self.dataset))
            elif spec.needs_phases and self.phases is None:
                made[name] = encode(spec, [None] * len(labels))
            elif spec.needs_phases:
                made[name] = encode_numbers(spec, self._competition.windows[spec.label])
            else:
                made[name] = encode(spec, [label_of(spec, s, row) for s, row in zip(symbols, labels, strict=True)])
        return made

    def drawn(self, epoch: int) -> dict[str, Tensor]:
        """State points of one epoch and what holds there; empty for a model that knows no state point."""
        specs = self._of(drawn=True)
        if not specs or self.phases is None:
            return {name: encode(spec, [None] * len(self.dataset)) for name, spec in specs.items()}
        labels = self._competition.at(*self._competition.state_points(self.seed, epoch))
        return {name: encode_numbers(spec, labels[spec.label]) for name, spec in specs.items()}

    def _of(self, drawn: bool) -> dict[str, ConditionSpec]:
        return {name: spec for name, spec in self.specs.items() if spec.label.startswith("state:") is drawn}

    @cached_property
    def _symbols(self) -> list[list[str]]:
        from pymatgen.core import Element

        symbol = {z: Element.from_Z(z).symbol for z in range(1, 95)}
        return [sorted({symbol[int(z)] for z in self.dataset.orbits(i).species}) for i in range(len(self.dataset))]

    @cached_property
    def _competition(self) -> PhaseLabels:
        assert self.phases is not None  # checked at the start
        return PhaseLabels.load(self.phases, self.dataset.ids, [mobile_ion_of(s) for s in self._symbols])


def require_phases(specs: Mapping[str, ConditionSpec], phases: PhasesConfig | None) -> None:
    """ConfigError when conditions that are to be learnt have no phases to be computed from."""
    needs = [name for name, spec in specs.items() if spec.needs_phases]
    if needs and phases is None:
        raise ConfigError(
            f"{', '.join(needs)}: no phases to compete with are given",
            "add thermo/phases@phases=mp (or your own table, see configs/thermo/phases), or leave these conditions out",
        )


def densities_g_cm3(dataset: OrbitDataset) -> Float[np.ndarray, " n"]:
    """Mass density of every crystal."""
    from pymatgen.core import Element

    mass = np.array([0.0, *(float(Element.from_Z(z).atomic_mass) for z in range(1, 95))])
    flat = dataset.flat
    grams = np.add.reduceat(mass[flat.species] * wyckoff_table().multiplicity[flat.wyckoff], flat.offset[:-1])
    volume = np.exp(3.0 * flat.cell[:, -1])  # the last cell parameter is a third of the logarithm of the volume
    return AMU_PER_A3_IN_G_PER_CM3 * grams / volume
