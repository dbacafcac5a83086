"""Write the report of a run: one self-contained HTML page without external requests."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from sse_diffusion.core.atomic_files import write_bytes_atomically
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.report.achieved import conditions_table
from sse_diffusion.report.candidate_table import candidate_table
from sse_diffusion.report.cards import cards
from sse_diffusion.report.funnel_picture import funnel_bars, funnel_steps
from sse_diffusion.report.markup import element, paragraph, text
from sse_diffusion.report.overview import headline, limits, mobile_ion_of, provenance
from sse_diffusion.report.run_folder import RunFolder, read_run, record_of

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run_report(cfg: DictConfig) -> str:
    """``sse report input=RUN_DIR``: write ``RUN_DIR/report/index.html`` and say where it is.

    Raises:
        ConfigError: no ``input``.
        DataError: the folder is no run folder.
        OutputError: the page cannot be written.
    """
    from omegaconf import OmegaConf

    values = record_of(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False))
    source = values.get("input")
    if not source or source == "???":
        raise ConfigError("sse report needs the folder of a run", "sse report input=outputs/demo")
    return f"report: {write_report(source, values.get('out') or None)}"


def write_report(run_dir: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run folder and return its path.

    Args:
        run_dir: the ``out`` of ``sse design``.
        out: folder for ``index.html``; ``run_dir/report`` by default.

    Raises:
        DataError: the folder is no run folder.
        OutputError: the page cannot be written.
    """
    target = (Path(out) if out else Path(run_dir) / "report") / "index.html"
    page = render(read_run(run_dir))
    write_bytes_atomically(target, page.encode())
    return target


def render(run: RunFolder) -> str:
    """The page as HTML text."""
    ion = mobile_ion_of(run.summary)
    key = (
        element("span", "", class_="key passed") + "passed " + element("span", "", class_="key tested") + "tested, did not pass. "
    )
    funnel = element("p", key + "In brackets: Wilson 95 % interval of the rate.", class_="lead")
    sections = (
        ("funnel", "Funnel", funnel + funnel_bars(funnel_steps(run))),
        ("survivors", "Survivors", cards(run, ion)),
        ("conditions", "Asked and achieved", conditions_table(run)),
        ("table", "All candidates", candidate_table(run)),
        ("limits", "Limits", limits(run)),
        ("provenance", "Provenance", provenance(run)),
    )
    nav = "".join(element("a", text(title), href=f"#{name}") for name, title, _ in sections)
    blocks = "\n".join(element("section", element("h2", text(title)) + body, id=name) for name, title, body in sections)
    version = (
        (run.summary.get("versions") or {}).get("sse-diffusion", "") if isinstance(run.summary.get("versions"), dict) else ""
    )
    return Template(asset("page.html")).substitute(
        title=text(f"sse-diffusion report: {ion + ' conductors' if ion else run.path.name}"),
        css=asset("page.css"),
        headline=headline(run),
        nav=nav,
        sections=blocks,
        footer=paragraph(f"Made by sse-diffusion {version}. This page is one file: it loads nothing and sends nothing."),
        viewer_js=asset("viewer.js"),
        page_js=asset("page.js"),
    )


def asset(name: str) -> str:
    """Text of a file in ``report/assets``."""
    return resources.files("sse_diffusion.report").joinpath("assets", name).read_text(encoding="utf-8")
