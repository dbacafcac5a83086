"""Which properties can be predicted, and by whom: one YAML file per property in configs/predictors/property."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from sse_diffusion.core.atomic_files import read_json
from sse_diffusion.core.checkpoint import CONFIG, checkpoint_dir
from sse_diffusion.core.config import config_dir
from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.core.provenance import hash_of_config
from sse_diffusion.predictors.protocol import Predictor
from sse_diffusion.thermo.conditions import load_judged_specs

FOLDER = "predictors/property"
TARGET = "_target_"


def available() -> dict[str, str]:
    """Property -> what its file says about it."""
    return {file.stem: _comment(file) for file in sorted((config_dir() / FOLDER).glob("*.yaml"))}


def load_predictor(name: str, checkpoint: str | Path | None = None, **state: float) -> Predictor:
    """The predictor of a property.

    Its file names a function (``_target_: package.module.Class.load``) and that function's arguments.

    Args:
        name: of :func:`available`.
        checkpoint: another one than the file's.
        state: ``temperature_K``, ``pressure_GPa``: given to predictors that take them, and of no effect on the others.

    Raises:
        ConfigError: no such property, or a file that does not name a loader and its arguments.
        CheckpointError: the checkpoint is missing or damaged.
    """
    settings = property_settings(name)
    loader = _loader(name, str(settings.pop(TARGET, "")))
    takes = inspect.signature(loader).parameters
    settings |= {key: value for key, value in state.items() if key in takes}
    settings |= {} if checkpoint is None else {"checkpoint": checkpoint}
    if unknown := set(settings) - set(takes):
        raise ConfigError(f"{FOLDER}/{name}.yaml: unknown key {sorted(unknown)[0]!r}", did_you_mean(sorted(unknown)[0], takes))
    predictor: Predictor = loader(**settings)
    return predictor


def judges_of(asked: Iterable[str]) -> dict[str, str]:
    """What is asked and judged by predictors (``configs/thermo/judged``) -> hash of predictor and weights, for keys of results.

    Raises:
        ConfigError: no such property. CheckpointError: its checkpoint is missing.
    """
    specs = load_judged_specs()
    found: dict[str, str] = {}
    for name in asked:
        if name in specs:
            settings = property_settings(str(specs[name].predictor))
            folder = checkpoint_dir(str(settings.get("checkpoint", "")))
            found[name] = hash_of_config({**settings, "weights": (read_json(folder / CONFIG) or {}).get("weights_sha256", "")})
    return found


def property_settings(name: str) -> dict[str, Any]:
    """What the file of a property says.

    Raises:
        ConfigError: no such property.
    """
    import yaml

    file = config_dir() / FOLDER / f"{name}.yaml"
    if not file.is_file():
        raise ConfigError(f"no predictor of {name!r}", did_you_mean(name, available()))
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")) or {})


def _loader(name: str, target: str) -> Callable[..., Any]:
    """The function of a dotted path; its module is the longest part that can be imported."""
    parts = target.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if not target.startswith(str(error.name)):
                raise
            continue
        for attribute in parts[end:]:
            found = getattr(found, attribute, None)
        if callable(found):
            return found
    raise ConfigError(f"{FOLDER}/{name}.yaml: {TARGET} {target!r} is no function", "write package.module.Class.load")


def _comment(file: Path) -> str:
    first = file.read_text(encoding="utf-8").splitlines()[:1]
    return first[0].lstrip("# ").rstrip() if first else ""
