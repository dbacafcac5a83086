"""Mechanics: physics of the formulas, training from small tables, honest flags, the shipped checkpoint against known moduli."""

from __future__ import annotations

import gzip
import json
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.checkpoint import checkpoint_dir
from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import CheckpointError, ConfigError, DataError
from sse_diffusion.core.results import Status
from sse_diffusion.predictors.boosted_trees import TreesConfig
from sse_diffusion.predictors.descriptors.table import describe
from sse_diffusion.predictors.mechanics import MechanicsPredictor, youngs_modulus, youngs_scale
from sse_diffusion.predictors.mechanics_data import read_elastic_tables
from sse_diffusion.predictors.mechanics_scores import debye_temperature
from sse_diffusion.predictors.mechanics_training import MechanicsTrainConfig, ScaleTreesConfig, cross_validate, train_mechanics
from sse_diffusion.predictors.protocol import Predictor
from sse_diffusion.testing.predictor import PredictorContract

CATIONS = ("Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Ba", "Mn", "Fe", "Co", "Ni", "Zn", "Cd", "Ti", "V")


def rock_salt(cation: str, anion: str, a_A: float) -> Structure:
    """Eight atoms."""
    return Structure.from_spacegroup(225, Lattice.cubic(a_A), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three small tables in which K = 5000 / a^2 and G = K / 2."""
    folder, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    crystals = [rock_salt(c, a, 4.0 + 2 * rng.random()) for c in CATIONS for a in ("O", "S", "Cl")]
    bulk = [5000 / c.lattice.a**2 for c in crystals]
    tensors = pd.DataFrame([{"poscar": c.to(fmt="poscar"), "K_VRH": k, "G_VRH": k / 2} for c, k in zip(crystals, bulk)])
    (folder / "t.csv").write_text("# ref: nobody\n" + tensors.to_csv(index=False))
    rows = [
        {"structure": c.as_dict(), "bulk_modulus_vrh": k, "shear_modulus_vrh": k / 2} for c, k in zip(crystals[::2], bulk[::2])
    ]
    rows.append({"structure": crystals[0].as_dict(), "bulk_modulus_vrh": -3.0, "shear_modulus_vrh": 5.0})
    (folder / "b.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    aflow = [
        {"cif": c.to(fmt="cif"), "bulk_modulus": k, "shear_modulus": k / 2, "debye_temperature": 100 + k}
        for c, k in zip(crystals, bulk)
    ]
    pd.DataFrame(aflow).to_csv(folder / "a.csv", index=False)
    return {"elastic_tensors": str(folder / "t.csv"), "binaries": str(folder / "b.json.gz"), "aflow": str(folder / "a.csv")}


@pytest.fixture(scope="module")
def trained(tables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A small predictor and its metrics."""
    out = tmp_path_factory.mktemp("mechanics")
    given = plain(compose("experiment/predictor_mechanics")) | tables
    small = {"num_iterations": 40, "min_data_in_leaf": 3, "feature_fraction": 0.5}
    choices = {k: v for k, v in given.items() if k != "task"} | {"out": str(out), "progress": False}
    return out, train_mechanics(build(MechanicsTrainConfig, {**choices, "trees": small, "scale_trees": small}))


def test_youngs_modulus_and_its_scale() -> None:
    assert youngs_modulus(np.array([160.0]), np.array([80.0]))[0] == pytest.approx(9 * 160 * 80 / 560)  # iron-like
    mean, scale = np.log10([[75.0, 45.0]]), np.array([[0.02, 0.05]])
    moved = np.log10(youngs_modulus(*(10 ** (mean + 1e-4 * scale)).T)) - np.log10(youngs_modulus(*(10**mean).T))
    assert youngs_scale(mean, scale)[0] == pytest.approx(moved[0] / 1e-4, rel=1e-3)


def test_debye_temperature_of_metals() -> None:
    """Textbook elastic data of aluminium, copper and lead: 428, 343 and 105 K from heat capacities."""
    metals = np.array([[76.0, 26.0, 2.70, 16.6], [140.0, 48.0, 8.96, 11.8], [48.8, 11.4, 11.34, 30.3]])
    assert debye_temperature(*metals.T) == pytest.approx([428, 343, 105], rel=0.2)


def test_tables_are_read_and_failed_calculations_dropped(tables: dict[str, str]) -> None:
    rows = read_elastic_tables(tables, progress=False)
    assert np.bincount(rows.source).tolist() == [48, 24, 48]
    assert np.isnan(rows.labels[rows.source < 2, 2]).all() and np.isfinite(rows.labels[rows.source == 2]).all()
    assert len(set(rows.compositions)) == 48 and rows.chemical_systems[0] == "Li-O"
    odd = Path(tables["binaries"]).with_name("odd.json.gz")
    odd.write_bytes(gzip.compress(json.dumps([{"structure": {}}]).encode()))
    with pytest.raises(DataError, match="is no binaries table"):
        read_elastic_tables({"binaries": str(odd)}, progress=False)
    with pytest.raises(DataError, match="no data at"):
        read_elastic_tables({"aflow": "nowhere.csv"})


def test_training_learns_scores_and_round_trips(trained: tuple[Path, dict]) -> None:
    out, metrics = trained
    table = metrics["by_composition"]["bulk_modulus"]["elastic_tensors"]
    assert table["n"] == 48 and table["mae_log10"][0] < 0.6 * table["mae_log10_constant"]
    assert metrics["by_chemical_system"]["debye_temperature"]["aflow"]["n"] == 48
    assert json.loads((out / "metrics.json").read_text())["by_composition"]["youngs_modulus"]["all"]["n"] == 120
    predictor = MechanicsPredictor.load(out, "youngs_modulus")
    assert isinstance(predictor, Predictor) and predictor.unit == "GPa"
    crystal = rock_salt("Mg", "O", 4.4)
    everything = {name: values[0] for name, values in predictor.predict_all([crystal]).items()}
    assert predictor.predict([crystal])[0] == everything["youngs_modulus"] and predictor.predict([]) == []
    expected = youngs_modulus(np.array(everything["bulk_modulus"].value), np.array(everything["shear_modulus"].value))
    assert everything["youngs_modulus"].value == pytest.approx(float(expected))
    assert everything["bulk_modulus"].value == pytest.approx(5000 / 4.4**2, rel=0.3)
    for quantity in everything.values():
        low, high = quantity.provenance["interval_95"]
        assert low < quantity.value < high and quantity.uncertainty < (high - low) / 2


def test_nothing_is_learnt_from_noise_and_siblings_stay_together() -> None:
    """Labels that follow only the group: an ensemble that had seen a row's siblings would know them."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 4)
    labels = rng.normal(1.5, 0.3, (60, 3))[group]
    features = rng.normal(size=(60, 3))[group]
    small = TreesConfig(num_iterations=30, min_data_in_leaf=2, feature_fraction=1.0)
    config = MechanicsTrainConfig(
        elastic_tensors="",
        binaries="",
        aflow="",
        out="",
        trees=small,
        scale_trees=ScaleTreesConfig(num_iterations=5),
        progress=False,
    )
    run = cross_validate(features, features, labels, [f"g{g}" for g in group], config)
    assert all(len(set(run.folds[group == g].tolist())) == 1 for g in range(60))
    errors = np.abs(run.labels - run.mean)
    assert errors[:, 0].mean() > 0.9 * np.abs(labels[:, 0] - np.median(labels[:, 0])).mean()
    bulk, shear = 10 ** labels[:, 0], 10 ** labels[:, 1]
    assert np.allclose(run.labels[:, 2], np.log10(9 * bulk * shear / (3 * bulk + shear))) and np.array_equal(
        run.labels[:, 3], labels[:, 2]
    )
    assert (run.scale > 0).all() and (run.far >= 0).all() and (run.far <= 100).all()


def test_strange_crystals_are_flagged_and_widened(trained: tuple[Path, dict]) -> None:
    predictor = MechanicsPredictor.load(trained[0])
    predictor.calibration.element_counts.update(Mg=50, O=50)
    usual, rare, half = predictor.predict(
        [rock_salt("Mg", "O", 4.4), rock_salt("Cs", "I", 7.6), rock_salt("Mg", "O", 4.4).replace_species({"Mg": {"Mg": 0.5}})]
    )
    assert usual.status is Status.OK
    assert rare.status is Status.UNCONVERGED and "I in 0, Cs in 0" in rare.reason
    widths = [np.log10(q.provenance["interval_95"][1] / q.provenance["interval_95"][0]) for q in (usual, rare)]
    assert widths[1] > widths[0] + 2 * predictor.calibration.prior_95["bulk_modulus"] * 0.9
    assert half.status is Status.UNCONVERGED and "partly filled" in half.reason
    no_cell, no_element = predictor.predict([Composition("MgO"), Structure(Lattice.cubic(3), ["X"], [[0, 0, 0]])])  # type: ignore[list-item]
    assert no_cell.status is no_element.status is Status.FAILED and "need a structure" in no_cell.reason


def test_unknown_property_and_damaged_checkpoint(trained: tuple[Path, dict]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'bulk_modulus'"):
        MechanicsPredictor.load(trained[0], "bulk_moduls")
    damaged = trained[0] / "damaged"
    damaged.mkdir(exist_ok=True)
    for name in ("config.json", "weights.safetensors"):
        (damaged / name).write_bytes((trained[0] / name).read_bytes())
    config = json.loads((damaged / "config.json").read_text())
    del config["columns"]
    (damaged / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="incomplete"):
        MechanicsPredictor.load(damaged)


SALTS = {
    "Li2S": (5.71, [[0.25, 0.25, 0.25], [0, 0, 0]], 40.5, 33.9),
    "LiF": (4.08, [[0, 0, 0], [0.5, 0.5, 0.5]], 69.6, 50.0),
    "LiCl": (5.15, [[0, 0, 0], [0.5, 0.5, 0.5]], 32.2, 20.8),
    "Li2O": (4.64, [[0.25, 0.25, 0.25], [0, 0, 0]], 78.6, 68.5),
}
"""Lattice parameter (PBE), sites of lithium and of the anion, and the Materials Project's K and G in GPa."""


class TestShipped(PredictorContract):
    """The checkpoint that comes with the package."""

    @lru_cache(maxsize=1)  # noqa: B019 - one class, one predictor
    def make(self) -> MechanicsPredictor:
        """It is read once."""
        return MechanicsPredictor.load()

    def test_known_moduli_of_lithium_salts(self) -> None:
        """Within three times the mean error of the cross-validation on lithium compounds."""
        folder = checkpoint_dir("mechanics")
        errors = json.loads((folder / "metrics.json").read_text())["by_composition"]
        crystals = [
            Structure.from_spacegroup(225, Lattice.cubic(a), ["Li", name[-1] if name != "LiCl" else "Cl"], sites)
            for name, (a, sites, *_) in SALTS.items()
        ]
        nitride = Structure(Lattice.hexagonal(3.64, 3.87), ["Li"] * 3 + ["N"],
                            [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0], [0, 0, 0.5], [0, 0, 0]])  # fmt: skip
        known = np.array([(k, g) for *_, k, g in SALTS.values()] + [(52.0, 33.6)])
        found = self.make().predict_all([*crystals, nitride])
        for column, name in enumerate(("bulk_modulus", "shear_modulus")):
            tolerance = 3 * errors[name]["with_lithium"]["mae_log10"][0]
            assert np.log10([q.value for q in found[name]]) == pytest.approx(np.log10(known[:, column]), abs=tolerance)
            assert all(q.ok for q in found[name])

    def test_bars_of_the_cross_validation(self) -> None:
        """What metrics.json says of the DFT tensors: mean absolute errors of log10, and coverage."""
        scores = json.loads((checkpoint_dir("mechanics") / "metrics.json").read_text())["by_composition"]
        for name, bar in (("bulk_modulus", 0.075), ("shear_modulus", 0.10)):
            assert scores[name]["elastic_tensors"]["n"] == 1181 and scores[name]["elastic_tensors"]["mae_log10"][0] <= bar
            assert 0.92 <= scores[name]["all"]["coverage_95"][0] <= 0.98 and 0.63 <= scores[name]["all"]["coverage_68"][0] <= 0.73

    def test_model_step_is_fast(self) -> None:
        """At least 2,000 predictions per CPU second."""
        model = self.make().model
        rows = np.tile(describe([rock_salt("Li", "Cl", 5.1)]).columns(model.columns), (2000, 1))
        start = time.process_time()
        model.distributions(rows)
        assert time.process_time() - start < 1.0
