"""Ionic conductivity from diffusivities: Nernst-Einstein, collective, and the Haven ratio between them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import ELEMENTARY_CHARGE_C, BOLTZMANN_eV_PER_K
from sse_diffusion.verification.transport.diffusivity import interval

FORMAL_CHARGES = {"Li": 1, "Na": 1, "K": 1, "Ag": 1, "Mg": 2}
"""Charge numbers of the mobile ions."""


def conductivity_factor(ions_per_A3: float, charge: int, temperature_K: float) -> float:
    """S/cm per cm^2/s: sigma = n z^2 e^2 D / (k T) = n z^2 e D / (k T / e) with n in 1/cm^3 (10^24 / A^3) and k T / e in V.

    Args:
        ions_per_A3: number density of the mobile ions.
        charge: z.
        temperature_K: T.
    """
    return ions_per_A3 * 1e24 * charge**2 * ELEMENTARY_CHARGE_C / (BOLTZMANN_eV_PER_K * temperature_K)


def conductivity(diffusivity: Quantity, ions_per_A3: float, charge: int, temperature_K: float) -> Quantity:
    """sigma (S/cm) = n z^2 e^2 D / (k T): Nernst-Einstein with the tracer diffusivity, the conductivity proper with the
    collective one.

    With D_J = lim <|sum_i Delta r_i|^2> / (6 N t) this is the Einstein form of Green-Kubo, sigma = z^2 e^2 / (6 V k T) d/dt
    <|sum_i Delta r_i|^2>. Status, reason and provenance are those of ``diffusivity`` (cm^2/s); the interval is scaled along.
    """
    factor = conductivity_factor(ions_per_A3, charge, temperature_K)
    facts = dict(diffusivity.provenance)
    if "interval_95" in facts:
        low, high = facts["interval_95"]
        facts["interval_95"] = (low * factor, high * factor)
    value, error = diffusivity.value * factor, diffusivity.uncertainty * factor
    return replace(diffusivity, value=value, uncertainty=error, unit="S/cm", provenance=facts)


def haven_ratio(tracer: Quantity, collective: Quantity, samples: int = 20_000, seed: int = 0) -> Quantity:
    """H_R = D_tracer / D_J = sigma_NE / sigma, with a 95 % interval in the provenance (Murch, Solid State Ionics 7, 177 (1982)).

    Both estimates are drawn from their chi2 distributions as if independent; they share the paths, so that the interval is rather
    too wide. Value: median. ``failed`` unless both diffusivities are numbers with errors.
    """
    for name, one in (("tracer", tracer), ("collective", collective)):
        if one.status in (Status.FAILED, Status.UPPER_BOUND) or not one.uncertainty > 0:
            return Quantity.failed(f"no {name} diffusivity to divide by: {one.reason or one.status}")
    rng = np.random.default_rng(seed)
    top, bottom = (one.value * _chi2_ratio(one, samples, rng) for one in (tracer, collective))
    low, median, high = np.quantile(top / bottom, (0.025, 0.5, 0.975))
    status = Status.OK if tracer.ok and collective.ok else Status.UNCONVERGED
    reason = "" if status is Status.OK else tracer.reason or collective.reason
    error = float((top / bottom).std()) if collective.value > 2 * collective.uncertainty else math.nan
    return Quantity(float(median), error, "", status, reason, {"interval_95": (float(low), float(high))})


def _chi2_ratio(one: Quantity, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the true value over the estimate, nu / chi2_nu; see :func:`interval`."""
    freedom = 2.0 * (one.value / one.uncertainty) ** 2
    return freedom / rng.chisquare(freedom, samples)


def mean_of(replicas: list[Quantity], weights: list[float]) -> Quantity:
    """Mean of the replicas' diffusivities, weighted by their length; bounds and failures beside numbers are named in the reason.

    When every replica is an upper bound, the mean is one too (of the ions of all replicas together).
    """
    numbers = [(q, w) for q, w in zip(replicas, weights, strict=True) if q.status in (Status.OK, Status.UNCONVERGED)]
    bounds = [(q, w) for q, w in zip(replicas, weights, strict=True) if q.status is Status.UPPER_BOUND]
    chosen = numbers or bounds
    if not chosen:
        return Quantity.failed(
            "; ".join(sorted({q.reason for q in replicas})) or "no replica", replicas[0].unit if replicas else ""
        )
    share = np.array([w for _, w in chosen]) / sum(w for _, w in chosen)
    value = float(share @ [q.value for q, _ in chosen])
    facts = {"temperature_K": chosen[0][0].provenance.get("temperature_K"), "replicas": [q.value for q in replicas]}
    if not numbers:
        return Quantity(value, math.nan, bounds[0][0].unit, Status.UPPER_BOUND, bounds[0][0].reason, facts)
    error = float(np.sqrt((share**2) @ [q.uncertainty**2 for q, _ in chosen]))
    facts["interval_95"] = interval(value, error)
    left_out = [q.reason for q in replicas if q.status in (Status.UPPER_BOUND, Status.FAILED)]
    reasons = sorted({q.reason for q, _ in numbers if q.reason})
    if left_out:
        reasons.append(f"{len(left_out)} replicas left out: {left_out[0]}")
    status = Status.UNCONVERGED if left_out or not any(q.ok for q, _ in numbers) else Status.OK
    return Quantity(value, error, numbers[0][0].unit, status, "; ".join(reasons) if status is not Status.OK else "", facts)
