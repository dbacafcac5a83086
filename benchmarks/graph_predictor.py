"""What the graph predictor's numbers hold: on unrelaxed crystals, away from the training data, by size, and how fast it is.

    python benchmarks/graph_predictor.py [checkpoint=formation_energy] [structures=...] [volume=0.03] [noise_A=0.05] [seed=0]

On the val split of the structures table. perturbed: volume scaled by a factor drawn from 1 +- volume, coordinates moved by normal
noise of noise_A per axis; the label is that of the relaxed crystal (the noise itself costs energy, which is part of the error).
polymorphs: of the pairs of val crystals with one formula and labels at least 0.05 eV/atom apart, the share in the right order.
disordered: crystals of which two chemically alike elements (electronegativities within 0.8) sit on sites that are equivalent when
they count as one (tolerance 0.1 A) become solid solutions: these sites share both. The label is the ordered crystal's.
derived: energy above the hull as max(0, predicted formation energy - hull), the hull from the two labels. Written to
results/graph_predictor.json.
"""

from __future__ import annotations

import sys
import time
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from measure import one_core, options, write
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Structure

from sse_diffusion.data.tables import find_table
from sse_diffusion.predictors.composition_data import read_columns
from sse_diffusion.predictors.graph.crystals import CELL
from sse_diffusion.predictors.graph.graphs import find_orbits
from sse_diffusion.predictors.graph.predictor import GraphPredictor
from sse_diffusion.verification.metrics.rates import wilson

HULL, FORMATION = 0, 1
CLEAR_eV = 0.05
"""Polymorphs whose labels differ by at least this, eV/atom, are told apart."""


def val_structures(path: Path) -> tuple[list[Structure], NDArray[np.float64]]:
    """Crystals of the val split and their labels (n, 2): energy above the hull, formation energy."""
    columns = ["split", *CELL, "atomic_numbers", "frac_coords", "e_above_hull", "formation_energy_per_atom"]
    table = read_columns(path, columns)
    table = table[table.split == "val"]
    crystals = [
        Structure(
            Lattice.from_parameters(*(getattr(row, name) for name in CELL)),
            row.atomic_numbers,
            np.reshape(row.frac_coords, (-1, 3)),
        )
        for row in table.itertuples()
    ]
    return crystals, table[["e_above_hull", "formation_energy_per_atom"]].to_numpy(dtype=float)


def perturbed(crystal: Structure, volume: float, noise_A: float, rng: np.random.Generator) -> Structure:
    """Scaled by a random factor and with every atom moved."""
    scale = (1.0 + rng.uniform(-volume, volume)) ** (1.0 / 3.0)
    lattice = Lattice(crystal.lattice.matrix * scale)
    points = crystal.frac_coords @ lattice.matrix + rng.normal(0.0, noise_A, (len(crystal), 3))
    return Structure(lattice, crystal.species, points, coords_are_cartesian=True)


def solid_solution(crystal: Structure, alike: float = 0.8, symprec_A: float = 0.1) -> Structure | None:
    """The crystal with two of its elements mixed on the sites that their exchange maps onto each other; ``None`` without such."""
    numbers = np.array(crystal.atomic_numbers)
    x = {z: Element.from_Z(z).X for z in set(numbers.tolist())}
    for a, b in combinations(sorted(x), 2):
        if not abs(x[a] - x[b]) < alike:
            continue
        orbit = find_orbits(np.where(numbers == b, a, numbers), crystal.frac_coords, crystal.lattice.matrix, symprec_A)
        of_a = np.array([(numbers[orbit == o] == a).mean() for o in orbit])
        mixed = np.isin(numbers, (a, b)) & (of_a > 0) & (of_a < 1)
        if mixed.any():
            both = (Element.from_Z(a), Element.from_Z(b))
            content = [
                dict(zip(both, (f, 1 - f), strict=True)) if m else site.species
                for site, f, m in zip(crystal, of_a, mixed, strict=True)
            ]
            return Structure(crystal.lattice, content, crystal.frac_coords)
    return None


def disordered(predictor: GraphPredictor, crystals: list[Structure], labels: NDArray[np.float64]) -> dict[str, Any]:
    """Scores of solid solutions, of the crystals they were made from, and of their compositions alone; same labels."""
    found = [(crystal, mixed, y) for crystal, y in zip(crystals, labels, strict=True) if (mixed := solid_solution(crystal))]
    ordered, mixed, y = ([*column] for column in zip(*found, strict=True))
    told = {"mixed": answers(predictor, mixed), "ordered": answers(predictor, ordered)}
    alone = np.array([q.value for q in predictor.predict([crystal.composition for crystal in ordered])])
    shift = np.abs(told["mixed"]["value"] - told["ordered"]["value"]).mean()
    return {
        **{name: scores(values, np.array(y)) for name, values in told.items()},
        "composition_mae_eV_per_atom": round(float(np.abs(alone - y).mean()), 4),
        "mixed_from_ordered_eV_per_atom": round(float(shift), 4),
    }


def answers(predictor: GraphPredictor, crystals: list[Structure]) -> dict[str, NDArray[np.float64]]:
    """Formation energies with intervals and domain percentiles, and the seconds of processor time."""
    started = time.process_time()
    found = predictor.predict(crystals)
    seconds = time.process_time() - started
    return {
        "value": np.array([q.value for q in found]),
        "half_68": np.array([q.uncertainty for q in found]),
        "interval": np.array([q.provenance["interval_95"] for q in found]),
        "percentile": np.array([q.provenance["domain_percentile"] for q in found]),
        "per_second": np.array(len(crystals) / seconds),
    }


def scores(found: dict[str, NDArray[np.float64]], labels: NDArray[np.float64]) -> dict[str, float]:
    """Error, bias and coverage."""
    error = found["value"] - labels
    inside_95 = (found["interval"][:, 0] <= labels) & (labels <= found["interval"][:, 1])
    numbers = {
        "mae_eV_per_atom": np.abs(error).mean(),
        "mean_error_eV_per_atom": error.mean(),
        "coverage_68": (np.abs(error) <= found["half_68"]).mean(),
        "coverage_95": inside_95.mean(),
        "median_half_width_68_eV_per_atom": np.median(found["half_68"]),
        "outside_domain": (found["percentile"] > 95.0).mean(),
    }
    return {"n": len(labels), **{name: round(float(value), 4) for name, value in numbers.items()}}


def polymorph_order(values: NDArray[np.float64], labels: NDArray[np.float64], formulas: list[str]) -> dict[str, Any]:
    """Pairs of one formula in the right order, with the 95 % Wilson interval; the composition alone cannot tell them apart."""
    names = np.array(formulas)
    i, j = np.nonzero(np.triu(names[:, None] == names, 1) & (np.abs(labels[:, None] - labels) >= CLEAR_eV))
    right = int(((labels[i] - labels[j]) * (values[i] - values[j]) > 0).sum())
    return {"right": right, "pairs": len(i), "ci95": np.round(wilson(right, len(i)), 3).tolist()}


def by_domain(found: dict[str, NDArray[np.float64]], labels: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Scores by how far the crystals are from the training data."""
    edges = (0, 25, 50, 75, 90, 95, 100.1)
    result = {}
    for low, high in pairwise(edges):
        rows = (found["percentile"] >= low) & (found["percentile"] < high)
        if rows.any():
            part = {name: values[rows] for name, values in found.items() if values.ndim}
            result[f"{low}-{min(high, 100):g}"] = scores(part, labels[rows])
    return result


def main() -> None:
    """Everything on the val split."""
    table = "../shared/data/structures/mp_structures.parquet"
    given = options(sys.argv[1:], checkpoint="formation_energy", structures=table, volume=0.03, noise_A=0.05, seed=0)
    one_core()
    predictor = GraphPredictor.load(given["checkpoint"])
    crystals, labels = val_structures(find_table(given["structures"]))
    predictor.predict(crystals[:20])
    relaxed = answers(predictor, crystals)
    rng = np.random.default_rng(given["seed"])
    moved = answers(predictor, [perturbed(c, given["volume"], given["noise_A"], rng) for c in crystals])
    formation = labels[:, FORMATION]
    derived = np.maximum(relaxed["value"] - (formation - labels[:, HULL]), 0.0)
    direct = GraphPredictor.load(given["checkpoint"], "energy_above_hull").predict(crystals)
    record: dict[str, Any] = {
        "relaxed": scores(relaxed, formation),
        "perturbed": scores(moved, formation),
        "by_domain_percentile": by_domain(relaxed, formation),
        "disordered": disordered(predictor, crystals, formation),
        "polymorphs": polymorph_order(relaxed["value"], formation, [c.reduced_formula for c in crystals]),
        "above_hull_mae_direct_eV_per_atom": round(float(np.abs([q.value for q in direct] - labels[:, HULL]).mean()), 4),
        "above_hull_mae_derived_eV_per_atom": round(float(np.abs(derived - labels[:, HULL]).mean()), 4),
        "graph_predictions_per_second": round(float(relaxed["per_second"]), 1),
        "graph_predictions_per_second_without_symmetry": round(float(moved["per_second"]), 1),
    }
    write("graph_predictor", record, speed=False)


if __name__ == "__main__":
    main()
