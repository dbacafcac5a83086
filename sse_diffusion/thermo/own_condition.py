"""A user's own property: one YAML file beside one column of a table, and whether the two fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sse_diffusion.core.config import build
from sse_diffusion.core.doctor import Check
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.thermo.conditions import ConditionSpec, read_condition_file

FAR = 6.0
"""Standard deviations beyond which the network sees no difference."""
FEW_LABELS = 100
SKEWED = 2.0


@dataclass(frozen=True)
class OwnCondition:
    """A condition from a user's file.

    Attributes:
        spec: with the scale of the file, or a provisional one.
        has_scale: whether the file gives mean and std.
    """

    spec: ConditionSpec
    has_scale: bool

    @classmethod
    def read(cls, path: str | Path) -> OwnCondition:
        """Read the file; ``name`` and ``label`` default to the file's name, and mean and std may be left to be measured.

        Raises:
            ConfigError: no such file, or one that is no condition.
        """
        file = Path(path)
        values = {"name": file.stem, **read_condition_file(file)}
        spec = build(ConditionSpec, {"label": values["name"], **values})
        return cls(spec, spec.kind != "continuous" or {"mean", "std"} <= set(values))

    def source(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A data config that also reads the label; its column has the label's name unless the config says otherwise."""
        labels = dict(data.get("labels") or {})
        if not self.spec.is_computed:
            labels.setdefault(self.spec.label, self.spec.label)
        return {**data, "labels": labels}

    def scaled(self, labels: Sequence[Mapping[str, float | str]]) -> ConditionSpec:
        """The spec with mean and std of these (training) labels, unless the file gives them.

        Raises:
            ConfigError: fewer than two different labels.
        """
        if self.has_scale:
            return self.spec
        mean, std = _scale(self.spec, numbers(self.spec, labels))
        if not std > 0.0:
            raise ConfigError(f"{self.spec.name}: there are no two different labels to learn from", "see `sse doctor data`")
        return replace(self.spec, mean=mean, std=std)


def numbers(spec: ConditionSpec, labels: Sequence[Mapping[str, float | str]]) -> Float[np.ndarray, " n"]:
    """The labels of a continuous condition; NaN where a row has none."""
    return np.array([float(row.get(spec.label, math.nan)) for row in labels])


def check_labels(own: OwnCondition, labels: Sequence[Mapping[str, float | str]], ids: Sequence[str]) -> list[Check]:
    """What is to be said about a column before training on it.

    Args:
        own: the condition.
        labels: of every crystal, in the unit of the condition.
        ids: their names.
    """
    spec = own.spec
    if spec.is_computed:
        return [Check("label", "ok", f"{spec.label} is computed, not read")]
    if spec.kind != "continuous":
        return _check_categories(spec, labels)
    values = numbers(spec, labels)
    known = np.isfinite(values)
    share = f"{known.sum()}/{len(values)} crystals have one"
    if known.sum() < 2:
        return [
            Check("label", "fail", share, f"is the column called {spec.label!r}? data.labels.{spec.label}=COLUMN says otherwise")
        ]
    few = known.sum() < FEW_LABELS
    found = [Check("label", "note" if few else "ok", share, "few to learn from: the condition will steer weakly" if few else "")]
    return [*found, _check_range(spec, values, ids), _check_scale(own, values[known])]


def _check_range(spec: ConditionSpec, values: Float[np.ndarray, " n"], ids: Sequence[str]) -> Check:
    outside = np.flatnonzero((values < spec.low) | (values > spec.high))
    ends = f"{np.nanmin(values):.4g} to {np.nanmax(values):.4g} {spec.unit}".strip()
    if not len(outside):
        return Check("range", "ok", f"{ends}, within {spec.low:g} to {spec.high:g}")
    worst = ", ".join(f"{ids[i]} ({values[i]:.4g})" for i in outside[:3])
    advice = f"wrong unit? data.labels.{spec.label}={{column: ..., unit: ...}} converts; else widen low and high: {worst}"
    return Check(
        "range", "fail", f"{len(outside)}/{np.isfinite(values).sum()} outside {spec.low:g} to {spec.high:g} ({ends})", advice
    )


def _check_scale(own: OwnCondition, values: Float[np.ndarray, " n"]) -> Check:
    spec = own.spec
    mean, std = _scale(spec, values)
    if not std > 0.0:
        return Check("scale", "fail", f"all labels are {values[0]:.4g}", "a property that never varies cannot be asked for")
    measured = f"mean {mean:.4g}, std {std:.4g} after transform {spec.transform}"
    if own.has_scale and (abs(mean - spec.mean) > 0.5 * std or not 0.5 < spec.std / std < 2.0):
        return Check(
            "scale", "note", f"{measured}; the file says {spec.mean:.4g}, {spec.std:.4g}", "leave both out to have them measured"
        )
    z = (spec.standardised(values) - mean * (not own.has_scale)) / (1.0 if own.has_scale else std)
    far = int((np.abs(z) > FAR).sum())
    skewness = float(np.mean((z - z.mean()) ** 3) / z.std() ** 3)
    if far or abs(skewness) > SKEWED:
        return Check("scale", "note", f"{measured}; skewness {skewness:.1f}, {far} labels beyond {FAR:g} std",
                     "sqrt or log10 may suit better, or these labels are wrong")  # fmt: skip
    return Check("scale", "ok", measured)


def _scale(spec: ConditionSpec, values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Mean and standard deviation of the transformed labels."""
    plain = replace(spec, mean=0.0, std=1.0).standardised(values[np.isfinite(values)])
    return (float(plain.mean()), float(plain.std())) if len(plain) else (math.nan, 0.0)


def _check_categories(spec: ConditionSpec, labels: Sequence[Mapping[str, float | str]]) -> list[Check]:
    given = [
        str(row[spec.label]) for row in labels if row.get(spec.label) not in (None, "") and row[spec.label] == row[spec.label]
    ]
    unknown = sorted(set(given) - set(spec.choices))
    if unknown or not given:
        return [Check("label", "fail", f"{len(given)}/{len(labels)} have one; not among the choices: {unknown[:5]}",
                      "write them into choices:, or mend the column")]  # fmt: skip
    return [Check("label", "ok", f"{len(given)}/{len(labels)} have one: {', '.join(sorted(set(given)))}")]
