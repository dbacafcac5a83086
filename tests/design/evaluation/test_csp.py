"""Structure prediction: what is given, what counts, and that an interrupted run goes on."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.core.lattice import lattice_to_log
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.data.orbits import parse_orbits
from sse_diffusion.design.evaluation import csp
from sse_diffusion.design.evaluation.csp import evaluate_csp, primitive_composition, propose
from sse_diffusion.design.evaluation.csp_scores import best, sizes
from sse_diffusion.design.evaluation.floors import random_in_orbits
from sse_diffusion.design.evaluation.shots import Shots
from sse_diffusion.diffusion.model import load_model
from sse_diffusion.diffusion.samplers import SamplerConfig


def orbits_of(structure: Structure) -> Orbits:
    return parse_orbits(np.array(structure.atomic_numbers), structure.frac_coords, structure.lattice.matrix)


class Oracle:
    """Stands for the model: knows the crystals, answers what the test wants for each call number, and counts."""

    def __init__(self, known: Mapping[str, Structure], answer: Callable[[int, Orbits], Orbits | None] = lambda i, o: o) -> None:
        self.answers = {frozenset(primitive_composition(s).items()): orbits_of(s) for s in known.values()}
        self.answer, self.asked, self.index, self.interrupt_at = answer, [], [], None
        self.blocks: list[int] = []

    def __call__(
        self, model: Any, compositions: Sequence[dict[int, int]], seed: int, index: Any, config: Any, on_done: Any, rank: Any
    ) -> list[Orbits | None]:
        if len(self.blocks) == self.interrupt_at:
            raise KeyboardInterrupt
        self.blocks.append(len(compositions))
        self.asked += [dict(c) for c in compositions]
        self.index += index.tolist()
        return [self.answer(i, self.answers[frozenset(c.items())]) for i, c in zip(index.tolist(), compositions, strict=True)]


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Any:
    """The tiny model, read once."""
    return load_model(checkpoint)


@pytest.fixture()
def oracle(known: dict[str, Structure], loaded: Any, monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """Proposes the truth; the test may change ``answer``."""
    stand_in = Oracle(known)
    monkeypatch.setattr(csp, "predict_structures", stand_in)
    monkeypatch.setattr("sse_diffusion.diffusion.model.load_model", lambda *_: loaded)
    return stand_in


@pytest.fixture()
def ask(evaluation: Callable[..., Any], table: Path, oracle: Oracle) -> Callable[..., Any]:
    """``ask("k=2")``: run the task on the known crystals; floors off unless asked for."""
    return lambda *overrides: evaluate_csp(evaluation("task=csp", f"reference.path={table}", "floors=false", *overrides))


def test_the_truth_matches_itself(ask: Callable, metrics: Callable, oracle: Oracle) -> None:
    ask()
    found = metrics()
    assert found["n"] == 6 and found["match_rate"] == 1.0 and found["match_rate_k"] == 6 and found["k"] == 1
    assert found["rmse"] == pytest.approx(0.0, abs=1e-6) and found["match_rate_rmse_0.1"] == 1.0
    assert found["structural_validity"] == 1.0 and found["seconds"] >= 0 and found["nfe"] == 2
    assert {11: 1, 17: 1} in oracle.asked and {38: 1, 22: 1, 8: 3} in oracle.asked, "primitive cells are asked for"


def test_only_crystals_valid_in_both_senses_count_in_the_filtered_rate(ask: Callable, metrics: Callable) -> None:
    """Na2Cl matches, but no oxidation states balance it, and the published filter drops it."""
    ask()
    found = metrics()
    assert found["composition_validity_k"] == 5
    assert (found["match_rate_valid_only_k"], found["match_rate_valid_only_n"]) == (5, 6)


def test_overlapping_atoms_that_match_are_filtered(ask: Callable, metrics: Callable, oracle: Oracle) -> None:
    """The matcher scales volumes: most cells shrunk to an eighth in length still match but are no valid crystals."""

    def shrunk(index: int, crystal: Orbits) -> Orbits:
        cell = lattice_to_log(torch.from_numpy(crystal.lattice() * 0.13)).numpy()
        return Orbits(crystal.group, cell, crystal.species, crystal.wyckoff, crystal.free)

    oracle.answer = shrunk
    ask()
    found = metrics()
    assert found["match_rate_k"] >= 4 and found["structural_validity"] == 0.0 and found["match_rate_valid_only"] == 0.0
    assert found["rmse_valid_only"] is None and found["rmse_valid_only_reason"]


def test_what_cannot_be_sampled_is_a_miss(ask: Callable, metrics: Callable, oracle: Oracle) -> None:
    oracle.answer = lambda i, o: o if i % 2 else None
    ask()
    found = metrics()
    assert (found["match_rate_k"], found["match_rate_n"], found["n_not_sampled"]) == (3, 6, 3)
    assert found["structural_validity_n"] == 6 and found["structural_validity_k"] == 3


class _Choking:
    """A model that fails on whole blocks with oxygen in them and on what it was never trained on."""

    calls = 0

    def __call__(self, model: Any, compositions: Sequence[dict[int, int]], seed: int, index: Any, *_: Any) -> list[str]:
        self.calls += 1
        assert all(z <= 94 for c in compositions for z in c), "an element beyond the model's range is not asked for"
        if any(8 in c for c in compositions):
            raise IndexError("oxygen")
        return [f"{max(c)} from stream {i}" for c, i in zip(compositions, index.tolist(), strict=True)]


def test_one_bad_composition_does_not_take_the_block_along(monkeypatch: pytest.MonkeyPatch) -> None:
    choking = _Choking()
    monkeypatch.setattr(csp, "predict_structures", choking)
    asked = [{z: 1} for z in range(1, 33)] + [{95: 1, 17: 3}]
    made = propose(None, asked, 0, torch.arange(33), SamplerConfig())
    assert made == [f"{z} from stream {z - 1}" if z != 8 else None for z in range(1, 33)] + [None]
    assert choking.calls < 14, "found by halving, not one by one"
    assert propose(None, [], 0, torch.arange(0), SamplerConfig()) == []


def test_numbers_that_make_no_crystal_are_a_miss(ask: Callable, metrics: Callable, oracle: Oracle) -> None:
    oracle.answer = lambda i, o: Orbits(o.group, np.full(6, np.nan), o.species, o.wyckoff, o.free)
    ask()
    assert metrics()["match_rate_k"] == 0 and metrics()["structural_validity_k"] == 0


def test_any_of_k_shots_counts_and_the_best_gives_the_rmse(ask: Callable, metrics: Callable, oracle: Oracle) -> None:
    oracle.answer = lambda i, o: o if i >= 6 else None  # the first shot of each of the six rows fails
    ask("k=1")
    assert metrics()["match_rate"] == 0.0
    ask("k=3")
    assert metrics()["match_rate"] == 1.0 and metrics()["structural_validity_n"] == 18


def test_every_shot_of_every_row_draws_from_its_own_stream(ask: Callable, oracle: Oracle) -> None:
    ask("k=3", "batch=5")
    assert sorted(oracle.index) == list(range(18)) and oracle.blocks == [5, 5, 5, 3]


def test_best_of_nothing_is_nothing() -> None:
    assert np.array_equal(best(np.array([[np.nan, 0.3, 0.1], [np.nan] * 3])), [0.1, np.nan], equal_nan=True)


def test_an_interrupted_run_goes_on(ask: Callable, metrics: Callable, oracle: Oracle) -> None:
    oracle.interrupt_at = 2
    with pytest.raises(KeyboardInterrupt):
        ask("batch=2")
    oracle.interrupt_at = None
    ask("batch=2")
    assert oracle.blocks == [2, 2, 2] and len(set(oracle.index)) == 6, "nothing is sampled twice"
    resumed = metrics()
    ask("batch=2")
    assert oracle.blocks == [2, 2, 2] and metrics()["match_rate_k"] == resumed["match_rate_k"] == 6
    assert metrics()["seconds"] == resumed["seconds"], "sampling time is that of the sampling, whenever it was"


def test_sampling_time_is_kept_with_the_proposals(tmp_path: Path, known: dict[str, Structure]) -> None:
    zns = orbits_of(known["zns"])
    first = Shots(tmp_path, {"seed": 0})
    first.add({(0, 0): zns}, seconds=2.5, cpu_seconds=1.5)
    first.add({(1, 0): None}, seconds=1.0, cpu_seconds=0.5)
    again = Shots(tmp_path, {"seed": 0})
    assert (again.seconds, again.cpu_seconds) == (first.seconds, first.cpu_seconds) == (3.5, 2.0)
    assert again.crystals[(1, 0)] is None and (crystal := again.crystals[(0, 0)]) is not None
    assert all(np.array_equal(getattr(crystal, name), value) for name, value in vars(zns).items()), "exact, not rounded"
    again.add({(2, 0): zns}, seconds=1.0)
    assert np.isnan(Shots(tmp_path, {"seed": 0}).cpu_seconds), "unknown for one block is unknown for the sum"


def test_a_damaged_block_is_sampled_again(ask: Callable, metrics: Callable, oracle: Oracle, out_dir: Path) -> None:
    ask("batch=2")
    (out_dir / "proposals" / "block-00001.json").write_text('{"seconds": 1, "prop')
    ask("batch=2")
    assert oracle.blocks == [2, 2, 2, 2] and metrics()["match_rate_k"] == 6


def test_more_rows_or_shots_keep_what_is_there(ask: Callable, metrics: Callable, oracle: Oracle) -> None:
    ask("limit=2")
    ask("limit=4")
    assert sum(oracle.blocks) == 4
    ask("limit=4", "k=2")
    assert sum(oracle.blocks) == 8 and len(set(oracle.index)) == 8
    ask("limit=2")
    assert sum(oracle.blocks) == 8 and metrics()["n"] == 2 and metrics()["structural_validity_n"] == 2


@pytest.mark.parametrize("change", ["seed=1", "sampler.steps=3", "sampler.temperature=0.7"])
def test_other_settings_are_refused_by_name(ask: Callable, change: str) -> None:
    ask("limit=1")
    with pytest.raises(ConfigError, match=change.split("=")[0].split(".")[0]) as refused:
        ask("limit=1", change)
    assert "out=" in str(refused.value)


def test_settings_that_change_no_crystal_are_not(ask: Callable, oracle: Oracle) -> None:
    ask("limit=1")
    ask("limit=1", "sampler.batch_tokens=99", "batch=3", "threads=1")
    assert oracle.blocks == [1]


def test_rows_are_chosen_by_split_and_size(ask: Callable, metrics: Callable) -> None:
    ask("reference.split=val")
    assert metrics()["n"] == 4
    ask("reference.max_sites=5", "reference.min_sites=3")
    assert metrics()["n"] == 2, "SrTiO3 and MnF3 have 5 and 4 sites, the others 2, 8 or 12"


def test_filters_that_leave_nothing_say_what_there_is(ask: Callable) -> None:
    with pytest.raises(DataError, match=r"split=test.*\n.*val \(4\), train \(2\)"):
        ask("reference.split=test")


def test_disordered_rows_are_counted_and_left_out(
    evaluation: Callable, metrics: Callable, oracle: Oracle, known: dict[str, Structure], tmp_path: Path
) -> None:
    folder = tmp_path / "cifs"
    folder.mkdir()
    for name in ("nacl", "zns"):
        known[name].to(filename=str(folder / f"{name}.cif"))
    mixed = Structure(Lattice.cubic(4.0), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5] * 3])
    mixed.to(filename=str(folder / "mixed.cif"))
    (folder / "cut.cif").write_text("data_x\n_cell_length_a 4\n")
    evaluate_csp(evaluation("task=csp", f"reference.path={folder}", "floors=false"))
    assert (metrics()["n"], metrics()["n_rejected"], metrics()["match_rate_n"]) == (2, 2, 2)


def test_floors_know_the_cell_or_the_orbits(ask: Callable, metrics: Callable, oracle: Oracle) -> None:
    """Where symmetry fixes every atom the orbits alone give the crystal; random coordinates in the cell do so at most by luck."""
    oracle.answer = lambda i, o: None
    ask("floors=true")
    found = metrics()
    assert found["match_rate"] == 0.0
    assert found["floor_true_gene_match_rate"] == 1.0 and found["floor_true_gene_rmse"] == pytest.approx(0, abs=1e-6)
    assert found["floor_true_cell_match_rate_rmse_0.1"] == 0.0, "six crystals at random positions do not come out exact"
    assert found["floor_true_cell_match_rate_n"] == 6


def test_the_orbit_floor_changes_free_coordinates_only() -> None:
    table = wyckoff_table()
    general = table.positions(62)[-1]
    mirror = next(w for w in table.positions(62) if table.dof[w] == 2)
    truth = Orbits(
        62, np.zeros(6), np.array([8, 22]), np.array([general, mirror]), np.full((2, 3), 0.2) * table.free[[general, mirror]]
    )
    drawn = [random_in_orbits(truth, seed=0, row=5, shot=shot) for shot in (0, 0, 1)]
    assert np.array_equal(drawn[0].free, drawn[1].free) and not np.allclose(drawn[0].free, drawn[2].free)
    assert all(np.all(d.free[~table.free[truth.wyckoff]] == 0) and np.all(d.free[table.free[truth.wyckoff]] > 0) for d in drawn)
    assert drawn[0].group == 62 and drawn[0].wyckoff is truth.wyckoff and drawn[0].species is truth.species


def test_floors_do_not_change_with_the_run(ask: Callable, metrics: Callable) -> None:
    ask("floors=true", "limit=3")
    first = metrics()
    ask("floors=true", "limit=3")
    assert {k: v for k, v in metrics().items() if k.startswith("floor")} == {k: v for k, v in first.items() if "floor" in k[:5]}


def test_rates_are_split_by_size(ask: Callable, metrics: Callable) -> None:
    ask()
    assert metrics()["match_rate_up_to_8_n"] == 6 and "match_rate_9_to_20" not in metrics()
    classes = sizes(np.array([1, 8, 9, 20, 21, 52]))
    assert {name: rows.nonzero()[0].tolist() for name, rows in classes.items()} == {
        "up_to_8": [0, 1], "9_to_20": [2, 3], "above_20": [4, 5]
    }  # fmt: skip


def test_every_row_has_a_line_and_every_proposal_a_frame(ask: Callable, out_dir: Path, oracle: Oracle) -> None:
    from ase.io import read

    oracle.answer = lambda i, o: o if i else None
    ask("k=2")
    with (out_dir / "rows.csv").open() as handle:
        lines = {row["id"]: row for row in csv.DictReader(handle)}
    assert set(lines) == {"nacl", "cscl", "zns", "srtio3", "mnf3", "na2cl"}
    assert lines["zns"]["matched"] == "1" and float(lines["zns"]["rmse"]) < 1e-4 and lines["na2cl"]["proposals_valid"] == "0"
    frames = read(out_dir / "proposals.extxyz", index=":")
    assert Counter(frame.info["reference"] for frame in frames) == {**{name: 2 for name in lines}, "nacl": 1}


def test_somebody_elses_proposals_are_matched_by_id(
    ask: Callable, metrics: Callable, oracle: Oracle, out_dir: Path, tmp_path: Path
) -> None:
    ask("k=2")
    theirs = (out_dir / "proposals.extxyz").rename(tmp_path / "theirs.extxyz")
    ask("k=2", f"input={theirs}")
    assert metrics()["match_rate_k"] == 6 and metrics()["structural_validity_n"] == 12 and metrics()["seconds"] is None
    ask("k=3", f"input={theirs}", "limit=2")
    assert metrics()["n_not_sampled"] == 2, "a missing third shot is a miss"
    assert len(oracle.blocks) == 1, "nothing was sampled for them"


def test_proposals_without_a_known_id_are_refused(ask: Callable, known: dict[str, Structure], tmp_path: Path) -> None:
    known["zns"].to(filename=str(tmp_path / "other.cif"))
    with pytest.raises(ConfigError, match="id of a reference row"):
        ask(f"input={tmp_path / 'other.cif'}")


@pytest.mark.parametrize("wrong", ["k=0", "limit=0", "batch=0"])
def test_numbers_that_make_no_sense(ask: Callable, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        ask(wrong)


def test_a_reference_is_needed(evaluation: Callable) -> None:
    with pytest.raises(ConfigError, match=r"needs a reference.*\n.*reference\.path"):
        evaluate_csp(evaluation("task=csp"))


def test_composition_is_that_of_the_primitive_cell(known: dict[str, Structure]) -> None:
    assert primitive_composition(known["nacl"]) == {11: 1, 17: 1}
    supercell = known["cscl"].copy()
    supercell.make_supercell([2, 1, 1])
    assert primitive_composition(supercell) == {55: 1, 17: 1}
    overlapping = Structure(Lattice.cubic(3), ["Na", "Na"], [[0, 0, 0], [0.01, 0, 0]])
    assert primitive_composition(overlapping) == {11: 2}, "the cell as given where no symmetry can be claimed"


def test_an_untrained_model_runs_end_to_end(evaluation: Callable, table: Path, metrics: Callable) -> None:
    evaluate_csp(evaluation("task=csp", f"reference.path={table}", "limit=2", "floors=false"))
    found = metrics()
    assert found["n"] == 2 and found["checkpoint_sha256"] and found["composition_validity_n"] == 2 and found["seconds"] > 0
