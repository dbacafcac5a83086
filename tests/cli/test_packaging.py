"""What travels inside the wheel, and what the pins promise."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from sse_diffusion.core.doctor import read_pins

pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout, built without network."""
    root, folder = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=root, check=True, capture_output=True
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("folder", ["configs", "checkpoints"])
def test_configs_and_checkpoints_travel_with_the_package(wheel: zipfile.ZipFile, folder: str, repo_root: Path) -> None:
    files = {str(path.relative_to(repo_root)) for path in (repo_root / folder).rglob("*") if path.is_file()}
    assert {f"sse_diffusion/{name}" for name in files} <= set(wheel.namelist())


def test_every_module_and_asset_is_inside(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    package = repo_root / "sse_diffusion"
    files = {str(p.relative_to(repo_root)) for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert files <= set(wheel.namelist())


def test_nothing_else_is_inside(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info" not in name} == {"sse_diffusion"}


def test_console_command(wheel: zipfile.ZipFile) -> None:
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert "sse = sse_diffusion.cli:main" in wheel.read(name).decode()


def test_every_dependency_is_pinned(repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=!~ \[]", item)[0]).lower() for item in wanted}
    pins = read_pins(repo_root / "constraints.txt")
    assert names <= set(pins)
    assert pins["torch"] == "2.13.0"


def test_pins_have_no_build_tags_or_paths(repo_root: Path) -> None:
    lines = [
        line for line in (repo_root / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
