"""The whole task with an untrained model and cheap labels: files, keys, resuming, errors on the way."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Quantity
from sse_diffusion.design.evaluation.conditions import evaluate_conditions
from sse_diffusion.design.labels.labeller import SOURCES, Source
from sse_diffusion.diffusion import generate

CHEAP = [
    "task=conditions",
    "plan.only=[density,band_gap]",
    "plan.n=1",
    "plan.questions.band_gap.n=1",
    "plan.questions.band_gap.guidance=null",
    "plan.n_control=3",
]


@pytest.fixture(autouse=True)
def _cheap_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Density as sampled, and a gap that one crystal in two has."""

    def gap(_: Any, samples: Any) -> list[Quantity]:
        return [Quantity(1.0) if i % 2 else Quantity.failed("none: of this one") for i in range(len(samples))]

    monkeypatch.setitem(SOURCES, "density_g_cm3", Source(lambda _, s: [Quantity(x.structure.density) for x in s], "as sampled"))
    monkeypatch.setitem(SOURCES, "band_gap_eV", Source(gap, "made up"))


def test_one_command_writes_numbers_table_and_figure(evaluation: Callable, table: Path, metrics: Callable, out_dir: Path) -> None:
    evaluate_conditions(evaluation(*CHEAP, f"reference.path={table}", "plan.guidance=[1,3]"))
    found = metrics()
    assert found["density.hit_rate_n"] == 3 and found["density.hit_rate_unconditional_n"] == 3
    assert len(found["density.hit_rate_ci95"]) == 2 and found["density.guidance_3.uniqueness_n"] == 3
    assert found["band_gap.unlabelled_reasons"] == {"none": found["band_gap.unlabelled_k"]}
    assert "as sampled" in found["protocol_density.hit_rate"] and "2.0..3.0" in found["protocol_density.hit_rate"]
    assert "6 crystals" in found["protocol_density.novelty"] and found["density.novelty_n"] == 3
    assert found["n"] == 2 * (3 + 4) + 3 and found["seconds_sampling"] > 0
    with (out_dir / "conditions.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 2 * (3 + 3 + 3) + 2 * (4 + 3 + 4)
    assert {row["arm"] for row in rows} == {"asked", "unconditional", "shuffled"}
    asked = [row for row in rows if row["arm"] == "asked"]
    assert all(row["asked"] == row["given"] for row in asked) and all(row["formula"] for row in rows)
    assert "density" in (out_dir / "conditions.md").read_text()
    assert (out_dir / "conditions.png").stat().st_size > 10_000 and (out_dir / "conditions.svg").is_file()


def test_an_interrupted_run_goes_on_where_it_stopped(
    evaluation: Callable, table: Path, metrics: Callable, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    sample = generate.sample_candidates

    def counting(checkpoint: str, request: Any, *rest: Any, **named: Any) -> Any:
        asked.append(str(request.conditions.get("density_g_cm3")))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return sample(checkpoint, request, *rest, **named)

    monkeypatch.setattr(generate, "sample_candidates", counting)
    config = evaluation(*CHEAP, "plan.only=[density]", f"reference.path={table}")
    with pytest.raises(KeyboardInterrupt):
        evaluate_conditions(config)
    evaluate_conditions(config)
    assert asked == ["2.5", "4.5", "7.5", "7.5", "None"]
    first = metrics()
    evaluate_conditions(config)
    assert len(asked) == 5
    assert {k: v for k, v in metrics().items() if k.startswith("density")} == {
        k: v for k, v in first.items() if k.startswith("density")
    }


def test_what_the_model_does_not_know_is_refused_before_anything_is_sampled(evaluation: Callable, out_dir: Path) -> None:
    config = evaluation(*CHEAP, "plan.only=[density]")
    config.plan.questions.density.each = {"densty_g_cm3": [1.0]}
    with pytest.raises(ConfigError, match=r"question density(.|\n)*did you mean 'density_g_cm3'(.|\n)*plan.only"):
        evaluate_conditions(config)
    assert not (out_dir / "samples").exists()
