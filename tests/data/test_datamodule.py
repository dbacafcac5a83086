"""The data module: from any source to bucketed batches of the right split."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.datamodule import CrystalDataModule, LoaderConfig

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
CATIONS, ANIONS = (3, 11, 19, 37), (9, 17, 35, 53)


@dataclass
class Labels:
    """Conditions of a data set: some fixed, one drawn for every epoch."""

    values: dict[str, torch.Tensor]

    def fixed(self) -> dict[str, torch.Tensor]:
        return self.values

    def drawn(self, epoch: int) -> dict[str, torch.Tensor]:
        return {"drawn": self.values["gap"] * 1000 + epoch % 997}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alkali halides of the rock-salt type, three of them for validation, and one crystal of eight orbits."""
    rows = []
    for k, (cation, anion) in enumerate((c, a) for c in CATIONS for a in ANIONS):
        length = 4.0 + 0.15 * k
        frac = np.concatenate([FCC, (FCC + 0.5) % 1.0])
        rows.append(_row(f"r{k}", np.repeat([cation, anion], 4), frac, length, "val" if k % 5 == 4 else "train", k))
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), -1).reshape(-1, 3) + rng.uniform(0, 0.1, (8, 3))
    rows.append(_row("large", rng.choice([3, 8, 16], 8), grid, 7.0, "train", 1.0))
    path = tmp_path_factory.mktemp("table") / "crystals.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def _row(name: str, species: np.ndarray, frac: np.ndarray, a: float, split: str, gap: float) -> dict[str, object]:
    cell = {"a": a, "b": a, "c": a, "alpha": 90.0, "beta": 90.0, "gamma": 90.0}
    return {"material_id": name, "split": split, "atomic_numbers": species, "frac_coords": frac.ravel(), "gap": gap, **cell}


def module(table: Path, **loader: object) -> CrystalDataModule:
    source = {"kind": "table", "path": str(table), "labels": {"gap": "gap"}, "progress": False}
    config = LoaderConfig(**{"max_tokens": 16, "workers": 1, "cache_dir": None, **loader})
    return CrystalDataModule(source, config, lambda d: Labels({"gap": torch.tensor([[x["gap"]] * 2 for x in d.labels])}))


def test_splits_are_those_of_the_table_and_large_crystals_are_left_out(table: Path) -> None:
    data = module(table)
    names = np.array(data.dataset.ids)
    assert len(data.dataset) == 17 and data.dataset.n_orbits.max() == 8
    assert set(names[data.indices("val")]) == {"r4", "r9", "r14"}
    assert set(names[data.indices("train")]) == set(names) - {"r4", "r9", "r14"}
    assert set(names[module(table, max_orbits=4).indices("train")]) == set(names) - {"r4", "r9", "r14", "large"}


def test_an_absent_split_is_an_error(table: Path) -> None:
    with pytest.raises(DataError, match="no 'test' rows"):
        module(table).indices("test")


def test_one_epoch_of_training_batches_is_the_training_split(table: Path) -> None:
    data = module(table)
    loader = data.train_dataloader()
    n = len(loader.batch_sampler.epoch(0))
    seen = torch.cat([batch.conditions["gap"][:, 0] for batch in islice(loader, n)])
    expected = [data.dataset.labels[i]["gap"] for i in data.indices("train")]
    assert sorted(seen.tolist()) == sorted(expected)


def test_validation_is_one_pass_in_a_fixed_order(table: Path) -> None:
    loader = module(table).val_dataloader()
    passes = [torch.cat([batch.conditions["gap"][:, 0] for batch in loader]).tolist() for _ in range(2)]
    assert passes[0] == passes[1] and sorted(passes[0]) == [4.0, 9.0, 14.0]


def test_the_loader_goes_on_where_the_trainer_stands(table: Path) -> None:
    data = module(table)
    whole = [batch.conditions["gap"] for batch in islice(data.train_dataloader(), 8)]
    data.trainer = SimpleNamespace(global_step=2, accumulate_grad_batches=1, global_rank=0, world_size=1)
    rest = [batch.conditions["gap"] for batch in islice(data.train_dataloader(), 6)]
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


@pytest.mark.parametrize("world", [1, 2, 8])
def test_a_step_has_the_same_batch_whatever_the_number_of_processes_and_parts(table: Path, world: int) -> None:
    """So a run may be resumed on another number of processes: its step counter says where the stream stands."""
    data = module(table)
    whole = [batch.conditions["gap"] for batch in islice(data.train_dataloader(), 6)]
    for rank in range(world):
        data.trainer = SimpleNamespace(global_step=2, accumulate_grad_batches=2, global_rank=rank, world_size=world)
        mine = [batch.conditions["gap"] for batch in islice(data.train_dataloader(), 8)]
        assert all(torch.equal(whole[2 + k // 2], gap) for k, gap in enumerate(mine))


def test_drawn_conditions_change_with_the_epoch_and_stay_for_validation(table: Path) -> None:
    data = module(table)
    steps = len(data.train_dataloader().batch_sampler.epoch(0))
    seen = [batch.conditions["drawn"] - 1000 * batch.conditions["gap"] for batch in islice(data.train_dataloader(), steps + 1)]
    assert all((x == 0).all() for x in seen[:steps]) and (seen[steps] == 1).all()
    data.trainer = SimpleNamespace(global_step=steps, accumulate_grad_batches=1)
    resumed = next(iter(data.train_dataloader()))
    assert (resumed.conditions["drawn"] - 1000 * resumed.conditions["gap"] == 1).all()
    first, second = (torch.cat([b.conditions["drawn"] for b in data.val_dataloader()]) for _ in range(2))
    assert torch.equal(first, second)
