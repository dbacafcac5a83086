"""The shipped mechanics predictor: known moduli of lithium salts and of Al-doped LLZO, and how fast it is.

    python benchmarks/mechanics.py [cifs=obelix_train_cifs.zip] [crystals=mp_structures.parquet] [n=1000] [curve=false]

Known answers: Materials Project moduli of the salts, and the measured Young's modulus of Al-doped LLZO, 149.8 GPa (its CIFs hold
partial occupancies, which no training crystal does). Salts are in the training tables, so that their errors are no test of
generalisation; the cross-validation in ``checkpoints/mechanics/metrics.json`` is. Speeds per CPU second of one thread (others on
the core do not count), a batch of n crystals of the structures table. Writes ``results/mechanics.json``.

With ``curve=true`` instead the learning curve: the cross-validation of `sse train experiment=predictor_mechanics` on a random
share of the compositions. Writes ``results/mechanics_curve.json``.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from measure import one_core, options, write
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.compose import compose
from sse_diffusion.core.task import prepare_task
from sse_diffusion.data.tables import read_table
from sse_diffusion.predictors.conductivity.tables import read_structures
from sse_diffusion.predictors.descriptors.table import STRUCTURE, describe
from sse_diffusion.predictors.mechanics import PROPERTIES, MechanicsPredictor
from sse_diffusion.predictors.mechanics_data import SOURCES, read_elastic_tables
from sse_diffusion.predictors.mechanics_training import cross_validate, tree_inputs

DATA = "../shared/data/"
SHARES = (0.125, 0.25, 0.5, 1.0)
LLZO = {"Li", "Al", "La", "Zr", "O"}


def salts() -> dict[str, tuple[Structure, float, float]]:
    """Crystals with the Materials Project's K and G in GPa; cells relaxed with PBE."""

    def cubic(a_A: float, species: list[str], sites: list[list[float]]) -> Structure:
        return Structure.from_spacegroup(225, Lattice.cubic(a_A), species, sites)

    rock_salt, fluorite = [[0, 0, 0], [0.5, 0.5, 0.5]], [[0.25, 0.25, 0.25], [0, 0, 0]]
    nitride = Structure(Lattice.hexagonal(3.64, 3.87), ["Li", "Li", "Li", "N"],
                        [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0], [0, 0, 0.5], [0, 0, 0]])  # fmt: skip
    return {
        "Li2S": (cubic(5.71, ["Li", "S"], fluorite), 40.5, 33.9),
        "LiF": (cubic(4.08, ["Li", "F"], rock_salt), 69.6, 50.0),
        "LiCl": (cubic(5.15, ["Li", "Cl"], rock_salt), 32.2, 20.8),
        "Li2O": (cubic(4.64, ["Li", "O"], fluorite), 78.6, 68.5),
        "Li3N": (nitride, 52.0, 33.6),
    }


def main() -> None:
    """Known answers and speeds."""
    given = options(
        sys.argv[1:],
        cifs=f"{DATA}conductivity/obelix_train_cifs.zip",
        crystals=f"{DATA}structures/mp_structures.parquet",
        n=1000,
        curve="false",
    )
    one_core()
    if given["curve"] == "true":
        write("mechanics_curve", learning_curve(), speed=False)
        return
    predictor = MechanicsPredictor.load()
    crystals = [Structure(r.lattice, r.species, r.frac) for r in read_table(given["crystals"]).rows[: int(given["n"])]]
    electrolytes = read_structures(given["cifs"])
    disordered = [s for s in electrolytes.values() if not s.is_ordered]
    known = {"salts": known_answers(predictor), "aluminium_llzo": aluminium_llzo(predictor, electrolytes)}
    write("mechanics", {**known, **speeds(predictor, crystals, disordered)})


def learning_curve() -> dict[str, Any]:
    """Errors of log10 K and G of the DFT tensors, cross-validated on a random share of the compositions."""
    _, config = prepare_task(compose("experiment/predictor_mechanics"))
    rows = read_elastic_tables({name: getattr(config, name) for name in SOURCES}, config.progress)
    table = describe(rows.structures, progress=config.progress)
    _, features, position = tree_inputs(table, rows)
    compositions, labels, tensors = np.array(rows.compositions), rows.labels, list(SOURCES).index("elastic_tensors")
    groups = np.random.default_rng(config.seed).permutation(np.unique(compositions))
    found: dict[str, Any] = {}
    for share in SHARES:
        kept = np.isin(compositions, groups[: round(share * len(groups))])
        run = cross_validate(features[kept], position[kept], labels[kept], compositions[kept].tolist(), config, f"{share:g}")
        scored = rows.source[kept] == tensors
        errors = np.abs(run.mean - run.labels)[scored]
        named = dict(zip(PROPERTIES, np.nanmean(errors, axis=0).tolist(), strict=True))
        found[f"{share:g}"] = {"rows": int(kept.sum()), "scored": int(scored.sum())} | {
            f"{name}_mae_log10": round(named[name], 4) for name in ("bulk_modulus", "shear_modulus")
        }
    return found


def known_answers(predictor: MechanicsPredictor) -> dict[str, Any]:
    """Predicted and known K and G, and the errors of log10."""
    answers = predictor.predict_all([crystal for crystal, _, _ in salts().values()])
    table = {}
    for i, (name, (_, *known)) in enumerate(salts().items()):
        for property_name, true in zip(("bulk_modulus", "shear_modulus"), known, strict=True):
            quantity = answers[property_name][i]
            table[f"{name} {property_name}"] = {
                "known_GPa": true,
                "predicted_GPa": round(quantity.value, 1),
                "error_log10": round(float(np.log10(quantity.value / true)), 3),
                "interval_95": [round(x, 1) for x in quantity.provenance["interval_95"]],
            }
    return table


def aluminium_llzo(predictor: MechanicsPredictor, electrolytes: dict[str, Structure]) -> dict[str, Any]:
    """Predicted Young's moduli of the garnets of Li, Al, La, Zr, O among the CIFs; measured is 149.8 GPa."""
    garnets = {name: s for name, s in electrolytes.items() if {str(e) for e in s.composition.element_composition} == LLZO}
    found = dict(zip(garnets, predictor.predict_all(list(garnets.values()))["youngs_modulus"], strict=True))
    return {
        name: {
            "predicted_GPa": round(quantity.value, 1),
            "interval_95": [round(x, 1) for x in quantity.provenance["interval_95"]],
            "reason": quantity.reason,
        }
        for name, quantity in found.items()
    }


def speeds(predictor: MechanicsPredictor, crystals: list[Structure], disordered: list[Structure]) -> dict[str, float]:
    """Crystals per CPU second of the descriptors, the model step, and everything together."""
    describe(crystals[:5])
    start = time.process_time()
    table = describe(crystals)
    described = time.process_time()
    predictor.model.distributions(table.columns(predictor.model.columns))
    modelled = time.process_time()
    predictor.predict_all(crystals)
    predicted = time.process_time()
    describe(disordered, STRUCTURE)
    stop = time.process_time()
    n = len(crystals)
    return {
        "mechanics_descriptors_per_s": round(n / (described - start), 1),
        "mechanics_model_predictions_per_s": round(n / (modelled - described), 1),
        "mechanics_end_to_end_per_s": round(n / (predicted - modelled), 1),
        "descriptors_disordered_cifs_per_s": round(len(disordered) / (stop - predicted), 1),
        "mechanics_atoms_per_crystal": round(float(np.mean([len(c) for c in crystals])), 1),
        "descriptors_sites_per_disordered_cif": round(float(np.mean([len(c) for c in disordered])), 1),
    }


if __name__ == "__main__":
    main()
