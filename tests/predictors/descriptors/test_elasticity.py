"""The elastic columns follow from what the predictor says, and are missing without a structure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.predictors.descriptors.elasticity import NAMES, with_elasticity
from sse_diffusion.predictors.descriptors.table import describe


def test_ratios_and_displacement_of_aluminium() -> None:
    aluminium = Structure.from_spacegroup(225, Lattice.cubic(4.05), ["Al"], [[0, 0, 0]])
    answer = np.log10([[76.0, 26.0, 70.0, 428.0]] * 2)
    model = SimpleNamespace(columns=("volume_per_atom_A3",), distributions=lambda values: (answer, 0.1 * answer))
    predictor: Any = SimpleNamespace(model=model)
    table = with_elasticity(describe([aluminium, Composition("Al")]), predictor)
    known, unknown = table.columns(NAMES)
    assert known[4] == pytest.approx(26 / 76) and known[5] == pytest.approx(0.347, abs=2e-3)
    assert known[6] == pytest.approx(0.0088, rel=0.05)  # 8 pi^2 u^2 = 0.70 A^2; diffraction measures 0.85
    assert np.isnan(unknown).all()
