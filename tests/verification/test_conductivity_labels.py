"""A run folder's dynamics as soft labels: Nernst-Einstein at the temperatures that were run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.predictors.conductivity.soft_labels import read_soft_labels
from sse_diffusion.verification.conductivity_labels import write_soft_labels

CRYSTAL = Structure(Lattice.cubic(4.0), ["Li", "Cl"], [[0, 0, 0], [0.5] * 3])
UNIT = "cm^2/s"


def crystal(
    run: Path,
    name: str,
    diffusivity: Quantity | None = None,
    points: tuple[Quantity, ...] = (),
    ion: str = "Li",
    structure: Structure = CRYSTAL,
) -> None:
    write_json_atomically(run / "stages" / "relax" / f"{name}.json", {"structure": structure.as_dict()})
    if diffusivity is not None:
        gate = {"mobile_ion": ion, "diffusivity": diffusivity.to_dict(), "provenance": {"temperature_K": 1000.0}}
        write_json_atomically(run / "md" / name / "md.json", gate)
    if points:
        study = [{"temperature_K": 600.0 + 100 * i, "nernst_einstein": q.to_dict()} for i, q in enumerate(points)]
        write_json_atomically(run / "transport" / name / "transport.json", {"ion": ion, "points": study})


def test_a_run_becomes_labels(tmp_path: Path) -> None:
    run = tmp_path / "run"
    crystal(run, "mobile", Quantity(1e-5, 1e-6, UNIT))
    crystal(run, "still", Quantity(2e-6, math.nan, UNIT, Status.UPPER_BOUND, "no hop"))
    crystal(run, "broken", Quantity.failed("it melted", UNIT))
    sigma = Quantity(0.1, 0.02, "S/cm", provenance={"interval_95": (0.05, 0.2)})
    crystal(run, "studied", None, (sigma, Quantity.failed("stopped", "S/cm")))
    crystal(run, "only-relaxed")
    write_json_atomically(run / "verification.json", {"crystals": [{"id": "still", "disorder_of": "parent"}, {"id": "mobile"}]})
    assert write_soft_labels([run], tmp_path / "md.csv", structures=True) == 3
    mobile, still, studied = read_soft_labels(tmp_path / "md.csv")
    # n e^2 D / (k T): one ion in 64 A^3, D = 1e-5 cm^2/s, kT/e = 0.08617 V
    assert 10**mobile.log10_sigma == pytest.approx(1e24 / 64 * 1.602177e-19 * 1e-5 / 0.0861733, rel=1e-3)
    assert mobile.sd == pytest.approx(0.1 / math.log(10), rel=1e-2)
    assert mobile.structure is not None and mobile.structure.composition == CRYSTAL.composition
    assert still.limit and still.structure is None  # an ordering of a disordered crystal: composition only
    assert still.log10_sigma == pytest.approx(mobile.log10_sigma + math.log10(0.2), abs=1e-3)
    assert (studied.temperature_K, studied.log10_sigma) == (600.0, -1.0)
    assert studied.sd == pytest.approx(math.log10(4) / 3.92, abs=1e-3)
    write_soft_labels([run], tmp_path / "md.csv")
    assert [row.structure for row in read_soft_labels(tmp_path / "md.csv")] == [None] * 3


def test_a_run_without_dynamics_is_refused(tmp_path: Path) -> None:
    crystal(tmp_path / "run", "only-relaxed")
    with pytest.raises(DataError, match="holds no conductivity of Li"):
        write_soft_labels([tmp_path / "run"], tmp_path / "md.csv")


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        crystal(tmp_path / parent / "run", "mobile", Quantity(1e-5, 1e-6, UNIT))
    with pytest.raises(ConfigError, match="same folder name"):
        write_soft_labels([tmp_path / "a" / "run", tmp_path / "b" / "run"], tmp_path / "md.csv")


def test_labels_are_of_the_ion_asked_for_and_of_all_of_them(tmp_path: Path) -> None:
    run, diffusivity = tmp_path / "run", Quantity(1e-5, 1e-6, UNIT)
    twice = Structure(Lattice.cubic(4.0), ["Li", "Li", "Cl"], [[0, 0, 0], [0.5, 0, 0], [0.5] * 3])
    crystal(run, "one", diffusivity)
    crystal(run, "two", diffusivity, structure=twice)
    crystal(run, "sodium", diffusivity, (Quantity(0.1, 0.02, "S/cm"),), ion="Na")
    assert write_soft_labels([run], tmp_path / "md.csv") == 2
    one, two = read_soft_labels(tmp_path / "md.csv")
    assert two.log10_sigma - one.log10_sigma == pytest.approx(math.log10(2), abs=2e-4)
