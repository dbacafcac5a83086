"""dG_hull judged through thermodynamics: closed form, exact in T and P, quiet where nothing is known."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Structure
from scipy.stats import norm

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Quantity
from sse_diffusion.diffusion.generate import sample_batch
from sse_diffusion.diffusion.guides.choose import choose_guides
from sse_diffusion.diffusion.guides.gibbs_guide import NEVER, GibbsGuide, atoms_by_element, volumes_A3_per_atom
from sse_diffusion.diffusion.guides.guide import Guide, Seen, Stage
from sse_diffusion.diffusion.guides.heights import UNKNOWN, HeadJudge, HeightJudge, Question, StructureJudge, height_judges
from sse_diffusion.diffusion.guides.property_guide import PropertyGuide
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.testing.batches import crystals
from sse_diffusion.thermo.competition import Competition, load_competition
from sse_diffusion.thermo.hull import EnergySchemeError
from sse_diffusion.thermo.phases import MP_SCHEME, PhaseTable
from sse_diffusion.thermo.request import Chemistry, Interval, Request

GIBBS, GAP = "gibbs_above_hull_eV_per_atom", "band_gap_eV"
ROWS = [
    ("Li", 0.0, 20.2), ("O", 0.0, 11.0), ("C", 0.0, 9.0), ("N", 0.0, 14.0), ("Ca", 0.0, 42.0), ("Li2O", -2.07, 8.2),
    ("CaO", -3.29, 13.9), ("CaCO3", -2.50, 12.3), ("Li2CO3", -2.10, 9.8), ("CO2", -1.36, 16.0), ("Li3N", -0.43, 11.2),
]  # fmt: skip
STABLE = Interval(-math.inf, 0.05)


class Gaussian:
    """The same opinion of every crystal."""

    stages: frozenset[Stage] = frozenset({"discrete", "final"})

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.std = mean, std

    def log_p(self, seen: Seen, asked: Question) -> torch.Tensor:
        z = [(end - self.mean) / np.hypot(self.std, asked.standing.shift_std) for end in (asked.lo, asked.hi)]
        return torch.from_numpy(np.log(norm.cdf(z[1]) - norm.cdf(z[0])))


@pytest.fixture(scope="module")
def table() -> PhaseTable:
    formulas, energies, volumes = zip(*ROWS, strict=True)
    return PhaseTable.from_formulas([f"{f}-{i}" for i, f in enumerate(formulas)], formulas, energies, volumes, MP_SCHEME)


def guide(
    model: CrystalModel, table: PhaseTable, t: float = 300.0, p: float = 0.0, asked: Interval = STABLE, *judges: HeightJudge,
    **strength: float,
) -> GibbsGuide:  # fmt: skip
    power: dict[Stage, float] = strength or {"discrete": 1.0}  # type: ignore[assignment]
    return GibbsGuide(model, Competition(table, t, p), asked, judges or (Gaussian(0.03, 0.05),), power)


def test_atoms_and_volumes_are_those_of_the_crystals(judging: CrystalModel) -> None:
    batch = crystals(judging, "CaCO3", "Li2O", volume=10.0)
    atoms = atoms_by_element(judging, batch)
    assert atoms[0, [20, 6, 8]].tolist() == [1, 1, 3] and atoms[1, [3, 8]].tolist() == [2, 1] and atoms.sum() == 8
    assert volumes_A3_per_atom(judging, batch) == pytest.approx([10.0, 10.0], rel=1e-5)


def test_closed_form_through_the_shift(judging: CrystalModel, table: PhaseTable) -> None:
    """log p = log Phi((0.05 - shift - mean) / s), at the estimated and at the crystal's own volume."""
    batch = crystals(judging, "CaCO3", "Li2O", "Li3N", volume=11.0)
    for stage, volume in (("discrete", None), ("final", np.full(3, 11.0))):
        by = guide(judging, table, 1500.0, 2.0, **{stage: 1.0})
        here = by.competition.standing(atoms_by_element(judging, batch), volume)
        expected = norm.logcdf((0.05 - here.shift - 0.03) / np.hypot(0.05, here.shift_std))
        assert isinstance(by, Guide) and by.stages == {stage}
        found = by.log_likelihood(Seen(stage, batch)).numpy()  # type: ignore[arg-type]
        assert found == pytest.approx(expected, abs=1e-5)


def test_temperature_enters_with_its_sign(judging: CrystalModel, table: PhaseTable) -> None:
    """Heat takes from carbonate and nitride, whatever the judge thinks of their energies, and nothing from the oxides."""
    batch = crystals(judging, "CaCO3", "Li3N", "CaO", "Li2O")
    cold, hot = (guide(judging, table, t).log_likelihood(Seen("discrete", batch)) for t in (300.0, 1500.0))
    assert (hot - cold)[:2].max() < -1.0 and (hot - cold)[2:].abs().max() < 0.3


def test_pressure_prefers_the_denser_crystal(judging: CrystalModel, table: PhaseTable) -> None:
    loose, dense = (Seen("final", crystals(judging, "Li2CO3", volume=v)) for v in (12.0, 9.0))
    gain = [
        float(by.log_likelihood(dense) - by.log_likelihood(loose))
        for by in (guide(judging, table, 300.0, p, final=1.0) for p in (0.0, 5.0))
    ]
    assert gain[1] > gain[0] + 1.0


def test_strength_zero_says_nothing_and_leaves_the_crystals(judging: CrystalModel, hull_csv: Path) -> None:
    request = Request({GIBBS: STABLE, "mobile_ion": "Li"}, Chemistry(require=frozenset({"Li"}), n_atoms=(2, 12)))
    few = SamplerConfig(steps=1, types=None, particles=4, particle_strength=0.0, gradient_strength=0.0)
    assert choose_guides(judging, request.conditions, few) == ()
    plain, _ = sample_batch(judging, request, torch.arange(4), 0, replace(few, phases=None))
    same, _ = sample_batch(judging, request, torch.arange(4), 0, replace(few, phases=str(hull_csv)))
    assert all(np.array_equal(a.species, b.species) and np.array_equal(a.cell, b.cell) for a, b in zip(plain, same, strict=True))


def test_no_answer_is_no_opinion_and_said_once(
    judging: CrystalModel, table: PhaseTable, caplog: pytest.LogCaptureFixture
) -> None:
    by, batch = guide(judging, table), crystals(judging, "XeO2", "LiPm", "CaO")
    with caplog.at_level(logging.INFO):
        found = by.log_likelihood(Seen("discrete", batch))
        by.log_likelihood(Seen("discrete", batch))
    nothing_known = norm.logcdf((0.05 - UNKNOWN[0]) / UNKNOWN[1])
    assert found[:2].numpy() == pytest.approx([nothing_known] * 2, abs=1e-5) and found[2] > nothing_known
    assert sum("Xe" in message for message in caplog.messages) == sum("Pm" in message for message in caplog.messages) == 1


def test_a_measured_gas_is_as_asked_or_not(judging: CrystalModel, table: PhaseTable) -> None:
    batch = Seen("discrete", crystals(judging, "CO2"))
    assert guide(judging, table, 1500.0).log_likelihood(batch).item() == 0.0
    assert guide(judging, table, 1500.0, 0.0, Interval(0.3, math.inf)).log_likelihood(batch).item() == NEVER


def test_the_final_word_replaces_the_first_and_judges_multiply(judging: CrystalModel, table: PhaseTable) -> None:
    seen, final = (Seen(stage, crystals(judging, "CaCO3", "Li3N")) for stage in ("discrete", "final"))  # type: ignore[arg-type]
    both, alone = guide(judging, table, discrete=3.0, final=2.0), guide(judging, table, final=2.0)
    torch.testing.assert_close(both.log_likelihood(seen) + both.log_likelihood(final), alone.log_likelihood(final))
    a, b = Gaussian(0.1, 0.05), Gaussian(0.0, 0.1)
    one, other, two = (guide(judging, table, 300.0, 0.0, STABLE, *js).log_likelihood(seen) for js in ((a,), (b,), (a, b)))
    torch.testing.assert_close(two, one + other)


def test_a_point_is_a_narrow_interval(judging: CrystalModel, table: PhaseTable) -> None:
    by = guide(judging, table, 300.0, 0.0, Interval(0.1, 0.1))
    seen = Seen("discrete", crystals(judging, "CaO"))
    here = by.competition.standing(atoms_by_element(judging, seen.batch))
    density = norm.pdf(0.1 - here.shift - 0.03, scale=np.hypot(0.05, here.shift_std))
    assert by.log_likelihood(seen).exp().item() == pytest.approx(0.01 * density[0], rel=0.01)


class Formation:
    """Predicts a formation energy by the number of atoms; fails on large cells."""

    name, unit = "formation_energy", "eV/atom"

    def predict(self, structures: list[Structure]) -> list[Quantity]:
        large = Quantity.failed("too large", self.unit)
        return [large if len(s) > 4 else Quantity(-0.5 * len(s), 0.08, self.unit) for s in structures]


def test_any_structure_predictor_judges_finished_crystals(judging: CrystalModel, table: PhaseTable) -> None:
    by = guide(judging, table, 300.0, 0.0, STABLE, StructureJudge(Formation()), final=1.0)
    batch = crystals(judging, "Li2O", "CaCO3")
    here = by.competition.standing(atoms_by_element(judging, batch), volumes_A3_per_atom(judging, batch))
    dG = here.gibbs_above_hull(np.array([-1.5, math.nan]))[0]
    missing = (0.05 - here.shift[1] - UNKNOWN[0]) / UNKNOWN[1]
    expected = [norm.logcdf((0.05 - dG) / 0.08), norm.logcdf(missing)]
    assert by.log_likelihood(Seen("final", batch)).numpy() == pytest.approx(expected, abs=1e-5)
    assert by.log_p(Seen("discrete", batch)).tolist() == [0.0, 0.0]  # it has no opinion yet
    with pytest.raises(EnergySchemeError):
        StructureJudge(Formation(), "another")
    assert StructureJudge(Formation(), "CHGNet-0.3.0/MP2020").offset_std > 0.04


@pytest.fixture
def hull_csv(tmp_path: Path) -> Path:
    lines = ["formula,energy_eV_per_atom,volume_A3_per_atom,source,energy_scheme,converged"]
    lines += [f"{f},{e - 2.0},{v},computed,{MP_SCHEME},True" for f, e, v in ROWS]
    path = tmp_path / "hull.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_chosen_when_dG_hull_is_asked(judging: CrystalModel, hull_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hull_csv.parent)
    load_competition.cache_clear()
    (hull_csv.parent / "my_judges.py").write_text(
        "import torch\n"
        "class Sure:\n"
        "    stages = frozenset({'discrete'})\n"
        "    def log_p(self, seen, asked):\n"
        "        return torch.zeros(len(asked.hi), dtype=torch.float64)\n"
    )
    monkeypatch.syspath_prepend(hull_csv.parent)
    config = SamplerConfig(particles=4, phases="hull.csv", height_judges=("my_judges:Sure",))
    asked = {GIBBS: STABLE, GAP: Interval(1.0, 2.0), "temperature_K": Interval(1200.0, 1200.0)}
    first, second = choose_guides(judging, asked, config)
    assert isinstance(first, GibbsGuide) and first.stages == {"discrete"}
    assert (first.competition.temperature_K, first.competition.pressure_GPa) == (1200.0, pytest.approx(1.01325e-4))
    assert isinstance(second, PropertyGuide) and second.fields == (GAP,)
    (alone,) = choose_guides(judging, asked, replace(config, phases=None))
    assert isinstance(alone, PropertyGuide) and alone.fields == (GIBBS, GAP)
    with_gradient = choose_guides(judging, {GIBBS: STABLE}, replace(config, gradient_strength=1.0, finish_particles=True))
    assert [sorted(g.stages) for g in with_gradient] == [["discrete", "final"], ["continuous"]]
    assert (
        choose_guides(judging, {GIBBS: STABLE, "temperature_K": Interval(298.15, 298.15)}, config)[0].competition.temperature_K
        == 300.0
    )  # type: ignore[attr-defined]


def test_a_registered_property_judges(
    judging: CrystalModel, table: PhaseTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of its file in configs/predictors/property; a height that is cut at 0 is used as it was before."""
    (tmp_path / "my_property.py").write_text(
        "from sse_diffusion.core.results import Quantity\n"
        "class Height:\n"
        "    name, unit = 'energy_above_hull', 'eV/atom'\n"
        "    def __init__(self, checkpoint):\n"
        "        self.provenance = {'signed_value': float(checkpoint)}\n"
        "    def predict(self, structures):\n"
        "        return [Quantity(0.0, 0.05, self.unit, provenance=self.provenance) for _ in structures]\n"
    )
    folder = tmp_path / "predictors" / "property"
    folder.mkdir(parents=True)
    (folder / "height.yaml").write_text("_target_: my_property.Height\ncheckpoint: -0.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sse_diffusion.predictors.registry.config_dir", lambda: tmp_path)
    (judge,) = height_judges(("height",), judging, "another scheme: heights have none")
    batch = crystals(judging, "CaO")
    by = guide(judging, table, 300.0, 0.0, Interval(-math.inf, -0.2), judge, final=1.0)
    here = by.competition.standing(atoms_by_element(judging, batch), volumes_A3_per_atom(judging, batch))
    assert by.log_likelihood(Seen("final", batch)).item() == pytest.approx(norm.logcdf(-here.shift[0] / 0.05), abs=1e-5)


def test_judges_that_mean_nothing_are_refused(judging: CrystalModel) -> None:
    with pytest.raises(ConfigError, match="nobody to judge"):
        height_judges(("head",), judging, MP_SCHEME)  # this head does not know the static height
    with pytest.raises(ConfigError, match="no judge at"):
        height_judges(("compositoin",), judging, MP_SCHEME)


def test_the_heads_opinion_below_the_hull(judging: CrystalModel, table: PhaseTable) -> None:
    """The square root is continued as an odd function: log p falls steadily with the asked height, through 0."""
    spec = judging.specs[GIBBS]
    head = HeadJudge.__new__(HeadJudge)
    head.model, head.column, head.hidden, head.spec = judging, judging.denoiser.property_names.index(GIBBS), [GIBBS], spec
    batch = crystals(judging, *["CaO"] * 5)
    batch = batch.with_(free=batch.free[:1].expand(5, -1, -1).clone())
    hi = np.array([-0.3, -0.05, 0.0, 0.05, 0.3])
    with torch.no_grad():
        asked = guide(judging, table).question(Seen("discrete", batch))
        log_p = head.log_p(Seen("discrete", batch), replace(asked, hi=hi))
    assert (log_p.diff() > 0.01).all() and torch.isfinite(log_p).all()
