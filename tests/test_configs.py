"""Every YAML file composes, and what it holds is accepted by the dataclass it is for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from sse_diffusion.core.compose import compose, group_choices, root_of
from sse_diffusion.core.config import build, config_dir
from sse_diffusion.core.errors import ConfigError, SSEError
from sse_diffusion.core.task import prepare_task

ROOTS = sorted(path.stem for path in config_dir().glob("*.yaml"))
FILES = sorted(path.relative_to(config_dir()) for path in config_dir().rglob("*.yaml"))
CHOICES = [(root, group, choice) for root in ROOTS for group, choices in group_choices(root).items() for choice in choices]
SCHEMAS = {
    "verification/relax": "sse_diffusion.verification.relax:RelaxConfig",
    "verification/md_gate": "sse_diffusion.verification.md_gate:MDGateConfig",
    "verification/dynamics": "sse_diffusion.verification.transport.study:TransportConfig",
    "verification/hull": "sse_diffusion.verification.hull_table:HullTableConfig",
    "diffusion": "sse_diffusion.diffusion.structure_types.build:BuildConfig",
    "thermo/phases": "sse_diffusion.thermo.labels:PhasesConfig",
    "thermo/condition": "sse_diffusion.thermo.conditions:ConditionSpec",
    "thermo/judged": "sse_diffusion.thermo.conditions:ConditionSpec",
}
"""Group -> dataclass whose keyword arguments its files are."""
NODES = {
    "denoiser": "sse_diffusion.diffusion.denoiser:DenoiserConfig",
    "objective": "sse_diffusion.diffusion.objective:ObjectiveConfig",
    "optimiser": "sse_diffusion.diffusion.optimiser:OptimiserConfig",
    "coordinates": "sse_diffusion.diffusion.corruption.coordinates:CoordinateNoiseConfig",
    "masking": "sse_diffusion.diffusion.corruption.discrete:MaskingConfig",
    "loader": "sse_diffusion.data.datamodule:LoaderConfig",
}
"""Node of the composed `sse train` -> its dataclass."""


def schema(target: str) -> type:
    """The class behind ``package.module:Name``."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("root", ROOTS)
def test_root_composes(root: str, composed: Callable) -> None:
    assert "out" in list(composed(root))


@pytest.mark.parametrize("script", sorted((Path(__file__).resolve().parents[1] / "scripts").glob("*.py")), ids=lambda p: p.stem)
def test_scripts_leave_no_folders_of_hydra_behind(script: Path) -> None:
    """Roots that a Hydra main composes select ``hydra: default``: no outputs/<date>, no log file, no change of folder."""
    text = script.read_text(encoding="utf-8")
    if 'config_path="../configs"' not in text:
        pytest.skip("no root of a verb")
    assert len(text.splitlines()) < 30
    root = yaml.safe_load((config_dir() / f"{script.stem}.yaml").read_text(encoding="utf-8"))
    assert {"hydra": "default"} in root["defaults"]


@pytest.mark.parametrize(("root", "group", "choice"), CHOICES)
def test_every_choice_composes(root: str, group: str, choice: str, composed: Callable) -> None:
    if group == "trainer" and choice == "gpu":
        assert composed(root, "trainer=gpu").trainer.accelerator == "gpu"
    else:
        assert composed(root, f"{group}={choice}")


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_is_reachable(file: Path) -> None:
    """A root, a choice of some root's group, or a file with a schema of its own."""
    parent = str(file.parent)
    reachable = {group.split("@")[0] for _, group, _ in CHOICES} | set(SCHEMAS) | {".", "hydra", "predictors/property"}
    assert parent in reachable, f"no root selects from {parent}"


@pytest.mark.parametrize("file", [f for f in FILES if str(f.parent) in SCHEMAS], ids=str)
def test_file_is_accepted_by_its_dataclass(file: Path) -> None:
    wanted = schema(SCHEMAS[str(file.parent)])
    values = yaml.safe_load((config_dir() / file).read_text(encoding="utf-8"))
    if file.parent.name == "hull":  # two switches of scripts/build_hull.py beside the schema
        del values["compute"], values["engine"]
    if file.parent.name == "diffusion":  # where scripts/train_structure_types.py reads and writes
        for key in ("defaults", "out", "cache_dir", "threads"):
            del values[key]
    assert isinstance(build(wanted, values), wanted)


@pytest.mark.parametrize("file", sorted((config_dir() / "experiment").glob("predictor_*.yaml")), ids=lambda p: p.stem)
def test_a_predictor_is_trained_by_an_experiment_of_its_own(file: Path) -> None:
    """It is a root, and its keys are those of its task's dataclass; composed on `train` (a Hydra sweep) it means the same."""
    root, rest = root_of("train", [f"experiment={file.stem}", "seed=3"])
    assert (root, rest) == (f"experiment/{file.stem}", ["seed=3"])
    _, config = prepare_task(compose(root, rest))
    _, swept = prepare_task(compose("train", [f"experiment={file.stem}", "seed=3"]), ignore=map(str, compose("train")))
    assert config == swept
    with pytest.raises(ConfigError):
        compose(root, ["optimiser.learning_rate=1"])


@pytest.mark.parametrize("overrides", [[f"{group}={choice}"] for root, group, choice in CHOICES if root == "train"], ids=str)
def test_train_nodes_are_accepted_by_their_dataclasses(overrides: list[str], composed: Callable) -> None:
    config = composed("train", *overrides)
    for node, target in NODES.items():
        assert isinstance(build(schema(target), config[node]), schema(target))


@pytest.mark.parametrize(
    "choice", [choice for root, group, choice in CHOICES if (root, group) == ("verify", "verification/engine")]
)
def test_engine_loads_and_passes_its_known_answer_test(choice: str, composed: Callable) -> None:
    """Those that come with the project load; the others load as well or say what to install."""
    from sse_diffusion.verification.potential import load_potential

    node = composed("verify", f"verification/engine={choice}").verification.engine
    try:
        assert load_potential(node).info.name
    except SSEError as error:
        assert choice not in ("chgnet", "ase") and "pip install" in error.hint


@pytest.mark.parametrize("choice", ["cpu", "ddp", "gpu"])
def test_trainer_is_accepted_by_lightning(choice: str, composed: Callable, in_tmp: Path) -> None:
    import pytorch_lightning as pl
    import torch
    from omegaconf import OmegaConf

    if choice == "gpu" and not torch.cuda.is_available():
        pytest.skip("Lightning refuses accelerator=gpu without one")
    trainer = pl.Trainer(**OmegaConf.to_container(composed("train", f"trainer={choice}").trainer, resolve=True), logger=False)
    assert trainer.num_devices == (2 if choice == "ddp" else 1)
