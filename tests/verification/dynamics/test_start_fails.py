"""A start that the engine cannot evaluate is refused with the engine's own words."""

from __future__ import annotations

import pytest
from ase.build import bulk

from sse_diffusion.verification.dynamics.config import DynamicsConfig
from sse_diffusion.verification.dynamics.loop import run_dynamics
from sse_diffusion.verification.potential import EvaluationError, PotentialInfo


class Refuses:
    """An engine that knows nothing."""

    info = PotentialInfo("refuses", "1", "MIT", "toy", "toy", frozenset({"Cu"}), "constant")

    def evaluate(self, atoms):
        raise EvaluationError("Cu: atoms are too close", "relax")

    def calculator(self):
        raise NotImplementedError


def test_the_engines_words_reach_the_user(tmp_path):
    with pytest.raises(EvaluationError, match="atoms are too close"):
        run_dynamics(bulk("Cu"), Refuses(), DynamicsConfig(), tmp_path)
