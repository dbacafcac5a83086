"""``sse verify`` on good and bad input, with an ASE Lennard-Jones engine."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from ase.db import connect
from ase.io import write
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.compose import compose
from sse_diffusion.core.errors import ChemistryError, ConfigError, DataError, OutputError
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K
from sse_diffusion.verification.stage import Member
from sse_diffusion.verification.structure_files import read_structures
from sse_diffusion.verification.verify import engine_and_hull, run_verify
from sse_diffusion.verification.verify_records import ensemble_records

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


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    """One core, so that several crystals do not start workers here."""
    monkeypatch.setattr("sse_diffusion.verification.executors.local.usable_cores", lambda: 1)


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


@pytest.fixture
def mixed(tmp_path):
    """A CIF in which Li and Na share the cation sites of a rock salt."""
    path = tmp_path / "mixed.cif"
    cations = np.array([[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
    anions = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    species = [{"Li": 0.5, "Na": 0.5}] * 4 + ["Br", "Cl", "Cl", "Cl"]
    Structure(Lattice.cubic(5.4), species, [*cations, *anions]).to(filename=str(path))
    return path


def test_partial_occupancy_is_ordered_and_averaged(mixed, out_dir):
    assert verify(mixed, out_dir, "disorder.n=2", "disorder.max_atoms=8") == 0
    page = json.loads((out_dir / "verification.json").read_text())
    assert [c["id"] for c in page["crystals"]] == ["mixed-o1", "mixed-o2"]
    first = page["crystals"][0]
    assert first["disorder_of"] == "mixed" and first["formula"] == "Na2Li2BrCl3" and first["disorder_composition_error"] == 0
    mean = page["ensembles"]["mixed"]["energy_eV_per_atom"]
    energies = [c["energy_eV_per_atom"] for c in page["crystals"]]
    assert mean["value"] == pytest.approx(sum(energies) / 2) and min(energies) < max(energies) and mean["uncertainty"] > 0


def test_partial_occupancy_is_refused_on_request(mixed, out_dir):
    with pytest.raises(DataError, match="partial occupancy") as caught:
        verify(mixed, out_dir, "disorder=null")
    assert "disorder.n=1" in caught.value.hint


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


def test_the_stored_command_gives_the_same_results(cif, out_dir, tmp_path, monkeypatch):
    from sse_diffusion.cli import main

    verify(cif, out_dir, "verification.relax.max_steps=4", "mobile_ion=Cl")
    record = json.loads((out_dir / "verification.json").read_text())
    words = shlex.split(record["replay"])
    assert words[:2] == ["sse", "verify"] and "mobile_ion=Cl" in words
    assert main([*words[1:], f"out={tmp_path / 'again'}"]) == 0
    again = json.loads((tmp_path / "again" / "verification.json").read_text())
    assert {k: v for k, v in record.items() if "seconds" not in k} == {k: v for k, v in again.items() if "seconds" not in k}


def test_ledger_and_explain_of_given_crystals(cif, out_dir):
    from sse_diffusion.design.explain import explain

    verify(cif, out_dir)
    with connect(str(out_dir / "ledger.db")) as database:
        row = database.get(candidate="LiCl")
        assert row.data["provenance"]["engine"]["name"] == "LennardJones" and row.data["provenance"]["replay"].startswith(
            "sse verify"
        )
    words = explain("LiCl", out_dir)
    assert "read from LiCl.cif" in words and "passed every stage" in words and "sse verify input=" in words


def awkward() -> dict[str, Structure]:
    """Crystals that fall over somewhere in a careless program."""
    lattice = Lattice.cubic(5.1)
    return {
        "nan": Structure(lattice, ["Li", "Cl"], [[0, 0, 0], [float("nan"), 0.5, 0.5]]),
        "overlap": Structure(lattice, ["Li", "Cl"], [[0, 0, 0], [0.01, 0, 0]]),
        "same-place": Structure(lattice, ["Li", "Cl"], [[0, 0, 0], [0, 0, 0]]),
        "one-atom": Structure(Lattice.cubic(3.0), ["Li"], [[0, 0, 0]]),
        "flat": Structure(Lattice([[5, 0, 0], [0, 5, 0], [0, 0, 1e-3]]), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0]]),
        "huge-cell": Structure(Lattice.cubic(500), ["Li", "Cl"], [[0, 0, 0], [0.5] * 3]),
        "large": ROCK_SALT.get_primitive_structure().make_supercell([5, 5, 6], in_place=False),
    }


def test_awkward_crystals_each_end_with_a_status_and_a_reason(tmp_path, out_dir):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, structure in awkward().items():
        atoms = structure.to_ase_atoms(msonable=False)
        atoms.info = {"id": name}
        write(folder / f"{name}.extxyz", atoms)
    Structure(Lattice.cubic(3.0), ["Na"], [[0, 0, 0]]).to(filename=str(folder / "1e5.cif"))  # a name that reads as a number
    (folder / "cut.cif").write_text("data_x\n_cell_length_a 5.0\n_cell_length_b 5.0\nloop_\n_atom_site_label\n")
    (folder / "binary.cif").write_bytes(bytes(range(256)))
    assert verify(folder, out_dir, "verification.relax.max_steps=1") == 1
    page = json.loads((out_dir / "verification.json").read_text())
    rows = {row["id"]: row for row in page["crystals"]}
    assert set(page["rejected"]) == {"cut.cif", "binary.cif"} and set(rows) == {*awkward(), "1e5"}
    for name in ("nan", "overlap", "same-place", "flat", "huge-cell"):
        assert rows[name]["stopped_at"] == "structure" and rows[name]["reason"], name
    assert rows["one-atom"]["relax_status"] in ("ok", "unconverged") and not rows["one-atom"]["stopped_at"]
    assert rows["large"]["n_atoms"] == 300 and rows["large"]["relax_status"] == "unconverged" and rows["large"]["relax_reason"]
    assert connect(str(out_dir / "ledger.db")).count() == 8


def test_a_faster_engine_is_the_same_engine():
    def identity(**engine):
        return engine_and_hull({"name": "chgnet", "model": "0.3.0", **engine}, "none")["engine_id"]

    assert identity(batch_atoms=0, device="cpu", skin_A=0.6) == identity(batch_atoms=2000, device="cuda", skin_A=0.0)
    assert identity(model="0.2.0") != identity()


def test_orderings_are_weighted_by_the_energies_of_their_cells():
    """Boltzmann factors of whole cells of eight atoms; without an energy all count alike."""

    def mean(*energies: float | None) -> float:
        members = []
        for number, energy in enumerate(energies):
            candidate = Candidate(f"o{number}", ROCK_SALT, info={"disorder_of": "mixed"})
            values = {"volume_relaxed_A3_per_atom": 10.0 + number}
            members.append(Member(candidate, ROCK_SALT, values | ({} if energy is None else {"energy_eV_per_atom": energy})))
        return ensemble_records(members, 600.0)["mixed"]["volume_relaxed_A3_per_atom"]["value"]

    second = 1 / (1 + math.exp(8 * 0.01 / (BOLTZMANN_eV_PER_K * 600.0)))
    assert mean(-3.0, -2.99) == pytest.approx(10.0 + second) and mean(-3.0, None) == pytest.approx(10.5)


def test_the_log_has_a_line_for_each_crystal_and_for_what_was_not_read(cif, tmp_path, caplog):
    (cif.parent / "broken.cif").write_text("data_\n")
    with caplog.at_level("INFO", "sse_diffusion"):
        assert verify(cif.parent, tmp_path / "run") == 1
    assert "LiCl: no height above the hull" in caplog.text and "broken.cif was not read:" in caplog.text
