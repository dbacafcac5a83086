"""The page: complete, self-contained, escaped, and standing when parts of a run are missing."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.report.page import run_report, write_report

VOID = {"meta", "link", "input", "br", "rect", "line", "polyline"}


class Checker(HTMLParser):
    """Collects ids, links and unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.unlabelled: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.links += [v for k, v in attrs if k in ("href", "src") and v]
        if tag == "canvas" and not values.get("aria-label"):
            self.unlabelled.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def test_page_is_well_formed_and_loads_nothing(make_run: Callable[..., Path]) -> None:
    page = write_report(make_run()).read_text(encoding="utf-8")
    found = check(page)
    assert len(found.ids) == len(set(found.ids)) and not found.unlabelled
    assert all(link.startswith(("#", "data:")) for link in found.links)
    assert all(link[1:] in found.ids for link in found.links if link.startswith("#"))
    assert "http://" not in page and "https://" not in page and "@import" not in page and "default-src 'none'" in page


def test_page_shows_question_answer_survivors_and_provenance(make_run: Callable[..., Path]) -> None:
    page = write_report(make_run(n=60)).read_text(encoding="utf-8")
    words = re.sub(r"<[^>]+>", " ", page)
    assert "Asked for Li-ion conductors" in words and "below 0.05 eV/atom" in words
    assert "Of 64 crystals sampled" in words and "Best: Li₆PS₅Cl" in words
    assert page.count("<canvas") == 4 and page.count('class="msd"') == 2 and page.count("download=") == 4
    assert "Li3PS4 + Li2S + LiCl" in words and "9f2c9f2c9f2c" in words and "CHGNet" in words and "judged at 1 ps" in words
    assert len(re.findall(r"<tr data-stage", page)) == 64


@pytest.mark.parametrize("missing", ["summary.json", "candidates.csv", "md", "cifs"])
def test_missing_part_is_a_sentence_not_a_crash(make_run: Callable[..., Path], missing: str) -> None:
    import shutil

    run = make_run()
    target = run / missing
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    page = write_report(run).read_text(encoding="utf-8")
    check(page)
    sentences = {
        "summary.json": "summary.json is missing",
        "candidates.csv": "candidates.csv is missing",
        "md": "No molecular dynamics was run",
        "cifs": "no CIF in cifs/",
    }
    assert sentences[missing] in page


def test_nothing_survived_is_said(make_run: Callable[..., Path]) -> None:
    page = write_report(make_run(survivors=False, md=False)).read_text(encoding="utf-8")
    check(page)
    assert "No candidate survived" in page


def test_truncated_files_are_notes(make_run: Callable[..., Path]) -> None:
    run = make_run()
    (run / "summary.json").write_text('{"sampled": 2')
    cif = next((run / "cifs").glob("*.cif"))
    cif.write_text("data_broken\n_cell_length_a")
    page = write_report(run).read_text(encoding="utf-8")
    check(page)
    assert "summary.json could not be read" in page and f"{cif.name} could not be parsed" in page


def test_text_of_a_run_cannot_become_markup(make_run: Callable[..., Path]) -> None:
    run = make_run()
    evil = '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>'
    with (run / "candidates.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    rows[5]["reason"] = rows[5]["formula"] = rows[0]["decomposition"] = evil
    with (run / "candidates.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    summary = json.loads((run / "summary.json").read_text())
    summary["conditions"]["mobile_ion"] = summary["commit"] = summary["engine"]["name"] = evil
    (run / "summary.json").write_text(json.dumps(summary))
    page = write_report(run).read_text(encoding="utf-8")
    check(page)
    assert "<script>alert" not in page and "<img" not in page


def test_verb_writes_the_page_and_needs_a_run_folder(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(n=3)
    said = run_report(OmegaConf.create({"input": str(run), "out": None}))
    assert str(run / "report" / "index.html") in said and (run / "report" / "index.html").is_file()
    run_report(OmegaConf.create({"input": str(run), "out": str(tmp_path / "elsewhere")}))
    assert (tmp_path / "elsewhere" / "index.html").is_file()
    with pytest.raises(ConfigError, match="needs the folder"):
        run_report(OmegaConf.create({"input": "???", "out": None}))
    with pytest.raises(DataError, match="not a folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither"):
        write_report(tmp_path / "empty")
