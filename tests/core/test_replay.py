"""The stored command composes the configuration that it stands for."""

from __future__ import annotations

import shlex

import pytest
from omegaconf import OmegaConf

from sse_diffusion.core.compose import compose
from sse_diffusion.core.replay import hydra_value, replay_command


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["n=7", "ask.elements.forbid=[F,Cl]", "ask.formula=Li3PS4", "ask.energy_above_hull_eV_per_atom=<0.02"],
        ["verification/engine=ase", "+verification.engine.kwargs.rc=6.0", "+verification.engine.reference_eV_per_atom.LiF=-5.05"],
        ["verification.relax.max_steps=5", "verification/md_gate=quick", "budget=2h", "known=null"],
        ["checkpoint='a folder/with, commas'", "ask.n_atoms=[4,12]", 'ask.formula="it\'s"'],
    ],
)
def test_replay_composes_the_same(overrides):
    config = compose("design", overrides)
    words = shlex.split(replay_command("design", config))
    again = compose(words[1], words[2:])
    assert OmegaConf.to_container(again, resolve=True) == OmegaConf.to_container(config, resolve=True)
    assert words[2:4] == [f"n={config.n}", "seed=0"]


def test_the_run_folder_is_left_out():
    assert "out=" not in replay_command("design", compose("design", ["out=here"]))


def test_values():
    assert hydra_value({"a": [1, "x y", None, True]}) == "{a:[1,'x y',null,true]}" and hydra_value("null") == "'null'"
