"""Which independent source labels which field, and one object that asks each source once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.design.labels.hull_energies import HullEnergies
from sse_diffusion.design.labels.migration import migration_barriers
from sse_diffusion.design.labels.relaxation import density_g_cm3, relax_samples
from sse_diffusion.design.labels.sample import Relaxed, Sample
from sse_diffusion.verification.metrics.stable import StableConfig


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """How samples are labelled.

    Attributes:
        relax_steps: cap on the steps of the relaxation; 0 evaluates crystals as they are sampled (fast, and a verdict on the
            raw crystal); ``None``: as ``relax`` says.
        hull: name of a shipped table, or a CSV file; of the engine's energy scheme.
        band_gap: checkpoint of the predictor; ``None``: the shipped one.
        percolation: settings of the bond-valence barriers.
        workers: processes that relax.
        engine, relax: as for ``task=dng``.
    """

    relax_steps: int | None = None
    hull: str = "chgnet-0.3.0-all"
    band_gap: str | None = None
    percolation: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    engine: Mapping[str, Any] = field(default_factory=lambda: {"name": "chgnet", "model": "0.3.0"})
    relax: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stable(self) -> StableConfig:
        """Engine and relaxation, as the stability test has them."""
        steps = {} if self.relax_steps is None else {"max_steps": self.relax_steps}
        return StableConfig(workers=self.workers, hull=self.hull, engine=self.engine, relax={**self.relax, **steps})


class Labeller:
    """Labels of samples; each sample is relaxed once, whatever is asked of it.

    Args:
        config: sources and their settings.
        out: folder where relaxed crystals and barriers are kept.
    """

    def __init__(self, config: LabelConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.relaxed: dict[str, Relaxed] = {}

    @cached_property
    def hull(self) -> HullEnergies:
        """Reference phases of the engine."""
        return HullEnergies(self.config.hull)

    def label(self, name: str, samples: Sequence[Sample]) -> list[Quantity]:
        """Field ``name`` of each sample; failed, with the reason, where there is none; unconverged where the relaxation was.

        Raises:
            ConfigError: no source for this field. EngineError, CheckpointError, OutputError: what the sources raise.
        """
        check_source(name)
        found = SOURCES[name].label(self, samples) if samples else []
        return [self._with_status(q, s) for q, s in zip(found, samples, strict=True)] if SOURCES[name].relaxes else found

    def _with_status(self, label: Quantity, sample: Sample) -> Quantity:
        energy = self.relaxed[sample.id].energy
        if label.status is not Status.OK or energy.status is not Status.UNCONVERGED:
            return label
        return replace(label, status=Status.UNCONVERGED, reason=f"relaxation: {energy.reason}")

    def relax(self, samples: Sequence[Sample]) -> list[Relaxed]:
        """What the force field makes of the samples."""
        new = {s.id: s for s in samples if s.id not in self.relaxed}
        found = relax_samples(list(new.values()), self.hull.reference.elements, self.config.stable, self.out) if new else []
        self.relaxed |= {r.sample.id: r for r in found}
        return [self.relaxed[s.id] for s in samples]

    def protocol(self, name: str) -> str:
        """One line about the source of a field."""
        stable = self.config.stable
        engine = " ".join(str(stable.engine[k]) for k in ("name", "model", "calculator") if k in stable.engine)
        steps = stable.protocol.max_steps
        state = f"relaxed with {engine} (FIRE, free cell, fmax {stable.protocol.fmax_eV_per_A:g} eV/A, at most {steps} steps)"
        if steps == 0:
            state = f"as sampled, not relaxed ({engine})"
        return SOURCES[name].protocol.format(state=state, hull=self.config.hull)


@dataclass(frozen=True)
class Source:
    """Where the label of a field comes from.

    Attributes:
        label: of many samples.
        protocol: in words; ``{state}`` and ``{hull}`` are filled in.
    """

    label: Callable[[Labeller, Sequence[Sample]], list[Quantity]]
    protocol: str

    @property
    def relaxes(self) -> bool:
        """Whether the label is one of the relaxed crystal."""
        return "{state}" in self.protocol


def check_source(name: str) -> None:
    """ConfigError unless the field has an independent source."""
    if name not in SOURCES:
        raise ConfigError(
            f"no independent source labels {name!r}: asked and achieved cannot be compared", did_you_mean(name, SOURCES)
        )


def _band_gap(labeller: Labeller, samples: Sequence[Sample]) -> list[Quantity]:
    """Outside the predictor's domain there is no label."""
    from sse_diffusion.predictors.band_gap import CompositionBandGap

    found = CompositionBandGap.load(labeller.config.band_gap).predict([s.structure for s in samples])
    return [q if q.status is Status.OK else Quantity.failed(q.reason, q.unit) for q in found]


ON_HULL = "{state}, on the self-consistent hull {hull}; the crystal itself is not a phase of it"
SOURCES: dict[str, Source] = {
    "formation_energy_eV_per_atom": Source(
        lambda by, samples: by.hull.formation_energy(by.relax(samples)), "{state}, from the elements of {hull}"
    ),
    "energy_above_hull_eV_per_atom": Source(lambda by, samples: by.hull.above_hull(by.relax(samples)), ON_HULL),
    "gibbs_above_hull_eV_per_atom": Source(
        lambda by, samples: by.hull.gibbs_above_hull(by.relax(samples)),
        ON_HULL + "; Gibbs energies at the (T, P) of the request (Bartel 2018, exact linear programs)",
    ),
    "oxidation_limit_V": Source(lambda by, samples: [w[1] for w in by.hull.windows(by.relax(samples))], ON_HULL),
    "reduction_limit_V": Source(lambda by, samples: [w[0] for w in by.hull.windows(by.relax(samples))], ON_HULL),
    "density_g_cm3": Source(lambda by, samples: [density_g_cm3(r) for r in by.relax(samples)], "{state}"),
    "band_gap_eV": Source(_band_gap, "predicted from the composition alone (checkpoint band_gap_composition), PBE gap"),
    "migration_barrier_eV": Source(
        lambda by, samples: migration_barriers(by.relax(samples), by.config.percolation, by.out),
        "{state}; bond-valence site energies, lowest barrier at which the mobile ion percolates in 3D",
    ),
}
"""Field -> source. None of them saw the model that proposes, its guide or its property head."""
