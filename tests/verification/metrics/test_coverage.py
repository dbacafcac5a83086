"""Coverage: fingerprints as matminer computes them, and the published definition of recall and precision."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.verification.metrics.coverage import CoverageConfig, composition_scale, coverage, covered
from sse_diffusion.verification.metrics.crystal_fingerprints import (
    STRUCTURE_LENGTH,
    Fingerprint,
    composition_fingerprint,
    equivalent_sites,
    fingerprint,
    structure_fingerprint,
)

RUTILE = Structure.from_spacegroup(136, Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.3053, 0.3053, 0]])
MAGNESIUM = Structure(Lattice.hexagonal(3.2, 5.2), ["Mg", "Mg"], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])
COLLAPSED = Structure(Lattice.cubic(3.2), ["Li", "Cl"], [[0, 0, 0], [0.01, 0, 0]])
MATMINER = {
    "rutile": {2: 0.00414, 8: 0.66253, 9: 0.39231, 10: 0.1864, 11: 0.24706, 22: 0.33126, 23: 0.06809, 24: 0.31877, 25: 0.16563},
    "hcp": {22: 0.0022, 24: 0.00009, 44: 0.9978, 45: 0.9978, 46: 0.00163, 47: 0.09475, 48: 0.48316},
}
"""Values of ``CrystalNNFingerprint.from_preset("ops")`` of matminer 0.8.0 on pymatgen 2026.10, by position."""


def rock_salt(metal: str, anion: str, a: float) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), [metal, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()


@pytest.mark.parametrize(("name", "structure"), [("rutile", RUTILE), ("hcp", MAGNESIUM)])
def test_structure_fingerprint_is_matminers(name, structure):
    found = structure_fingerprint(structure)
    assert found.shape == (STRUCTURE_LENGTH,) == (61,)
    assert {i: found[i] for i in MATMINER[name]} == pytest.approx(MATMINER[name], abs=2e-5)


def test_composition_fingerprint_is_matminers():
    found = composition_fingerprint(Composition("LiFePO4"))
    assert found.shape == (132,)
    assert found[:6] == pytest.approx([3.0, 26.0, 23.0, 10.85714, 5.5102, 8.0], abs=1e-4)  # atomic number
    assert found[42:48] == pytest.approx([0.98, 3.44, 2.46, 2.68, 0.86857, 3.44], abs=1e-4)  # electronegativity
    assert found.sum() == pytest.approx(6442.5273, abs=1e-2)
    assert composition_fingerprint(Composition("NaCl"))[5] == 11.0  # mode of a tie: the lower one
    with pytest.raises(DataError, match="Og"):
        composition_fingerprint(Composition("OgO"))


def test_equivalent_sites_change_nothing_but_the_time():
    assert len(np.unique(equivalent_sites(RUTILE))) == 2
    supercell = RUTILE * (1, 1, 2)
    assert np.abs(structure_fingerprint(supercell) - structure_fingerprint(RUTILE)).max() < 1e-6


def test_bad_crystals_have_a_reason():
    assert "degenerate" in fingerprint(COLLAPSED).reason and not fingerprint(COLLAPSED).complete
    late = fingerprint(RUTILE, max_seconds=1e-4)
    assert late.structure is None and "within" in late.reason


def test_recall_and_precision_by_hand():
    def point(structure: float, composition: float) -> Fingerprint:
        return Fingerprint(np.full(61, structure / 61**0.5), np.full(132, composition / 132**0.5))

    samples = [point(0.0, 0.0), point(5.0, 9.0)]
    references = [point(0.39, 0.0), point(0.41, 0.0), point(0.0, 11.0), point(0.0, 30.0), point(50.0, 5.0)]
    found = covered(samples, references, 10, np.zeros(132), np.ones(132), CoverageConfig())
    # The third is near one sample in structure and near the other one in composition: as published, that counts.
    assert (found["coverage_recall"].k, found["coverage_recall"].n) == (2, 5)
    assert (found["coverage_precision"].k, found["coverage_precision"].n) == (1, 10)


def test_scale_is_the_spread_of_the_references():
    mean, scale = composition_scale([rock_salt("Na", "Cl", 5.6), rock_salt("K", "Cl", 6.3), rock_salt("K", "Cl", 6.3)])
    assert mean[0] == pytest.approx((11 + 17 + 17) / 3) and scale[0] == pytest.approx(np.std([11, 17, 17]))
    assert (scale > 0).all() and scale[1] in (1.0, pytest.approx(np.std([17, 19, 19])))


def test_data_covers_itself_and_broken_samples_count_against_precision():
    crystals = [rock_salt("Na", "Cl", 5.6), rock_salt("Mg", "O", 4.2), RUTILE]
    found = coverage([*crystals, None, COLLAPSED], crystals, progress=False)
    assert found["coverage_recall"].value == 1.0
    assert (found["coverage_precision"].k, found["coverage_precision"].n) == (3, 5)
    other = coverage([MAGNESIUM], crystals, progress=False)
    assert other["coverage_recall"].value == 0.0


def test_caps_are_drawn_with_a_seed_and_missing_has_a_reason():
    crystals = [rock_salt("Na", "Cl", 5.6), rock_salt("Mg", "O", 4.2), RUTILE]
    found = coverage(crystals, crystals, CoverageConfig(max_samples=2, max_references=1), progress=False)
    assert (found["coverage_precision"].n, found["coverage_recall"].n) == (2, 1)
    assert "no reference" in coverage(crystals, [], progress=False)["coverage_recall"].reason
    assert "no valid" in coverage([None], crystals, progress=False)["coverage_recall"].reason
    with pytest.raises(ConfigError):
        CoverageConfig(max_samples=0)
