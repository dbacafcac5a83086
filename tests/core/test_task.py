"""A task is a function with one configuration dataclass; its keys are checked, its numbers come back flat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.task import flat, prepare_task, run_task


@dataclass(frozen=True, kw_only=True)
class Choices:
    n: int = 1


def double(config: Choices) -> dict[str, Any]:
    return {"n": 2 * config.n, "name": "text", "nested": {"half": config.n / 2}}


def no_schema(config: dict) -> None: ...


TARGET = f"{__name__}:double"


def test_runs_and_flattens() -> None:
    assert run_task({"task": TARGET, "n": 3}) == {"n": 6, "nested/half": 1.5}
    assert flat({"a": {"b": {"c": 1}}, "d": True}) == {"a/b/c": 1}


def test_foreign_keys_are_refused_unless_they_belong_to_the_root() -> None:
    with pytest.raises(ConfigError, match="unknown key 'optimiser'"):
        prepare_task({"task": TARGET, "optimiser": {}})
    assert prepare_task({"task": TARGET, "optimiser": {}, "n": 4}, ignore=["optimiser", "n"])[1] == Choices(n=4)


@pytest.mark.parametrize("target", ["nowhere:f", f"{__name__}:nothing", "", f"{__name__}:no_schema"])
def test_bad_targets_are_explained(target: str) -> None:
    with pytest.raises(ConfigError, match="task"):
        prepare_task({"task": target})
