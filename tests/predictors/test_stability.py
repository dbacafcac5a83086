"""The composition-stability predictor: contract, training on a toy law, checkpoint errors, the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import DummySpecies, Lattice, Structure

from sse_diffusion.core.checkpoint import checkpoint_dir
from sse_diffusion.core.compose import compose
from sse_diffusion.core.errors import CheckpointError, ConfigError, DataError
from sse_diffusion.core.results import Status
from sse_diffusion.core.task import prepare_task
from sse_diffusion.predictors.composition import Calibration, CompositionModelConfig
from sse_diffusion.predictors.composition_training import CompositionTrainConfig, train_composition
from sse_diffusion.predictors.stability import CompositionStability
from sse_diffusion.predictors.stability_data import read_tables
from sse_diffusion.testing.predictor import PredictorContract, rock_salt

METALS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd", "Al", "Ga", "In", "Y", "Zr", "Ti", "V", "Mn", "Fe")
ANIONS = ("O", "S", "Se", "Te", "F", "Cl", "Br", "I", "N", "P")


def toy_tables(folder: Path) -> dict[str, str]:
    """Three tables that follow one law: 0.1 eV/atom above the hull for each unit of metal count beyond one, none for MX."""
    rng = np.random.default_rng(0)
    rows = [(f"{m}{n}{x}" if n > 1 else f"{m}{x}", n, rng.random()) for m in METALS for x in ANIONS for n in (1, 2, 3)]
    formulas = [r[0] for r in rows]
    hull = np.array([0.1 * (r[1] - 1) for r in rows])
    split = np.where(np.array([r[2] for r in rows]) < 0.1, "val", "train")
    mp = pd.DataFrame({"formula": formulas, "split": split, "formation_energy_per_atom": -1.0 + hull, "e_above_hull": hull})
    mp.to_parquet(folder / "structures.parquet")
    mp.assign(mp20_split="train").drop(columns="split").to_csv(folder / "energies.csv")
    signed = pd.DataFrame({"reduced_formula": formulas, "Ed_mp2019": hull - 0.02, "Ef_mapped_to_mp20_scheme": -1.0 + hull})
    signed.to_csv(folder / "decomposition.csv")
    names = {"structures": "structures.parquet", "energies": "energies.csv", "decomposition": "decomposition.csv"}
    return {k: str(folder / v) for k, v in names.items()}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("toy")
    config = CompositionTrainConfig(
        property="stability",
        sources=("structures", "energies", "decomposition"),
        **toy_tables(folder),
        out=str(folder / "model"),
        width=32,
        members=2,
        epochs=40,
        batch_size=64,
        n_folds=8,
        progress=False,
        wandb="disabled",
    )
    return folder / "model", train_composition(config)


def test_training_learns_the_law_and_covers(toy: tuple[Path, dict]) -> None:
    folder, metrics = toy
    hull = metrics["val"]["energy_above_hull"]
    assert hull["mae_eV_per_atom"] < 0.5 * hull["mae_constant_eV_per_atom"]
    assert hull["spearman_unstable"] > 0.5
    assert hull["coverage_95"] >= 0.85
    assert json.loads((folder / "metrics.json").read_text())["val"] == metrics["val"]


class TestContract(PredictorContract):
    @pytest.fixture(autouse=True)
    def _trained(self, toy: tuple[Path, dict]) -> None:
        self.folder = toy[0]

    def make(self) -> CompositionStability:
        return CompositionStability.load(self.folder)


def test_held_out_formulas_never_train(tmp_path: Path) -> None:
    paths = {k: Path(v) for k, v in toy_tables(tmp_path).items()}
    energies = pd.read_csv(paths["energies"], keep_default_na=False)
    energies.loc[energies.formula == "LiCl", "mp20_split"] = "test"
    energies.to_csv(paths["energies"])
    train, val = read_tables(**paths, sources=("structures", "energies", "decomposition"))
    assert not set(train.formulas) & set(val.formulas)
    assert "LiCl" not in train.formulas
    assert len(train) > 400


def test_newer_hull_decides_and_the_signed_table_fills_in(tmp_path: Path) -> None:
    mp = pd.DataFrame(
        {
            "formula": ["LiCl", "NaCl", "KCl", "RbCl"],
            "split": ["train", "train", "train", "val"],
            "formation_energy_per_atom": -2.0,
            "e_above_hull": [0.0, 0.0, 0.3, 0.0],
        }
    )
    mp.to_parquet(tmp_path / "s.parquet")
    mp.assign(mp20_split="train").to_csv(tmp_path / "e.csv")
    signed = {"LiCl": -0.4, "NaCl": 0.1, "KCl": 0.2, "CsCl": 9.0, "RbCl": 0.0}
    frame = pd.DataFrame({"reduced_formula": signed.keys(), "Ed_mp2019": signed.values(), "Ef_mapped_to_mp20_scheme": -1.9})
    frame.to_csv(tmp_path / "d.csv")
    train, _ = read_tables(tmp_path / "s.parquet", tmp_path / "e.csv", tmp_path / "d.csv", ("structures", "decomposition"))
    rows = {f: (*train.labels[i], bool(train.censored[i])) for i, f in enumerate(train.formulas)}
    assert rows == {
        "LiCl": (-0.4, -2.0, False),
        "NaCl": (0.0, -2.0, True),
        "KCl": (0.3, -2.0, False),
        "CsCl": (2.0, -1.9, False),
    }


def test_folds_keep_chemical_systems_together(tmp_path: Path) -> None:
    paths = {k: Path(v) for k, v in toy_tables(tmp_path).items()}
    train, _ = read_tables(**paths, sources=("structures",))
    folds = train.fold(5)
    by_system: dict[str, set[int]] = {}
    for system, fold in zip(train.chemical_systems, folds, strict=True):
        by_system.setdefault(system, set()).add(int(fold))
    assert all(len(f) == 1 for f in by_system.values())
    assert len(set(folds.tolist())) == 5


def test_bad_training_input_is_explained(tmp_path: Path) -> None:
    paths = toy_tables(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'energies'"):
        read_tables(*(Path(p) for p in paths.values()), sources=("energy",))
    with pytest.raises(DataError, match="does not exist"):
        read_tables(tmp_path / "no.parquet", Path(paths["energies"]), Path(paths["decomposition"]), ("structures",))
    pd.read_csv(paths["energies"], keep_default_na=False).drop(columns="e_above_hull").to_csv(paths["energies"])
    with pytest.raises(DataError, match="lacks the columns e_above_hull"):
        read_tables(*(Path(p) for p in paths.values()), sources=("structures",))


def test_the_yaml_matches_the_schema() -> None:
    _, config = prepare_task(compose("experiment/predictor_stability_composition", ["epochs=1"]))
    assert isinstance(config, CompositionTrainConfig)
    assert config.epochs == 1
    assert config.sources == ("structures", "energies", "decomposition")
    with pytest.raises(ConfigError, match="n_folds"):
        prepare_task(compose("experiment/predictor_stability_composition", ["n_folds=2"]))


def small() -> CompositionStability:
    return CompositionStability.untrained(CompositionModelConfig(width=8, members=2))


def test_truncated_checkpoint(tmp_path: Path) -> None:
    small().save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"weights.safetensors is missing or truncated"):
        CompositionStability.load(tmp_path)


def test_altered_checkpoint(tmp_path: Path) -> None:
    small().save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"weights.safetensors does not match the SHA-256"):
        CompositionStability.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "other"}, "not a 'stability_composition'"),
        ({"version": 99}, "version 99"),
        ({"features": ["a"]}, "other features"),
        ({"calibration": {"scale": 1}}, "incomplete"),
        ({"model": {"width": 16, "depth": 2, "members": 2}}, "incomplete"),
    ],
)
def test_foreign_checkpoint(tmp_path: Path, change: dict, text: str) -> None:
    small().save(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(record | change))
    with pytest.raises(CheckpointError, match=text):
        CompositionStability.load(tmp_path)


def test_missing_and_unreadable_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at(.|\n)*config\.json"):
        CompositionStability.load(tmp_path)
    with pytest.raises(CheckpointError, match="nothing"):
        checkpoint_dir("nothing")
    small().save(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not readable JSON"):
        CompositionStability.load(tmp_path)


def test_unreadable_species_fail_without_stopping_the_rest() -> None:
    dummy = Structure(Lattice.cubic(3.0), [DummySpecies("X")], [[0, 0, 0]])
    failed, fine = small().predict([dummy, rock_salt("Li", "Cl")])
    assert failed.status is Status.FAILED
    assert "X" in failed.reason
    assert np.isfinite(fine.value)


def test_hull_energy_is_never_negative_but_still_ranks() -> None:
    predictor = small()
    predictor.calibration = Calibration(element_counts={"Li": 100, "Cl": 100, "Na": 100})
    for crystal in (rock_salt("Li", "Cl"), rock_salt("Na", "Cl")):
        quantity = predictor.predict([crystal])[0]
        assert quantity.ok
        assert quantity.value == max(0.0, quantity.provenance["signed_value"])
        assert quantity.provenance["interval_95"][0] >= 0.0


class TestShipped(PredictorContract):
    """The weights in checkpoints/ keep the contract and know some chemistry."""

    def make(self) -> CompositionStability:
        return CompositionStability.load()

    def crystals(self) -> list[Structure]:
        """Cubic perovskites: binary salts have few relatives and wide intervals."""
        sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        cells = (("Sr", "Ti", "O"), ("K", "Mg", "F"), ("Cs", "Cd", "Cl"))
        return [Structure(Lattice.cubic(4.0), [a, b, x, x, x], sites) for a, b, x in cells]

    def test_chemistry(self) -> None:
        salt, impossible = self.make().predict([rock_salt("Li", "Cl"), rock_salt("Li", "P")])
        assert salt.value < 0.05
        sites = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        hopeless = Structure(Lattice.cubic(4.0), ["Li", "Cl", "Cl", "Cl"], sites)
        assert self.make().predict([hopeless])[0].value > salt.value + 0.1
        assert impossible.uncertainty > 0
        assert self.make().predict_formation_energy([rock_salt("Li", "F")])[0].value == pytest.approx(-3.1, abs=0.3)

    def test_metrics_belong_to_the_weights(self) -> None:
        folder = checkpoint_dir("stability_composition")
        metrics = json.loads((folder / "metrics.json").read_text())
        record = json.loads((folder / "config.json").read_text())
        assert metrics["weights_sha256"] == record["weights_sha256"]
        assert (folder / "weights.safetensors").stat().st_size < 2_000_000
        assert metrics["val"]["energy_above_hull"]["n"] > 1000
