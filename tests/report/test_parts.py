"""Intervals, counts, the viewer's data, the plot."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.report.achieved import conditions_table
from sse_diffusion.report.candidate_table import predicted_conductivity
from sse_diffusion.report.crystal_view import viewer_data
from sse_diffusion.report.funnel_picture import funnel_bars, funnel_steps
from sse_diffusion.report.markup import fixed, scientific
from sse_diffusion.report.msd_plot import msd_svg
from sse_diffusion.report.run_folder import RunFolder, read_run


def test_funnel_counts_only_what_was_tested(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run(n=60))
    steps = {s.name: s for s in funnel_steps(run)}
    assert steps["Sampled"].tested == 64
    assert steps["Ion moves in short MD"].passed == 1 and steps["Ion moves in short MD"].tested == 2
    assert all(0 <= s.passed <= s.tested <= 64 for s in steps.values())
    assert steps["Charges can balance"].tested == steps["Structure is sound"].passed
    assert "1 of 2" in funnel_bars(list(steps.values()))


def test_funnel_without_table_uses_the_summary() -> None:
    run = RunFolder(path=Path("run"), summary={"sampled": 10, "structurally_valid": 9, "relaxed": 4, "within_0.1_eV_of_hull": 1})
    steps = {s.name: s for s in funnel_steps(run)}
    assert steps["Structure is sound"].passed == 9
    assert (steps["Within 0.1 eV/atom of the hull"].passed, steps["Within 0.1 eV/atom of the hull"].tested) == (1, 4)


def test_viewer_bonds_join_ions_and_not_neighbouring_cations() -> None:
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.71), ["S", "Li"], [[0] * 3, [0.25] * 3])
    data = viewer_data(crystal, "Li")
    symbols = [s["symbol"] for s in data["species"]]
    pairs = {tuple(sorted((symbols[i], symbols[j]))): longest for i, j, longest in data["bonds"]}
    assert ("Li", "Li") not in pairs and pairs["Li", "S"] > 5.71 * math.sqrt(3) / 4
    assert [s["mobile"] for s in data["species"]] == [s == "Li" for s in symbols]
    assert len(data["sites"]) == 12 and all(0 <= v <= 1 for site in data["sites"] for v in site[1:])


def test_curve_ends_where_its_last_value_is() -> None:
    record = {
        "times_ps": [0.0, 1.0, 2.0],
        "msd_mobile_A2": [0, 1, 2],
        "msd_framework_A2": [0, 0.1, 0.1],
        "provenance": {"gate_lag_ps": 1},
    }
    svg = msd_svg(record, "Li")
    last = svg.split('points="')[1].split('"')[0].split()[-1].split(",")
    label = svg.split('class="msd-mobile-text"')[0].rsplit('y="', 1)[1].split('"')[0]
    assert float(label) == pytest.approx(float(last[1]) + 4, abs=0.2)
    assert "judged at 1 ps" in svg and "Li 2.00 square angstrom" in svg


@pytest.mark.parametrize(
    "record", [{}, {"times_ps": [0, 1], "msd_mobile_A2": [0, None]}, {"times_ps": [0, 1], "msd_mobile_A2": [0]}]
)
def test_damaged_curve_is_a_sentence(record: dict[str, object]) -> None:
    assert "no displacement curve" in msd_svg(record, "Li")


def test_conditions_are_counted(make_run: Callable[..., Path]) -> None:
    table = conditions_table(read_run(make_run(n=0)))
    assert "3 of 4 in range; lowest 0.021, median 0.041" in table
    assert "4 of 4" in table


def test_numbers_are_written_for_people() -> None:
    assert fixed(-0.1234) == "−0.123" and fixed(math.nan) == "–"
    assert scientific(5.2e-5) == "5.2 × 10⁻⁵" and scientific(0.0) == "0"


def test_a_predicted_conductivity_carries_its_interval_and_its_doubt() -> None:
    name = "predicted_log10_conductivity"
    row = {name: "-5.54", f"{name}_low": "-8", f"{name}_high": "-3", f"{name}_in_domain": "true"}
    assert predicted_conductivity(row) == "−5.5 (−8.0 to −3.0)"
    assert predicted_conductivity({**row, f"{name}_in_domain": "false"}).endswith(" ?") and predicted_conductivity({}) == ""
