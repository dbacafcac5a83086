"""What the judges say of sampled crystals is written beside them."""

from __future__ import annotations

import logging
import math

import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.compose import compose
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.diffusion import sample
from sse_diffusion.thermo.chemistry import Chemistry
from sse_diffusion.thermo.request import Interval, Request


class ByAnion:
    """-3 for sulfides and -6 for the rest, outside its domain for iodides; answers for compositions."""

    name, unit = "log10_conductivity", "log10(S/cm)"

    def predict(self, crystals):
        assert not any(hasattr(c, "lattice") for c in crystals), "it judges compositions while sampling, and here"
        return [
            Quantity(-3.0 if "S" in c else -6.0, 0.5, self.unit, Status.UNCONVERGED if "I" in c else Status.OK) for c in crystals
        ]


@pytest.mark.parametrize(("asked", "met"), [(Interval(1e-4, math.inf), 1), (Interval(0.0, 1e-5), 1), (Interval(1e-7, 1.0), 2)])
def test_crystals_carry_what_the_judge_says_of_them(monkeypatch, caplog, asked, met):
    states = []
    monkeypatch.setattr(sample, "load_predictor", lambda name, checkpoint, **state: states.append((name, state)) or ByAnion())
    crystals = [Structure(Lattice.cubic(5), ["Li", x], [[0, 0, 0], [0.5] * 3]) for x in ("S", "O", "I")]
    candidates = [Candidate(f"c{i}", crystal) for i, crystal in enumerate(crystals)]
    request = Request({"conductivity_S_per_cm": asked}, Chemistry(), temperature_K=400.0)
    with caplog.at_level(logging.INFO, "sse_diffusion"):
        rows = sample.judged_columns(candidates, request, sample.load_judges(request))
    assert [row["predicted_log10_conductivity"] for row in rows] == [-3.0, -6.0, -6.0]
    assert rows[2]["predicted_log10_conductivity_status"] == "unconverged"
    assert f"{met} of 3 crystals are as asked" in caplog.text and states[0][1]["temperature_K"] == 400.0
    assert sample.judged_columns(candidates, Request({}, Chemistry()), {}) == [{}, {}, {}]


def test_what_a_judge_refuses_is_refused_before_anything_is_sampled(monkeypatch, tmp_path):
    monkeypatch.setattr(sample, "sample_candidates", lambda *_: pytest.fail("sampled first"))
    hot = ("ask.conductivity_S_per_cm=>1e-4", "ask.temperature_K=1500", "sampler.conductivity_judges=[head]")
    with pytest.raises(ConfigError, match="temperature_K is 1500"):
        sample.run_sample(compose("sample", [*hot, "sampler.particles=2", "checkpoint=mp_tiny", f"out={tmp_path}"]))
