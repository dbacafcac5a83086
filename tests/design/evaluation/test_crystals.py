"""Crystals that are given: formats, what counts as invalid, and what is missing without a reference."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.io import write
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.design.evaluation.crystals import (
    MEASURES,
    checked_measures,
    evaluate_crystals,
    protocols,
    read_crystals,
    score_crystals,
    validity_metrics,
)

OVERLAPPING = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0, 0, 0], [0.05, 0, 0]])
DIVERGED = Structure(Lattice.cubic(12.0), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])


@pytest.fixture()
def folder(tmp_path: Path, known: dict[str, Structure]) -> Path:
    """CIFs of three known crystals, one cut off and one disordered."""
    path = tmp_path / "cifs"
    path.mkdir()
    for name in ("nacl", "zns", "na2cl"):
        known[name].to(filename=str(path / f"{name}.cif"))
    Structure(Lattice.cubic(4.0), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]).to(filename=str(path / "mixed.cif"))
    (path / "cut.cif").write_text("data_x\n_cell_length_a 4\n")
    return path


def extxyz(path: Path, *structures: Structure) -> Path:
    write(path, [AseAtomsAdaptor.get_atoms(s, msonable=False) for s in structures], format="extxyz")
    return path


def test_rates_count_every_crystal(known: dict[str, Structure]) -> None:
    silicon = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])
    found = validity_metrics([*known.values(), silicon, OVERLAPPING, DIVERGED, None])
    counts = {key: (metric.k, metric.n) for key, metric in found.items()}
    assert counts["structural_validity"] == (8, 10), "the field's check passes the diverged cell"
    assert counts["composition_validity"] == (8, 10), "Na2Cl and the missing one fail"
    assert counts["validity"] == (7, 10) and counts["plausible_volume"] == (8, 10)
    assert counts["composition_validity_2_3_elements"] == (7, 8), "of those that can be read and have two or three elements"


def test_a_folder_of_cifs(evaluation: Callable, folder: Path, metrics: Callable, out_dir: Path) -> None:
    evaluate_crystals(evaluation("task=crystals", f"input={folder}", "measures=[validity]"))
    found = metrics()
    assert found["n"] == 5 and found["n_rejected"] == 2 and set(found["rejected"]) == {"mixed", "cut"}
    assert (found["structural_validity_k"], found["structural_validity_n"]) == (3, 5), "what cannot be read is invalid"
    with (out_dir / "crystals.csv").open() as handle:
        lines = {row["id"]: row for row in csv.DictReader(handle)}
    assert set(lines) == {"nacl", "zns", "na2cl", "mixed", "cut"}
    assert "charge-neutral" in lines["na2cl"]["reason"] and "partial occupancy" in lines["mixed"]["reason"]
    assert lines["zns"]["reason"] == "" and lines["zns"]["formula"] == "ZnS"


def test_extxyz_keeps_overlapping_atoms_as_a_verdict(evaluation: Callable, tmp_path: Path, metrics: Callable) -> None:
    path = extxyz(tmp_path / "theirs.extxyz", OVERLAPPING, DIVERGED)
    evaluate_crystals(evaluation("task=crystals", f"input={path}", "measures=[validity]"))
    assert (metrics()["structural_validity_k"], metrics()["structural_validity_n"]) == (1, 2)


def test_a_table_keeps_overlapping_atoms_and_repeated_ids(table: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(table)
    twice = pd.concat([frame, frame.iloc[[0]]])
    twice.iloc[1, twice.columns.get_loc("frac_coords")] = [0.0] * 6
    twice.to_parquet(tmp_path / "twice.parquet")
    given = read_crystals(str(tmp_path / "twice.parquet"))
    assert len(given.structures) == 7 and not given.rejected and len(set(given.ids)) == 7
    assert validity_metrics(given.structures)["structural_validity"].k == 6


def test_columns_of_another_name(table: Path, tmp_path: Path, composed: Callable, metrics: Callable, out_dir: Path) -> None:
    pd.read_parquet(table).rename(columns={"atomic_numbers": "z"}).to_parquet(tmp_path / "other.parquet")
    asked = [f"input={tmp_path / 'other.parquet'}", "measures=[validity]", "+reference.columns.species=z", f"out={out_dir}"]
    evaluate_crystals(composed("evaluate", "task=crystals", "workers=1", *asked))
    assert metrics()["n"] == 6 and metrics()["composition_validity_k"] == 5


def test_a_limit_draws_the_same_subset_every_time(table: Path) -> None:
    given = read_crystals(str(table))
    few, more = given.draw(2), given.draw(4)
    assert set(few.ids) < set(more.ids) and few.ids == given.draw(2).ids and given.draw(9) is given
    assert [given.ids.index(i) for i in more.ids] == sorted(given.ids.index(i) for i in more.ids)
    assert all(s is given.structures[given.ids.index(i)] for i, s in zip(more.ids, more.structures, strict=True))


def test_a_limit_counts_only_the_refused_ones_it_drew(folder: Path) -> None:
    given = read_crystals(str(folder))
    for few in (given.draw(n) for n in range(1, 5)):
        assert set(few.rejected) == {name for name, s in zip(few.ids, few.structures, strict=True) if s is None}


def test_known_crystals_are_not_novel_and_twins_not_unique(
    evaluation: Callable, table: Path, known: dict[str, Structure], tmp_path: Path, metrics: Callable
) -> None:
    bigger = known["nacl"].copy()
    bigger.scale_lattice(bigger.volume * 1.2)
    unknown = Structure(Lattice.cubic(4.2), ["K", "Br"], [[0, 0, 0], [0.5] * 3])
    path = extxyz(tmp_path / "theirs.extxyz", known["nacl"], bigger, unknown, OVERLAPPING)
    evaluate_crystals(evaluation("task=crystals", f"input={path}", f"reference.path={table}", "measures=[uniqueness]"))
    found = metrics()
    assert (found["uniqueness_k"], found["uniqueness_n"]) == (2, 4), "NaCl twice is one, overlapping atoms are none"
    assert (found["novelty_k"], found["novelty_n"]) == (1, 4) and found["n_reference"] == 6


def test_without_a_reference_the_numbers_that_need_one_are_missing(known: dict[str, Structure]) -> None:
    found = score_crystals(list(known.values()), None, measures=("validity", "uniqueness", "coverage", "distributions"))
    assert found["structural_validity"].value == 1.0 and found["uniqueness"].value == 1.0
    for key in ("novelty", "coverage_recall", "coverage_precision", "w_density", "w_n_elements"):
        assert found[key].value is None and found[key].reason, key


def test_a_set_against_itself_is_at_distance_zero(evaluation: Callable, table: Path, metrics: Callable) -> None:
    """All six are references, too; the one that fails the SMACT check is left out of the samples."""
    evaluate_crystals(evaluation("task=crystals", f"input={table}", f"reference.path={table}", "measures=[distributions]"))
    found = metrics()
    assert found["w_n_elements"] == pytest.approx(np.abs(11 / 5 - 13 / 6), abs=1e-6) and "n_elements" not in found


def test_unknown_measures_are_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown measure 'coverages'.*\n.*did you mean 'coverage'"):
        checked_measures(["validity", "coverages"])
    assert checked_measures(["stable", "validity"]) == ("validity", "stable"), "cheap ones first"


def test_input_is_needed_and_must_exist(evaluation: Callable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs input"):
        evaluate_crystals(evaluation("task=crystals"))
    with pytest.raises(DataError, match="nowhere"):
        evaluate_crystals(evaluation("task=crystals", f"input={tmp_path / 'nowhere'}"))


def test_the_hull_protocol_is_spelt_out(evaluation: Callable) -> None:
    how = protocols(evaluation("task=crystals", "stable.n=7"), MEASURES, 1)
    assert "first 7" in how["sun"] and "chgnet" in how["sun"].lower() and "hull" in how["sun"]
    assert "sun" not in protocols(evaluation("task=crystals"), ("validity",), 1)


def test_every_number_has_its_protocol(evaluation: Callable, table: Path, out_dir: Path) -> None:
    wanted = "measures=[validity,uniqueness,distributions]"
    evaluate_crystals(evaluation("task=crystals", f"input={table}", f"reference.path={table}", wanted))
    for line in (out_dir / "metrics.md").read_text().splitlines()[2:]:
        if line.startswith("|"):
            assert len(line.rsplit("|", 2)[1].strip()) > 20, line
    assert json.loads((out_dir / "metrics.json").read_text())["protocol_novelty"]
