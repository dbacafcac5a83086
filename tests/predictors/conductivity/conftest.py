"""A toy world of conductors whose law is known: log10(sigma T) = A(composition) - E_a tau(T)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition

from sse_diffusion.predictors.conductivity.arrhenius import log10_sigma
from sse_diffusion.predictors.conductivity.gaussian_process import GaussianProcessConfig
from sse_diffusion.predictors.conductivity.inputs import inputs_of
from sse_diffusion.predictors.conductivity.model import ConductivityModel, ConductivityModelConfig, observations_of
from sse_diffusion.predictors.conductivity.predictor import ConductivityPredictor
from sse_diffusion.predictors.conductivity.tables import ConductivityRow
from sse_diffusion.predictors.conductivity.trees import TreesConfig

SMALL = ConductivityModelConfig(
    gaussian_process=GaussianProcessConfig(steps=12, rows=80), trees=TreesConfig(trees=20), inner_folds=3
)


def toy_rows(n: int = 120, seed: int = 0) -> list[ConductivityRow]:
    """More lithium and sulfur conduct better; every third row is hot, every paper holds three rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        lithium, anions = rng.uniform(0.3, 4), rng.uniform(2.5, 4.5)
        sulfur = (0.0, 1.0, rng.uniform(0, 1))[rng.integers(3)]
        metal = ("P", "Ge", "Zr", "Ti")[i % 4]
        composition = Composition({"Li": lithium, metal: 1.0, "S": anions * sulfur, "O": anions * (1 - sulfur)})
        temperature = 450.0 if i % 3 == 0 else 300.0
        sigma = log10_sigma(np.array(-3.0 + 0.5 * lithium + 2 * sulfur), np.array(0.5 - 0.2 * sulfur), np.array(temperature))
        rows.append(
            ConductivityRow(
                id=str(i),
                composition=composition,
                temperature_K=temperature,
                log10_sigma=float(sigma + 0.1 * rng.normal()),
                source="toy",
                doi=f"10.1/{i // 3}",
            )
        )
    return rows


@pytest.fixture(scope="session")
def rows() -> list[ConductivityRow]:
    return toy_rows()


@pytest.fixture(scope="session")
def predictor(rows: list[ConductivityRow]) -> ConductivityPredictor:
    inputs = inputs_of(rows)
    return ConductivityPredictor.of(ConductivityModel.fit(inputs, observations_of(rows), SMALL), rows, inputs)


@pytest.fixture(scope="session")
def checkpoint(predictor: ConductivityPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conductivity")
    predictor.save(folder)
    return folder
