"""Vibrational density of states per sublattice, its zero-frequency weight as a second way to D, and anharmonicity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.units import CM2_PER_S_PER_A2_PER_PS

if TYPE_CHECKING:
    from sse_diffusion.verification.dynamics.trajectory import Trajectory


@dataclass(frozen=True)
class VibrationalSpectrum:
    """Power spectra of the velocities.

    Attributes:
        frequency_THz: (F,) from 0 to half the frame rate.
        density_per_THz: element -> (F,), each normalised to 1 over the frequencies.
        diffusivity: of the mobile ion from the weight at zero frequency (Green-Kubo), cm^2/s.
    """

    frequency_THz: np.ndarray
    density_per_THz: dict[str, np.ndarray]
    diffusivity: Quantity


def vibrational_spectrum(run: Trajectory, ion: str, drop_ps: float = 0.0, segment_ps: float = 4.0) -> VibrationalSpectrum:
    """Density of states from the velocity autocorrelation (Dickey and Paskin, Phys. Rev. 188, 1407 (1969)), by Wiener-Khinchin.

        g_s(f) ~ sum_{i in s} integral <v_i(0) v_i(t)> exp(2 pi i f t) dt,     D = 1/6 integral <v(0) v(t)> dt (both sides)

    The run is cut into segments whose spectra are averaged (resolution 1 / ``segment_ps``). Velocities are relative to the
    framework's mean. The densities use a Hann window; the zero-frequency weight uses none, so that it equals <|displacement|^2>
    / (6 segment): the same information as the mean squared displacement at that lag, but through the stored velocities. The
    error is that of the mean over segments, one ion-averaged value each.

    Args:
        run: with frames often enough: every 20 fs resolves up to 25 THz (830 1/cm).
        ion: element that diffuses.
        drop_ps: equilibration left out.
        segment_ps: length of a segment; longer than the memory of the ions' jumps for a diffusivity.
    """
    first = round(drop_ps / run.frame_ps)
    velocities = run.velocities_A_per_ps[first:].astype(np.float64)
    mobile = run.symbols == ion
    length = max(8, round(segment_ps / run.frame_ps))
    segments = len(velocities) // length
    if segments < 1:
        reason = f"{len(velocities) * run.frame_ps:.2f} ps are shorter than one segment of {segment_ps:g} ps"
        return VibrationalSpectrum(np.empty(0), {}, Quantity.failed(reason, "cm^2/s"))
    weights = run.masses * ~mobile if not mobile.all() else run.masses
    velocities -= np.einsum("n,tnc->tc", weights / weights.sum(), velocities)[:, None]
    cut = velocities[: segments * length].reshape(segments, length, *velocities.shape[1:])
    hann = np.hanning(length)[None, :, None, None]
    power = np.square(np.abs(np.fft.rfft(cut * hann, axis=1))).sum(axis=-1).mean(axis=0)
    frequency = np.fft.rfftfreq(length, run.frame_ps)
    densities = {}
    for symbol in dict.fromkeys(run.symbols.tolist()):
        spectrum = power[:, run.symbols == symbol].mean(axis=1)
        densities[symbol] = spectrum / max(float(spectrum.sum() * frequency[1]), 1e-300)
    if not mobile.any():
        return VibrationalSpectrum(frequency, densities, Quantity.failed(f"the trajectory has no {ion}", "cm^2/s"))
    moved = cut.sum(axis=1) * run.frame_ps
    each = np.square(moved[:, mobile]).sum(axis=-1).mean(axis=1) / (6.0 * length * run.frame_ps) * CM2_PER_S_PER_A2_PER_PS
    error = float(each.std(ddof=1) / math.sqrt(segments)) if segments > 1 else math.nan
    status, reason = (Status.OK, "") if segments >= 5 else (Status.UNCONVERGED, f"only {segments} segments")
    facts = {"temperature_K": run.target_K, "segment_ps": segment_ps, "segments": segments}
    return VibrationalSpectrum(frequency, densities, Quantity(float(each.mean()), error, "cm^2/s", status, reason, facts))


def agrees(one: Quantity, other: Quantity, z: float = 3.0) -> bool:
    """Whether two diffusivities lie within ``z`` of their combined errors (false when either has none)."""
    return bool(abs(one.value - other.value) <= z * math.hypot(one.uncertainty, other.uncertainty))


def framework_anharmonicity(run: Trajectory, ion: str, drop_ps: float = 0.0) -> Quantity:
    """Non-Gaussian parameter of the framework's displacements: 0 for a harmonic crystal at any temperature.

        alpha = < (u S^-1 u)^2 > / 15 - 1,     u: displacement from the atom's mean place, S: its covariance

    averaged over atoms. It is Rahman's alpha_2 (Phys. Rev. 136, A405 (1964)) in the form for anisotropic ellipsoids (Mardia's
    kurtosis), so that anisotropy alone does not count. Positive: soft or double wells, rotating groups, jumps; negative:
    box-like wells. The force-based measure of Knoop et al. (Phys. Rev. Mater. 4, 083809 (2020)) needs harmonic forces about
    fixed sites, which the mobile ions of a conductor do not have. Error: between the atoms.
    """
    from sse_diffusion.verification.msd import relative_to_framework

    first = round(drop_ps / run.frame_ps)
    framework = run.symbols != ion
    if framework.sum() < 2 or len(run.positions_A) - first < 50:
        return Quantity.failed("fewer than two framework atoms, or fewer than 50 frames")
    positions = relative_to_framework(run.in_mean_cell(first), run.masses, framework)[:, framework]
    away = positions - positions.mean(axis=0)
    covariance = np.einsum("tni,tnj->nij", away, away) / len(away)
    squared = np.einsum("tni,nij,tnj->tn", away, np.linalg.inv(covariance), away, optimize=True)
    each = np.square(squared).mean(axis=0) / 15.0 - 1.0
    error = float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.nan
    return Quantity(float(each.mean()), error, "", provenance={"temperature_K": run.target_K, "atoms": int(framework.sum())})
