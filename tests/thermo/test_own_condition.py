"""A user's property: what the file leaves out is measured, and what does not fit is said before training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.thermo.own_condition import OwnCondition, check_labels

FILE = "unit: GPa\nkind: continuous\ntransform: log10\nlow: 0.1\nhigh: 600\n"


def own(folder: Path, text: str = FILE) -> OwnCondition:
    path = folder / "hardness_GPa.yaml"
    path.write_text(text)
    return OwnCondition.read(path)


def rows(values: list[float] | np.ndarray) -> list[dict[str, float | str]]:
    return [{"hardness_GPa": float(v)} for v in values]


def lines(condition: OwnCondition, labels: list[dict[str, float | str]]) -> dict[str, tuple[str, str]]:
    return {
        c.name: (c.level, f"{c.found} {c.advice}") for c in check_labels(condition, labels, [f"m{i}" for i in range(len(labels))])
    }


def test_name_label_and_scale_may_be_left_out(tmp_path: Path) -> None:
    condition = own(tmp_path)
    assert condition.spec.name == condition.spec.label == "hardness_GPa" and not condition.has_scale
    spec = condition.scaled(rows([1.0, 100.0, math.nan]))
    assert (spec.mean, spec.std) == (pytest.approx(1.0), pytest.approx(1.0))
    given = own(tmp_path, FILE + "mean: 0.5\nstd: 0.2\n")
    assert given.scaled(rows([1.0, 100.0])).mean == 0.5
    with pytest.raises(ConfigError, match="no two different labels"):
        condition.scaled(rows([3.0, 3.0]))


def test_the_column_is_read_under_the_label_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    condition = own(tmp_path)
    assert condition.source({"path": "x"})["labels"] == {"hardness_GPa": "hardness_GPa"}
    assert condition.source({"labels": {"hardness_GPa": "H"}})["labels"] == {"hardness_GPa": "H"}


def test_a_good_column_passes(tmp_path: Path) -> None:
    values = 10.0 ** np.random.default_rng(0).normal(1.0, 0.3, 400)
    assert {level for level, _ in lines(own(tmp_path), rows(values)).values()} == {"ok"}


@pytest.mark.parametrize(
    ("values", "name", "level", "text"),
    [
        ([math.nan] * 5, "label", "fail", "0/5"),
        ([5.0, 7.0, math.nan], "label", "note", "2/3"),
        ([5.0, 7.0, 9000.0], "range", "fail", r"1/3 outside .* m2 \(9000\)"),
        ([5.0] * 4, "scale", "fail", "all labels are 5"),
        ([*np.linspace(1, 2, 300), 500.0], "scale", "note", "skewness"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, values: list[float], name: str, level: str, text: str) -> None:
    import re

    found = lines(own(tmp_path), rows(values))
    assert found[name][0] == level and re.search(text, found[name][1])


def test_a_scale_that_is_far_off_is_noted(tmp_path: Path) -> None:
    values = 10.0 ** np.random.default_rng(0).normal(1.0, 0.3, 400)
    wrong = own(tmp_path, FILE + "mean: 10.0\nstd: 3.0\n")
    assert lines(wrong, rows(values))["scale"][0] == "note"


def test_categories_must_be_among_the_choices(tmp_path: Path) -> None:
    condition = own(tmp_path, "kind: categorical\nchoices: [a, b]\n")
    assert lines(condition, [{"hardness_GPa": "a"}, {"hardness_GPa": "b"}])["label"][0] == "ok"
    assert lines(condition, [{"hardness_GPa": "a"}, {"hardness_GPa": "c"}])["label"][0] == "fail"


def test_a_file_that_is_no_condition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="describes no condition"):
        own(tmp_path, "just text")
    assert own(tmp_path, "{kind: continuous, low: 1e-9, high: 1}").spec.low == 1e-9  # a number to Hydra, text to plain YAML
    with pytest.raises(ConfigError, match="cannot read the condition"):
        OwnCondition.read(tmp_path / "absent.yaml")
