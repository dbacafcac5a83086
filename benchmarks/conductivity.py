"""What each choice of the conductivity predictor is worth, by grouped cross-validation: conductivity.py STUDY ...

Studies: likelihood (censored limits, noise per table, left-out groups; against a textbook process), barriers (bond-valence
barriers as cheap labels), soft_labels (conductivities of our own dynamics; runs=FOLDER,FOLDER), hyperparameters (Bayesian
optimisation against gradient restarts), activation (activation energies against series at several temperatures), network (a graph
network on top, conductivity_network.py), curve (error against the share of training groups), speed. Tables: those of
`sse train experiment=predictor_conductivity`. Results: results/conductivity.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from conductivity_network import network
from numpy.typing import NDArray
from tqdm import tqdm

from sse_diffusion.core.atomic_files import read_json, write_json_atomically
from sse_diffusion.core.compose import compose
from sse_diffusion.core.task import prepare_task
from sse_diffusion.data.grouped import connected_groups
from sse_diffusion.predictors.conductivity.arrhenius import REFERENCE_K, inverse_temperature, log10_sigma
from sse_diffusion.predictors.conductivity.censoring import negative_log_likelihood
from sse_diffusion.predictors.conductivity.crossval import Fold, cross_validate, make_folds, scored
from sse_diffusion.predictors.conductivity.gaussian_process import (
    ArrheniusGaussianProcess,
    GaussianProcessConfig,
    Hyperparameters,
    Observations,
    log_left_out_density,
)
from sse_diffusion.predictors.conductivity.inputs import Inputs, inputs_of
from sse_diffusion.predictors.conductivity.model import SERIES_SPAN, ConductivityModel, observations_of
from sse_diffusion.predictors.conductivity.scores import mean_difference, score
from sse_diffusion.predictors.conductivity.soft_labels import read_soft_labels
from sse_diffusion.predictors.conductivity.tables import ConductivityRow, read_conductivities

RESULTS = Path(__file__).parent / "results" / "conductivity.json"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "conductivity_learning_curve.png"
SHARES = (0.25, 0.5)
PREFACTOR_SHARES = (0.0, 0.5, 1.0)
Rows = Sequence[ConductivityRow]
Array = NDArray[np.float64]


def likelihood(rows: Rows, inputs: Inputs, folds: Sequence[Fold]) -> dict[str, Any]:
    """Held-out negative log likelihood of the Gaussian process alone, without interval calibration: OBELiX, then both tables."""

    def one_table(o: Observations) -> Observations:
        return replace(o, table=np.zeros_like(o.table))

    textbook = GaussianProcessConfig(objective="marginal", censored=False)
    variants = {
        "full": (GaussianProcessConfig(), lambda o: o),
        "exact_limits": (GaussianProcessConfig(censored=False), lambda o: o),
        "plain": (textbook, one_table),
    }
    every = [*folds, *make_folds(rows, "liverpool", "paper")]
    losses = {name: _losses(rows, inputs, every, *choice) for name, choice in variants.items()}
    n = sum(len(fold.test) for fold in folds)
    first = {name: (loss[:n], error[:n]) for name, (loss, error) in losses.items()}
    return {
        table: {**_paired(rows, part, found, "full", "plain"), **_paired(rows, part, found, "full", "exact_limits")}
        for table, part, found in (("obelix", folds, first), ("both", every, losses))
    }


def barriers(rows: Rows, inputs: Inputs, folds: Sequence[Fold], n_cheap: int = 150) -> dict[str, Any]:
    """Bond-valence barriers of Materials Project crystals as a second, noisier table of log10 sigma(300 K).

    The scale of the labels (a - b E_3D) is fitted on compositions that both tables hold; a table of its own has its own noise.
    Compositions of the fold's test rows are left out.
    """
    cheap = _barrier_rows(rows, n_cheap)
    both, joined = [*rows, *cheap], _concatenate(inputs, inputs_of(cheap))
    extended = []
    for fold in folds:
        tested = {rows[i].key for i in fold.test}
        extra = [len(rows) + k for k, row in enumerate(cheap) if row.key not in tested]
        extended.append(Fold(np.concatenate([fold.train, extra]), fold.test))
    losses = {
        "with_barriers": _losses(both, joined, extended, GaussianProcessConfig(), lambda o: o),
        "without": _losses(rows, inputs, folds, GaussianProcessConfig(), lambda o: o),
    }
    return {"n_cheap": len(cheap), **_paired(both, folds, losses, "with_barriers", "without")}


def soft_labels(rows: Rows, inputs: Inputs, folds: Sequence[Fold], runs: str = "runs/gate") -> dict[str, Any]:
    """Conductivities that runs of `sse verify` and `sse design` computed, as soft labels; scored are measurements only.

    A label whose composition is in the test fold is left out there. `with_structures`: with the relaxed crystals of the labels.
    """
    from sse_diffusion.verification.conductivity_labels import write_soft_labels

    with TemporaryDirectory() as folder:
        table = Path(folder) / "md.csv"
        write_soft_labels(runs.split(","), table, structures=True)
        soft = read_soft_labels(table)
    both = {"with_soft": [*rows, *(replace(row, structure=None) for row in soft)], "with_structures": [*rows, *soft]}
    measured = [*folds, *make_folds(rows, "liverpool", "paper")]
    n = sum(len(fold.test) for fold in folds)
    losses = {"without": _losses(rows, inputs, measured, GaussianProcessConfig(), lambda o: o)}
    for name, together in both.items():
        joined = _concatenate(inputs, inputs_of(together[len(rows) :]))
        every = [
            *make_folds(together, "obelix", "paper and composition"), *make_folds(together, "liverpool", "paper")
        ]  # fmt: skip
        losses[name] = _losses(together, joined, every, GaussianProcessConfig(), lambda o: o)
    first = {name: (loss[:n], error[:n]) for name, (loss, error) in losses.items()}
    record: dict[str, Any] = {"labels": {row.id.split("/")[1]: _shown(row) for row in soft}}
    for table_name, part, found in (("obelix", folds, first), ("both", measured, losses)):
        pairs = [_paired(rows, part, found, name, "without") for name in both]
        record[table_name] = {**pairs[0], **pairs[1]}
    return record


def _shown(row: ConductivityRow) -> str:
    value = f"{row.log10_sigma:.2f}"
    return f"{row.temperature_K:g} K: " + (f"<{value}" if row.limit else f"{value} +- {row.sd:.2f}")


def hyperparameters(rows: Rows, inputs: Inputs, folds: Sequence[Fold], n_evaluations: int = 24) -> dict[str, Any]:
    """First fold only: the left-out density of 350 training rows by Bayesian optimisation (botorch, log expected improvement over
    seven log factors) and by gradient ascent from three seeds, and what each predicts for the held-out rows."""
    train, test = folds[0].train, folds[0].test
    o, x_train = observations_of([rows[i] for i in train]), inputs.take(train)
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(len(train))[:350])
    start = ArrheniusGaussianProcess.fit(x_train, o, GaussianProcessConfig(steps=0))

    def density(parameters: Hyperparameters) -> float:
        with torch.no_grad():
            part = o.take(chosen)
            return float(log_left_out_density(parameters, start.x[chosen], part, part.groups)) / len(chosen)

    def judged(parameters: Hyperparameters, seconds: float) -> dict[str, float]:
        process = ArrheniusGaussianProcess(parameters, start.scaling, x_train, o)
        loss, error = _loss(process, [rows[i] for i in test], inputs.take(test))
        found = {"left_out_density": density(parameters), "held_out_nll": float(loss.mean()), "held_out_mae": float(error.mean())}
        return {**{k: round(v, 4) for k, v in found.items()}, "seconds": round(seconds, 1)}

    result: dict[str, Any] = {}
    for seed in range(3):
        begun = time.process_time()
        fitted = ArrheniusGaussianProcess.fit(x_train, o, GaussianProcessConfig(seed=seed)).parameters
        result[f"gradient_seed{seed}"] = judged(fitted, time.process_time() - begun)
    begun = time.process_time()
    best = _bayesian_optimum(lambda u: density(_scaled_parameters(u)), n_evaluations)
    result["bayesian_optimisation"] = judged(_scaled_parameters(best), time.process_time() - begun)
    return {"n_evaluations": n_evaluations, **result}


def activation(rows: Rows, inputs: Inputs, folds: Sequence[Fold]) -> dict[str, Any]:
    """Out-of-fold activation energies of Liverpool's papers beside the slopes of its series, and errors of all rows, by seed and
    by the share of the barrier of one prefactor (0: the process alone)."""
    _, config = prepare_task(compose("experiment/predictor_conductivity"))
    papers = make_folds(rows, "liverpool", "paper")
    tested = np.concatenate([fold.test for fold in papers])
    row_group = connected_groups([rows[i].doi for i in tested], [rows[i].key for i in tested])
    series = _series(rows, tested)
    slope, at_300K = (np.array(column) for column in zip(*(line for _, line in series), strict=True))
    group = connected_groups([rows[m[0]].doi for m, _ in series])
    result: dict[str, Any] = {
        "series": len(series),
        "papers": len(np.unique(group)),
        "slope_mae_of_the_median_eV": round(float(np.abs(slope - np.median(slope)).mean()), 4),
        "slope_per_decade_at_300K_eV": round(float(np.polyfit(at_300K, slope, 1)[0]), 4),
        "slope_pearson_with_at_300K": round(float(np.corrcoef(at_300K, slope)[0, 1]), 3),
    }
    for seed in range(3):
        choices = replace(config.model, gaussian_process=replace(config.model.gaussian_process, seed=seed))
        told = {share: np.full((2, len(rows)), np.nan) for share in PREFACTOR_SHARES}
        for fold in tqdm(papers, f"folds, seed {seed}"):
            observed = observations_of([rows[i] for i in fold.train])
            model = ConductivityModel.fit(inputs.take(fold.train), observed, choices)
            for share, values in told.items():
                stack = replace(model.stack, prefactor_share=share)
                forecast = replace(model, stack=stack).predict(inputs.take(fold.test))
                values[:, fold.test] = forecast.activation_eV, forecast.log10_sigma
        truth = np.array([row.log10_sigma for row in rows])
        slopes = {share: np.array([values[0, m].mean() for m, _ in series]) for share, values in told.items()}
        errors = {share: np.abs(values[1] - truth)[tested] for share, values in told.items()}
        result[f"seed{seed}"] = {
            f"share{share:g}": {
                "mae": round(float(errors[share].mean()), 4),
                "slope_mae_eV": round(float(np.abs(slopes[share] - slope).mean()), 4),
                "slope_pearson": round(float(np.corrcoef(slopes[share], slope)[0, 1]), 3),
                "slope_mae_minus_share0": mean_difference(np.abs(slopes[share] - slope), np.abs(slopes[0.0] - slope), group),
                "mae_minus_share0": mean_difference(errors[share], errors[0.0], row_group),
            }
            for share in PREFACTOR_SHARES
        }
    return result


def _series(rows: Rows, chosen: NDArray[np.int64]) -> list[tuple[list[int], tuple[float, float]]]:
    """Rows of one material in one paper at several temperatures; of their line E_a and log10(sigma T) at 300 K."""
    members: dict[tuple[str | None, str], list[int]] = {}
    for i in chosen.tolist():
        if not rows[i].censored:
            members.setdefault((rows[i].doi, rows[i].key), []).append(i)
    found = []
    for numbers in members.values():
        t: Array = inverse_temperature(np.array([rows[i].temperature_K for i in numbers]))
        if np.ptp(t) > SERIES_SPAN:
            y = observations_of([rows[i] for i in numbers]).value
            falling, level = np.polyfit(t - inverse_temperature(REFERENCE_K), y, 1)
            found.append((numbers, (-float(falling), float(level))))
    return [(numbers, line) for numbers, line in found if line[0] > 0]


def curve(rows: Rows, inputs: Inputs, folds: Sequence[Fold]) -> dict[str, Any]:
    """Error of the whole model against the share of the training groups (papers and compositions) it sees."""
    _, config = prepare_task(compose("experiment/predictor_conductivity"))
    groups = connected_groups([row.doi for row in rows], [row.key for row in rows])
    points = []
    for share in SHARES:
        kept = np.random.default_rng(0).permutation(groups.max() + 1)[: round(share * (groups.max() + 1))]
        forecast = cross_validate(
            rows, inputs, folds, config.model, subset=lambda train, kept=kept: train[np.isin(groups[train], kept)]
        )
        found = score(
            scored(rows, forecast, np.concatenate([fold.test for fold in folds])), ["mae", "mae_with_cif", "coverage95"]
        )
        points.append({"share": share, **{k: v for k, v in found.items() if k.startswith(("mae", "coverage"))}})
    whole = (read_json(Path(__file__).parents[1] / "checkpoints" / "conductivity" / "metrics.json") or {}).get("obelix")
    if whole:
        points.append({"share": 1.0, **{k: whole[k] for k in points[0] if k != "share"}})
    _draw(points)
    return {"points": points}


def speed(rows: Rows, inputs: Inputs, folds: Sequence[Fold]) -> dict[str, Any]:
    """Predictions per second of processor time: compositions, and structures with partial occupancies."""
    from sse_diffusion.predictors.conductivity.predictor import ConductivityPredictor

    predictor = ConductivityPredictor.load()
    compositions = [row.composition for row in rows] * 4
    structures = [row.structure for row in rows if row.structure is not None]
    result = {}
    for name, crystals in (("compositions", compositions), ("structures", structures)):
        predictor.predict(crystals[:20])
        begun = time.process_time()
        predictor.predict(crystals)  # type: ignore[arg-type]
        result[f"{name}_per_second"] = round(len(crystals) / (time.process_time() - begun))
    return result


STUDIES: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function
    for function in (likelihood, barriers, soft_labels, hyperparameters, activation, network, curve, speed)
}


def _losses(
    rows: Rows,
    inputs: Inputs,
    folds: Sequence[Fold],
    config: GaussianProcessConfig,
    change: Callable[[Observations], Observations],
) -> tuple[Array, Array]:
    """Negative log likelihood and |error| of every tested row, in the order of the folds."""
    parts = []
    for fold in tqdm(folds, "folds"):
        o = change(observations_of([rows[i] for i in fold.train]))
        process = ArrheniusGaussianProcess.fit(inputs.take(fold.train), o, config)
        parts.append(_loss(process, [rows[i] for i in fold.test], inputs.take(fold.test)))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _loss(process: ArrheniusGaussianProcess, rows: Rows, inputs: Inputs) -> tuple[Array, Array]:
    at_300K, activation, variance = process.predict(inputs)
    value = log10_sigma(at_300K, activation, inputs.temperature_K)
    truth = observations_of(rows).value - np.log10(inputs.temperature_K)
    censored = np.array([row.censored for row in rows])
    loss = negative_log_likelihood(value, np.sqrt(variance), truth, censored)
    return loss, np.abs(value - np.array([row.log10_sigma for row in rows]))


def _paired(rows: Rows, folds: Sequence[Fold], losses: dict[str, tuple[Array, Array]], first: str, second: str) -> dict[str, Any]:
    tested = [rows[i] for fold in folds for i in fold.test]
    group = connected_groups([row.doi for row in tested], [row.key for row in tested])
    result: dict[str, Any] = {f"{name}_nll": round(float(loss.mean()), 4) for name, (loss, _) in losses.items()}
    result |= {f"{name}_mae": round(float(error.mean()), 4) for name, (_, error) in losses.items()}
    for k, what in enumerate(("nll", "mae")):
        result[f"{what}_{first}_minus_{second}"] = mean_difference(losses[first][k], losses[second][k], group)
    return result


def _barrier_rows(rows: Rows, n: int) -> list[ConductivityRow]:
    """Crystals on or near the hull with a bond-valence barrier, as measurements of another table."""
    import pandas as pd
    from pymatgen.core import Composition

    assets = Path(__file__).parents[1] / "sse_diffusion" / "thermo" / "assets"
    table = pd.read_csv(assets / "migration_barriers.csv.xz").query("ion == 'Li' and e_3d_eV < 6")
    energies = compose("experiment/predictor_stability_composition").energies
    known = pd.read_csv(energies, low_memory=False, keep_default_na=False).rename(columns={"material_id": "id"})
    table = table.merge(known[["id", "formula", "e_above_hull"]], on="id").astype({"e_above_hull": float})
    table = table.sort_values("e_3d_eV").drop_duplicates("formula")
    keys = [ConductivityRow("", Composition(formula)).key for formula in table.formula]
    measured = {row.key: row.log10_sigma for row in rows if 290 < row.temperature_K < 310}
    shared = [(barrier, measured[key]) for barrier, key in zip(table.e_3d_eV, keys, strict=True) if key in measured]
    slope, level = np.polyfit(*np.array(shared).T, 1)
    print(f"{len(shared)} shared compositions: log10 sigma = {level:.2f} + {slope:.2f} E_3D")
    chosen = table[table.e_above_hull < 0.1].sample(n, random_state=0)
    return [
        ConductivityRow(
            item.id, Composition(item.formula), log10_sigma=float(max(level + slope * item.e_3d_eV, -9.9)), source="zz_barriers"
        )
        for item in chosen.itertuples()
    ]


def _concatenate(first: Inputs, second: Inputs) -> Inputs:
    return Inputs(*(np.concatenate([getattr(first, name), getattr(second, name)]) for name in Inputs.__dataclass_fields__))


def _scaled_parameters(log_factors: Array) -> Hyperparameters:
    """Default hyperparameters times exp(log_factors): four variances, two lengths, noise."""
    parameters = Hyperparameters(2)
    kernel, factors = parameters.kernel, np.exp(log_factors).tolist()
    for part, factor in zip(kernel.prefactor, factors[:4], strict=True):
        part.outputscale = part.outputscale * factor
    for part, factor in zip(list(kernel.prefactor)[:2], factors[4:6], strict=True):
        part.base_kernel.lengthscale = part.base_kernel.lengthscale * factor
    parameters.log_noise.data += float(log_factors[6])
    return parameters


def _bayesian_optimum(objective: Callable[[Array], float], n: int, dimensions: int = 7, reach: float = 1.5) -> Array:
    """The best of n evaluations: a Sobol design, then log expected improvement."""
    from botorch.acquisition import LogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.optim import optimize_acqf
    from botorch.utils.sampling import draw_sobol_samples
    from gpytorch.mlls import ExactMarginalLogLikelihood

    bounds = torch.tensor([[-reach] * dimensions, [reach] * dimensions], dtype=torch.double)
    tried = draw_sobol_samples(bounds, n // 3, 1, seed=0).squeeze(1).double()
    reached = torch.tensor([[objective(u.numpy())] for u in tried], dtype=torch.double)
    for _ in tqdm(range(n - len(tried)), "Bayesian optimisation"):
        surrogate = SingleTaskGP((tried + reach) / (2 * reach), (reached - reached.mean()) / reached.std())
        fit_gpytorch_mll(ExactMarginalLogLikelihood(surrogate.likelihood, surrogate))
        improvement = LogExpectedImprovement(surrogate, ((reached - reached.mean()) / reached.std()).max())
        unit = torch.stack([torch.zeros(dimensions), torch.ones(dimensions)]).double()
        point, _ = optimize_acqf(improvement, unit, q=1, num_restarts=2, raw_samples=32)
        point = point * 2 * reach - reach
        tried, value = torch.cat([tried, point]), objective(point[0].numpy())
        reached = torch.cat([reached, torch.tensor([[value]], dtype=torch.double)])
    return np.asarray(tried[reached.argmax()].numpy())


def _draw(points: Sequence[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    share = [p["share"] for p in points]
    for key, label in (("mae", "all rows"), ("mae_with_cif", "rows with CIF")):
        value, interval = np.array([p[key] for p in points]), np.array([p[f"{key}_ci95"] for p in points])
        axes.errorbar(share, value, np.abs(interval.T - value), marker="o", capsize=3, label=label)
    axes.set(xlabel="share of training groups", ylabel="MAE of log10 sigma (S/cm)", xlim=(0, 1.05), ylim=(0, None))
    axes.legend(frameon=False)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=150)


def main() -> None:
    """Run the studies that are named, on OBELiX's grouped folds; results of others are kept."""
    torch.set_num_threads(1)
    _, config = prepare_task(compose("experiment/predictor_conductivity"))
    rows = read_conductivities(config.obelix, config.obelix_cifs, "obelix") + read_conductivities(
        config.liverpool, source="liverpool"
    )
    inputs = inputs_of(rows)
    folds = make_folds(rows, "obelix", "paper and composition", config.n_folds, config.seed)
    options = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    for name in [a for a in sys.argv[1:] if "=" not in a] or STUDIES:
        found = STUDIES[name](rows, inputs, folds, **(options if name in ("soft_labels", "network") else {}))
        print(name, found, flush=True)
        known = read_json(RESULTS) or {}
        write_json_atomically(RESULTS, {**known, name: {**known.get(name, {}), **found}})


if __name__ == "__main__":
    main()
