"""Stable, unique, novel: the count, the denominator, resuming, and what the hull does not know (toy potential: EMT metals)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.thermo.hull import EnergySchemeError
from sse_diffusion.verification.metrics import stable
from sse_diffusion.verification.metrics.stable import StableConfig, protocol, stable_unique_novel

ENGINE = {"name": "ase", "calculator": "ase.calculators.emt:EMT", "energy_scheme": "EMT", "elements": ["Cu", "Au", "Ag", "Fe"]}


def fcc(symbol: str, a: float) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [symbol], [[0, 0, 0]])


def ordered(a: float = 3.75, minority: str = "Au") -> Structure:
    """Cu3Au's structure, deliberately strained."""
    return Structure(Lattice.cubic(a), [minority, "Cu", "Cu", "Cu"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


COLLAPSED = Structure(Lattice.cubic(3.2), ["Cu", "Cu"], [[0, 0, 0], [0.05, 0, 0]])
IRON = fcc("Fe", 3.6)
SAMPLES = [ordered(), None, ordered(3.85, "Ag"), COLLAPSED, IRON, ordered(3.8)]
UNIQUE = np.array([True, False, True, False, True, True])
NOVEL = np.array([True, False, True, False, True, False])


@pytest.fixture
def config(tmp_path):
    """A hull where Cu3Au lies at -1 meV/atom and Cu3Ag 50 meV/atom above the elements; energies as EMT gives them."""
    table = tmp_path / "hull.csv"
    rows = ["formula,energy_eV_per_atom,volume_A3_per_atom,source,energy_scheme,converged"]
    energy = {s: relaxed_energy(s) for s in ("Cu3Au", "Cu3Ag")}
    rows += [f"Cu,{0.0},12,computed,EMT,True"]
    rows += [
        f"Au,{4 * (energy['Cu3Au'] + 0.001)},17,computed,EMT,True",
        f"Ag,{4 * (energy['Cu3Ag'] - 0.05)},17,computed,EMT,True",
    ]
    table.write_text("\n".join(rows) + "\n")
    return StableConfig(n=6, hull=str(table), engine=ENGINE, relax={"fmax_eV_per_A": 0.02, "max_steps": 100})


def relaxed_energy(formula: str) -> float:
    from sse_diffusion.verification.potential import load_potential
    from sse_diffusion.verification.relax import RelaxConfig, relax

    return relax(ordered(3.8, formula[-2:]), load_potential(ENGINE), RelaxConfig(fmax_eV_per_A=0.02)).energy_eV_per_atom.value


def test_counts_over_all_examined_samples(config, tmp_path):
    found = stable_unique_novel(SAMPLES, UNIQUE, NOVEL, config, tmp_path / "out", progress=False)
    assert (found["sun_0.1"].k, found["sun_0.1"].n) == (2, 6)
    assert (found["sun_0.0"].k, found["sun_0.0"].n) == (1, 6)  # Cu3Ag lies 50 meV/atom above the hull
    assert (found["relax_candidates"].k, found["without_hull_reference"].k) == (3, 1)  # iron has no reference
    assert (found["relax_converged"].k, found["relax_converged"].n) == (2, 2)
    assert found["stable_0.0_of_relaxed"].value == 0.5
    assert found["energy_above_hull_median"].value == pytest.approx((0.05 - 0.001) / 2, abs=2e-3)
    table = (tmp_path / "out" / "stable.csv").read_text()
    assert table.splitlines()[1].startswith("0,Cu3Au") and "Fe" not in table


def test_only_the_first_n_are_looked_at(config, tmp_path):
    few = StableConfig(n=1, hull=config.hull, engine=ENGINE, relax=config.relax)
    found = stable_unique_novel(SAMPLES, UNIQUE, NOVEL, few, tmp_path / "out", progress=False)
    assert (found["sun_0.1"].k, found["sun_0.1"].n) == (1, 1)
    off = stable_unique_novel(SAMPLES, UNIQUE, NOVEL, StableConfig(n=0), tmp_path / "off")
    assert "switched off" in off["sun_0.1"].reason and not (tmp_path / "off").exists()


def test_an_interrupted_run_goes_on(config, tmp_path, monkeypatch):
    out, calls = tmp_path / "out", []
    relax_one = stable._relax_one
    monkeypatch.setattr(stable, "_relax_one", lambda s, c: calls.append(s.composition.reduced_formula) or relax_one(s, c))
    first = stable_unique_novel(SAMPLES, UNIQUE, NOVEL, config, out, progress=False)
    lines = (out / "relaxed.jsonl").read_text().splitlines()
    (out / "relaxed.jsonl").write_text(lines[0] + "\n" + lines[1][:40])  # killed in the middle of the second line
    again = stable_unique_novel(SAMPLES, UNIQUE, NOVEL, config, out, progress=False)
    assert calls == ["Cu3Au", "Cu3Ag", "Cu3Ag"] and again["sun_0.1"] == first["sun_0.1"]
    other = StableConfig(n=6, hull=config.hull, engine=ENGINE, relax={**config.relax, "max_steps": 1})
    stable_unique_novel(SAMPLES, UNIQUE, NOVEL, other, out, progress=False)
    assert len(calls) == 5  # another protocol: nothing stored answers it


def test_a_cap_is_reported_and_its_energy_counts(config, tmp_path):
    capped = StableConfig(n=6, hull=config.hull, engine=ENGINE, relax={"fmax_eV_per_A": 1e-6, "max_steps": 2})
    found = stable_unique_novel(SAMPLES, UNIQUE, NOVEL, capped, tmp_path, progress=False)
    assert found["relax_converged"].k == 0 and found["relax_failed"].k == 0
    records = [json.loads(line) for line in (tmp_path / "relaxed.jsonl").read_text().splitlines()]
    assert all(r["status"] == "unconverged" and "2 steps" in r["reason"] for r in records)
    assert found["stable_0.1_of_relaxed"].n == 2


def test_without_novelty_sun_is_missing(config, tmp_path):
    found = stable_unique_novel(SAMPLES, UNIQUE, None, config, tmp_path, progress=False)
    assert found["sun_0.1"].value is None and "novelty" in found["sun_0.1"].reason
    assert found["stable_unique_0.1"].k == 3  # the second Cu3Au is unique here, by the verdict that was handed in


def test_a_hull_of_another_scheme_is_refused(config, tmp_path):
    other = StableConfig(n=1, hull=config.hull, engine={**ENGINE, "energy_scheme": "other"}, relax=config.relax)
    with pytest.raises(EnergySchemeError):
        stable_unique_novel(SAMPLES, UNIQUE, NOVEL, other, tmp_path, progress=False)


def test_protocol_names_what_a_reader_needs(config):
    text = protocol(StableConfig(engine={"name": "chgnet", "model": "0.3.0", "device": "cpu"}))
    assert all(word in text for word in ("500", "chgnet 0.3.0 (", "0.05 eV/A", "chgnet-0.3.0-all", "novel"))
    with pytest.raises(ConfigError):
        StableConfig(thresholds_eV_per_atom=())


@pytest.mark.slow
def test_processes_give_the_same(config, tmp_path):
    two = StableConfig(n=6, hull=config.hull, engine=ENGINE, relax=config.relax, workers=2)
    found = stable_unique_novel(SAMPLES, UNIQUE, NOVEL, two, tmp_path / "two", progress=False)
    assert found == stable_unique_novel(SAMPLES, UNIQUE, NOVEL, config, tmp_path / "one", progress=False)


def test_a_phase_of_the_hull_is_stable():
    """Zero above the hull is not above it."""
    heights = {k: {"e_above_hull_eV_per_atom": e} for k, e in enumerate((0.0, 0.1, 0.2))}
    found = stable._metrics(4, 3, 3, {k: {"status": "ok"} for k in heights}, heights, True, StableConfig(n=4))
    assert found["sun_0.0"].k == 1 and found["sun_0.1"].k == 2 and found["sun_0.1"].n == 4
    assert found["stable_0.1_of_relaxed"].n == 3


def test_what_is_invalid_or_a_repetition_is_no_candidate(config, tmp_path):
    verdicts = np.array([True, True, False]), np.array([True, True, True])
    found = stable_unique_novel([ordered(), COLLAPSED, ordered(3.8)], *verdicts, config, tmp_path, progress=False)
    assert (found["relax_candidates"].k, found["relax_candidates"].n) == (1, 3)
