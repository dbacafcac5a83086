"""Inpainting: place the mobile ions in a given framework whose cell, sites and elements are held.

1. The framework is described in its own space group and in its subgroups (:mod:`sse_diffusion.diffusion.framework_views`).
   A view and a number of ion orbits are drawn with the probability that the denoiser gives to size and group of the composition.
2. The ions' Wyckoff positions are revealed one by one by the denoiser's logits, the framework's tokens given, among those that
   complete the count exactly and have room between the atoms. Each ion orbit starts at a random point with room.
3. The sampler refines the ions' coordinates. What is held is put back, without noise, after every step: the replacement method
   (Lugmayr et al., RePaint, CVPR 2022) at zero noise, which the network reads well because it starts from little noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sse_diffusion.core.errors import ChemistryError
from sse_diffusion.core.orbit_batch import MASKED_GROUP, MASKED_SPECIES, MASKED_WYCKOFF, MAX_SPECIES, OrbitBatch
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.rng import categorical, uniform
from sse_diffusion.core.wyckoff import wyckoff_table
from sse_diffusion.diffusion.coordinate_surprisal import coordinate_surprisal
from sse_diffusion.diffusion.counting import Ledger, orbit_numbers
from sse_diffusion.diffusion.framework_views import Framework, View
from sse_diffusion.diffusion.generate import condition_tensors, similar_sizes
from sse_diffusion.diffusion.guidance import guided_discrete, guided_size
from sse_diffusion.diffusion.hard_chemistry import ATTEMPT_STRIDE, HardChemistry
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.room import Room
from sse_diffusion.diffusion.samplers import SamplerConfig, Start, sampler
from sse_diffusion.diffusion.structure_types.decorate import decorate, roles_of
from sse_diffusion.thermo.request import Request

STREAM_VIEW, STREAM_POSITION, STREAM_POINT = 70, 1_000, 2_000


@dataclass(frozen=True)
class Placement:
    """One proposal.

    Attributes:
        crystal: framework and ions in the standard setting of the view's group; the ions' orbits come last.
        view: number of the view.
        ions: (n, 3) the ions in the given cell, fractional.
        surprisal: -log p of view, Wyckoff positions (and elements, where these are drawn) and of the ions' coordinates
            (:mod:`~sse_diffusion.diffusion.coordinate_surprisal`), nats per ion.
    """

    crystal: Orbits
    view: int
    ions: np.ndarray
    surprisal: float


@dataclass
class _Draft:
    """One crystal while its ions' positions are revealed."""

    view: int
    orbits: int
    ledger: Ledger
    placed: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    alive: bool = True


@dataclass(frozen=True)
class Inpainting:
    """Ions on their way into a framework.

    Attributes:
        model: trained model.
        framework: what stays.
        ion: atomic number of the mobile ion.
        count: ions per given cell.
        request: its conditions steer, its space groups limit the views, its elements those that are drawn anew.
        config: sampler settings.
        seed: of all random numbers; placement i depends on (seed, i) only.
        lower_symmetry: whether the ions may lower the framework's symmetry.
        hold_lattice, hold_sites, hold_species: what stays as given.
        start_sigma: noise on the points that the ions start from, as a fraction of the cell.
    """

    model: CrystalModel
    framework: Framework
    ion: int
    count: int
    request: Request
    config: SamplerConfig
    seed: int = 0
    lower_symmetry: bool = True
    hold_lattice: bool = True
    hold_sites: bool = True
    hold_species: bool = True
    start_sigma: float = 0.05

    @torch.no_grad()
    def run(self, index: Int64[Tensor, " b"], on_done: Callable[[int], object] = lambda n: None) -> dict[int, Placement]:
        """Placements by number, of those that could be completed within ``config.max_rounds``.

        Raises:
            ChemistryError: no view of the framework can hold the ions.
        """
        made: dict[int, Placement] = {}
        left = index
        for attempt in range(self.config.max_rounds):
            stream = left + attempt * ATTEMPT_STRIDE
            choice, nll = self._draw(stream)
            sizes = torch.tensor([self._size(*pair) for pair in self.choices])[choice]
            for rows in similar_sizes(sizes, self.config.batch_tokens):
                found = self._attempt(stream[rows], choice[rows], nll[rows])
                made |= {int(left[rows[k]]): placement for k, placement in found.items()}
                on_done(len(found))
            left = left[[i not in made for i in left.tolist()]]
            if len(left) == 0:
                break
        return made

    @cached_property
    def views(self) -> list[View]:
        """Descriptions of the framework, the most symmetric first."""
        return self.framework.views(self.lower_symmetry)

    @cached_property
    def room(self) -> Room:
        """Where an ion fits."""
        return Room(self.framework, self.ion)

    @cached_property
    def choices(self) -> list[tuple[int, int]]:
        """(view, number of ion orbits) that can hold the ions exactly.

        Raises:
            ChemistryError: there are none.
        """
        pairs, groups = [], self.request.chemistry.space_group
        for v, view in enumerate(self.views):
            n, rest = divmod(self.count, view.cells)
            if rest or (groups and view.orbits.group not in groups):
                continue
            numbers = orbit_numbers(view.orbits.group, self._closed(view), n)
            most = self.model.denoiser.config.max_orbits - len(view.orbits.species)
            pairs += [(v, m) for m in range(1, min(n, most) + 1) if numbers >> m & 1]
        if not pairs:
            tried = ", ".join(dict.fromkeys(str(view.orbits.group) for view in self.views))
            raise ChemistryError(
                f"{self.count} ions of Z={self.ion} fit no free Wyckoff positions of the framework (space groups tried: {tried})",
                "change fix.add, or let the ions lower the symmetry: fix.symmetry=any",
            )
        return pairs

    @cached_property
    def _log_p(self) -> Tensor:
        """(c,) log-probability of each choice: of size and group, given the composition."""
        views = [v for v, _ in self.choices]
        size = torch.tensor([self._size(*pair) for pair in self.choices])
        group = torch.tensor([self.views[v].orbits.group for v in views])
        conditions, weights = self._conditions(views), self.config.guidance
        every = torch.arange(len(size))
        score = guided_size(self.model, conditions, weights).log_softmax(-1)[every, size]
        for rows in similar_sizes(size, self.config.batch_tokens):
            mask = torch.arange(int(size[rows].max())) < size[rows, None]
            blank = torch.zeros(mask.shape, dtype=torch.long)
            batch = OrbitBatch(
                torch.full_like(rows, MASKED_GROUP), torch.zeros(len(rows), 6), blank + MASKED_SPECIES, blank + MASKED_WYCKOFF,
                torch.zeros(*mask.shape, 3), mask, {name: value[rows] for name, value in conditions.items()},
            )  # fmt: skip
            logs = guided_discrete(self.model, batch, weights).group.log_softmax(-1)
            score[rows] += logs[every[: len(rows)], group[rows]]
        return score.double().log_softmax(-1)

    def _size(self, v: int, orbits: int) -> int:
        return len(self.views[v].orbits.species) + orbits

    def _conditions(self, views: Sequence[int]) -> dict[str, Tensor]:
        """The request's conditions and, with the elements given, the composition of each view's primitive cell."""
        z, n = np.unique(self.framework.species, return_counts=True)
        counts = {**dict(zip(z.tolist(), n.tolist(), strict=True)), self.ion: self.count}
        cells = {k: {s: c // self.views[v].cells for s, c in counts.items()} for k, v in enumerate(views)}
        chemistry = HardChemistry.for_compositions(cells)
        if not self.hold_species:
            chemistry = replace(chemistry, by_index=None)
        return condition_tensors(self.model, self.request.conditions, chemistry, torch.arange(len(views)))

    def _closed(self, view: View) -> frozenset[int]:
        """Positions that the framework takes or that leave no room."""
        table, taken = wyckoff_table(), set(view.orbits.wyckoff.tolist())
        return frozenset(
            w
            for w in table.positions(view.orbits.group)
            if (w in taken and table.dof[w] == 0) or not len(self.room.points(view, w))
        )

    def _draw(self, stream: Tensor) -> tuple[Int64[Tensor, " b"], Tensor]:
        """Choice of each crystal, and -log p of it."""
        logits = (self._log_p / self.config.temperature).expand(len(stream), -1)
        chosen = categorical(logits, uniform(self.seed, stream, STREAM_VIEW, ()))
        return chosen, -self._log_p[chosen]

    def _attempt(self, stream: Tensor, choice: Tensor, nll: Tensor) -> dict[int, Placement]:
        """One attempt at each crystal; the good ones by row."""
        drafts = [self._draft(*self.choices[c]) for c in choice.tolist()]
        batch = self._masked(drafts)
        for step in range(max(draft.orbits for draft in drafts)):
            nll = nll + self._reveal(batch, drafts, step, stream)
        if not self.hold_species:
            batch, extra = self._decorated(batch, drafts, stream)
            nll = nll + extra
        good = torch.tensor([k for k, draft in enumerate(drafts) if draft.alive], dtype=torch.long)
        if not len(good):
            return {}
        drafts, stream = [drafts[k] for k in good.tolist()], stream[good]
        filled = self._fill(batch.select(good), drafts, stream)
        ions = filled.mask & ~self._of_framework(filled, drafts)
        nll[good] += coordinate_surprisal(self.model, filled, ions, self.seed, stream).double()
        return self._finished(filled, drafts, good, nll)

    def _finished(self, filled: OrbitBatch, drafts: Sequence[_Draft], good: Tensor, nll: Tensor) -> dict[int, Placement]:
        """Those whose ions keep their distance, by row."""
        found = {}
        for k, draft, crystal in zip(good.tolist(), drafts, filled.to_orbits(), strict=True):
            first = len(crystal.species) - draft.orbits
            ions = self.views[draft.view].all_atoms(crystal.wyckoff[first:], crystal.free[first:])
            if self.room.is_enough(ions):
                found[k] = Placement(crystal, draft.view, ions, float(nll[k]) / self.count)
        return found

    def _draft(self, v: int, orbits: int) -> _Draft:
        view = self.views[v]
        left = {self.ion: self.count // view.cells}
        return _Draft(v, orbits, Ledger(view.orbits.group, left, orbits, self._closed(view)))

    def _masked(self, drafts: Sequence[_Draft]) -> OrbitBatch:
        """Framework tokens given, ions without a position."""
        crystals = []
        for draft in drafts:
            o, m = self.views[draft.view].orbits, draft.orbits
            species = o.species if self.hold_species else np.full_like(o.species, MASKED_SPECIES)
            species, wyckoff = np.append(species, [self.ion] * m), np.append(o.wyckoff, [MASKED_WYCKOFF] * m)
            crystals.append(Orbits(o.group, o.cell, species, wyckoff, np.concatenate([o.free, np.zeros((m, 3))])))
        return OrbitBatch.from_orbits(crystals, self._conditions([draft.view for draft in drafts]))

    def _reveal(self, batch: OrbitBatch, drafts: Sequence[_Draft], step: int, stream: Tensor) -> Tensor:
        """Position and starting point of ion orbit ``step`` of each crystal, written into the batch; -log p of the positions."""
        logits = guided_discrete(self.model, batch, self.config.guidance).wyckoff
        u = uniform(self.seed, stream, STREAM_POSITION + step, ())
        pick = uniform(self.seed, stream, STREAM_POINT + step, ())
        nll = torch.zeros(len(drafts), dtype=torch.float64)
        for k, draft in enumerate(drafts):
            if step >= draft.orbits or not draft.alive:
                continue
            view, slot = self.views[draft.view], self._size(draft.view, step)
            positions = wyckoff_table().positions(view.orbits.group)
            points = [self._points(view, draft, w) for w in positions]
            score = logits[k, slot, : len(points)]
            allowed = torch.tensor([len(p) > 0 for p in points])
            draft.alive = bool(allowed.any())
            if not draft.alive:
                continue
            letter = int(categorical(score.masked_fill(~allowed, -torch.inf)[None] / self.config.temperature, u[k : k + 1]))
            nll[k] = -score.double().log_softmax(-1)[letter]
            point = points[letter][int(pick[k] * len(points[letter]))]
            batch.wyckoff[k, slot], batch.free[k, slot] = positions[letter], torch.from_numpy(point)
            draft.ledger = draft.ledger.after(positions[letter], self.ion) or draft.ledger
            draft.placed = np.concatenate([draft.placed, view.atoms(positions[letter], point)])
        return nll

    def _points(self, view: View, draft: _Draft, position: int) -> np.ndarray:
        """Free coordinates at which the next ion orbit may start; none where the count could not be completed."""
        if position in draft.ledger.used or draft.ledger.after(position, self.ion) is None:
            return np.zeros((0, 3))
        return self.room.beside(view, position, draft.placed)

    def _decorated(self, batch: OrbitBatch, drafts: Sequence[_Draft], stream: Tensor) -> tuple[OrbitBatch, Tensor]:
        """Elements of the framework drawn anew, one for each of the given ones; -log p of them."""
        given = self._with_given_elements(batch, drafts)
        ions = batch.species == self.ion
        role = roles_of(given, batch.mask & ~ions)
        prior = torch.zeros(len(role), int(role.max()) + 1, MAX_SPECIES + 1)
        chemistry = HardChemistry.from_chemistry(self.request.chemistry)
        c = self.config
        made, nll, met = decorate(self.model, batch, role, chemistry, self.seed, stream, prior, c.guidance, c.temperature)
        for draft, fine in zip(drafts, met.tolist(), strict=True):
            draft.alive &= fine
        return made, nll.double()

    def _with_given_elements(self, batch: OrbitBatch, drafts: Sequence[_Draft]) -> Tensor:
        species = batch.species.clone()
        for k, draft in enumerate(drafts):
            given = self.views[draft.view].orbits.species
            species[k, : len(given)] = torch.from_numpy(given)
        return species

    def _fill(self, batch: OrbitBatch, drafts: Sequence[_Draft], stream: Tensor) -> OrbitBatch:
        """The ions' coordinates, and whatever else is not held."""
        held = self._of_framework(batch, drafts) & self.hold_sites
        t = torch.full((len(batch),), self.model.coordinate_noise.time_of(self.start_sigma))
        t_cell = torch.full((len(batch),), 0.0 if self.hold_lattice else self.config.start_cell_time)
        config = replace(self.config, steps=self.config.refine_steps)
        start = Start(batch.free, batch.cell, t, t_cell, held)
        return sampler(config.name)(self.model, batch, config, self.seed, stream, start)

    def _of_framework(self, batch: OrbitBatch, drafts: Sequence[_Draft]) -> Tensor:
        """(b, m) True for the framework's orbits."""
        first = torch.tensor([self._size(draft.view, 0) for draft in drafts])
        return torch.arange(batch.mask.shape[1]) < first[:, None]
