"""Dataclasses are the schema: unknown and missing keys raise; composed configurations explain every mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf

from sse_diffusion.core.compose import compose, describe, group_choices, require_filled
from sse_diffusion.core.config import build, config_dir
from sse_diffusion.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Oven:
    """A schema for these tests."""

    temperature_K: float
    steps: tuple[int, ...] = (1, 2)


def test_build_takes_mappings_and_omegaconf_and_freezes_lists() -> None:
    assert build(Oven, {"temperature_K": 300.0, "steps": [3, 4]}) == Oven(temperature_K=300.0, steps=(3, 4))
    assert build(Oven, OmegaConf.create({"temperature_K": 1.0})) == Oven(temperature_K=1.0)


def test_build_resolves_interpolations() -> None:
    tree = OmegaConf.create({"kelvin": 500.0, "oven": {"temperature_K": "${kelvin}"}})
    assert build(Oven, tree.oven).temperature_K == 500.0


def test_unknown_key_names_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'temperature' for Oven\n.*did you mean 'temperature_K'"):
        build(Oven, {"temperature": 1})


def test_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="Oven needs temperature_K"):
        build(Oven, None)


def test_config_dir_holds_the_roots() -> None:
    assert (config_dir() / "train.yaml").is_file()


def test_override_reaches_the_composed_configuration(composed: Callable) -> None:
    assert composed("train", "trainer.max_steps=7").trainer.max_steps == 7


def test_an_inequality_needs_no_quotes(composed: Callable) -> None:
    assert composed("doctor", "data_path=<0.05").data_path == "<0.05"


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (["trainer=gpuu"], "'trainer' has no choice 'gpuu'", "did you mean 'gpu'? known: cpu, ddp, gpu"),
        (["trainr=gpu"], "unknown option 'trainr'", "did you mean 'trainer'?"),
        (["trainer.max_step=3"], "unknown option 'trainer.max_step'", "did you mean 'trainer.max_steps'?"),
        (["max_steps=3"], "unknown option 'max_steps'", "did you mean 'trainer.max_steps'?"),
        (
            ["trainer.devices=2", "logger.wandb.mod=online"],
            "unknown option 'logger.wandb.mod'",
            "did you mean 'logger.wandb.mode'?",
        ),
        (["my.cif"], "cannot read the option 'my.cif'", "key=value"),
        (["--out=a"], "cannot read the option '--out=a'", "without dashes"),
    ],
)
def test_each_mistake_gets_one_clear_message(overrides: list[str], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("train", overrides)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_an_unknown_root_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        compose("trian")


def test_mandatory_values_are_asked_for() -> None:
    with pytest.raises(
        ConfigError, match=r"verify needs a value for a\.b, input\n  -> for example: sse verify a\.b=\.\.\. input=\.\.\."
    ):
        require_filled("verify", OmegaConf.create({"input": "???", "a": {"b": "???", "c": 1}}))


def test_group_choices_list_what_the_folders_hold() -> None:
    assert group_choices("train")["trainer"] == ["cpu", "ddp", "gpu"]


def test_describe_shows_comment_groups_and_options() -> None:
    text = describe("train")
    assert "trainer" in text and "cpu | ddp | gpu" in text and "max_steps:" in text


def test_one_word_for_a_field_of_several_is_the_only_one() -> None:
    @dataclass(frozen=True)
    class Several:
        names: tuple[str, ...] = ("a", "b")
        word: str = "x"

    assert build(Several, {"names": "head", "word": "y"}) == Several(("head",), "y")
