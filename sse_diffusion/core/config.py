"""Configuration: a dataclass is the schema; unknown keys fail with a did-you-mean; the YAML tree travels with the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from sse_diffusion.core.errors import ConfigError, did_you_mean

T = TypeVar("T")


def config_dir() -> Path:
    """Folder of the Hydra YAML tree: inside the installed wheel, or at the root of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "configs", package.parent / "configs"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise ConfigError(
        "the configs/ folder of sse_diffusion was not found", "reinstall the package: pip install --force-reinstall sse-diffusion"
    )


def build(schema: type[T], values: Mapping[str, Any] | None) -> T:
    """Build ``schema(**values)``.

    Lists become tuples (frozen dataclasses hold no mutable values), mappings for fields whose default is a dataclass become
    that; keys that the schema lacks raise.

    Raises:
        ConfigError: unknown key (with the closest known one), or a required key is missing.
    """
    given = plain(values)
    known = {f.name: f for f in fields(schema)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise ConfigError(f"unknown key {key!r} for {schema.__name__}", did_you_mean(key, known))
    missing = [n for n, f in known.items() if n not in given and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise ConfigError(
            f"{schema.__name__} needs {', '.join(missing)}", "add the missing key(s) to the YAML or the command line"
        )
    return schema(**{k: _value(known[k], v) for k, v in given.items()})


def _value(item: Field[Any], value: Any) -> Any:
    """A list as a tuple, and one word where there may be several; a mapping as the dataclass that the field makes by default."""
    if isinstance(value, Mapping) and is_dataclass(item.default_factory):
        return build(item.default_factory, value)
    if isinstance(value, str) and isinstance(item.default, tuple):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def plain(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """OmegaConf nodes as plain containers with interpolations resolved; other mappings as they are."""
    from omegaconf import DictConfig, OmegaConf

    if isinstance(values, DictConfig):
        container: Any = OmegaConf.to_container(values, resolve=True)
        return dict(container or {})
    return dict(values or {})
