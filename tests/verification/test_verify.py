"""``sse verify`` on good and bad input, with an ASE Lennard-Jones engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase.io import write
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.compose import compose
from sse_diffusion.core.errors import ChemistryError, ConfigError, DataError, OutputError
from sse_diffusion.verification.structure_files import read_structures
from sse_diffusion.verification.verify import run_verify

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.13), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ENGINE = (
    "verification/engine=ase",
    "verification.engine.calculator=ase.calculators.lj:LennardJones",
    "+verification.engine.kwargs.sigma=2.3",
    "+verification.engine.kwargs.epsilon=0.05",
    "+verification.engine.kwargs.rc=6.0",
    "+verification.engine.kwargs.smooth=true",
    "verification.engine.energy_scheme=toy",
    "verification.relax.max_steps=3",
)


def verify(source: Path, out: Path, *overrides: str) -> int:
    return run_verify(compose("verify", [f"input={source}", f"out={out}", *ENGINE, "md_gate.enabled=false", *overrides]))


@pytest.fixture
def cif(tmp_path: Path) -> Path:
    path = tmp_path / "LiCl.cif"
    ROCK_SALT.get_primitive_structure().to(filename=str(path))
    return path


def test_one_crystal_gives_one_flat_record(cif, out_dir):
    assert verify(cif, out_dir) == 0
    record = json.loads((out_dir / "verification.json").read_text())
    assert record["formula"] == "LiCl" and record["mobile_ion"] == "Li" and record["structurally_valid"] is True
    assert (
        record["space_group_found"] == 225
        and record["energy_scheme"] == "toy"
        and record["relax_status"] in ("ok", "unconverged")
    )
    assert "toy" in record["hull_reason"], "energies of another scheme are not placed on the hull, and the record says so"
    assert record["versions"]["ase"] and record["seconds"]["relax"] > 0
    assert Structure.from_file(out_dir / "LiCl_relaxed.cif").composition.reduced_formula == "LiCl"


def test_second_run_gives_the_same_record(cif, out_dir):
    verify(cif, out_dir)
    first = json.loads((out_dir / "verification.json").read_text())
    stamp = (out_dir / "stages" / "relax" / "LiCl.json").stat().st_mtime_ns
    verify(cif, out_dir)
    second = json.loads((out_dir / "verification.json").read_text())
    assert (out_dir / "stages" / "relax" / "LiCl.json").stat().st_mtime_ns == stamp
    assert {k: v for k, v in first.items() if "seconds" not in k} == {k: v for k, v in second.items() if "seconds" not in k}


def test_md_gate_runs_when_enabled(cif, out_dir):
    short = (
        "drop_ps=0.02",
        "keep_ps=0.1",
        "min_keep_ps=0.05",
        "gate_lag_ps=0.05",
        "min_atoms=8",
        "max_atoms=16",
        "temperature_K=50",
    )
    assert verify(cif, out_dir, "md_gate.enabled=true", *(f"verification.md_gate.{s}" for s in short)) == 0
    record = json.loads((out_dir / "verification.json").read_text())
    assert record["md_mobile"] is False and record["md_diffusivity_status"] == "upper_bound" and record["md_gate_reason"]
    assert (out_dir / "md" / "LiCl" / "md.json").is_file()


def test_unsupported_element_is_an_error_and_keeps_the_rest(cif, out_dir):
    with pytest.raises(ChemistryError, match="does not know Cl"):
        verify(cif, out_dir, "verification.engine.elements=[Li]")
    record = json.loads((out_dir / "verification.json").read_text())
    assert record["composition_valid"] is True and record["relaxed"] is False


def test_partial_occupancy_is_explained(tmp_path, out_dir):
    path = tmp_path / "mixed.cif"
    Structure(Lattice.cubic(4), [{"Li": 0.5, "Na": 0.5}, "Cl"], [[0, 0, 0], [0.5] * 3]).to(filename=str(path))
    with pytest.raises(DataError, match="partial occupancy") as caught:
        verify(path, out_dir)
    assert "not yet ordered automatically" in caught.value.hint


@pytest.mark.parametrize("content", ["", "data_x\n_cell_length_a abc\n", "this is no CIF", "data_x\nloop_\n_atom_site_label\n"])
def test_unreadable_cif(tmp_path, out_dir, content):
    path = tmp_path / "bad.cif"
    path.write_text(content)
    with pytest.raises(DataError, match=r"bad\.cif"):
        verify(path, out_dir)


def test_folder_goes_on_past_a_bad_file(tmp_path, out_dir, cif):
    folder = tmp_path / "in"
    folder.mkdir()
    cif.rename(folder / "LiCl.cif")
    (folder / "bad.cif").write_text("nothing")
    write(folder / "two.extxyz", [ROCK_SALT.to_ase_atoms(msonable=False)] * 2)
    assert verify(folder, out_dir) == 1
    page = json.loads((out_dir / "verification.json").read_text())
    assert list(page["rejected"]) == ["bad.cif"] and [c["id"] for c in page["crystals"]] == ["LiCl", "two-0", "two-1"]


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_structures(tmp_path / "nothing.cif")
    with pytest.raises(DataError, match="holds no"):
        read_structures(tmp_path)
    (tmp_path / "x.docx").write_text("")
    with pytest.raises(DataError, match=r"\.docx are not read"):
        read_structures(tmp_path / "x.docx")


def test_bad_ion_and_unwritable_output(cif, tmp_path):
    with pytest.raises(ConfigError, match="mobile_ion=Lithium"):
        verify(cif, tmp_path / "out", "mobile_ion=Lithium")
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        verify(cif, blocker / "out")
