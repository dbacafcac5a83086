"""What users get wrong: one message that says what to do, and exit code 2. And `sse sample` from end to end."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sse_diffusion.cli import main

SALT_CIF = """data_{name}
_cell_length_a 5.0
_cell_length_b 5.0
_cell_length_c 5.0
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
A1 {a} 0.0 0.0 0.0
B1 {b} 0.5 0.5 0.5
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    from sse_diffusion.diffusion.denoiser import DenoiserConfig
    from sse_diffusion.diffusion.model import CrystalModel, save_model
    from sse_diffusion.thermo.conditions import load_condition_specs

    torch.manual_seed(0)
    size = DenoiserConfig(width=16, depth=1, heads=2, pair_width=8, n_radial=8, max_orbits=8)
    model = CrystalModel(size, load_condition_specs())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    model.cell_noise.mean[:, -1] = 1.0  # some 20 A^3 per atom: random weights must not make cells that CIF cannot hold
    model.cell_noise.std.fill_(0.1)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(model, folder)
    return folder


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Run a command that must be refused; returns the message."""

    def _refused(*arguments: object) -> str:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert code == 2, captured
        assert captured.err.count("error: ") == 1 and "Traceback" not in captured.err
        message = captured.err[captured.err.index("error: ") :]
        assert "\n  -> " in message  # says what to do
        return message

    return _refused


def sample(checkpoint: Path, out: Path, *options: str) -> int:
    return main(["sample", f"checkpoint={checkpoint}", "n=4", "sampler.steps=2", f"out={out}", *options])


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "crystals.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_sample_writes_the_same_crystals_everywhere(checkpoint: Path, out_dir: Path) -> None:
    from ase.io import read
    from pymatgen.core import Structure

    assert sample(checkpoint, out_dir, "ask.n_atoms=[2, 12]") == 0
    rows = rows_of(out_dir)
    frames = read(out_dir / "crystals.extxyz", index=":")
    assert len({row["id"] for row in rows}) == 4
    assert [row["id"] for row in rows] == [frame.info["id"] for frame in frames]
    assert {path.stem for path in (out_dir / "cifs").glob("*.cif")} == {row["id"] for row in rows}
    for row, frame in zip(rows, frames, strict=True):
        cif = Structure.from_file(out_dir / "cifs" / f"{row['id']}.cif")
        assert sorted(frame.numbers) == sorted(cif.atomic_numbers) and len(cif) == int(row["n_atoms"])
        assert math.isclose(cif.volume, frame.get_volume(), rel_tol=1e-3)
        assert cif.composition.reduced_formula == row["formula"] and "Li" in row["formula"]
        assert 2 <= int(row["n_atoms"]) <= 12 and 1 <= int(row["space_group"]) <= 230
    assert (out_dir / "sample.json").stat().st_size > 100


def test_ids_belong_to_the_request_and_the_seed(checkpoint: Path, tmp_path: Path) -> None:
    runs = {"a": "seed=3", "b": "seed=3", "c": "seed=4", "d": "seed=3 ask.band_gap_eV=2.0"}
    ids = {}
    for name, options in runs.items():
        assert sample(checkpoint, tmp_path / name, "ask.n_atoms=[2, 8]", *options.split()) == 0
        ids[name] = [(row["id"], row["formula"], row["volume_A3_per_atom"]) for row in rows_of(tmp_path / name)]
    assert ids["a"] == ids["b"]
    for other in ("c", "d"):
        assert not {i[0] for i in ids["a"]} & {i[0] for i in ids[other]}


def test_formula_mode(checkpoint: Path, out_dir: Path) -> None:
    assert sample(checkpoint, out_dir, "ask.formula=LiCl", "ask.z=[1, 2]", "ask.n_atoms=[2, 4]") == 0
    assert {row["formula"] for row in rows_of(out_dir)} == {"LiCl"}
    assert {int(row["n_atoms"]) for row in rows_of(out_dir)} == {2, 4}


def test_a_mistyped_option_is_corrected(refused, out_dir: Path) -> None:
    assert "did you mean 'sampler.guidance'?" in refused("sample", "sampler.guidence=2", f"out={out_dir}")
    assert not out_dir.exists()


def test_an_unknown_condition(refused, checkpoint: Path, out_dir: Path) -> None:
    message = refused("sample", f"checkpoint={checkpoint}", "+ask.band_gap=1", f"out={out_dir}")
    assert "band_gap" in message and "did you mean 'band_gap_eV'?" in message


def test_a_condition_outside_its_grammar(refused, checkpoint: Path, out_dir: Path) -> None:
    assert "band_gap_eV" in refused("sample", f"checkpoint={checkpoint}", "ask.band_gap_eV=wide", f"out={out_dir}")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("ask.elements.forbid=[Li]", "Li"),
        ("ask.elements.allow=[Na, Cl]", "Li"),
        ("ask.formula=NaCl", "Li"),
        ("ask.n_atoms=[9, 3]", "n_atoms"),
        ("ask.space_group=[300]", "space_group"),
        ("ask.elements.require=[Xx]", "Xx"),
    ],
)
def test_contradictory_chemistry(refused, checkpoint: Path, out_dir: Path, option: str, words: str) -> None:
    assert words in refused("sample", f"checkpoint={checkpoint}", option, f"out={out_dir}")
    assert not (out_dir / "crystals.csv").exists()


def test_a_truncated_checkpoint(refused, checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    weights = copy / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    assert "truncated" in refused("sample", f"checkpoint={copy}", f"out={tmp_path / 'out'}")


def test_a_checkpoint_that_is_not_there(refused, out_dir: Path) -> None:
    assert "stability_composition" in refused("sample", "checkpoint=mp_smal", f"out={out_dir}")  # lists what there is


def test_a_checkpoint_of_another_kind(refused, out_dir: Path) -> None:
    assert "crystal_model" in refused("sample", "checkpoint=stability_composition", f"out={out_dir}")


@pytest.mark.parametrize("text", ["", "data_x\n_cell_length_a five\n", "\x00\x01\x02 not a cif"])
def test_verify_refuses_an_unreadable_cif(refused, tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.cif").write_text(text)
    assert "broken.cif" in refused("verify", f"input={tmp_path / 'broken.cif'}", f"out={tmp_path / 'out'}")


def test_verify_refuses_what_does_not_exist(refused, tmp_path: Path) -> None:
    assert "nothing.cif" in refused("verify", f"input={tmp_path / 'nothing.cif'}", f"out={tmp_path / 'out'}")


def test_verify_names_an_element_that_the_engine_does_not_know(refused, tmp_path: Path) -> None:
    path = tmp_path / "es.cif"
    path.write_text(SALT_CIF.format(name="EsO", a="Es", b="O"))
    message = refused("verify", f"input={path}", f"out={tmp_path / 'out'}", "md_gate.enabled=false")
    assert "Es" in message and "engine" in message


def row(**changes: object) -> dict[str, object]:
    cell = {"a": 5.0, "b": 5.0, "c": 5.0, "alpha": 90.0, "beta": 90.0, "gamma": 90.0}
    frac = np.array([0, 0, 0, 0.5, 0.5, 0.5])
    return {"material_id": "m", "atomic_numbers": np.array([55, 17]), "frac_coords": frac, **cell, **changes}


def train(path: Path, out: Path) -> list[str]:
    options = ["experiment=tiny", "data=folder", f"data.path={path}", "loader.cache_dir=null", "loader.workers=1"]
    return ["train", *options, "logger.wandb.mode=disabled", "data.progress=false", f"out={out}"]


@pytest.mark.parametrize("column", ["a", "gamma", "frac_coords", "atomic_numbers"])
def test_train_names_the_column_that_a_table_lacks(refused, tmp_path: Path, out_dir: Path, column: str) -> None:
    table = pd.DataFrame([row()]).drop(columns=column)
    table.to_parquet(tmp_path / "t.parquet")
    assert f"lacks column(s) {column};" in refused(*train(tmp_path / "t.parquet", out_dir))


def test_train_refuses_a_truncated_table(refused, tmp_path: Path, out_dir: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame([row()]).to_parquet(path)
    path.write_bytes(path.read_bytes()[:200])
    assert "t.parquet" in refused(*train(path, out_dir))


def test_train_refuses_a_table_without_usable_crystals(refused, tmp_path: Path, out_dir: Path) -> None:
    pd.DataFrame([row(a=0.1), row(atomic_numbers=np.array([55, 999]))]).to_parquet(tmp_path / "t.parquet")
    assert "no row passed validation" in refused(*train(tmp_path / "t.parquet", out_dir))


def test_train_needs_a_path(refused, out_dir: Path) -> None:
    assert "data.path" in refused("train", "experiment=tiny", "data=folder", f"out={out_dir}")


@pytest.mark.parametrize("verb", ["train", "sample", "verify", "design"])
def test_an_output_path_that_is_a_file(refused, tmp_path: Path, verb: str) -> None:
    taken = tmp_path / "taken"
    taken.write_text("keep me")
    extra = [f"input={taken}"] if verb == "verify" else []
    assert str(taken) in refused(verb, f"out={taken}", *extra)
    assert taken.read_text() == "keep me"
