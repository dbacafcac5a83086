"""Soft labels: each counts with its own noise, a limit only pulls down, and only measurements are what the predictor knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition

from sse_diffusion.core.errors import DataError
from sse_diffusion.predictors.conductivity.crossval import make_folds
from sse_diffusion.predictors.conductivity.gaussian_process import (
    ArrheniusGaussianProcess,
    GaussianProcessConfig,
    log_left_out_density,
)
from sse_diffusion.predictors.conductivity.inputs import inputs_of
from sse_diffusion.predictors.conductivity.model import ConductivityModel, ConductivityModelConfig, observations_of
from sse_diffusion.predictors.conductivity.predictor import ConductivityPredictor, domain_features
from sse_diffusion.predictors.conductivity.soft_labels import read_soft_labels
from sse_diffusion.predictors.conductivity.tables import ConductivityRow
from sse_diffusion.predictors.conductivity.trees import TreesConfig
from sse_diffusion.predictors.domain import DomainDistance

NEW = Composition("Li3Ge2S3O2")
SMALL = GaussianProcessConfig(steps=3, rows=60)


def label(value: float, sd: float, limit: bool = False, composition: Composition = NEW) -> ConductivityRow:
    return ConductivityRow("md", composition, temperature_K=1000.0, log10_sigma=value, limit=limit, sd=sd, source="md")


def process(rows: list[ConductivityRow], noise: float = 0.0, offset: float = 0.0) -> ArrheniusGaussianProcess:
    config = replace(SMALL, steps=0, soft_noise=noise, soft_offset=offset)
    return ArrheniusGaussianProcess.fit(inputs_of(rows), observations_of(rows), config)


def told(process: ArrheniusGaussianProcess, rows: list[ConductivityRow]) -> np.ndarray:
    """log10 sigma at the rows' temperatures."""
    inputs = inputs_of(rows)
    at_300K, activation, _ = process.predict(inputs)
    x = process.scaling.matrix(inputs)[:, 0].numpy()
    return at_300K - activation * x - np.log10(inputs.temperature_K)


def test_a_sharp_label_is_met_and_a_vague_one_changes_nothing(rows: list[ConductivityRow]) -> None:
    others = [replace(row, sd=np.nan) for row in rows[:60]]
    asked = [label(0.0, 0.0), *others[:5]]
    before = told(process(others), asked)
    sharp = told(process([*others, label(before[0] + 2, 1e-3)]), asked)
    vague = told(process([*others, label(before[0] + 2, 1e3)]), asked)
    assert sharp[0] == pytest.approx(before[0] + 2, abs=0.01)
    assert vague == pytest.approx(before, abs=1e-3)


def test_noise_and_offset_add_to_the_label_s_own_deviation(rows: list[ConductivityRow]) -> None:
    """One label: posterior mean m + v (y - m) / (v + sd^2 + noise^2 + offset^2)."""
    plain = process(rows)
    prior = told(plain, [label(0.0, 0.0)])[0]
    _, _, total = plain.predict(inputs_of([label(0.0, 0.0)]))
    variance = float(total[0] - plain.parameters.largest_noise)
    found = told(process([*rows, label(prior + 3, 0.3)], noise=0.4, offset=1.2), [label(0.0, 0.0)])[0]
    assert found - prior == pytest.approx(3 * variance / (variance + 0.3**2 + 0.4**2 + 1.2**2), rel=1e-3)


def test_what_a_whole_table_shares_is_its_offset(rows: list[ConductivityRow]) -> None:
    soft = [label(row.log10_sigma + 3.0, 0.1, composition=row.composition) for row in rows[:30]]
    soft = [replace(s, temperature_K=row.temperature_K) for s, row in zip(soft, rows, strict=False)]
    truth = np.array([row.log10_sigma for row in rows[:30]])
    rest = rows[30:]
    fixed, free = (told(process([*rest, *soft], 0.1, offset), rows[:30]) - truth for offset in (0.0, 5.0))
    assert fixed.mean() > 2.5
    assert abs(free.mean()) < 0.7


def test_an_upper_bound_pulls_down_only_what_lies_above(rows: list[ConductivityRow]) -> None:
    asked = [label(0.0, 0.0)]
    before = told(process(rows), asked)[0]
    low, high = (told(process([*rows, label(before + shift, 0.0, limit=True)], 0.1), asked)[0] for shift in (-3.0, 8.0))
    assert low < before - 2
    assert high == pytest.approx(before, abs=0.05)


def test_hyperparameters_are_judged_by_measurements(rows: list[ConductivityRow]) -> None:
    """The left-out density has no term of a soft label: a far label that says nonsense costs nothing."""
    far = label(99.0, 50.0, composition=Composition("LiUO3"))
    values = []
    for extra in (far, replace(far, log10_sigma=-99.0)):
        some = process([*rows[:40], extra], noise=50.0)
        o = some.observations
        values.append(float(log_left_out_density(some.parameters, some.x, o, o.groups)))
    assert values[0] == pytest.approx(values[1], abs=0.2)


def test_the_domain_is_that_of_measurements_and_the_checkpoint_keeps_the_labels(
    rows: list[ConductivityRow], tmp_path: Path
) -> None:
    uranium = Composition("LiUO3")
    soft = [label(-1.0, 0.2, composition=uranium * k) for k in (1, 2, 3, 4)]
    together = [*rows, *soft]
    config = ConductivityModelConfig(gaussian_process=SMALL, trees=TreesConfig(trees=5), inner_folds=3)
    inputs = inputs_of(together)
    predictor = ConductivityPredictor.of(ConductivityModel.fit(inputs, observations_of(together), config), together, inputs)
    answer = predictor.predict([uranium])[0]
    assert "U in 0" in answer.reason
    measured = DomainDistance.fit(domain_features(inputs_of(rows)), observations_of(rows).groups)
    position = domain_features(inputs_of(soft))
    assert predictor.domain.distance(position) == pytest.approx(measured.distance(position))
    predictor.save(tmp_path)
    again = ConductivityPredictor.load(tmp_path)
    assert again.model.process.observations.measured.sum() == len(rows)
    assert again.predict([uranium])[0].value == pytest.approx(answer.value, abs=1e-6)


def test_a_label_of_a_tested_composition_does_not_train(rows: list[ConductivityRow]) -> None:
    together = [*rows, label(-1.0, 0.1, composition=rows[0].composition), label(-1.0, 0.1)]
    for fold in make_folds(together, "toy", "paper and composition"):
        assert (len(rows) in fold.train) is not (0 in fold.test)
        assert len(rows) + 1 in fold.train
        assert not set(fold.test) & {len(rows), len(rows) + 1}


HEAD = "id,composition,structure,temperature_K,log10_sigma,sd,status\n"


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "md.csv"
    lines = ["a,Li3N,,1000,0.7,0.1,ok", "b,LiF,,1000,-1,,upper_bound", "c,LiF,,800,-2,0.2,unconverged", "d,LiF,,800,,,failed"]
    path.write_text(HEAD + "\n".join(lines) + "\n")
    number, bound, drifting = read_soft_labels(path)
    assert (number.sd, number.limit, number.source, number.measured) == (0.1, False, "md", False)
    assert (bound.sd, bound.censored) == (0.0, True)
    assert drifting.sd == 0.4
    bad = {"a,Li3N,,hot,0.7,0.1,ok": "hot", "a,??,,1000,0.7,0.1,ok": "no label", "a,Li,x.cif,1,0,0,ok": "x.cif"}
    for cells, word in bad.items():
        path.write_text(HEAD + cells + "\n")
        with pytest.raises(DataError, match=word):
            read_soft_labels(path)
    path.write_text(HEAD)
    with pytest.raises(DataError, match="holds no label"):
        read_soft_labels(path)
