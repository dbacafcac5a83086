"""Training: an interrupted run goes on exactly, the losses fall, what is logged can be read without a network."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file

from sse_diffusion.core.compose import compose
from sse_diffusion.data.dataset import OrbitDataset
from sse_diffusion.data.prototypes.library import PROTOTYPES
from sse_diffusion.diffusion import train
from sse_diffusion.diffusion.lightning_module import VALIDATION_SEED
from sse_diffusion.diffusion.model import load_model
from sse_diffusion.diffusion.objective import FIELDS, Objective, ObjectiveConfig
from sse_diffusion.diffusion.optimiser import OptimiserConfig, rate_at
from sse_diffusion.diffusion.train import LAST, build_training, run_train

N_PROTOTYPES = 30
OPTIONS = (
    "experiment=tiny", "data=folder", "+data.labels.band_gap_eV=gap", "data.progress=false", "data.splits.val_fraction=0.15",
    "denoiser.width=32", "denoiser.max_orbits=12", "loader.max_tokens=128", "loader.workers=1", "samples.every_steps=0",
    "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1", "trainer.val_check_interval=3",
    "optimiser.total_steps=8", "optimiser.warmup_steps=3", "logger.wandb.mode=disabled",
)  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest prototypes (parent compounds), with an invented band gap."""
    small = sorted(PROTOTYPES.values(), key=lambda p: sum(p.counts().values()))[:N_PROTOTYPES]
    rows = []
    for k, prototype in enumerate(small):
        s = prototype.structure()
        row = {"material_id": prototype.name, "atomic_numbers": np.array(s.atomic_numbers), "frac_coords": s.frac_coords.ravel()}
        cell = dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), s.lattice.parameters, strict=True))
        rows.append({**row, **cell, "gap": k / 5})
    path = tmp_path_factory.mktemp("table") / "prototypes.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture
def config(table: Path) -> Callable[..., DictConfig]:
    def _config(out: Path, *options: str) -> DictConfig:
        places = [f"data.path={table}", f"loader.cache_dir={table.parent / 'cache'}", f"out={out}"]
        return compose("train", [*OPTIONS, *places, *options])

    return _config


def final_state(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / LAST, weights_only=True)["state_dict"]


def logged(out: Path) -> dict[int, dict[str, float]]:
    """Losses by step (validation: 100 + step), from every metrics file of the run (a resumed run keeps the earlier ones)."""
    steps: dict[int, dict[str, float]] = {}
    for file in [*sorted((out / "csv").glob("metrics_part*.csv")), out / "csv" / "metrics.csv"]:
        for row in csv.DictReader(file.open()):
            if row.get("train/loss"):
                steps[int(row["step"])] = {k: float(v) for k, v in row.items() if k.startswith("train/") and v}
            if row.get("val/loss"):
                steps[100 + int(row["step"])] = {k: float(v) for k, v in row.items() if k.startswith("val/") and v}
    return steps


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, averaged weights and losses agree bit by bit."""
    a, b = final_state(one), final_state(other)
    assert a.keys() == b.keys() and any(k.startswith("ema.") for k in a)
    assert all(torch.equal(a[k], b[k]) for k in a)
    exported = [load_file(out / "model" / "weights.safetensors") for out in (one, other)]
    assert all(torch.equal(exported[0][k], exported[1][k]) for k in exported[0])
    assert logged(one) == logged(other) and sorted(logged(one)) == [*range(8), 102, 105]


def interrupt_at(step: int, error: BaseException, monkeypatch: pytest.MonkeyPatch, micro: int = 0) -> None:
    """Make training step ``step`` raise, once, before its gradient accumulation number ``micro``."""
    original, left = train.DiffusionModule.training_step, [error]

    def training_step(self, batch, batch_idx):
        if self.global_step == step and batch_idx % self.trainer.accumulate_grad_batches == micro and left:
            raise left.pop()
        return original(self, batch, batch_idx)

    monkeypatch.setattr(train.DiffusionModule, "training_step", training_step)


@pytest.fixture(scope="module")
def uninterrupted(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight steps in one go."""
    out = tmp_path_factory.mktemp("whole") / "run"
    places = [f"data.path={table}", f"loader.cache_dir={table.parent / 'cache'}", f"out={out}"]
    assert run_train(compose("train", [*OPTIONS, *places, "trainer.max_steps=8"])) == 0
    return out


@pytest.mark.parametrize("half", [3, 5])  # 3 is a validation step
def test_a_run_in_two_parts_equals_one_run(uninterrupted: Path, config, out_dir: Path, half: int) -> None:
    run_train(config(out_dir, f"trainer.max_steps={half}"))
    assert [step for step in logged(out_dir) if step < 100] == list(range(half))
    run_train(config(out_dir, "trainer.max_steps=8"))
    assert_same_run(uninterrupted, out_dir)


def test_ctrl_c_keeps_the_state_and_the_same_command_goes_on(uninterrupted, config, out_dir: Path, monkeypatch) -> None:
    interrupt_at(5, KeyboardInterrupt(), monkeypatch)
    command = config(out_dir, "trainer.max_steps=8")
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with Ctrl-C ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            run_train(command)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a second Ctrl-C still works
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert torch.load(out_dir / LAST, weights_only=True)["global_step"] == 5
    assert load_model(out_dir / "model")[1].config["training"]["trainer"]["max_steps"] == 8  # usable as it is
    run_train(command)
    assert_same_run(uninterrupted, out_dir)


def test_a_crash_goes_back_to_the_last_good_state(uninterrupted: Path, config, out_dir: Path, monkeypatch) -> None:
    """A kill writes nothing: the run continues from the newest periodic checkpoint and still ends in the same place."""
    interrupt_at(6, RuntimeError("out of memory"), monkeypatch)
    command = config(out_dir, "trainer.max_steps=8", "checkpoint.every_minutes=0")
    with pytest.raises(RuntimeError, match="out of memory"):
        run_train(command)
    assert torch.load(out_dir / LAST, weights_only=True)["global_step"] == 6
    assert not list(out_dir.glob("*.partial"))
    run_train(command)
    assert_same_run(uninterrupted, out_dir)


def test_resume_false_starts_again(uninterrupted: Path, config, out_dir: Path) -> None:
    run_train(config(out_dir, "trainer.max_steps=2"))
    run_train(config(out_dir, "trainer.max_steps=8", "checkpoint.resume=false"))
    assert_same_run(uninterrupted, out_dir)


@pytest.mark.parametrize("micro", [0, 1])
def test_gradient_accumulation_resumes_exactly_too(config, tmp_path: Path, monkeypatch, micro: int) -> None:
    """Also when it is interrupted between two parts of one step."""
    extra = (
        "trainer.accumulate_grad_batches=2",
        "trainer.val_check_interval=4",
        "optimiser.total_steps=4",
        "trainer.max_steps=4",
    )
    run_train(config(tmp_path / "a", *extra))
    interrupt_at(1, KeyboardInterrupt(), monkeypatch, micro)
    with pytest.raises(KeyboardInterrupt):
        run_train(config(tmp_path / "b", *extra))
    run_train(config(tmp_path / "b", *extra))
    a, b = final_state(tmp_path / "a"), final_state(tmp_path / "b")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_every_batch_has_noise_of_its_own(config, out_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams, original = [], Objective.__call__

    def call(self, model, batch, seed, step, part=0, parts=1):
        streams.append((seed, step, part, parts))
        return original(self, model, batch, seed, step, part, parts)

    monkeypatch.setattr(Objective, "__call__", call)
    run_train(config(out_dir, "trainer.max_steps=2", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=4"))
    assert [where for seed, *where in streams if seed == 0] == [[0, 0, 2], [0, 1, 2], [1, 0, 2], [1, 1, 2]]
    assert {seed for seed, *_ in streams} == {0, VALIDATION_SEED}


def test_accumulation_in_parts_is_the_same_run(uninterrupted: Path, config, out_dir: Path) -> None:
    """Every batch is computed in three parts; what a step does, and what is logged, stays what it was."""
    run_train(config(out_dir, "trainer.max_steps=8", "trainer.accumulate_grad_batches=3", "trainer.val_check_interval=9"))
    one, other = logged(uninterrupted), logged(out_dir)
    assert sorted(other) == sorted(one)
    for step, values in one.items():
        assert other[step] == pytest.approx(values, rel=2e-5), step
    seen = [json.loads((out / "model" / "metrics.json").read_text())["crystals_seen"] for out in (uninterrupted, out_dir)]
    assert seen[0] == seen[1]


def test_the_averaged_weights_follow_the_model(uninterrupted: Path) -> None:
    state = final_state(uninterrupted)
    assert int(state["ema.n_averaged"]) == 7  # a step enters the average when the next one begins
    names = [k for k, v in state.items() if k.startswith("model.") and v.is_floating_point() and v.dim() == 2]
    apart = [(state[k] - state[f"ema.module.{k.removeprefix('model.')}"]).abs().max().item() for k in names]
    assert 0 < max(apart) < 0.1


def test_what_a_run_leaves_behind(uninterrupted: Path) -> None:
    metrics = json.loads((uninterrupted / "model" / "metrics.json").read_text())
    assert metrics["steps"] == 8 and metrics["crystals_seen"] > 8
    assert {f"val/{name}" for name in (*FIELDS, "loss")} <= metrics.keys()
    assert all(np.isfinite(v) for v in metrics.values() if isinstance(v, float))
    model, checkpoint = load_model(uninterrupted / "model")
    assert metrics["weights_sha256"] == checkpoint.sha256
    averaged = {k.removeprefix("ema.module."): v for k, v in final_state(uninterrupted).items() if k.startswith("ema.module.")}
    matrices = {name for name, p in model.named_parameters() if p.dim() >= 2}
    for name, value in model.state_dict().items():  # the averaged weights are shipped, matrices as 16-bit floats
        assert torch.equal(value, averaged[name].half().float() if name in matrices else averaged[name]), name


def test_starting_from_an_exported_model_takes_its_weights(uninterrupted: Path, config, out_dir: Path) -> None:
    module, _ = build_training(config(out_dir, f"checkpoint.start_from={uninterrupted / 'model'}"))
    stored = load_file(uninterrupted / "model" / "weights.safetensors")
    assert all(torch.equal(v, stored[k]) for k, v in module.model.state_dict().items())
    assert module.model.training


def test_a_property_of_ones_own_is_added_to_a_trained_model(uninterrupted: Path, config, out_dir: Path, tmp_path: Path) -> None:
    """One file, one column: what the file leaves out is measured, and the model that one starts from stays as it is."""
    own = tmp_path / "hardness.yaml"
    own.write_text("unit: GPa\nkind: continuous\nlabel: gap\nlow: 0\nhigh: 10\n")
    before = (uninterrupted / "model" / "weights.safetensors").read_bytes()
    options = (f"checkpoint.start_from={uninterrupted / 'model'}", f"+condition={own}", "conditions=[]")
    module, data = build_training(config(out_dir, *options))
    spec = module.model.specs["hardness"]
    gaps = [data.dataset.labels[i]["gap"] for i in data.indices("train")]
    assert spec.mean == pytest.approx(np.mean(gaps)) and spec.std == pytest.approx(np.std(gaps))
    batch = next(iter(data.val_dataloader()))
    assert not batch.conditions["hardness"].isnan().any() and "hardness" in module.model.denoiser.property_names
    assert not batch.conditions["band_gap_eV"].isnan().any()  # what the model knew is still labelled
    old, _ = load_model(uninterrupted / "model")
    batch = batch.with_(conditions={**module.model.null_conditions(len(batch)), **batch.conditions})
    with torch.no_grad():
        assert torch.equal(old.denoiser.discrete(batch).species, module.model.eval().denoiser.discrete(batch).species)
    run_train(config(out_dir, *options, "trainer.max_steps=2"))
    taught, _ = load_model(out_dir / "model")
    assert taught.denoiser.conditions.fields["hardness"].net[-1].weight.any()
    assert (uninterrupted / "model" / "weights.safetensors").read_bytes() == before


def learning_curve(config: DictConfig, steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Mean per-field loss over fixed noise before and after training."""
    torch.manual_seed(0)
    module, data = build_training(config)
    dataset: OrbitDataset = data.dataset
    batch, model = dataset.__getitems__(range(len(dataset))), module.model
    objective = Objective(ObjectiveConfig())

    def measure() -> dict[str, float]:
        with torch.no_grad():
            runs = [objective(model, batch, 99, step).fields for step in range(6)]
        return {k: float(np.mean([r[k].item() for r in runs])) for k in FIELDS}

    before = measure()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3, betas=(0.9, 0.98))
    for step in range(steps):
        loss = objective(model, batch, 0, step).total
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return before, measure()


def test_the_discrete_losses_fall_at_once(config, out_dir: Path) -> None:
    before, after = learning_curve(config(out_dir), 25)
    assert all(np.isfinite(v) for v in after.values())
    for name in ("size", "group", "wyckoff", "species"):
        assert after[name] < 0.85 * before[name], (name, before[name], after[name])


@pytest.mark.slow
def test_every_loss_falls(config, out_dir: Path) -> None:
    before, after = learning_curve(config(out_dir), 200)
    bound = {"size": 0.6, "group": 0.6, "wyckoff": 0.6, "species": 0.7, "coordinates": 0.97, "cell": 0.9}
    for name, share in bound.items():
        assert after[name] < share * before[name], (name, before[name], after[name])


def test_learning_rate_warms_up_stays_and_decays() -> None:
    rate = OptimiserConfig(warmup_steps=10, total_steps=100, decay_fraction=0.4, final_fraction=0.1)
    values = [rate_at(step, rate) for step in range(120)]
    assert values[0] == pytest.approx(0.1) and values[10:60] == [1.0] * 50
    assert all(a > b for a, b in pairwise(values[60:100]))
    assert values[100:] == pytest.approx([0.1] * 20)


def test_wandb_offline_writes_a_run_folder_without_network(config, out_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, histograms and samples/valid land under <out>/wandb; nothing is sent anywhere."""
    import socket

    real = socket.socket.connect

    def connect(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"tried to reach {address}")
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    options = ("logger.wandb.mode=offline", "samples.every_steps=2", "samples.n=4", "samples.steps=2", "trainer.max_steps=2")
    run_train(config(out_dir, *options))
    (folder,) = (out_dir / "wandb").glob("offline-run-*")
    (record,) = folder.glob("run-*.wandb")
    wanted = (b"samples/valid", b"samples/volume_A3_per_atom", b"train/loss", b"samples/picture")
    deadline = time.monotonic() + 10.0  # the service writes the file a moment after finish() returns
    while not all(name in record.read_bytes() for name in wanted) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [name for name in wanted if name not in record.read_bytes()] == []
    assert list(folder.glob("files/media/images/samples/picture*.png"))
    rows = list(csv.DictReader((out_dir / "csv" / "metrics.csv").open()))
    assert any(0 <= float(row["samples/valid"]) <= 1 for row in rows if row.get("samples/valid"))


def test_an_unknown_trainer_key_is_explained(config, out_dir: Path) -> None:
    from sse_diffusion.core.errors import ConfigError

    with pytest.raises(ConfigError, match=r"trainer: .*no_such_key") as caught:
        train.build_trainer(config(out_dir, "+trainer.no_such_key=1"), out_dir)
    assert "configs/trainer" in caught.value.hint
    assert isinstance(train.build_trainer(config(out_dir), out_dir), pl.Trainer)
