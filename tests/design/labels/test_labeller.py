"""Each field has one source; samples are relaxed once and never again; what has no label says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Status
from sse_diffusion.design.labels import migration
from sse_diffusion.design.labels.labeller import SOURCES, LabelConfig, Labeller
from sse_diffusion.design.labels.sample import Relaxed, Sample
from sse_diffusion.thermo.hull import COLUMNS
from sse_diffusion.verification.percolation import PercolationResult


def crystal(a: float, symbols: tuple[str, str] = ("Li", "Cl"), second: float = 0.5) -> Structure:
    whole = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), list(symbols), [[0, 0, 0], [second] * 3])
    return whole.get_primitive_structure()


SAMPLES = [
    Sample("good", crystal(5.1), 300.0, 0.0),
    Sample("overlap", Structure(Lattice.cubic(4.0), ["Li", "Cl"], [[0, 0, 0], [0.02] * 3]), 300.0, 0.0),
    Sample("foreign", crystal(5.0, ("Li", "Br")), 300.0, 0.0),
]


@pytest.fixture()
def labeller(tmp_path: Path, engine: Any) -> Labeller:
    rows = [f"{s},0.0,20.0,computed,toy,true" for s in ("Li", "Na", "Cl2")]
    (tmp_path / "hull.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return Labeller(LabelConfig(hull=str(tmp_path / "hull.csv"), relax_steps=2), tmp_path)


def test_samples_are_relaxed_once_for_all_fields_and_after_an_interruption(
    labeller: Labeller, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    calculator = engine.calculator
    monkeypatch.setattr(engine, "calculator", lambda: made.append(1) or calculator())
    formation = labeller.label("formation_energy_eV_per_atom", SAMPLES)
    density = labeller.label("density_g_cm3", SAMPLES)
    again = Labeller(labeller.config, labeller.out).label("formation_energy_eV_per_atom", SAMPLES)
    assert made == [1]
    assert again[0].value == formation[0].value
    assert density[0].value == pytest.approx(crystal(5.1).density, rel=0.3) and formation[0].value < 0.0


def test_what_has_no_label_says_why(labeller: Labeller) -> None:
    found = labeller.label("density_g_cm3", SAMPLES)
    assert [q.status is Status.FAILED for q in found] == [False, True, True]
    assert found[1].reason.startswith("structurally invalid") and found[2].reason == "no reference phase for Br"


def test_zero_steps_judge_the_crystal_as_it_was_sampled(labeller: Labeller) -> None:
    as_sampled = Labeller(LabelConfig(hull=labeller.config.hull, relax_steps=0), labeller.out)
    (label,) = as_sampled.label("density_g_cm3", SAMPLES[:1])
    assert label.value == pytest.approx(crystal(5.1).density) and label.status is Status.UNCONVERGED
    assert "not relaxed" in as_sampled.protocol("density_g_cm3") and "at most 2 steps" in labeller.protocol("density_g_cm3")


def test_a_field_without_a_source_is_an_error_that_lists_the_others(labeller: Labeller) -> None:
    with pytest.raises(ConfigError, match=r"shear_modulus_GPa(.|\n)*migration_barrier_eV"):
        labeller.label("shear_modulus_GPa", SAMPLES)


def test_band_gaps_outside_the_domain_are_no_labels(tmp_path: Path) -> None:
    samples = [Sample("a", crystal(5.1), 300.0, 0.0), Sample("b", crystal(5.0, ("No", "Cl")), 300.0, 0.0)]
    known, strange = Labeller(LabelConfig(), tmp_path).label("band_gap_eV", samples)
    assert known.value > 3.0 and strange.status is Status.FAILED and "No" in strange.reason


def test_barriers_are_kept_and_asked_of_the_mobile_ion_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fake(structure: Structure, ion: str, config: Any) -> PercolationResult:
        asked.append(ion)
        return PercolationResult(ion, 0.3, 0.4, 0.5, Status.OK) if ion == "Li" else PercolationResult(ion, reason="no charges")

    monkeypatch.setattr("sse_diffusion.verification.percolation.percolation_barriers", fake)
    pairs = [("Li", "Cl"), ("Na", "Cl"), ("Cs", "Cl")]
    crystals = [Relaxed(s, s.structure, None) for s in (Sample(p[0], crystal(5.1, p), 300.0, 0.0) for p in pairs)]  # type: ignore[arg-type]
    first = migration.migration_barriers(crystals, {}, tmp_path)
    assert first[0].value == 0.5 and [q.reason for q in first] == ["", "no charges", "no mobile ion"]
    assert [q.reason for q in migration.migration_barriers(crystals, {}, tmp_path)] == [q.reason for q in first]
    assert asked == ["Li", "Na"]


def test_every_source_has_a_condition() -> None:
    from sse_diffusion.thermo.conditions import available_conditions

    assert set(SOURCES) <= set(available_conditions())
