"""Labels on a toy hull: against the closed form, and against the other implementation of the same hull."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.design.labels.hull_energies import HullEnergies
from sse_diffusion.design.labels.sample import Relaxed, Sample
from sse_diffusion.thermo.hull import COLUMNS, EnergySchemeError

PHASES = {"Li": (-2.0, 20.0), "Cl2": (-1.8, 30.0), "Na": (-1.3, 36.0), "LiCl": (-4.0, 16.0), "NaCl": (-3.6, 22.0)}


@pytest.fixture()
def hull(tmp_path: Path) -> HullEnergies:
    with (tmp_path / "hull.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        for formula, (energy, volume) in PHASES.items():
            row = {"formula": formula, "energy_eV_per_atom": energy, "volume_A3_per_atom": volume, "source": "computed"}
            writer.writerow(row | {"energy_scheme": "toy", "converged": "true"})
    return HullEnergies(str(tmp_path / "hull.csv"))


def salt(a: str, b: str, energy: float, temperature: float = 300.0, pressure: float = 0.0, scheme: str = "toy") -> Relaxed:
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.1), [a, b], [[0, 0, 0], [0.5] * 3])
    sample = Sample(f"{a}{b}-{energy}-{temperature}", structure, temperature, pressure)
    return Relaxed(sample, structure, Quantity(energy, unit="eV/atom"), scheme)


def broken() -> Relaxed:
    good = salt("Li", "Cl", 0.0)
    return Relaxed(good.sample, good.structure, Quantity.failed("atoms overlap", "eV/atom"))


def test_formation_energy_and_height(hull: HullEnergies) -> None:
    crystals = [salt("Li", "Cl", -3.9), broken(), salt("Na", "Cl", -3.7)]
    assert [q.value for q in hull.formation_energy(crystals)][::2] == pytest.approx([-3.9 + 1.9, -3.7 + 1.55])
    heights = hull.above_hull(crystals)
    assert [heights[0].value, heights[2].value] == pytest.approx([0.1, -0.1])
    assert heights[1].status is Status.FAILED and heights[1].reason == "atoms overlap"


def test_gibbs_heights_agree_with_the_phase_diagram_at_each_state_point(hull: HullEnergies) -> None:
    crystals = [salt("Li", "Cl", -3.9), salt("Na", "Cl", -3.5, 1200.0, 2.0), broken(), salt("Li", "Cl", -3.8, 1200.0, 2.0)]
    found = hull.gibbs_above_hull(crystals)
    assert found[2].status is Status.FAILED
    for crystal, quantity in zip(crystals, found, strict=True):
        if quantity.ok:
            s = crystal.sample
            state = (crystal.structure.composition, crystal.energy.value, crystal.volume_A3_per_atom, "toy")
            expected = hull.reference.gibbs_above_hull(*state, s.temperature_K, s.pressure_GPa)
            assert quantity.value == pytest.approx(expected.value, abs=1e-6)


def test_windows_of_binary_salts_are_their_formation_energies(hull: HullEnergies) -> None:
    """LiCl -> Li + Cl: V = -2 E_f; one above the hull has the window of the known phase, one below it its own."""
    above, below = salt("Li", "Cl", -3.9), salt("Na", "Cl", -3.9)
    (reduction, oxidation), (_, own) = hull.windows([above, below])
    assert reduction.value == pytest.approx(0.0, abs=1e-6)
    assert oxidation.value == pytest.approx(2 * (4.0 - 1.9), abs=1e-4)
    assert own.value == pytest.approx(2 * (3.9 - 1.55), abs=1e-4)
    (_, first), (_, other) = hull.windows([above, salt("Li", "Cl", -4.2)])
    assert first.value == oxidation.value and other.value == pytest.approx(2 * (4.2 - 1.9), abs=1e-4), "samples do not compete"


def test_without_a_mobile_ion_there_is_no_window(hull: HullEnergies) -> None:
    gas = Structure(Lattice.cubic(4.0), ["Cl", "Cl"], [[0, 0, 0], [0.5] * 3])
    chlorine = Relaxed(Sample("cl", gas, 300.0, 0.0), gas, Quantity(-1.7, unit="eV/atom"), "toy")
    ((reduction, oxidation),) = hull.windows([chlorine])
    assert reduction.reason == oxidation.reason == "the crystal has no mobile ion" and math.isnan(oxidation.value)


def test_energies_of_another_scheme_are_refused(hull: HullEnergies) -> None:
    with pytest.raises(EnergySchemeError):
        hull.formation_energy([salt("Li", "Cl", -3.9, scheme="other")])
