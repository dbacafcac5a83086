"""Conductivities that a run's dynamics computed, as soft labels for the conductivity predictor (docs/predictors.md)."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.atomic_files import read_json, write_bytes_atomically
from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.predictors.conductivity.soft_labels import COLUMNS
from sse_diffusion.verification.transport.conductivity import FORMAL_CHARGES, conductivity

if TYPE_CHECKING:
    from pymatgen.core import Structure

log = logging.getLogger(__name__)

NORMAL_95 = 3.92
"""Width of a 95 % interval in standard deviations."""


def write_soft_labels(runs: Sequence[str | Path], out: str | Path, ion: str = "Li", structures: bool = False) -> int:
    """Collect run folders of ``sse verify`` and ``sse design`` into one table.

    Args:
        runs: folders with ``stages/relax`` and ``md`` or ``transport``.
        out: CSV with :data:`COLUMNS`.
        ion: whose conductivity.
        structures: also write the crystals, as CIFs in ``<name of out>_cifs``: the labels then speak of ordered, relaxed
            structures, not of compositions (docs/predictors.md).

    Returns:
        The number of labels.

    Raises:
        ConfigError: the charge of the ion is not known, or two runs of one name. OutputError: ``out`` cannot be written.
        DataError: a run has no relaxed crystal with dynamics.
    """
    path, rows = Path(out), []
    folders = [Path(run) for run in runs]
    if len({run.name for run in folders}) < len(folders):
        raise ConfigError("two runs have the same folder name, which tells their labels apart", "rename one of them")
    for run in folders:
        found = list(_labels_of(run, ion))
        if not found:
            raise DataError(f"{run} holds no conductivity of {ion}", "give the folder of a run that reached its dynamics")
        for record, structure in found:
            if structures and structure is not None:
                record["structure"] = f"{path.stem}_cifs/{run.name}_{record['id']}.cif"
                write_bytes_atomically(path.parent / record["structure"], structure.to(fmt="cif").encode())
            rows.append({**record, "id": f"{run.name}/{record['id']}"})
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes_atomically(path, text.getvalue().encode())
    return len(rows)


def _labels_of(run: Path, ion: str) -> Iterator[tuple[dict[str, Any], Structure | None]]:
    """Cells of COLUMNS, and the relaxed crystal (``None`` for an ordering of a disordered one, whose sites it does not show).

    The estimate is Nernst-Einstein's, sigma = n z^2 e^2 D / (k T) with the tracer diffusivity, at the temperatures that were run:
    of the gate at the relaxed volume, of the transport study at its mean volume. Extrapolations add nothing to these.
    """
    from pymatgen.core import Structure

    charge = FORMAL_CHARGES.get(ion, 0)
    if not charge:
        raise ConfigError(f"the charge of {ion} is not known", f"known: {', '.join(FORMAL_CHARGES)}")
    page = read_json(run / "verification.json") or {}
    orderings = {record.get("id") for record in page.get("crystals", [page]) if record.get("disorder_of")}
    for file in sorted((run / "stages" / "relax").glob("*.json")):
        relaxed = (read_json(file) or {}).get("structure")
        gate = read_json(run / "md" / file.stem / "md.json") or {}
        transport = read_json(run / "transport" / file.stem / "transport.json") or {}
        if relaxed is None:
            continue
        structure = Structure.from_dict(relaxed)
        sigmas = []
        if gate.get("mobile_ion") == ion:
            diffusivity = Quantity.from_dict(gate["diffusivity"])
            density = structure.composition[ion] / structure.volume
            temperature = float(gate["provenance"].get("temperature_K", math.nan))
            sigmas.append((temperature, conductivity(diffusivity, density, charge, temperature)))
        if transport.get("ion") == ion:
            sigmas += [(p["temperature_K"], Quantity.from_dict(p["nernst_einstein"])) for p in transport["points"]]
        for temperature, sigma in sigmas:
            if (label := _log10(sigma)) is None:
                log.info("%s: %s at %g K is no label: %s", run, file.stem, temperature, sigma.reason or sigma.status)
                continue
            shown = structure.composition.formula.replace(" ", "")
            cells = {"id": file.stem, "composition": shown, "structure": "", "temperature_K": temperature, **label}
            yield cells, None if file.stem in orderings else structure


def _log10(sigma: Quantity) -> dict[str, Any] | None:
    """Value, standard deviation and status of log10 sigma; ``None`` where it has none."""
    if sigma.status is Status.FAILED or not sigma.value > 0:
        return None
    value = {"log10_sigma": round(math.log10(sigma.value), 4), "sd": "", "status": str(sigma.status)}
    if sigma.status is Status.UPPER_BOUND:
        return value
    low, high = sigma.provenance.get("interval_95", (0.0, 0.0))
    deviation = math.log10(high / low) / NORMAL_95 if low > 0 else sigma.uncertainty / sigma.value / math.log(10.0)
    return {**value, "sd": round(deviation, 4)} if deviation > 0 else None
