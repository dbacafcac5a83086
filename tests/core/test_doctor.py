"""The doctor finds what is wrong and says what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sse_diffusion.core import doctor


def test_every_core_package_is_installed_here() -> None:
    assert [check for check in doctor.check_packages(None) if check.level == "fail"] == []


def test_versions_other_than_the_pinned_are_noted(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# comment\nase==0.0.1\nPyTorch_Lightning==2.0\n")
    noted = {check.name: check.advice for check in doctor.check_packages(constraints) if check.level == "note"}
    assert noted == {"ase": "tested with 0.0.1", "pytorch-lightning": "tested with 2.0"}


def test_a_missing_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CORE_PACKAGES", ("not-a-package-of-anyone",))
    (check,) = doctor.check_packages(None)
    assert check.level == "fail" and "make setup" in check.advice


def test_shipped_constraints_pin_every_core_package() -> None:
    path = doctor.find_constraints()
    assert path is not None
    assert set(doctor.CORE_PACKAGES) <= set(doctor.read_pins(path))


def test_checkpoint_good_truncated_and_missing(tmp_path: Path) -> None:
    assert doctor.check_checkpoint(tmp_path).level == "fail"
    weights = tmp_path / "model.safetensors"
    save_file({"w": np.ones((4, 4), np.float32)}, weights)
    good = doctor.check_checkpoint(tmp_path)
    assert good.level == "ok" and "1 tensors" in good.found
    weights.write_bytes(weights.read_bytes()[:40])
    bad = doctor.check_checkpoint(tmp_path)
    assert bad.level == "fail" and "not readable" in bad.found


def test_every_checkpoint_of_a_folder_is_looked_at(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_file({"w": np.ones(1, np.float32)}, tmp_path / name / "weights.safetensors")
    assert doctor.find_checkpoints(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert doctor.find_checkpoints(tmp_path / "a") == [tmp_path / "a"]


def test_a_file_in_the_way_of_the_output_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    assert "is a file" in doctor.why_not_writable(tmp_path / "taken" / "out")
    assert doctor.why_not_writable(tmp_path / "a" / "b") == ""


def test_a_read_only_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)  # chmod does not stop a root user
    check = doctor.check_writable(tmp_path / "out")
    assert check.level == "fail" and "read-only" in check.found and "out=DIR" in check.advice


def test_a_full_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_GB", 1e9)
    assert doctor.check_disk(tmp_path / "not" / "yet").level == "fail"


def test_training_table_is_optional(tmp_path: Path) -> None:
    assert doctor.check_data(tmp_path / "none.parquet").level == "note"
