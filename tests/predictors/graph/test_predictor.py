"""The graph predictor: contract, partial occupancies, embeddings, checkpoint errors, the shipped weights."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from sse_diffusion.core.checkpoint import checkpoint_dir
from sse_diffusion.core.errors import CheckpointError, ConfigError
from sse_diffusion.core.results import Status
from sse_diffusion.predictors.composition import Calibration
from sse_diffusion.predictors.domain import DomainDistance
from sse_diffusion.predictors.graph.network import NetworkConfig
from sse_diffusion.predictors.graph.predictor import GraphModelConfig, GraphPredictor
from sse_diffusion.predictors.graph.reference import ReferenceConfig
from sse_diffusion.predictors.stability import FORMATION, HULL
from sse_diffusion.testing.predictor import PredictorContract, rock_salt

SMALL = GraphModelConfig(
    network=NetworkConfig(width=16, blocks=2, radial=8),
    reference=ReferenceConfig(width=8, depth=1, folds=2, members_per_fold=1),
)
KNOWN = dict.fromkeys(("Li", "Na", "Mg", "O", "Cl", "I", "S"), 100)


def small() -> GraphPredictor:
    """Random weights, and calibration that knows a few elements."""
    predictor = GraphPredictor.untrained(SMALL, (HULL, FORMATION))
    predictor.calibration = Calibration(prior_95={"formation_energy": 2.0, "energy_above_hull": 1.0}, element_counts=KNOWN)
    return predictor


class TestSmall(PredictorContract):
    """Random weights keep the contract."""

    def make(self) -> GraphPredictor:
        """See :func:`small`."""
        return small()


def shipped() -> GraphPredictor:
    """The shipped checkpoint."""
    try:
        checkpoint_dir("formation_energy")
    except CheckpointError:
        pytest.skip("the checkpoint is not shipped here")
    return GraphPredictor.load("formation_energy")


class TestShipped(PredictorContract):
    """The shipped weights keep the contract."""

    def make(self) -> GraphPredictor:
        """The shipped checkpoint."""
        return shipped()


def test_partial_occupancy_is_answered_by_the_network_and_flagged() -> None:
    crystal = rock_salt("Li", "Cl")
    mixed = Structure(crystal.lattice, [{"Li": 0.5, "Na": 0.5}, "Cl"], crystal.frac_coords)
    whole, partial, alone = small().predict([crystal, mixed, mixed.composition])
    assert whole.ok
    assert partial.status is Status.UNCONVERGED
    assert "partially occupied" in partial.reason
    assert "trained on ordered crystals" in partial.reason
    assert abs(partial.value - alone.value) > 1e-4


def test_what_cannot_be_read_fails_with_the_reason_and_the_others_go_on() -> None:
    empty = Structure(Lattice.cubic(4.0), [], [])
    flat = Structure(Lattice.cubic(0.1), ["Li"], [[0, 0, 0]])
    first, second, third = small().predict([empty, rock_salt("Li", "Cl"), flat])
    assert first.status is third.status is Status.FAILED
    assert "no atoms" in first.reason
    assert "no volume" in third.reason
    assert second.ok


def test_embedding_is_one_row_per_crystal_and_the_same_for_a_supercell() -> None:
    crystal = rock_salt("Mg", "O", 4.2)
    double = crystal.copy()
    double.make_supercell([2, 1, 1])
    mixed = Structure(crystal.lattice, [{"Li": 0.5, "Na": 0.5}, "Cl"], crystal.frac_coords)
    features = small().embed([crystal, Structure(Lattice.cubic(4.0), [], []), double, mixed])
    assert features.shape == (4, 2 * 16)
    assert np.isnan(features[1]).all()
    assert features[2] == pytest.approx(features[0], abs=1e-5)
    assert np.isfinite(features[3]).all()


def test_many_bonds_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    crystals = [rock_salt("Li", "Cl", 5.0 + 0.1 * i) for i in range(7)]
    expected = [q.value for q in small().predict(crystals)]
    monkeypatch.setattr("sse_diffusion.predictors.graph.predictor.BONDS_PER_BATCH", 60)
    assert [q.value for q in small().predict(crystals)] == pytest.approx(expected, abs=1e-5)


def test_energies_above_the_hull_are_not_negative(tmp_path: Path) -> None:
    small().save(tmp_path / "model")
    predictor = GraphPredictor.load(tmp_path / "model", "energy_above_hull")
    assert predictor.name == "energy_above_hull"
    for quantity in predictor.predict([rock_salt("Li", "Cl", a) for a in np.linspace(4.0, 7.0, 9)]):
        assert quantity.value == max(quantity.provenance["signed_value"], 0.0)
        assert quantity.provenance["interval_95"][0] >= 0.0


def test_bad_checkpoints_and_targets_are_refused(tmp_path: Path) -> None:
    small().save(tmp_path / "model")
    with pytest.raises(ConfigError, match="shear"):
        GraphPredictor.load(tmp_path / "model", "shear")
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        GraphPredictor.load(tmp_path / "model")
    with pytest.raises(CheckpointError, match="not a 'graph_network'"):
        GraphPredictor.load("stability_composition")


# DFT formation energies of the Materials Project (MP2020-corrected), eV/atom, lattice parameters in Angstrom.
BINARIES = {
    ("Li", "F", 4.03): -3.14,
    ("Li", "Cl", 5.08): -2.11,
    ("Na", "Cl", 5.59): -2.11,
    ("Mg", "O", 4.21): -3.05,
    ("Ca", "O", 4.80): -3.30,
}


def test_known_binaries_lie_in_their_intervals() -> None:
    predictor = shipped()
    answers = predictor.predict([rock_salt(*key) for key in BINARIES])
    inside = [
        q.provenance["interval_95"][0] <= e <= q.provenance["interval_95"][1]
        for q, e in zip(answers, BINARIES.values(), strict=True)
    ]
    assert sum(inside) >= len(inside) - 1
    assert all(abs(q.value - e) < 0.25 for q, e in zip(answers, BINARIES.values(), strict=True))


@pytest.mark.slow
def test_a_hundred_crystals_per_second() -> None:
    """From pymatgen structures to quantities, one core, crystals of 20 atoms without symmetry (the dearest kind)."""
    rng = np.random.default_rng(0)
    predictor = shipped()
    crystals = [
        Structure(Lattice.orthorhombic(6.0, 6.5, 7.0), ["Li"] * 8 + ["P"] * 2 + ["O"] * 10, rng.random((20, 3)))
        for _ in range(200)
    ]
    predictor.predict(crystals[:10])
    started = time.process_time()
    predictor.predict(crystals)
    assert len(crystals) / (time.process_time() - started) > 100


def test_a_composition_is_answered_without_a_structure() -> None:
    (alone,) = small().predict([Composition("LiCl")])
    assert alone.status is Status.UNCONVERGED
    assert "not a structure" in alone.reason
    assert np.isfinite(alone.value)
    assert "domain_percentile" not in alone.provenance


def test_far_from_the_training_crystals_is_flagged() -> None:
    """A domain learnt around sodium chloride: a crystal that the network sees elsewhere is outside, with a wider interval."""
    predictor = small()
    near = [rock_salt("Na", "Cl", 5.6 + 0.01 * i) for i in range(40)]
    predictor.domain, predictor.far = DomainDistance.fit(predictor.embed(near)), np.array([1.0, 3.0])
    inside, outside = predictor.predict([near[20], rock_salt("Na", "Cl", 3.4)])
    assert inside.ok
    assert outside.status is Status.UNCONVERGED
    assert "outside the training domain" in outside.reason
    assert outside.provenance["domain_percentile"] == 100.0
    assert outside.uncertainty > 2.0 * inside.uncertainty


def test_the_95_percent_interval_holds_the_68_percent_where_the_value_was_lifted_to_the_floor() -> None:
    predictor = small()
    predictor.column = [target.name for target in predictor.targets].index("energy_above_hull")
    low = predictor._quantity({3: 1.0, 17: 1.0}, -0.05, 0.03, 10.0, "", "")  # 0.05 eV/atom below the hull, +- 0.03
    assert low.value == 0.0 and low.provenance["interval_95"] == [0.0, pytest.approx(low.uncertainty)]
    high = predictor._quantity({3: 1.0, 17: 1.0}, 0.5, 0.03, 10.0, "", "")
    assert high.provenance["interval_95"] == pytest.approx([0.5 - 0.06, 0.5 + 0.06])
