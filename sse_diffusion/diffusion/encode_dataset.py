"""Condition tensors of a data set: labels that the table has, and those computed from the crystals."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sse_diffusion.data.dataset import OrbitDataset
from sse_diffusion.diffusion.condition_tensors import encode
from sse_diffusion.thermo.conditions import ConditionSpec, label_of


def encode_dataset(dataset: OrbitDataset, specs: Mapping[str, ConditionSpec]) -> dict[str, Tensor]:
    """One tensor per condition, with one row per crystal; missing labels are nulls."""
    from pymatgen.core import Element

    symbol = {z: Element.from_Z(z).symbol for z in range(1, 95)}
    symbols = [sorted({symbol[int(z)] for z in dataset.orbits(i).species}) for i in range(len(dataset))]
    return {
        name: encode(spec, [label_of(spec, s, labels) for s, labels in zip(symbols, dataset.labels, strict=True)])
        for name, spec in specs.items()
    }
