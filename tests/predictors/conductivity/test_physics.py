"""Arrhenius by construction, limits as limits, closed forms that equal the long way."""

from __future__ import annotations

import numpy as np
import pytest

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.predictors.conductivity.arrhenius import (
    activation_of_prefactor,
    activation_volume_A3,
    inverse_temperature,
    log10_sigma,
)
from sse_diffusion.predictors.conductivity.censoring import below, censored_sites, negative_log_likelihood
from sse_diffusion.predictors.conductivity.crossval import make_folds
from sse_diffusion.predictors.conductivity.gaussian_process import ArrheniusGaussianProcess
from sse_diffusion.predictors.conductivity.inputs import inputs_of
from sse_diffusion.predictors.conductivity.model import (
    MIN_SERIES,
    TYPICAL_PREFACTOR,
    Stack,
    common_prefactor,
    observations_of,
)
from sse_diffusion.predictors.conductivity.predictor import ConductivityPredictor
from sse_diffusion.predictors.conductivity.scores import METRICS, Scored, score
from sse_diffusion.predictors.conductivity.tables import ConductivityRow
from sse_diffusion.predictors.conductivity.trees import Trees, TreesConfig


def test_arrhenius_law() -> None:
    temperature = np.array([250.0, 300.0, 400.0])
    sigma = log10_sigma(np.full(3, 1.0), np.full(3, 0.3), temperature)
    slope = np.diff(sigma + np.log10(temperature)) / np.diff(inverse_temperature(temperature))
    assert slope == pytest.approx([-0.3, -0.3])
    assert sigma[1] == pytest.approx(1.0 - np.log10(300))


def test_pressure_costs_what_the_activation_volume_says() -> None:
    volume = activation_volume_A3(np.array(0.3), np.array(50.0))
    assert float(volume) == pytest.approx(3.845, abs=0.01)
    lost = log10_sigma(np.array(0.0), np.array(0.3), np.array(300.0)) - log10_sigma(
        np.array(0.0), np.array(0.3), np.array(300.0), 0.5, volume
    )
    assert float(lost) == pytest.approx(0.2, abs=0.01)  # 500 MPa: about 0.2 decades, as measured


def test_predictions_rise_with_temperature_and_fall_with_pressure(checkpoint: object, rows: list[ConductivityRow]) -> None:
    crystals = [row.composition for row in rows[:8]]

    def at(temperature_K: float, pressure_GPa: float) -> np.ndarray:
        loaded = ConductivityPredictor.load(checkpoint, temperature_K, pressure_GPa)  # type: ignore[arg-type]
        return np.array([q.value for q in loaded.predict(crystals)])

    assert np.all(np.diff([at(t, 0.0) for t in (250.0, 300.0, 600.0)], axis=0) > 0)
    assert np.all(at(300.0, 1.0) < at(300.0, 0.0))
    with pytest.raises(ConfigError, match="temperature_K"):
        at(20.0, 0.0)


def test_law_is_learnt(predictor: ConductivityPredictor, rows: list[ConductivityRow]) -> None:
    told = predictor.quantities(rows)
    error = np.abs([q.value - row.log10_sigma for q, row in zip(told, rows, strict=True)])
    assert error.mean() < 0.3
    assert all(0.1 <= q.provenance["activation_eV"] <= 1.5 for q in told)
    assert all(q.provenance["in_training"] for q in told)


def test_one_prefactor_is_where_all_lines_begin() -> None:
    at_300K = np.array([-10.0, 0.5])
    activation = activation_of_prefactor(at_300K, 4.3)
    assert activation == pytest.approx([0.8512, 0.2262], abs=1e-3)
    endless = np.full(2, 1e9)
    assert log10_sigma(at_300K, activation, endless) + np.log10(endless) == pytest.approx([4.3, 4.3], abs=1e-4)


def test_the_prefactor_is_read_from_series_within_a_paper() -> None:
    """Materials with different barriers and one prefactor; a paper that measured its bad conductors hot says nothing of it."""
    from pymatgen.core import Composition

    def row(i: int, activation: float, temperature: float, doi: str) -> ConductivityRow:
        value = log10_sigma(np.array(3.7) - activation * inverse_temperature(300.0), np.array(activation), np.array(temperature))
        return ConductivityRow(
            "", Composition({"Li": 1 + i, "O": 1}), None, temperature_K=temperature, log10_sigma=float(value), doi=doi
        )

    lines = [row(i, 0.2 + 0.03 * i, t, f"10.1/{i // 2}") for i in range(MIN_SERIES) for t in (300.0, 350.0, 400.0)]
    alone = [row(50 + i, 0.2 + 0.1 * i, 300.0 + 60 * i, "10.1/x") for i in range(9)]
    temperature = np.array([r.temperature_K for r in lines + alone])
    assert common_prefactor(temperature, observations_of(lines + alone)) == pytest.approx(3.7)
    assert common_prefactor(temperature[:-12], observations_of(lines[:-3])) == TYPICAL_PREFACTOR


def test_insulators_get_the_higher_barriers() -> None:
    told = np.full(2, 0.25)
    arguments = np.array([-10.0, 0.0]), np.array([-10.0, 0.0]), told, np.ones(2), np.full(2, 300.0)
    half = Stack(share=0.5, prefactor_share=0.5, prefactor=4.3).forecast(*arguments).activation_eV
    assert half == pytest.approx((told + activation_of_prefactor(arguments[0], 4.3)) / 2)
    assert half[0] > half[1] + 0.25
    none = Stack(share=0.5, prefactor_share=0.0, prefactor=4.3).forecast(*arguments)
    assert none.activation_eV == pytest.approx(told)
    assert none.log10_sigma == pytest.approx(arguments[0] - np.log10(300.0))


def test_left_out_is_what_a_refit_predicts(predictor: ConductivityPredictor, rows: list[ConductivityRow]) -> None:
    process = predictor.model.process
    group = np.arange(len(rows)) // 12
    mean, variance = process.left_out(group)
    keep = group != 3
    inputs = predictor.inputs
    again = ArrheniusGaussianProcess(process.parameters, process.scaling, inputs.take(keep), process.observations.take(keep))
    at_300K, activation, spread = again.predict(inputs.take(~keep))
    direct = log10_sigma(at_300K, activation, inputs.temperature_K[~keep]) + np.log10(inputs.temperature_K[~keep])
    assert mean[~keep] == pytest.approx(direct, abs=1e-6)
    assert variance[~keep] == pytest.approx(spread, abs=1e-6)


def test_a_limit_pulls_down_only_what_lies_above_it() -> None:
    limit, noise = np.array([-10.0, -10.0]), np.array([0.1, 0.1])
    value, spread = censored_sites(np.array([-6.0, -14.0]), np.diag([4.0, 4.0]), limit, noise)
    posterior = (np.array([-6.0, -14.0]) / 4 + value / spread) / (1 / 4 + 1 / spread)
    exact, _ = below(np.array([-6.0, -14.0]), np.array([4.0, 4.0]), limit, noise)
    assert posterior == pytest.approx(exact, abs=0.02)  # one censored row alone: expectation propagation is exact
    assert posterior[0] < -9
    assert posterior[1] == pytest.approx(-14.0, abs=0.2)


def test_censored_likelihood() -> None:
    far_below = negative_log_likelihood(np.array([-14.0]), np.array([1.0]), np.array([-10.0]), np.array([True]))
    above = negative_log_likelihood(np.array([-6.0]), np.array([1.0]), np.array([-10.0]), np.array([True]))
    assert far_below[0] == pytest.approx(0.0, abs=1e-3)
    assert above[0] > 8


def test_trees_equal_scikit_learn() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    table = rng.normal(size=(200, 6))
    labels = table[:, 0] + table[:, 1] ** 2
    ours = Trees.fit(table, labels, TreesConfig(trees=10))
    theirs = ExtraTreesRegressor(10, min_samples_leaf=2, max_features=0.4, random_state=0).fit(table.astype(np.float32), labels)
    fresh = rng.normal(size=(500, 6))
    assert ours.predict(fresh) == pytest.approx(theirs.predict(fresh.astype(np.float32)), abs=1e-5)
    assert Trees.from_tensors(ours.tensors()).predict(fresh) == pytest.approx(ours.predict(fresh))


@pytest.mark.parametrize("grouping", ["paper", "paper and composition"])
def test_folds_share_nothing(rows: list[ConductivityRow], grouping: str) -> None:
    from dataclasses import replace

    other = [replace(row, source="other", doi=row.doi if i % 2 else f"10.2/{i}") for i, row in enumerate(rows)]
    both = [*rows, *other]
    folds = make_folds(both, "toy", grouping)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(rows)))
    for fold in folds:
        tested = {both[i].doi for i in fold.test} | {both[i].key for i in fold.test}
        assert not tested & {both[i].doi for i in fold.train}
        assert not tested & {both[i].key for i in fold.train if both[i].source == "other"}
    with pytest.raises(DataError, match="no row of table"):
        make_folds(rows, "nowhere", grouping)


def test_scores_of_a_perfect_and_of_a_constant_prediction() -> None:
    truth = np.linspace(-10, -1, 100)

    def of(value: np.ndarray) -> dict:
        half = np.full(100, 0.5)
        return score(Scored(truth, np.zeros(100, bool), truth > -5, np.arange(100) // 4, value, half, 2 * half), resamples=50)

    perfect, constant = of(truth), of(np.full(100, truth.mean()))
    assert (perfect["mae"], perfect["r2"], perfect["coverage95"]) == (0.0, 1.0, 1.0)
    assert perfect["enrichment_top10"] == pytest.approx(1 / perfect["base_rate"], abs=1e-3)
    assert constant["r2"] == pytest.approx(0.0)
    assert constant["mae_ci95"][0] < constant["mae"] < constant["mae_ci95"][1]
    assert {f"{name}_ci95" for name in METRICS} <= set(perfect)


def test_conventions_of_a_limit() -> None:
    s = Scored(
        np.array([-10.0, -12.0, -3.0]), np.array([True, False, False]), np.zeros(3, bool), np.arange(3),
        np.array([-12.0, -9.0, -4.0]), np.ones(3), np.full(3, 2.0),
    )  # fmt: skip
    assert METRICS["mae"](s) == pytest.approx((2 + 3 + 1) / 3)
    assert METRICS["mae_limit_as_1e_15"](s) == pytest.approx((3 + 3 + 1) / 3)
    assert METRICS["mae_censored"](s) == pytest.approx((0 + 1 + 1) / 3)
    assert METRICS["mae_uncensored"](s) == 1.0
    assert METRICS["coverage95"](s) == 1.0


def test_unknown_is_missing_and_structures_count(rows: list[ConductivityRow]) -> None:
    from dataclasses import replace

    from sse_diffusion.testing.predictor import rock_salt

    inputs = inputs_of([rows[0], replace(rows[0], structure=rock_salt("Li", "Cl")), replace(rows[0], space_group=225)])
    assert np.isnan(inputs.structure[0]).all()
    assert np.isfinite(inputs.cell[1]).all()
    assert inputs.cell[2, 2] == 7  # cubic
    assert observations_of(rows[:3]).paper.tolist() == [0, 0, 0]
