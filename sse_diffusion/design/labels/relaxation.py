"""Samples relaxed by a force field, each once; records are kept, so that an interrupted evaluation goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.design.labels.sample import Relaxed, Sample
from sse_diffusion.verification.metrics.stable import StableConfig, relaxed_records
from sse_diffusion.verification.validity import structural_validity

if TYPE_CHECKING:
    from pymatgen.core import Structure

UNIT = "eV/atom"


def relax_samples(samples: Sequence[Sample], elements: frozenset[str], config: StableConfig, out: Path) -> list[Relaxed]:
    """Relax every sample that is structurally valid and made of ``elements``; the others fail with the reason.

    Raises:
        OutputError: ``out`` cannot be written. EngineError: no such force field.
    """
    reasons = [_reason(sample.structure, elements) for sample in samples]
    wanted = {i: sample.structure for i, (sample, why) in enumerate(zip(samples, reasons, strict=True)) if not why}
    records = relaxed_records(wanted, config, out)
    return [_relaxed(sample, records.get(i), why) for i, (sample, why) in enumerate(zip(samples, reasons, strict=True))]


def density_g_cm3(relaxed: Relaxed) -> Quantity:
    """Mass density after relaxation."""
    unit = "g/cm^3"
    if relaxed.energy.status is Status.FAILED:
        return Quantity.failed(relaxed.energy.reason, unit)
    return Quantity(float(relaxed.structure.density), unit=unit)


def _reason(structure: Structure, elements: frozenset[str]) -> str:
    """Why a crystal is not relaxed; empty when it is."""
    verdict = structural_validity(structure)
    if not verdict.valid:
        return f"structurally invalid: {verdict.reason}"
    missing = sorted(structure.composition.chemical_system_set - elements)
    return f"no reference phase for {', '.join(missing)}" if missing else ""


def _relaxed(sample: Sample, record: dict | None, why: str) -> Relaxed:
    from pymatgen.core import Structure

    if record is None or record["energy_eV_per_atom"] is None:
        reason = why or f"relaxation failed: {(record or {}).get('reason', '')}"
        return Relaxed(sample, sample.structure, Quantity.failed(reason, UNIT))
    energy = Quantity(record["energy_eV_per_atom"], unit=UNIT, status=Status(record["status"]), reason=record["reason"])
    return Relaxed(sample, Structure.from_dict(record["structure"]), energy, record["energy_scheme"])
