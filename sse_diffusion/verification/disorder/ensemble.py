"""One number for a disordered crystal from the numbers of its orderings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K


def ensemble_average(
    members: Sequence[Quantity], energies_eV: Sequence[float] | None = None, temperature_K: float | None = None
) -> Quantity:
    """Mean over orderings with their spread.

    With a temperature the members are weighted by ``exp(-E / kT)`` of the energy of the whole supercell; the effective number of
    members ``1 / sum(w^2)`` is given. A mean over the electrostatically lowest orderings is no thermal average: draw random ones
    for that.

    Args:
        members: the same property of each ordering; failed ones are left out and counted.
        energies_eV: (n,) energies of the supercells, all of the same composition; needed with ``temperature_K``.
        temperature_K: ``None`` weighs all alike.

    Returns:
        Mean; ``uncertainty`` is the standard deviation among the members (NaN for one), not the error of the mean.
        ``upper_bound`` and ``unconverged`` of any member carry over.
    """
    if not members:
        return Quantity.failed("there is no ordering")
    kept = [k for k, q in enumerate(members) if q.status is not Status.FAILED and math.isfinite(q.value)]
    if not kept:
        return Quantity.failed(f"all {len(members)} orderings failed: {members[0].reason}", members[0].unit)
    values = np.array([members[k].value for k in kept])
    weights = np.full(len(kept), 1 / len(kept))
    if temperature_K is not None and energies_eV is not None:
        energies = np.array([energies_eV[k] for k in kept])
        weights = np.exp(-(energies - energies.min()) / (BOLTZMANN_eV_PER_K * temperature_K))
        weights /= weights.sum()
    mean = float(weights @ values)
    effective = float(1 / (weights @ weights))
    few = 1 - float(weights @ weights)  # weighted form of n - 1 over n
    spread = math.sqrt(float(weights @ (values - mean) ** 2) / few) if few > 1e-9 else math.nan
    provenance = {
        "orderings": len(members),
        "failed": len(members) - len(kept),
        "effective": round(effective, 3),
        "temperature_K": temperature_K,
        "values": [float(v) for v in values],
    }
    worst = [s for s in (Status.UNCONVERGED, Status.UPPER_BOUND) if any(members[k].status is s for k in kept)]
    status = worst[0] if worst else Status.OK
    reason = f"some orderings are {status}" if worst else ""
    return Quantity(mean, spread, members[kept[0]].unit, status, reason, provenance)
