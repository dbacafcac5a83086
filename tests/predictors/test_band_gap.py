"""The band-gap predictor: contract, training on a toy law, what never trains, the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sse_diffusion.core.checkpoint import checkpoint_dir
from sse_diffusion.core.compose import compose
from sse_diffusion.core.errors import CheckpointError, ConfigError
from sse_diffusion.core.task import prepare_task
from sse_diffusion.predictors.band_gap import CompositionBandGap
from sse_diffusion.predictors.band_gap_data import read_gaps
from sse_diffusion.predictors.composition_training import CompositionTrainConfig, train_composition
from sse_diffusion.predictors.stability import CompositionStability
from sse_diffusion.testing.predictor import PredictorContract, rock_salt

METALS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd", "Al", "Ga", "In", "Y", "Zr", "Ti", "V", "Mn", "Fe")
PARTNERS = {"O": 4.0, "S": 2.5, "F": 6.0, "Cl": 5.0, "Br": 4.0, "I": 3.0, "Ni": 0.0, "Cu": 0.0, "Au": 0.0, "Pd": 0.0}


def toy_tables(folder: Path) -> dict[str, str]:
    """The partner sets the gap; a second polymorph of every composition lies higher and has another gap."""
    rng = np.random.default_rng(0)
    rows = [(f"{m}{n if n > 1 else ''}{x}", gap) for m in METALS for x, gap in PARTNERS.items() for n in (1, 2, 3)]
    frame = pd.DataFrame(rows, columns=["formula", "band_gap"]).assign(e_above_hull=0.0)
    frame["split"] = np.where(rng.random(len(frame)) < 0.1, "val", "train")
    higher = frame.assign(band_gap=9.0, e_above_hull=0.2)
    both = pd.concat([higher, frame], ignore_index=True)
    both.to_parquet(folder / "structures.parquet")
    both.assign(mp20_split="train").drop(columns="split").to_csv(folder / "energies.csv")
    return {"structures": str(folder / "structures.parquet"), "energies": str(folder / "energies.csv")}


def toy_config(folder: Path, **choices: object) -> CompositionTrainConfig:
    shape = {"width": 32, "members": 2, "epochs": 30, "batch_size": 64, "n_folds": 8, "progress": False, "wandb": "disabled"}
    return CompositionTrainConfig(property="band_gap", out=str(folder / "model"), **{**toy_tables(folder), **shape, **choices})


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("gap")
    return folder / "model", train_composition(toy_config(folder))


def test_training_learns_the_gap_of_the_lowest_polymorph(toy: tuple[Path, dict]) -> None:
    gap = toy[1]["val"]["band_gap"]
    assert gap["mae_eV"] < 0.25 * gap["mae_constant_eV"] and gap["r2"] > 0.9 and gap["auc_0"] > 0.95
    assert gap["r2_ci95"][0] < gap["r2"] < gap["r2_ci95"][1]
    assert gap["mae_eV_ci95"][0] < gap["mae_eV"] < gap["mae_eV_ci95"][1]


def test_held_out_compositions_never_train(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    energies = pd.read_csv(config.energies, keep_default_na=False)
    energies.loc[energies.formula == "LiCl", "mp20_split"] = "test"
    energies.to_csv(config.energies)
    train, val = read_gaps(config)
    assert not set(train.formulas) & set(val.formulas) and "LiCl" not in train.formulas and len(train) > 400
    assert train.labels.max() <= 6.0, "a polymorph above the ground state is no label"
    assert train.censored.tolist() == (train.labels[:, 0] == 0.0).tolist()


class TestContract(PredictorContract):
    @pytest.fixture(autouse=True)
    def _trained(self, toy: tuple[Path, dict]) -> None:
        self.folder = toy[0]

    def make(self) -> CompositionBandGap:
        return CompositionBandGap.load(self.folder)


def test_checkpoints_of_two_properties_are_not_mixed_up(toy: tuple[Path, dict]) -> None:
    with pytest.raises(CheckpointError, match="not a 'stability_composition'"):
        CompositionStability.load(toy[0])


def test_the_yaml_matches_the_schema() -> None:
    assert prepare_task(compose("experiment/predictor_band_gap_composition", ["epochs=1"]))[1].property == "band_gap"
    with pytest.raises(ConfigError, match="did you mean 'band_gap'"):
        prepare_task(compose("experiment/predictor_band_gap_composition", ["property=band_gaps"]))


class TestShipped(PredictorContract):
    """The weights in checkpoints/ keep the contract and know some chemistry."""

    def make(self) -> CompositionBandGap:
        return CompositionBandGap.load()

    def test_chemistry(self) -> None:
        fluoride, sulfide, alloy = self.make().predict([rock_salt("Li", "F"), rock_salt("Ca", "S"), rock_salt("Cu", "Au")])
        assert fluoride.value > sulfide.value > 1.0 and alloy.value == 0.0
        assert alloy.provenance["signed_value"] < 0.0

    def test_metrics_belong_to_the_weights(self) -> None:
        folder = checkpoint_dir("band_gap_composition")
        metrics, record = (json.loads((folder / name).read_text()) for name in ("metrics.json", "config.json"))
        assert metrics["weights_sha256"] == record["weights_sha256"]
        assert (folder / "weights.safetensors").stat().st_size < 2_000_000
        assert metrics["val"]["band_gap"]["n"] > 700 and metrics["val"]["band_gap"]["r2"] > 0.7
