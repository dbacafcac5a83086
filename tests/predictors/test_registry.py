"""Properties are files: each loads, an unknown one is explained, state reaches those that take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sse_diffusion.core.errors import CheckpointError, ConfigError
from sse_diffusion.predictors import registry
from sse_diffusion.predictors.protocol import Predictor
from sse_diffusion.predictors.registry import available, load_predictor, property_settings


@pytest.mark.parametrize("name", available())
def test_every_property_names_a_loader_and_its_arguments(name: str) -> None:
    try:
        predictor = load_predictor(name, temperature_K=400.0, pressure_GPa=0.1)
    except CheckpointError:
        pytest.skip("its checkpoint is not shipped")
    assert isinstance(predictor, Predictor)
    assert available()[name]


def test_state_reaches_the_predictor_that_depends_on_it() -> None:
    hot, usual = load_predictor("log10_conductivity", temperature_K=400.0), load_predictor("log10_conductivity")
    assert (hot.temperature_K, usual.temperature_K) == (400.0, 300.0)  # type: ignore[attr-defined]


def test_mistakes_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="did you mean 'band_gap'"):
        load_predictor("band_gaps")
    monkeypatch.setattr(registry, "config_dir", lambda: tmp_path)
    folder = tmp_path / "predictors" / "property"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: sse_diffusion.predictors.band_gap.CompositionBandGap.load\nchekpoint: x\n")
    with pytest.raises(ConfigError, match="did you mean 'checkpoint'"):
        load_predictor("mine")
    (folder / "mine.yaml").write_text("_target_: sse_diffusion.predictors.no_such.Thing.load\n")
    with pytest.raises(ConfigError, match="is no function"):
        load_predictor("mine")
    assert property_settings("mine") == {"_target_": "sse_diffusion.predictors.no_such.Thing.load"}
