"""Training tasks: an experiment YAML names a function, ``task: package.module:function``, and holds its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from sse_diffusion.core.config import build, plain
from sse_diffusion.core.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

TASK = "task"


def run_task(config: Mapping[str, Any] | DictConfig, ignore: Iterable[str] = ()) -> dict[str, float]:
    """Call the task of a configuration; see :func:`prepare_task`.

    Returns:
        The numbers of what the task returned, nested names joined by a slash.
    """
    function, settings = prepare_task(config, ignore)
    return flat(function(settings) or {})


def prepare_task(config: Mapping[str, Any] | DictConfig, ignore: Iterable[str] = ()) -> tuple[Callable[[Any], Any], Any]:
    """The task's function and its configuration: the annotation of its only parameter, built from the other keys.

    Args:
        config: composed configuration.
        ignore: keys of the root it was composed on, which are dropped when the dataclass lacks them.

    Raises:
        ConfigError: no such function, an unknown or missing key.
    """
    given = plain(config)
    target = str(given.pop(TASK, ""))
    module, _, name = target.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{TASK} {target!r} cannot be imported: {error}", "write package.module:function") from error
    schema = next((hint for key, hint in get_type_hints(function).items() if key != "return"), None)
    if not (isinstance(schema, type) and is_dataclass(schema)):
        raise ConfigError(f"{TASK} {target!r} takes no configuration dataclass", "annotate its parameter with one")
    droppable = set(ignore) - {field.name for field in fields(schema)}
    return function, build(schema, {key: value for key, value in given.items() if key not in droppable})


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested mappings and lists, names and positions joined by a slash."""
    result: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, list | tuple):
            result |= flat({str(i): item for i, item in enumerate(value)}, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            result[f"{prefix}{key}"] = float(value)
    return result
