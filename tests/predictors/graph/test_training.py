"""Training on a toy law: what the structure adds to the composition is learnt, and the same command goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import DataError
from sse_diffusion.predictors.graph.crystals import read_crystals, reference_rows
from sse_diffusion.predictors.graph.graphs import GraphConfig
from sse_diffusion.predictors.graph.lightning_module import BondStream, FitConfig
from sse_diffusion.predictors.graph.network import NetworkConfig
from sse_diffusion.predictors.graph.predictor import GraphModelConfig, GraphPredictor
from sse_diffusion.predictors.graph.reference import ReferenceConfig, fold_of
from sse_diffusion.predictors.graph.training import GraphTrainConfig, train_graph
from sse_diffusion.testing.predictor import rock_salt

CATIONS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd", "Sc", "Y", "Ti", "Zr", "Mn", "Fe", "Co", "Ni", "Cu")
ANIONS = ("F", "Cl", "Br", "I", "O", "S", "Se", "Te", "N", "P", "As", "H")
PENALTY = 0.4
"""eV/atom that the caesium chloride structure costs in the toy world."""


def caesium_chloride(cation: str, anion: str, a: float) -> Structure:
    return Structure(Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def toy_tables(folder: Path) -> dict[str, str]:
    """Rock salts on the hull, and the same formulas in the caesium chloride structure above it."""
    rows = []
    for cation in CATIONS:
        for anion in ANIONS:
            formula = Composition(f"{cation}{anion}").reduced_formula
            split = "val" if fold_of([formula], 7)[0] == 0 else "train"
            for height, crystal in ((0.0, rock_salt(cation, anion, 5.0)), (PENALTY, caesium_chloride(cation, anion, 3.1))):
                cell = dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), crystal.lattice.parameters, strict=True))
                sites = {"atomic_numbers": list(crystal.atomic_numbers), "frac_coords": crystal.frac_coords.ravel().tolist()}
                energies = {"formation_energy_per_atom": height - 1.0, "e_above_hull": height}
                rows.append({"formula": formula, "split": split, **energies, **cell, **sites})
    table = pd.DataFrame(rows)
    table.to_parquet(folder / "structures.parquet")
    table[["formula", "formation_energy_per_atom", "e_above_hull"]].assign(mp20_split="train").to_csv(folder / "energies.csv")
    ground = table.drop_duplicates("formula")
    signed = pd.DataFrame({"reduced_formula": ground.formula, "Ed_mp2019": -0.02, "Ef_mapped_to_mp20_scheme": -1.0})
    signed.to_csv(folder / "decomposition.csv")
    return {
        "structures": str(folder / "structures.parquet"),
        "energies": str(folder / "energies.csv"),
        "decomposition": str(folder / "decomposition.csv"),
    }


def toy_config(folder: Path, steps: int) -> GraphTrainConfig:
    return GraphTrainConfig(
        **toy_tables(folder),
        out=str(folder / "run"),
        model=GraphModelConfig(
            network=NetworkConfig(width=16, blocks=1, hidden=0, radial=8, dropout=0.0),
            members=1,
            reference=ReferenceConfig(width=16, depth=1, folds=2, members_per_fold=1, epochs=60, batch_size=32),
        ),
        fit=FitConfig(max_steps=steps, learning_rate=0.01, warmup_steps=5, ema_decay=0.9, batch_size=32, precision="32-true"),
        cache_dir=str(folder / "cache"),
        validate_every=20,
        wandb="disabled",
        progress=False,
    )


@pytest.mark.slow
def test_learns_what_the_structure_adds_and_goes_on(tmp_path: Path) -> None:
    first = train_graph(toy_config(tmp_path, 20))
    assert first["steps"] == [20]
    assert len(list((tmp_path / "cache").glob("crystal_graphs_*.npz"))) == 1
    metrics = train_graph(toy_config(tmp_path, 240))
    assert metrics["steps"] == [240]
    formation = metrics["val"]["formation_energy"]
    assert json.loads((tmp_path / "run" / "model" / "metrics.json").read_text())["val"]["formation_energy"] == formation
    assert formation["mae_eV_per_atom"] < 0.75 * formation["mae_composition_eV_per_atom"]
    predictor = GraphPredictor.load(tmp_path / "run" / "model")
    good, bad = predictor.predict([rock_salt("Li", "Br", 5.0), caesium_chloride("Li", "Br", 3.1)])
    assert bad.value - good.value == pytest.approx(PENALTY, abs=0.15)


def test_no_formula_is_on_two_sides(tmp_path: Path) -> None:
    tables = {name: Path(path) for name, path in toy_tables(tmp_path).items()}
    crystals = read_crystals(tables["structures"], GraphConfig(), None, progress=False)
    sides = [{crystals.formulas[i] for i in crystals.rows(split)} for split in ("train", "calibration", "val")]
    assert all(sides)
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    reference = set(reference_rows(**tables).formulas)
    assert reference == sides[0]


def test_a_formula_in_both_splits_is_refused(tmp_path: Path) -> None:
    path = Path(toy_tables(tmp_path)["structures"])
    table = pd.read_parquet(path)
    table.loc[table.index[0], "split"], table.loc[table.index[1], "split"] = "val", "train"
    table.to_parquet(path)
    with pytest.raises(DataError):
        read_crystals(path, GraphConfig(), None, progress=False)


def test_every_crystal_comes_once_per_epoch_and_the_stream_can_be_entered_anywhere() -> None:
    bonds = np.random.default_rng(0).integers(10, 300, size=1000)
    stream = BondStream(bonds, batch_size=16, seed=3)
    epoch = stream.epoch(0)
    assert sorted(i for batch in epoch for i in batch) == list(range(1000))
    totals = np.array([bonds[batch].sum() for batch in epoch])
    assert totals.std() < 0.2 * totals.mean()
    whole, late = iter(stream), iter(BondStream(bonds, batch_size=16, seed=3, start=len(epoch) + 2))
    for _ in range(len(epoch) + 2):
        next(whole)
    assert next(whole) == next(late)


def test_rate_warms_up_stays_and_decays() -> None:
    config = FitConfig(max_steps=1000, warmup_steps=100, decay_fraction=0.5)
    assert config.rate_at(49) == pytest.approx(0.5)
    assert config.rate_at(300) == pytest.approx(1.0)
    assert config.rate_at(750) == pytest.approx(0.505)
    assert config.rate_at(1000) == pytest.approx(0.01)


def test_the_shipped_configuration_is_a_training() -> None:
    keys = {f: getattr(GraphTrainConfig, f, None) for f in GraphTrainConfig.__dataclass_fields__}
    import yaml

    from sse_diffusion.core.config import config_dir

    values = yaml.safe_load((config_dir() / "experiment" / "predictor_formation_energy.yaml").read_text())
    assert values.pop("task") == "sse_diffusion.predictors.graph.training:train_graph"
    config = build(GraphTrainConfig, values)
    assert keys.keys() >= values.keys()
    assert config.model.graph == GraphConfig()
