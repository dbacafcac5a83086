"""Compose the configuration of a verb from the YAML tree and ``key=value`` overrides; every mistake gets one clear message."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.config import config_dir
from sse_diffusion.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compose(verb: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Resolve ``configs/<verb>.yaml`` with Hydra overrides.

    Args:
        verb: name of the root configuration.
        overrides: Hydra override grammar, e.g. ``["trainer=gpu", "out=runs/a", "+trainer.profiler=simple"]``.

    Raises:
        ConfigError: unknown verb, key, group or choice; malformed override; broken interpolation.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not (config_dir() / f"{verb}.yaml").is_file():
        raise ConfigError(
            f"there is no configuration for {verb!r}", did_you_mean(verb, [p.stem for p in config_dir().glob("*.yaml")])
        )
    try:
        return _compose(verb, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explain(verb, list(overrides), error) from error


def root_of(verb: str, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """The root configuration of a call and the overrides that are left.

    An experiment that names a ``task`` of its own (configs/experiment/predictor_*.yaml) is a root: options of the verb's root
    that mean nothing to it are refused.
    """
    for i, override in enumerate(overrides):
        group, _, name = override.partition("=")
        file = config_dir() / "experiment" / f"{name}.yaml"
        if group == file.parent.name and file.is_file() and re.search("(?m)^task:", file.read_text(encoding="utf-8")):
            return f"{group}/{name}", [*overrides[:i], *overrides[i + 1 :]]
    return verb, list(overrides)


def require_filled(verb: str, config: DictConfig) -> None:
    """Raise when a mandatory value (``???`` in the YAML) was not given.

    Raises:
        ConfigError: names every missing key.
    """
    from omegaconf import OmegaConf

    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        example = " ".join(f"{key}=..." for key in missing)
        raise ConfigError(f"{verb} needs a value for {', '.join(missing)}", f"for example: sse {verb} {example}")


def group_choices(verb: str) -> dict[str, list[str]]:
    """Config groups that ``verb`` selects from, each with its available choices."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl  # the only place that knows the composed defaults list
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    with _initialized(verb):
        loader = GlobalHydra.instance().config_loader()
        if not isinstance(loader, ConfigLoaderImpl):
            raise TypeError(f"unexpected config loader {type(loader)}")
        defaults = loader.compute_defaults_list(config_name=verb, overrides=[], run_mode=RunMode.RUN)
    names = sorted(name for name in defaults.overrides.known_choices if name.split("/")[0] != "hydra")
    return {name: choices for name in names if (choices := _choices(name))}


def _choices(group: str) -> list[str]:
    """Files of a group's folder; a group may be placed elsewhere in the tree as ``group@place``."""
    return sorted(path.stem for path in (config_dir() / group.split("@")[0]).glob("*.yaml"))


def _initialized(verb: str) -> AbstractContextManager[Any]:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    return initialize_config_dir(config_dir=str(config_dir()), job_name=verb, version_base="1.3")


def _compose(verb: str, overrides: Sequence[str]) -> DictConfig:
    from hydra import compose as hydra_compose

    with _initialized(verb):
        return hydra_compose(config_name=verb, overrides=[_quote_inequality(override) for override in overrides])


def _quote_inequality(override: str) -> str:
    """``key=<0.05`` -> ``key='<0.05'``: Hydra's grammar has no bare ``<`` and ``>``, our request grammar lives on them."""
    key, equals, value = override.partition("=")
    return f"{key}='{value}'" if equals and value[:1] in {"<", ">"} and "'" not in value else override


def _explain(verb: str, overrides: list[str], error: Exception) -> ConfigError:
    """Translate a Hydra / OmegaConf exception into one message about the override that caused it."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, OverrideParseException):
        hint = "write key=value, without dashes or spaces around =, and values with commas or colons as 'key=\"value\"'"
        return ConfigError(f"cannot read the option {error.override!r}", hint)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
        return ConfigError(f"{group!r} has no choice {choice!r}", did_you_mean(choice, sorted(error.options)))
    for override in overrides:
        try:
            _compose(verb, [override])
        except (HydraException, OmegaConfBaseException) as cause:
            key = re.split(r"[=@]", override, maxsplit=1)[0].lstrip("+~")
            return _explain_key(verb, key, override, cause)
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ConfigError(
        f"the configuration of {verb!r} does not resolve: {first_line}", f"options given: {' '.join(overrides) or 'none'}"
    )


def _explain_key(verb: str, key: str, override: str, cause: Exception) -> ConfigError:
    config = _compose(verb, [])
    known = [*_keys(config), *group_choices(verb)]
    if key in known:
        return ConfigError(
            f"the option {override!r} cannot be used: {str(cause.__cause__ or cause).strip().splitlines()[0]}",
            f"see `sse {verb} --help`",
        )
    hints = []
    if closest := _closest(key, known):
        hints.append(f"did you mean {closest!r}?")
    siblings = _siblings(key, known)
    hints.append(f"known here: {', '.join(siblings)}" if siblings else f"see `sse {verb} --help`")
    return ConfigError(f"unknown option {key!r} in {override!r}", " ".join(hints))


def _closest(key: str, known: list[str]) -> str:
    """Nearest full key, or a key whose last part is what was written without its path."""
    same_leaf = [name for name in known if re.split(r"[./]", name)[-1] == key]
    if same_leaf:
        return same_leaf[0]
    full = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if full:
        return full[0]
    leaves = {re.split(r"[./]", name)[-1]: name for name in reversed(known)}
    leaf = difflib.get_close_matches(re.split(r"[./]", key)[-1], list(leaves), n=1, cutoff=0.75)
    return leaves[leaf[0]] if leaf else ""


def _siblings(key: str, known: list[str]) -> list[str]:
    """Known keys under the same parent as ``key`` (the top level when the parent itself is unknown)."""
    parent = key.rpartition(".")[0]
    prefix = f"{parent}." if parent in known else ""
    return sorted(
        {name.removeprefix(prefix) for name in known if name.startswith(prefix) and "." not in name.removeprefix(prefix)}
    )


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Dotted names of every node below the root."""
    from omegaconf import DictConfig, OmegaConf

    for key in map(str, config):
        name = f"{prefix}{key}"
        yield name
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        child = config[key]
        if isinstance(child, DictConfig):
            yield from _keys(child, f"{name}.")


def describe(verb: str) -> str:
    """Text for ``sse <verb> --help``: the head comment of the root YAML, the groups and their choices, the composed options."""
    from omegaconf import OmegaConf

    lines = [_head_comment(config_dir() / f"{verb}.yaml")]
    groups = group_choices(verb)
    if groups:
        lines.append("\nGroups (choose with group=choice):")
        lines += [f"  {name:32s} {' | '.join(choices)}" for name, choices in groups.items()]
    lines.append("\nOptions and their defaults (change with key.subkey=value; ??? must be given):")
    lines += [f"  {line}" for line in OmegaConf.to_yaml(compose(verb)).splitlines()]
    return "\n".join(line for line in lines if line)


def _head_comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            lines.append(line.lstrip("# ").rstrip())
    return "\n".join(lines)
