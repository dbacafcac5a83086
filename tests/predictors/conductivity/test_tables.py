"""Odd cells, odd formulas, partial occupancies and Celsius end up in one kind of row."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sse_diffusion.core.errors import DataError
from sse_diffusion.predictors.conductivity.tables import parse_conductivity, read_conductivities, read_structures

DISORDERED = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Li1 Li 0 0 0 0.25
S1 S 0.5 0.5 0.5 1
"""
OBELIX = """ID,Reduced Composition,True Composition,Ionic conductivity (S cm-1),Space group #,a,b,c,alpha,beta,gamma,DOI
aa1,Li0.5S2,Li0.5S2,<1E-10,216,4,4,4,90,90,90,10.1/A
aa2,Li3N,Li3.0N1.0,1.2e-3,191,3.6,3.6,3.9,90,90,120,https://doi.org/10.1/B
aa3,LiF,,2e-13,,,,,,,,
aa4,LiF,,n.a.,,,,,,,,
"""


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1E-4", (-4.0, False)),
        ("<1E-10", (-10.0, True)),
        (" < 1e-8 ", (-8.0, True)),
        ("0.01", (-2.0, False)),
        ("0", None),
        ("", None),
    ],
)
def test_conductivity_cells(cell: str, expected: tuple[float, bool] | None) -> None:
    found = parse_conductivity(cell)
    assert found == (pytest.approx(expected) if expected else None)


def test_obelix_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "t.csv").write_text(OBELIX)
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("aa1.cif", DISORDERED)
        archive.writestr("aa2.cif", "not a CIF")
    first, second, third = read_conductivities(tmp_path / "t.csv", tmp_path / "c.zip")
    assert "1 of 4 rows left out" in caplog.text
    assert "aa2" in caplog.text
    assert (first.log10_sigma, first.limit, first.censored, first.temperature_K) == (-10.0, True, True, 300.0)
    assert first.structure is not None
    assert first.structure.composition["Li"] == pytest.approx(0.25)  # as it is, not rounded
    assert first.volume_per_atom_A3 == pytest.approx(64 / 2.5)
    assert (second.structure, second.space_group, second.doi) == (None, 191, "10.1/b")
    assert (third.log10_sigma, third.censored, third.limit, third.doi) == (pytest.approx(-12.699, abs=1e-3), True, False, None)


def test_liverpool_columns(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("ID,composition,source,temperature,target,log_target\n1, Li0.5 La0.5 TiO3,10.1/X,25,0,-4.5\n")
    (row,) = read_conductivities(tmp_path / "l.csv")
    assert (row.temperature_K, row.log10_sigma, row.doi) == (298.15, -4.5, "10.1/x")
    assert row.key == "La0.100 Li0.100 O0.600 Ti0.200"


def test_a_folder_reads_like_a_zip(tmp_path: Path) -> None:
    (tmp_path / "x.cif").write_text(DISORDERED)
    assert list(read_structures(tmp_path)) == ["x"]


def test_what_cannot_be_used_is_explained(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("formula,sigma\nLiF,1\n")
    with pytest.raises(DataError, match="formula, sigma"):
        read_conductivities(tmp_path / "bad.csv")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        read_structures(tmp_path / "no.zip")
