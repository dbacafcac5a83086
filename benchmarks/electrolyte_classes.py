"""Classes of solid electrolytes from descriptors alone: PCA and k-means, compared with the families that people gave them.

    python benchmarks/electrolyte_classes.py [obelix=...csv] [cifs=...zip] [liverpool=...csv] [crystals=...parquet] [seeds=10]

Two views: ``composition`` (OBELiX and Liverpool near room temperature, one row per composition) and ``structure`` (OBELiX rows
with a CIF, all descriptor families). Columns that hardly vary are left out, gaps take the median, columns are standardised, PCA
keeps 90 % of the variance, k-means runs on these components. The number of classes is the smallest whose mean silhouette is
within one standard deviation (over seeds) of the highest one. The lithium crystals of the Materials Project table are
projected afterwards: they shape nothing. Agreement with the human labels: adjusted Rand index (1 equal, 0 chance). Detection
limits count at their limit, so means of classes that hold any are upper bounds. Writes ``results/electrolyte_classes.json`` and
``docs/figures/electrolyte_classes.png``.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import options, write
from pymatgen.core import Structure

from sse_diffusion.data.hygiene import Standardiser
from sse_diffusion.data.tables import read_table
from sse_diffusion.predictors.conductivity.tables import ConductivityRow, read_conductivities
from sse_diffusion.predictors.descriptors.elasticity import with_elasticity
from sse_diffusion.predictors.descriptors.table import FAMILIES, DescriptorTable, describe
from sse_diffusion.predictors.mechanics import MechanicsPredictor

DATA = "../shared/data/"
ROOM_K = (285.0, 310.0)
VARIANCE = 0.9
CLASSES = range(3, 21)
MIN_VARYING = 0.02
"""Columns in which fewer rows than this share differ from the commonest value are left out."""
CLIP = 5.0
LITHIUM = 3


@dataclass(frozen=True)
class Electrolyte:
    """One material: what it is, what it conducts (log10 of S/cm) and what people call it."""

    crystal: Any
    log10_sigma: float
    family: str


def main() -> None:
    """Both views, their numbers and the figure."""
    given = options(
        sys.argv[1:],
        obelix=f"{DATA}conductivity/obelix_train.csv",
        cifs=f"{DATA}conductivity/obelix_train_cifs.zip",
        liverpool=f"{DATA}conductivity/liverpool_ionics.csv",
        crystals=f"{DATA}structures/mp_structures.parquet",
        seeds=10,
    )
    obelix = read_conductivities(given["obelix"], given["cifs"])
    room = [r for r in obelix + read_conductivities(given["liverpool"]) if ROOM_K[0] <= r.temperature_K <= ROOM_K[1]]
    table = read_table(given["crystals"])
    lithium = [Structure(row.lattice, row.species, row.frac) for row in table.rows if LITHIUM in row.species]
    views = {
        "composition": (by_composition(room), ("composition",)),
        "structure": ([electrolyte([r], r.structure) for r in obelix if r.structure is not None], FAMILIES),
    }
    looks = {name: look(rows, families, lithium, int(given["seeds"])) for name, (rows, families) in views.items()}
    draw(looks, Path(__file__).parents[1] / "docs" / "figures" / "electrolyte_classes.png")
    write("electrolyte_classes", {name: found["numbers"] for name, found in looks.items()}, speed=False)


def by_composition(rows: list[ConductivityRow]) -> list[Electrolyte]:
    """One material per composition: the mean of its labels."""
    groups: dict[str, list[ConductivityRow]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    return [electrolyte(group, group[0].composition) for group in groups.values()]


def electrolyte(rows: list[ConductivityRow], crystal: Any) -> Electrolyte:
    """Families of the two tables differ in capitals and plurals."""
    sigma = float(np.mean([max(row.log10_sigma, -10.0) for row in rows]))
    family = rows[0].family.strip().lower()
    return Electrolyte(crystal, sigma, family if family == "lgps" else family.removesuffix("s"))


def look(rows: list[Electrolyte], families: tuple[str, ...], lithium: list[Any], seeds: int) -> dict[str, Any]:
    """PCA, number of classes, classes and numbers of one view."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    table, known = (describe(crystals, families, progress=True) for crystals in ([row.crystal for row in rows], lithium))
    if families == FAMILIES:
        table, known = (with_elasticity(t, MechanicsPredictor.load()) for t in (table, known))
    features, others = standardised(table, known)
    pca = PCA(VARIANCE, svd_solver="full").fit(features)
    points, elsewhere = pca.transform(features), pca.transform(others)
    silhouettes = {k: [silhouette(points, k, seed) for seed in range(seeds)] for k in CLASSES}
    best = fewest_classes(silhouettes)
    runs = [KMeans(best, n_init=10, random_state=seed).fit(points) for seed in range(seeds)]
    model = min(runs, key=lambda run: run.inertia_)
    numbers = {
        "n": len(rows),
        "columns": features.shape[1],
        "explained_by_first_5": [round(float(x), 3) for x in pca.explained_variance_ratio_[:5]],
        "components_for_90_percent": int(pca.n_components_),
        "silhouette_by_k": {k: spread(values) for k, values in silhouettes.items()},
        "classes": best,
        **agreement(rows, [run.labels_ for run in runs]),
        "by_class": by_class(rows, model.labels_, model.predict(elsewhere)),
    }
    return {"points": points, "elsewhere": elsewhere, "labels": model.labels_, "rows": rows, "numbers": numbers, "pca": pca}


def standardised(table: DescriptorTable, known: DescriptorTable) -> tuple[np.ndarray, np.ndarray]:
    """The columns that vary, without gaps, in standard deviations of ``table``, of both tables."""
    medians = np.nan_to_num(np.nanmedian(np.where(np.isnan(table.values).all(0), 0.0, table.values), axis=0))
    filled = [np.where(t.missing, medians, t.values) for t in (table, known)]
    commonest = [max(np.unique(column, return_counts=True)[1]) for column in filled[0].T]
    keep = np.array(commonest) <= (1 - MIN_VARYING) * len(table.values)
    scale = Standardiser.fit(filled[0][:, keep])
    first, second = (np.clip(scale.apply(values[:, keep]), -CLIP, CLIP) for values in filled)
    return first, second


def fewest_classes(silhouettes: dict[int, list[float]]) -> int:
    """The smallest number whose mean silhouette lies within one standard deviation (over seeds) of the highest mean."""
    means = {k: float(np.mean(values)) for k, values in silhouettes.items()}
    highest = max(means, key=lambda k: means[k])
    return min(k for k, mean in means.items() if mean >= means[highest] - float(np.std(silhouettes[highest])))


def silhouette(points: np.ndarray, k: int, seed: int) -> float:
    """Mean silhouette of one k-means run."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(points, KMeans(k, n_init=3, random_state=seed).fit_predict(points)))


def agreement(rows: list[Electrolyte], labels: list[np.ndarray]) -> dict[str, Any]:
    """With the human families, and of the seeds with each other; the share of the variance of log10 sigma between classes."""
    from sklearn.metrics import adjusted_rand_score

    named, sigma = np.array([row.family != "" for row in rows]), np.array([row.log10_sigma for row in rows])
    families = [row.family for row in rows if row.family]
    between = [1 - sum(sigma[label == c].var() * (label == c).sum() for c in set(label.tolist())) / (sigma.var() * len(sigma))
               for label in labels]  # fmt: skip
    pairs = [adjusted_rand_score(a, b) for i, a in enumerate(labels) for b in labels[:i]]
    return {
        "adjusted_rand_index_with_families": spread([adjusted_rand_score(families, label[named]) for label in labels]),
        "adjusted_rand_index_between_seeds": spread(pairs),
        "human_families": len(set(families)),
        "variance_of_log10_sigma_between_classes": spread(between),
    }


def spread(values: list[float]) -> list[float]:
    """Mean, and the 2.5 and 97.5 percentile over seeds."""
    return [round(float(x), 3) for x in (np.mean(values), *np.quantile(values, [0.025, 0.975]))]


def by_class(rows: list[Electrolyte], labels: np.ndarray, elsewhere: np.ndarray) -> list[dict[str, Any]]:
    """Size, commonest families, mean log10 sigma with a bootstrap interval, best conductors first."""
    rng, result = np.random.default_rng(0), []
    for c in range(labels.max() + 1):
        members = [row for row, label in zip(rows, labels, strict=True) if label == c]
        sigma = np.array([row.log10_sigma for row in members])
        means = rng.choice(sigma, size=(1000, len(sigma))).mean(1)
        result.append(
            {
                "class": c,
                "n": len(members),
                "families": dict(Counter(row.family for row in members).most_common(3)),
                "mean_log10_sigma": round(float(sigma.mean()), 2),
                "interval_95": [round(float(x), 2) for x in np.quantile(means, [0.025, 0.975])],
                "share_above_1e-4": round(float((sigma > -4).mean()), 3),
                "lithium_crystals_of_the_materials_project": int((elsewhere == c).sum()),
            }
        )
    return sorted(result, key=lambda entry: -entry["mean_log10_sigma"])


def draw(looks: dict[str, dict[str, Any]], path: Path) -> None:
    """One row per view: classes, conductivity, mean conductivity of the classes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 9.2), width_ratios=[1, 1.15, 0.95], layout="constrained")
    for (classes, sigma, bars), (name, found) in zip(axes, looks.items(), strict=True):
        points, ratio = found["points"], found["pca"].explained_variance_ratio_
        colours = plt.get_cmap("tab20")(found["labels"] % 20)
        for axis in (classes, sigma):
            axis.scatter(*found["elsewhere"][:, :2].T, s=4, c="0.85", label="Li crystals of the Materials Project")
            axis.set_xlabel(f"component 1 ({ratio[0]:.0%} of the variance)")
            axis.set_ylabel(f"component 2 ({ratio[1]:.0%})")
            for set_limits, column in ((axis.set_xlim, points[:, 0]), (axis.set_ylim, points[:, 1])):
                margin = 0.15 * np.ptp(column)
                set_limits(column.min() - margin, column.max() + margin)
        classes.scatter(*points[:, :2].T, s=14, c=colours)
        classes.set_title(f"{name}: {found['numbers']['classes']} classes of {len(points)} electrolytes")
        shown = sigma.scatter(*points[:, :2].T, s=14, c=[row.log10_sigma for row in found["rows"]], cmap="viridis")
        figure.colorbar(shown, ax=sigma, label="log10 conductivity near 298 K, S/cm")
        sigma.legend(loc="upper right", fontsize=8)
        draw_means(bars, found["numbers"]["by_class"], plt.get_cmap("tab20"))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_means(axis: Any, classes: list[dict[str, Any]], colours: Any) -> None:
    """Mean log10 sigma of the classes with intervals, named after their commonest family."""
    for y, entry in enumerate(reversed(classes)):
        family, count = next(iter(entry["families"].items()))
        mean, (low, high) = entry["mean_log10_sigma"], entry["interval_95"]
        axis.errorbar(mean, y, xerr=[[mean - low], [high - mean]], fmt="o", color=colours(entry["class"] % 20), capsize=3)
        axis.annotate(f"{family} {count}/{entry['n']}", (high, y), xytext=(6, -3), textcoords="offset points", fontsize=8)
    axis.set_yticks([])
    axis.set_xlim(-11, 0.5)
    axis.set_xlabel("mean log10 conductivity of the class (95 % interval)")
    axis.set_title("commonest family / size of the class")


if __name__ == "__main__":
    main()
