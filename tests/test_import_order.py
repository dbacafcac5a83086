"""A room imports only from rooms to its left, and importing the package does nothing but define names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sse_diffusion

ROOMS = ["core", "data", "thermo", "predictors", "diffusion", "verification", "design", "report", "cli"]
PACKAGE = Path(sse_diffusion.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))
# ``testing`` ships mixins for plug-ins: nothing in the package imports it, it may look at every room.
ROOM_SOURCES = [path for path in SOURCES if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in ROOMS]


def imported_rooms(tree: ast.AST) -> set[str]:
    """Rooms that a module imports anywhere, functions included."""
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return {parts[1] for name in modules if (parts := name.split("."))[0] == "sse_diffusion" and len(parts) > 1}


@pytest.mark.parametrize("path", ROOM_SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_the_left(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    rooms = imported_rooms(ast.parse(path.read_text(encoding="utf-8")))
    to_the_right = {name for name in rooms & set(ROOMS) if ROOMS.index(name) > ROOMS.index(room)}
    assert not to_the_right and "testing" not in rooms


def test_the_check_sees_an_import_to_the_right() -> None:
    assert imported_rooms(ast.parse("def f():\n    from sse_diffusion.design import pipeline")) == {"design"}


def test_no_relative_imports() -> None:
    relative = [
        f"{path.name}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    assert not relative


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_runs_at_import(path: Path) -> None:
    """No bare call at module level: no prints, no folders made, no environment written."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    calls = [ast.unparse(node) for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    assert not calls


def test_importing_every_module_loads_no_heavy_library(tmp_path: Path) -> None:
    """matgl makes a cache folder and chgnet compiles at import: only the functions that need them may load them."""
    names = [
        ".".join(["sse_diffusion", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for path in SOURCES
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(sorted({'matgl', 'chgnet', 'wandb', 'smact'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert done.stderr == "" and list(tmp_path.iterdir()) == []
