"""The same chemistry asked at 300 K and at 1500 K: what is made at 1500 K must be what heat spares."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from sse_diffusion.core.errors import DataError
from sse_diffusion.design.labels.labeller import LabelConfig, Labeller
from sse_diffusion.design.labels.sample import Sample
from sse_diffusion.diffusion.generate import sample_candidates
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.competition import load_phase_table
from sse_diffusion.thermo.request import Chemistry, Interval, Request

GIBBS = "gibbs_above_hull_eV_per_atom"
LIGHT = frozenset({"Li", "Na", "Mg", "Al", "Si", "P", "S", "C", "N", "O"})
"""Nitrides, carbonates, sulfates, ... beside oxides: gases compete at 1500 K."""


def phases() -> str:
    """The user's Materials Project table, so that guide and judge share no phases; else the shipped one."""
    try:
        load_phase_table("mp")
    except DataError:
        return "chgnet-0.3.0-all"
    return "mp"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_is_asked_hot_is_what_heat_spares(tmp_path: Path) -> None:
    """32 crystals asked at each temperature, judged at both on the CHGNet hull as they are sampled.

    The difference of a crystal's two heights has no energy in it, so no relaxation is needed: only its composition and volume
    decide, and the phases of the hull.
    """
    config = SamplerConfig(guidance={GIBBS: 2.0, "default": 1.0}, particles=16, particle_strength=6.0, phases=phases())
    labeller = Labeller(LabelConfig(relax_steps=0), tmp_path)
    change = {}
    for asked in (300.0, 1500.0):
        state = {"temperature_K": Interval(asked, asked), "pressure_GPa": Interval(1.01325e-4, 1.01325e-4)}
        chemistry = Chemistry(allow=LIGHT, n_atoms=(2, 20))
        request = Request({GIBBS: Interval(-math.inf, 0.03), **state}, chemistry, temperature_K=asked)
        made = sample_candidates("mp_base", request, 32, seed=5, config=config, progress=False)
        crystals = labeller.relax([Sample(f"{asked:.0f}-{i}", c.structure, asked, 1.01325e-4) for i, c in enumerate(made)])
        heights = [
            [
                q.value
                for q in labeller.hull.gibbs_above_hull([replace(c, sample=replace(c.sample, temperature_K=t)) for c in crystals])
            ]
            for t in (300.0, 1500.0)
        ]
        change[asked] = np.diff(np.array(heights), axis=0)[0]
    cold, hot = (values[np.isfinite(values)] for values in change.values())
    assert len(cold) >= 24 and len(hot) >= 24
    assert hot.mean() < cold.mean() - 0.02
    assert mannwhitneyu(hot, cold, alternative="less").pvalue < 0.01
