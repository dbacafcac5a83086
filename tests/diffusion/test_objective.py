"""The objective: what is not masked or not free costs nothing, and what is dropped cannot be seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_diffusion.core.orbit_batch import MASKED_GROUP, MASKED_SPECIES, MASKED_WYCKOFF, OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.corruption.discrete import Masked, MaskingConfig, mask_fields
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.objective import FIELDS, TYPICAL_BATCH, Objective, ObjectiveConfig, _Draws, composition_of

GROUPS = (225, 62, 1, 14, 166, 198)


def crystal(group: int, seed: int, n_orbits: int) -> Orbits:
    rng, table = np.random.default_rng(seed), wyckoff_table()
    letters = list(table.positions(group))
    w = np.array([letters[-1]] * n_orbits if group < 100 or len(letters) < n_orbits else letters[:n_orbits])
    cell = np.zeros(6)
    cell[0] = -np.log(3) / 4 if 143 <= group <= 194 else 0.0
    cell[5] = np.log(table.multiplicity[w].sum() * 18.0) / 3
    return Orbits(group, cell, rng.integers(3, 60, n_orbits), w, rng.random((n_orbits, 3)) * table.free[w])


@pytest.fixture(scope="module")
def batch(random_model: CrystalModel) -> OrbitBatch:
    crystals = [crystal(g, i, 2 + i % 2) for i, g in enumerate(GROUPS)]
    n, specs = len(crystals), random_model.specs
    conditions = {
        name: torch.zeros(n, 2) if spec.kind == "continuous"
        else torch.zeros(n, dtype=torch.int64) if spec.kind == "categorical" else torch.eye(95)[3].repeat(n, 1)
        for name, spec in specs.items()
    }  # fmt: skip
    return OrbitBatch.from_orbits(crystals, conditions)


def losses(model: CrystalModel, batch: OrbitBatch, step: int = 0, **config: float) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return Objective(ObjectiveConfig(**config))(model, batch, 0, step).fields


def with_masking(model: CrystalModel, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "masking", MaskingConfig(group_probability=share))


def test_every_field_is_finite_and_named(random_model: CrystalModel, batch: OrbitBatch) -> None:
    for step in range(5):
        fields = losses(random_model, batch, step)
        assert set(fields) == set(FIELDS) and all(torch.isfinite(v) for v in fields.values())


def test_the_total_is_the_weighted_sum(random_model: CrystalModel, batch: OrbitBatch) -> None:
    config = ObjectiveConfig(size=1.0, group=2.0, wyckoff=3.0, species=4.0, coordinates=5.0, cell=6.0)
    with torch.no_grad():
        result = Objective(config)(random_model, batch, 0, 1)
    assert result.total.item() == pytest.approx(sum(k * result.fields[f].item() for k, f in enumerate(FIELDS, 1)), rel=1e-5)


def test_sizes_weigh_by_crystal_whatever_batch_they_come_in(
    random_model: CrystalModel, batch: OrbitBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of large crystals are short: the size loss is a sum over crystals, not a mean over those of the batch."""
    bins = random_model.denoiser.config.max_orbits + 1
    monkeypatch.setattr(
        random_model.denoiser, "size_logits", lambda conditions: torch.zeros(len(conditions["composition"]), bins)
    )
    for part in (batch, batch.select(slice(0, 2))):
        expected = len(part) * math.log(bins) / TYPICAL_BATCH
        assert losses(random_model, part, 0)["size"].item() == pytest.approx(expected, rel=1e-5)


def test_noise_belongs_to_seed_and_step(random_model: CrystalModel, batch: OrbitBatch) -> None:
    first, again, later = (losses(random_model, batch, step) for step in (3, 3, 4))
    assert all(torch.equal(first[k], again[k]) for k in FIELDS)
    assert all(not torch.equal(first[k], later[k]) for k in ("species", "coordinates", "cell"))


def test_no_two_draws_share_their_numbers() -> None:
    """Neither within a step nor between neighbouring ones."""
    drawn = [draw.uniform(()) for step in (0, 1) for draw in [_Draws(0, torch.arange(6), step)] for _ in range(20)]
    assert len({tuple(d.tolist()) for d in drawn}) == 40


def test_a_masked_group_means_everything_is_masked(random_model, batch: OrbitBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    u = torch.rand(len(batch), generator=torch.Generator().manual_seed(0))
    units = torch.rand(*batch.mask.shape, 2, generator=torch.Generator().manual_seed(1))
    masked = mask_fields(batch, MaskingConfig(group_probability=1.0), 0.01 * u, u, units)
    assert masked.group.all() and (masked.batch.group == MASKED_GROUP).all()
    assert torch.equal(masked.species, batch.mask) and torch.equal(masked.wyckoff, batch.mask)
    with_masking(random_model, 1.0, monkeypatch)
    fields = losses(random_model, batch)
    assert fields["group"] > 0
    assert fields["wyckoff"] == 0 and fields["species"] == 0  # they are predicted once the group is known


def test_a_known_group_costs_nothing(random_model, batch: OrbitBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    with_masking(random_model, 0.0, monkeypatch)
    fields = losses(random_model, batch)
    assert fields["group"] == 0 and fields["wyckoff"] > 0 and fields["species"] > 0


def test_what_is_not_masked_costs_nothing(random_model, batch: OrbitBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_masked(batch: OrbitBatch, *args: object) -> Masked:
        no = torch.zeros_like(batch.mask)
        return Masked(batch, torch.zeros(len(batch), dtype=torch.bool), no, no, torch.ones(len(batch)))

    monkeypatch.setattr("sse_diffusion.diffusion.objective.mask_fields", nothing_masked)
    fields = losses(random_model, batch)
    assert fields["group"] == fields["wyckoff"] == fields["species"] == 0


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_masking_hides_exactly_what_it_says(share: float, seed: int) -> None:
    batch = OrbitBatch.from_orbits([crystal(g, i, 2 + i % 2) for i, g in enumerate(GROUPS)])
    generator = torch.Generator().manual_seed(seed)
    t, u = torch.rand(2, len(batch), generator=generator)
    units = torch.rand(*batch.mask.shape, 2, generator=generator)
    masked = mask_fields(batch, MaskingConfig(group_probability=share), t, u, units)
    for name, blank in (("species", MASKED_SPECIES), ("wyckoff", MASKED_WYCKOFF)):
        hidden, before, after = getattr(masked, name), getattr(batch, name), getattr(masked.batch, name)
        assert not (hidden & ~batch.mask).any()
        assert (after[hidden] == blank).all() and torch.equal(after[~hidden], before[~hidden])
        assert torch.equal(hidden[masked.group], batch.mask[masked.group])
    assert torch.equal(masked.batch.group, torch.where(masked.group, MASKED_GROUP, batch.group))
    expected = torch.where(masked.group, 1.0, 1.0 / t.clamp_min(0.02))
    torch.testing.assert_close(masked.weight, expected)


def test_a_crystal_with_nothing_free_has_no_coordinate_loss(random_model: CrystalModel) -> None:
    """Rock salt: all coordinates are fixed by symmetry, the cell has one degree of freedom."""
    table = wyckoff_table()
    a, b = list(table.positions(225))[:2]
    salt = Orbits(225, np.array([0, 0, 0, 0, 0, np.log(5.6)]), np.array([11, 17]), np.array([a, b]), np.zeros((2, 3)))
    fields = losses(random_model, OrbitBatch.from_orbits([salt] * 4, random_model.null_conditions(4)))
    assert fields["coordinates"] == 0 and fields["cell"] > 0


def test_a_dropped_condition_has_no_effect(
    random_model: CrystalModel, batch: OrbitBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout 1 the labels may be anything; with dropout 0 they are seen."""
    other = {
        k: v + 1.5 if v.dim() == 2 and v.shape[1] == 2 else v + 1 if v.dtype == torch.int64 else v.roll(5, 1)
        for k, v in batch.conditions.items()
    }
    for dropout, seen in ((1.0, False), (0.0, True)):
        specs = {name: replace(spec, dropout=dropout) for name, spec in random_model.specs.items()}
        monkeypatch.setattr(random_model, "specs", specs)
        a, b = (losses(random_model, x, composition_dropout=1.0) for x in (batch, batch.with_(conditions=other)))
        for name in ("size", "species", "coordinates"):
            assert torch.equal(a[name], b[name]) is not seen, (name, dropout)


def test_composition_counts_the_primitive_cell() -> None:
    """Spinel MgAl2O4: 8a, 16d, 32e in a cell of four lattice points."""
    table = wyckoff_table()
    w = np.array([next(p for p in table.positions(227) if table.label(p) == label) for label in ("8a", "16d", "32e")])
    spinel = Orbits(227, np.array([0, 0, 0, 0, 0, 2.09]), np.array([12, 13, 8]), w, np.array([[0, 0, 0], [0, 0, 0], [0.26] * 3]))
    counts = composition_of(OrbitBatch.from_orbits([spinel, crystal(1, 0, 3)]))[0]
    assert {int(z): counts[z].item() for z in counts.nonzero().flatten()} == {8: 8.0, 12: 2.0, 13: 4.0}


def times(**options: float) -> tuple[torch.Tensor, torch.Tensor]:
    objective = Objective(ObjectiveConfig(**options))
    return objective._times(_Draws(0, torch.arange(4000), 0))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_coordinates_and_cell_share_their_time_as_often_as_asked(share: float) -> None:
    t, t_cell = times(shared_time=share)
    assert (t == t_cell).float().mean().item() == pytest.approx(share, abs=0.03)
    apart = t != t_cell
    if share < 1:
        assert torch.corrcoef(torch.stack([t[apart], t_cell[apart]]))[0, 1].abs() < 0.06


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_times_gather_at_little_noise_as_asked(power: float) -> None:
    """P(u^p < x) = x^(1/p); the cell's own times stay uniform."""
    t, t_cell = times(time_power=power, shared_time=0.0)
    for x in (0.1, 0.5, 0.9):
        assert (t < x).float().mean().item() == pytest.approx(x ** (1 / power), abs=2e-3)  # stratified: almost exact
        assert (t_cell < x).float().mean().item() == pytest.approx(x, abs=0.03)
    assert t.min() > 0 and t.max() < 1
