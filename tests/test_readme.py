"""Commands written in the README and the docs exist, compose, and (the cheap ones) run."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sse_diffusion import cli
from sse_diffusion.core.compose import require_filled
from sse_diffusion.thermo.conditions import load_condition_specs, load_judged_specs
from sse_diffusion.thermo.request import parse_request

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """Every command line of the fenced bash blocks of a page, split as a shell would."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]
VERB_CALLS = [
    (page, words[1], words[2:]) if words[0] == "sse" else (page, Path(words[1]).stem, words[2:])
    for page, words in COMMANDS
    if words[0] == "sse" or words[:1] == ["python"]
]


def ids(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 12 and len(VERB_CALLS) >= 8


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=ids)
def test_command_is_of_a_known_kind(page: str, words: list[str]) -> None:
    assert words[0] in {"make", "sse", "python"}, "teach this test the new kind of command"
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if words[0] == "python":
        assert (ROOT / words[1]).is_file()


@pytest.mark.parametrize(("page", "verb", "overrides"), VERB_CALLS, ids=ids)
def test_overrides_compose(page: str, verb: str, overrides: list[str], composed: Callable) -> None:
    assert verb in cli.VERBS
    config = composed(verb, *overrides)
    require_filled(verb, config)
    if "ask" in config:
        assert parse_request(config.ask, {**load_judged_specs(), **load_condition_specs()}).mobile_ion != ""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["doctor", "checkpoint=nowhere"]], ids=ids)
def test_cheap_commands_run(arguments: list[str], in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == (1 if "doctor" in arguments else 0)
    assert capsys.readouterr().out


def test_make_without_a_target_explains_every_target() -> None:
    shown = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"setup", "demo", "test", "test-slow", "lint", "format", "bench", "train-base", "hull", "clean"} <= set(targets)
    assert all(re.search(rf"^  {target} +\S", shown, re.MULTILINE) for target in targets)


def test_links_lead_somewhere() -> None:
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_no_machine_paths() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not re.search(r"(^|[^\w.])/(work|tmp|root|home)/", text)
