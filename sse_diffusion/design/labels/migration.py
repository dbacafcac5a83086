"""Migration barriers by bond valence: the lowest barrier at which the crystal's own mobile ion percolates in three dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.core.results import Quantity
from sse_diffusion.design.labels.sample import Relaxed
from sse_diffusion.thermo.conditions import mobile_ion_of
from sse_diffusion.verification.metrics.kept_records import kept_records
from sse_diffusion.verification.structure_files import structure_hash

RECORDS = "barriers.jsonl"
UNIT = "eV"


def migration_barriers(crystals: Sequence[Relaxed], settings: Mapping[str, Any], out: Path) -> list[Quantity]:
    """Barrier of each crystal, eV; records are kept in ``out/barriers.jsonl``.

    Args:
        crystals: relaxed or not.
        settings: of :class:`sse_diffusion.verification.percolation.PercolationConfig`.
        out: folder.

    Raises:
        OutputError: ``out`` cannot be written. ConfigError: an unknown setting.
    """
    ions = [mobile_ion_of(c.structure.composition.chemical_system_set) for c in crystals]
    wanted = [i for i, ion in enumerate(ions) if ion != "none"]
    keys = {i: hash_of_config({"crystal": structure_hash(crystals[i].structure), **settings}) for i in wanted}

    def compute(missing: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        from sse_diffusion.core.config import build
        from sse_diffusion.verification.percolation import PercolationConfig, percolation_barriers

        config = build(PercolationConfig, settings)
        for i in missing:
            found = percolation_barriers(crystals[i].structure, ions[i], config)
            yield i, {"ion": ions[i], "migration_barrier_eV": found.migration_barrier_eV, "reason": found.reason}

    records = kept_records(out / RECORDS, keys, compute, "barriers")
    return [_quantity(records.get(i)) for i in range(len(crystals))]


def _quantity(record: Mapping[str, Any] | None) -> Quantity:
    if record is None:
        return Quantity.failed("no mobile ion", UNIT)
    value = record["migration_barrier_eV"]  # null in the file: NaN
    return Quantity.failed(record["reason"] or "no barrier", UNIT) if value is None else Quantity(float(value), unit=UNIT)
