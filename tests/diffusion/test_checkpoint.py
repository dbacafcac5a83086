"""Saving and loading a model: identical outputs, and refusals with advice."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from sse_diffusion.core.errors import CheckpointError
from sse_diffusion.diffusion.generate import sample_batch
from sse_diffusion.diffusion.model import SINCE, CrystalModel, load_model, save_model
from sse_diffusion.diffusion.sample import checkpoint_specs
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.conditions import load_judged_specs
from sse_diffusion.thermo.request import Chemistry, Request


@pytest.fixture
def stored(random_model: CrystalModel, tmp_path: Path) -> Path:
    save_model(random_model, tmp_path / "model", {"training": {"seed": 1}})
    return tmp_path / "model"


def refused(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert caught.value.hint
    return caught.value


def test_a_loaded_model_is_the_saved_one(random_model: CrystalModel, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("a checkpoint must not be unpickled"))
    loaded, checkpoint = load_model(stored)
    assert not loaded.training and checkpoint.config["training"] == {"seed": 1}
    state = loaded.state_dict()
    assert all(torch.equal(state[k], v) for k, v in random_model.state_dict().items())
    request = Request({"mobile_ion": "Li"}, Chemistry(require=frozenset({"Li"}), n_atoms=(2, 12)))
    made = [sample_batch(m, request, torch.arange(4), 0, SamplerConfig(steps=3)) for m in (random_model, loaded)]
    assert torch.equal(made[0][1], made[1][1])
    for a, b in zip(made[0][0], made[1][0], strict=True):
        assert a.group == b.group and (a.species == b.species).all() and (a.wyckoff == b.wyckoff).all()
        assert (a.free == b.free).all() and (a.cell == b.cell).all()


def test_the_conditions_are_known_without_the_weights(random_model: CrystalModel, stored: Path) -> None:
    (stored / "weights.safetensors").unlink()
    specs = checkpoint_specs(stored)
    assert {name: spec for name, spec in specs.items() if spec.predictor is None} == random_model.specs
    assert set(specs) - set(random_model.specs) == set(load_judged_specs())  # what predictors judge can be asked of any model


def test_weights_of_another_architecture_are_refused(stored: Path) -> None:
    config = json.loads((stored / "config.json").read_text())
    config["model"]["denoiser"]["width"] = 64
    (stored / "config.json").write_text(json.dumps(config))
    assert "do not fit" in refused(stored).message


def test_a_missing_tensor_is_refused(stored: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(stored / "weights.safetensors")
    tensors.pop(next(iter(tensors)))
    save_file(tensors, stored / "weights.safetensors")
    assert "does not match the SHA-256" in refused(stored).message
    config = json.loads((stored / "config.json").read_text())
    del config["weights_sha256"]  # a checkpoint without a digest still has to fit
    (stored / "config.json").write_text(json.dumps(config))
    assert "do not fit" in refused(stored).message


def test_a_checkpoint_of_another_kind_is_refused() -> None:
    assert "crystal_model" in refused(Path("stability_composition")).message


def test_truncated_weights_are_refused(stored: Path) -> None:
    data = (stored / "weights.safetensors").read_bytes()
    (stored / "weights.safetensors").write_bytes(data[:-100])
    assert "truncated" in refused(stored).message


def test_half_precision_storage_halves_the_file_and_keeps_the_outputs(random_model: CrystalModel, tmp_path: Path) -> None:
    save_model(random_model, tmp_path / "full")
    save_model(random_model, tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "weights.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded, _ = load_model(tmp_path / "half")
    conditions = random_model.null_conditions(3)
    with torch.no_grad():
        a, b = (m.denoiser.size_logits(conditions) for m in (random_model, loaded))
    torch.testing.assert_close(a, b, atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(loaded.cell_noise.std, random_model.cell_noise.std)


def test_a_config_without_a_model_says_so(random_model: CrystalModel, tmp_path: Path) -> None:
    save_model(random_model, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    record = json.loads(path.read_text())
    del record["model"]
    path.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="does not describe a model"):
        load_model(tmp_path / "m")


def test_format_1_means_what_it_meant(random_model: CrystalModel, tmp_path: Path) -> None:
    """Parameters that came with format 2 are added so that they contribute nothing."""
    from safetensors.torch import load_file, save_file

    save_model(random_model, tmp_path / "old")
    weights, config = tmp_path / "old" / "weights.safetensors", tmp_path / "old" / "config.json"
    kept = {k: v for k, v in load_file(weights).items() if not k.startswith(SINCE[2])}
    assert len(kept) < len(load_file(weights))
    save_file(kept, weights)
    written = json.loads(config.read_text())
    config.write_text(json.dumps({**written, "version": 1, "weights_sha256": sha256(weights.read_bytes()).hexdigest()}))
    old, _ = load_model(tmp_path / "old")
    conditions = old.null_conditions(2)
    conditions["composition"][:, 8] = 2.0
    silent = [
        old.denoiser.conditions.elements["composition"](conditions["composition"]),
        old.denoiser.time_cell(torch.rand(2, 64)),
    ]
    assert all(not part.any() for part in silent)
