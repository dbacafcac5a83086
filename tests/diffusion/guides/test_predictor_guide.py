"""Predictors as guides: closed form, one answer per composition, and what is asked without being a condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pymatgen.core import Composition, Structure
from scipy.stats import norm

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.diffusion.generate import sample_batch
from sse_diffusion.diffusion.guides import choose
from sse_diffusion.diffusion.guides.choose import choose_guides
from sse_diffusion.diffusion.guides.gibbs_guide import NEVER
from sse_diffusion.diffusion.guides.guide import Guide, Seen, Stage
from sse_diffusion.diffusion.guides.predictor_guide import PredictorGuide
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.predictors import registry
from sse_diffusion.predictors.registry import judges_of, load_predictor
from sse_diffusion.testing.batches import crystals
from sse_diffusion.thermo.chemistry import Chemistry
from sse_diffusion.thermo.conditions import load_judged_specs
from sse_diffusion.thermo.request import Interval, Request, parse_request

SIGMA = "conductivity_S_per_cm"
SPEC = load_judged_specs()[SIGMA]
FAST = Interval(1e-4, math.inf)
BOTH: dict[Stage, float] = {"discrete": 1.0, "final": 1.0}


class LithiumShare:
    """log10 sigma is -10 + 8 times the share of lithium; of what holds none it knows nothing."""

    name, unit = "log10_conductivity", "log10(S/cm)"

    def __init__(self, structures_only: bool = False) -> None:
        self.structures_only, self.asked = structures_only, list[Any]()

    def predict(self, structures: Sequence[Structure | Composition]) -> list[Quantity]:
        self.asked += structures
        return [self._one(s) for s in structures]

    def _one(self, crystal: Structure | Composition) -> Quantity:
        if isinstance(crystal, Composition) and self.structures_only:
            return Quantity.failed("needs a structure", self.unit)
        composition = crystal if isinstance(crystal, Composition) else crystal.composition
        share = composition.get_atomic_fraction("Li")
        if "Xe" in composition:
            return Quantity(-1.0, 3.0, self.unit, Status.UNCONVERGED, "outside the training domain")
        return Quantity(-10.0 + 8.0 * share, 1.5, self.unit) if share else Quantity.failed("no lithium", self.unit)


def closed(share: float, lo: float = -4.0) -> float:
    return float(norm.logsf((lo + 10.0 - 8.0 * share) / 1.5))


def sampled(model: CrystalModel, n: int, guides: Sequence[Guide] = (), particles: int = 1) -> list[float]:
    request = Request({}, Chemistry(allow=frozenset({"Li", "O", "Cl"}), n_atoms=(2, 12)))
    config = SamplerConfig(steps=2, particles=particles, types=None)
    made, _ = sample_batch(model, request, torch.arange(n), 0, config, guides=guides)
    return [c.to_structure().composition.get_atomic_fraction("Li") for c in made]


def test_likelihood_is_the_closed_form_and_compositions_are_asked_once(judging: CrystalModel) -> None:
    predictor = LithiumShare()
    guide = PredictorGuide(judging, SPEC, predictor, FAST, {"discrete": 2.0})
    predictor.asked.clear()
    batch = crystals(judging, "Li2O", "LiCl", "Li2O", "NaCl", "LiXe")
    found = guide.log_likelihood(Seen("discrete", batch)).tolist()
    assert found[:3] == pytest.approx([2 * closed(2 / 3), 2 * closed(1 / 2), 2 * closed(2 / 3)], abs=1e-9)
    assert found[3] == found[4] == 2 * NEVER and len(predictor.asked) == 4  # no answer; one outside the domain
    narrow = PredictorGuide(judging, SPEC, predictor, Interval(1e-9, 1e-5), {"discrete": 1.0})
    expected = norm.cdf((-5 + 10 - 4) / 1.5) - norm.cdf((-9 + 10 - 4) / 1.5)  # LiCl: mean -6; both ends are read
    assert narrow.log_p(Seen("discrete", batch))[1].item() == pytest.approx(math.log(expected), abs=1e-9)


def test_compositions_are_judged_before_coordinates_and_structures_after(judging: CrystalModel) -> None:
    assert PredictorGuide(judging, SPEC, LithiumShare(), FAST, BOTH).stages == {"discrete"}
    only = PredictorGuide(judging, SPEC, LithiumShare(structures_only=True), FAST, BOTH)
    seen = Seen("final", crystals(judging, "Li2O", "LiCl"))
    assert only.stages == {"final"}
    assert only.log_likelihood(seen).tolist() == pytest.approx([closed(2 / 3), closed(1 / 2)], abs=1e-9)


def test_particles_move_to_what_the_predictor_likes(judging: CrystalModel) -> None:
    guide = PredictorGuide(judging, SPEC, LithiumShare(), FAST, {"discrete": 1.0})
    free, steered = sampled(judging, 40), sampled(judging, 40, [guide], 16)
    assert np.mean(steered) > np.mean(free) + 0.15


def test_what_does_not_fit_is_said(judging: CrystalModel) -> None:
    with pytest.raises(ConfigError, match="finish_particles"):
        PredictorGuide(judging, SPEC, LithiumShare(structures_only=True), FAST, {"discrete": 1.0})
    other = LithiumShare()
    other.unit = "S/cm"
    with pytest.raises(ConfigError, match=r"log10\(S/cm\)"):
        PredictorGuide(judging, SPEC, other, FAST, BOTH)


def test_a_request_with_units_reaches_the_predictor_at_its_state_point(
    judging: CrystalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = {**load_judged_specs(), **judging.specs}
    request = parse_request({SIGMA: ">0.1 mS/cm", "temperature_K": "60 C"}, specs)
    asked = request.conditions[SIGMA]
    assert isinstance(asked, Interval) and asked.lo == pytest.approx(1e-4) and asked.hi == math.inf
    called: list[Any] = []
    monkeypatch.setattr(choose, "load_predictor", lambda name, **state: called.append((name, state)) or LithiumShare())
    state = request.temperature_K, request.pressure_GPa
    guides = choose_guides(judging, {SIGMA: asked}, SamplerConfig(particles=4), (), state)
    assert [type(g) for g in guides] == [PredictorGuide]
    assert called == [("log10_conductivity", {"temperature_K": pytest.approx(333.15), "pressure_GPa": state[1]})]
    with pytest.raises(ConfigError, match="particles"):
        choose_guides(judging, {SIGMA: asked}, SamplerConfig(), (), state)


def test_another_ion_than_the_predictors_is_refused(judging: CrystalModel) -> None:
    with pytest.raises(ConfigError, match=r"knows Li only, ask\.mobile_ion is Na"):
        choose_guides(judging, {SIGMA: FAST, "mobile_ion": "Na"}, SamplerConfig(particles=4), (), (300.0, 1e-4))


def test_a_chemistry_that_the_predictor_does_not_know_is_said(judging: CrystalModel, caplog: pytest.LogCaptureFixture) -> None:
    guide = PredictorGuide(judging, SPEC, LithiumShare(), FAST, BOTH)
    guide.log_p(Seen("discrete", crystals(judging, "NaCl", "LiCl")))
    assert not caplog.messages
    guide.log_p(Seen("discrete", crystals(judging, "NaCl", "KCl")))
    assert "answers for none of 2 crystals" in caplog.text


@pytest.mark.parametrize("spec", load_judged_specs().values(), ids=lambda s: s.name)
def test_every_judged_property_has_a_predictor_in_its_unit(spec: Any) -> None:
    predictor = load_predictor(spec.predictor)
    assert predictor.unit == (f"log10({spec.unit})" if spec.transform == "log10" else spec.unit)


def test_a_judged_file_without_predictor_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "thermo" / "judged"
    folder.mkdir(parents=True)
    (folder / "wish_eV.yaml").write_text("{unit: eV, kind: continuous, label: wish_eV}")
    with pytest.raises(ConfigError, match="judged by nobody"):
        load_judged_specs(tmp_path)


def test_other_weights_of_the_judge_make_another_question(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert judges_of(["band_gap_eV"]) == {}
    before = judges_of([SIGMA, "band_gap_eV"])
    assert set(before) == {SIGMA} and judges_of([SIGMA]) == before
    (tmp_path / "config.json").write_text('{"weights_sha256": "another"}')
    monkeypatch.setattr(registry, "checkpoint_dir", lambda name: tmp_path)
    assert judges_of([SIGMA]) != before
