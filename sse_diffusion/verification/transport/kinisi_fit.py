"""The tracer diffusivity by kinisi, as an independent opinion (optional extra ``md``).

kinisi (McCluskey, Coles and Morgan, JCTC 21, 79 (2025), doi 10.1021/acs.jctc.4c01249) samples the same kind of line with a
covariance estimated from the data. docs/transport.md says why it is not the default: its intervals depend on how far the lags
reach, and for the single collective path they are far too narrow.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from sse_diffusion.core.results import Quantity
from sse_diffusion.core.units import CM2_PER_S_PER_A2_PER_PS
from sse_diffusion.verification.transport.paths import IonPaths
from sse_diffusion.verification.transport.regime import Regime


def diffusivity_by_kinisi(paths: IonPaths, regime: Regime, n_lags: int = 60, seed: int = 0) -> Quantity:
    """Tracer diffusivity (cm^2/s) from kinisi's Bayesian regression; lags reach to the end of the run, as its error model needs.

    kinisi draws from NumPy's global stream; its state is put back afterwards.

    Raises:
        ImportError: kinisi is not installed (``pip install "sse-diffusion[md]"``).
    """
    import scipp
    from kinisi.diffusion import Diffusion
    from kinisi.displacement import calculate_msd

    steps = len(paths.positions_A) - 1
    lags = np.unique(np.append(np.linspace(1, steps - 1, n_lags).round().astype(int), regime.start))
    source = SimpleNamespace(
        displacements=scipp.array(
            dims=["obs", "particle", "dimension"], values=paths.positions_A[1:] - paths.positions_A[0], unit="angstrom"
        ),
        dt_index=scipp.array(dims=["time interval"], values=lags),
        dt=scipp.array(dims=["time interval"], values=lags * paths.frame_ps, unit="ps"),
        dimensionality=3 * scipp.units.dimensionless,
    )
    fit = Diffusion(calculate_msd(source, progress=False))
    state = np.random.get_state()
    try:
        start = scipp.scalar(regime.start * paths.frame_ps * (1.0 - 1e-9), unit="ps")
        fit.bayesian_regression(start, progress=False, random_state=np.random.RandomState(seed))
    finally:
        np.random.set_state(state)
    samples = fit.gradient.values / 6.0 * CM2_PER_S_PER_A2_PER_PS
    low, high = (float(v) for v in np.quantile(samples, (0.025, 0.975)))
    value, error = float(samples.mean()), float(samples.std())
    facts = {"temperature_K": paths.temperature_K, "interval_95": (low, high), "estimator": "kinisi"}
    return Quantity(value, error if math.isfinite(error) else math.nan, "cm^2/s", provenance=facts)
