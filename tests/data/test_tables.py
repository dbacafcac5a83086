"""Every format gives the same crystal; every bad row is counted with its reason; every bad file is one clear error."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.data.sources import load_source
from sse_diffusion.data.tables import ColumnMap, read_table
from sse_diffusion.data.validation import (
    ABSURD_VOLUME,
    DUPLICATE_ID,
    DUPLICATE_SITES,
    NON_FINITE,
    NOT_PERIODIC,
    PARTIAL_OCCUPANCY,
    UNKNOWN_ELEMENT,
    UNREADABLE,
)

LABELS = {"band_gap_eV": "band_gap", "energy_above_hull_eV_per_atom": {"column": "ehull_meV", "unit": "meV/atom"}}


def record(name: str, **changes: object) -> dict[str, object]:
    """A good row: monoclinic, two atoms off any symmetry."""
    row: dict[str, object] = {
        "material_id": name, "split": "train", "a": 4.1, "b": 3.9, "c": 4.4, "alpha": 90.0, "beta": 101.0, "gamma": 90.0,
        "atomic_numbers": [3, 17], "frac_coords": [0.1, 0.2, 0.3, 0.6, -0.3, 1.8], "band_gap": 6.0, "ehull_meV": 25.0,
    }  # fmt: skip
    return {**row, **changes}


@pytest.fixture
def crystal() -> Structure:
    """The same crystal as :func:`record`."""
    return Structure(Lattice.from_parameters(4.1, 3.9, 4.4, 90, 101, 90), ["Li", "Cl"], [[0.1, 0.2, 0.3], [0.6, -0.3, 1.8]])


def write_every_format(folder: Path, crystal: Structure) -> dict[str, Path]:
    """The crystal as parquet, CSV of lists, CSV of CIF text, CIF folder, ASE db and extxyz."""
    from ase.db import connect
    from ase.io import write

    info = {"material_id": "x", "split": "train", "band_gap": 6.0, "ehull_meV": 25.0}
    pd.DataFrame([record("x")]).to_parquet(folder / "t.parquet")
    lists = record("x") | {key: json.dumps(record("x")[key]) for key in ("atomic_numbers", "frac_coords")}
    pd.DataFrame([lists]).to_csv(folder / "lists.csv", index=False)
    pd.DataFrame([{**info, "cif": crystal.to(fmt="cif")}]).to_csv(folder / "text.csv", index=False)
    (folder / "cifs").mkdir()
    crystal.to(str(folder / "cifs" / "x.cif"))
    pd.DataFrame([{**info, "id": "x"}]).to_csv(folder / "cifs" / "labels.csv", index=False)
    atoms = crystal.to_ase_atoms()
    connect(str(folder / "t.db")).write(atoms, key_value_pairs=info)
    atoms.info = dict(info)
    write(folder / "t.extxyz", atoms)
    return {name: folder / name for name in ("t.parquet", "lists.csv", "text.csv", "cifs", "t.db", "t.extxyz")}


@pytest.mark.parametrize("kind", ["t.parquet", "lists.csv", "text.csv", "cifs", "t.db", "t.extxyz"])
def test_every_format_gives_the_same_crystal_and_labels(kind: str, tmp_path: Path, crystal: Structure) -> None:
    report = read_table(write_every_format(tmp_path, crystal)[kind], labels=LABELS, progress=False)
    (row,) = report.rows
    assert report.rejected == []
    assert (row.id, row.split) == ("x", "train")
    assert row.labels["band_gap_eV"] == pytest.approx(6.0)
    assert row.labels["energy_above_hull_eV_per_atom"] == pytest.approx(0.025)
    assert sorted(row.species.tolist()) == [3, 17]
    assert ((row.frac >= 0) & (row.frac < 1)).all()
    read = Structure(Lattice(row.lattice), row.species, row.frac)
    assert read.volume == pytest.approx(crystal.volume, rel=1e-4)
    assert np.sort(read.distance_matrix.ravel()) == pytest.approx(np.sort(crystal.distance_matrix.ravel()), abs=1e-3)


BAD_ROWS = {
    DUPLICATE_SITES: {"frac_coords": [0.0, 0.5, 0.5, 0.98, 0.5, 0.5]},
    ABSURD_VOLUME: {"a": 41.0, "b": 39.0},
    UNKNOWN_ELEMENT: {"atomic_numbers": [3, 95]},
    NON_FINITE: {"alpha": 10.0, "beta": 170.0},
    UNREADABLE: {"frac_coords": [0.1, 0.2, 0.3, 0.4]},
}


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_is_counted_with_its_reason_and_the_good_ones_stay(reason: str, tmp_path: Path) -> None:
    table = pd.DataFrame([record("good"), record("bad", **BAD_ROWS[reason]), record("last")])
    table.to_parquet(tmp_path / "t.parquet")
    report = read_table(tmp_path / "t.parquet", progress=False)
    assert [row.id for row in report.rows] == ["good", "last"]
    assert report.counts() == {reason: 1}
    assert (report.rejected[0].row, report.rejected[0].id) == (1, "bad")
    assert reason in report.summary() and "bad" in report.summary()


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    pd.DataFrame([record("same"), record("same")]).to_parquet(tmp_path / "t.parquet")
    report = read_table(tmp_path / "t.parquet", progress=False)
    assert (len(report.rows), report.counts()) == (1, {DUPLICATE_ID: 1})


def test_missing_labels_become_nan_and_are_counted(tmp_path: Path) -> None:
    pd.DataFrame([record("a", band_gap=None), record("b")]).to_parquet(tmp_path / "t.parquet")
    report = read_table(tmp_path / "t.parquet", labels={"band_gap_eV": "band_gap", "sigma": "no_such_column"}, progress=False)
    assert math.isnan(report.rows[0].labels["band_gap_eV"]) and report.rows[1].labels["band_gap_eV"] == 6.0
    assert report.missing_labels() == {"band_gap_eV": 1, "sigma": 2}
    assert "no_such_column" in report.summary()


def test_text_labels_stay_text(tmp_path: Path) -> None:
    pd.DataFrame([record("a", family="argyrodite")]).to_parquet(tmp_path / "t.parquet")
    (row,) = read_table(tmp_path / "t.parquet", labels={"family": "family"}, progress=False).rows
    assert row.labels == {"family": "argyrodite"}


def test_missing_column_names_the_columns_found(tmp_path: Path) -> None:
    pd.DataFrame([record("a")]).rename(columns={"atomic_numbers": "Z"}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"lacks column\(s\) atomic_numbers; columns found: .*Z"):
        read_table(tmp_path / "t.parquet", progress=False)
    assert len(read_table(tmp_path / "t.parquet", columns=ColumnMap(species="Z"), progress=False).rows) == 1


@pytest.mark.parametrize("name", ["t.parquet", "t.db", "t.extxyz", "lists.csv"])
def test_a_truncated_file_is_one_clear_error(name: str, tmp_path: Path, crystal: Structure) -> None:
    path = write_every_format(tmp_path, crystal)[name]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    with pytest.raises(DataError, match=r"cannot be read"):
        read_table(path, progress=False)


def test_a_truncated_cif_is_a_rejection(tmp_path: Path, crystal: Structure) -> None:
    crystal.to(str(tmp_path / "good.cif"))
    text = (tmp_path / "good.cif").read_text()
    (tmp_path / "cut.cif").write_text(text[:40])
    (tmp_path / "headless.cif").write_text(text[: text.index("_atom_site_type_symbol")])
    report = read_table(tmp_path, progress=False)
    assert [row.id for row in report.rows] == ["good"]
    assert report.counts() == {UNREADABLE: 2}


def test_partial_occupancy_names_the_site(tmp_path: Path) -> None:
    mixed = Structure(Lattice.cubic(4.0), [{"Li": 0.5, "Na": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    vacant = Structure(Lattice.cubic(4.0), [{"Li": 0.7}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    mixed.to(str(tmp_path / "mixed.cif"))
    vacant.to(str(tmp_path / "vacant.cif"))
    report = read_table(tmp_path, progress=False)
    assert report.rows == [] and report.counts() == {PARTIAL_OCCUPANCY: 2}
    assert "1 of 2 sites" in report.rejected[0].detail and "Na" in report.rejected[0].detail


def test_molecules_are_refused(tmp_path: Path) -> None:
    from ase import Atoms
    from ase.io import write

    write(tmp_path / "m.extxyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]))
    assert read_table(tmp_path / "m.extxyz", progress=False).counts() == {NOT_PERIODIC: 1}


def test_absent_unknown_and_empty_sources_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.path="):
        read_table(tmp_path / "absent.parquet")
    (tmp_path / "t.docx").write_text("x")
    with pytest.raises(DataError, match="unknown file type"):
        read_table(tmp_path / "t.docx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.cif"):
        read_table(tmp_path / "empty")
    with pytest.raises(ConfigError, match="unknown unit 'meV/Atom'"):
        read_table(tmp_path / "empty", labels={"x": {"column": "x", "unit": "meV/Atom"}})


def test_limit_reads_the_first_rows(tmp_path: Path) -> None:
    pd.DataFrame([record(str(i)) for i in range(5)]).to_csv(tmp_path / "t.csv", index=False)
    assert [row.id for row in read_table(tmp_path / "t.csv", limit=2, progress=False).rows] == ["0", "1"]


def test_rejections_can_be_written(tmp_path: Path) -> None:
    pd.DataFrame([record("a"), record("b", atomic_numbers=[3, 0])]).to_parquet(tmp_path / "t.parquet")
    read_table(tmp_path / "t.parquet", progress=False).write_rejections(tmp_path / "rejected.csv")
    assert pd.read_csv(tmp_path / "rejected.csv").to_dict("records")[0]["reason"] == UNKNOWN_ELEMENT


def test_load_source_splits_and_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    pd.DataFrame([record("a", split=None), record("b", split=None)]).to_parquet(tmp_path / "t.parquet")
    report = load_source({"kind": "table", "path": str(tmp_path / "t.parquet"), "progress": False})
    assert len({row.split for row in report.rows}) == 1 and report.rows[0].split in ("train", "val")
    pd.DataFrame([record("a"), record("b", split="val")]).to_parquet(tmp_path / "leak.parquet")
    with pytest.raises(DataError, match="more than one split"):
        load_source({"kind": "table", "path": str(tmp_path / "leak.parquet"), "progress": False})
    pd.DataFrame([record("a", a=400.0)]).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no row passed validation"):
        load_source({"kind": "table", "path": str(tmp_path / "none.parquet"), "progress": False})
    with pytest.raises(ConfigError, match="did you mean 'path'"):
        load_source({"kind": "table", "pat": "x"})
    with pytest.raises(ConfigError, match="did you mean 'table'"):
        load_source({"kind": "tabel"})
