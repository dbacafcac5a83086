"""The command that composes a given configuration again: its differences from the defaults as ``key=value``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig


ALWAYS = ("input", "n", "seed", "checkpoint")
"""Top-level keys that are written even at their defaults: a reader looks for them, and a default may change one day."""


def replay_command(verb: str, config: DictConfig, without: tuple[str, ...] = ("out", "overwrite", "hydra")) -> str:
    """``sse <verb> key=value ...`` that gives the same configuration, in the same version of the program.

    Args:
        verb: name of the root configuration. config: composed, perhaps changed since. without: top-level keys to leave away.
    """
    from omegaconf import OmegaConf

    from sse_diffusion.core.compose import compose

    # Unresolved: a changed value must not come a second time through each interpolation that refers to it.
    now: Any = OmegaConf.to_container(config, resolve=False)
    before: Any = OmegaConf.to_container(compose(verb), resolve=False)
    stated = [f"{key}={hydra_value(now[key])}" for key in ALWAYS if key in now and key in before]
    changed = [o for o in _differences(before, now, "") if re.split(r"[.=]", o.lstrip("+~"))[0] not in (*without, *ALWAYS)]
    return " ".join(["sse", verb, *map(shlex.quote, [*stated, *changed])])


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Overrides that turn ``before`` into ``now``."""
    for key in sorted(before.keys() - now.keys()):
        if before[key] is None:
            yield f"{prefix}{key}=0"  # Hydra does not find a null to delete
        yield f"~{prefix}{key}"
    for key, value in now.items():
        name = f"{prefix}{key}"
        if key not in before:
            yield f"+{name}={hydra_value(value)}"
        elif isinstance(value, Mapping) and isinstance(before[key], Mapping):
            yield from _differences(before[key], value, f"{name}.")
        elif value != before[key]:
            yield f"{name}={hydra_value(value)}"


def hydra_value(value: Any) -> str:
    """A plain value in Hydra's override grammar; text is quoted unless it is one harmless word."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{hydra_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(hydra_value(v) for v in value) + "]"
    text = str(value)
    harmless = re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./-]*", text) and text not in ("null", "true", "false")
    if harmless or not isinstance(value, str):
        return text
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"
