"""``fix:`` of ``sse sample``: a structure file, what of it is held, and which ions are placed anew in it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.errors import ChemistryError, ConfigError, DataError, did_you_mean
from sse_diffusion.core.orbit_batch import MAX_SPECIES
from sse_diffusion.data.tables import read_table
from sse_diffusion.data.validation import ValidationConfig
from sse_diffusion.diffusion.framework_views import Framework
from sse_diffusion.diffusion.inpainting import Inpainting, Placement
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.charge_balance import imbalance
from sse_diffusion.thermo.chemistry import elements_of, parse_formula
from sse_diffusion.thermo.request import Request

if TYPE_CHECKING:
    from pymatgen.core import Structure

log = logging.getLogger(__name__)

SYMMETRIES = ("any", "keep")
SPARSE = ValidationConfig(max_volume_A3_per_atom=1000.0)
"""A framework without its ions may be emptier than any crystal."""
SAME_A = 0.5
"""Root-mean-square distance under which two placements are the same, Angstrom."""
MOST_IONS_PER_ATOM = 4
"""Where the count is left to charge balance."""


@dataclass(frozen=True, kw_only=True)
class FixConfig:
    """What is given.

    Attributes:
        structure: file of the framework, with its ions or without; the cell is kept as it is in the file.
        remove: ion taken out; ``None``: the mobile ion that is asked for, if there is any in the file.
        add: ions to be placed in the given cell, e.g. ``{Li: 4}``; ``None``: as the formula asks, as many as were removed, or as
            few as balance the charge.
        lattice: hold the cell; otherwise it is refined with the rest.
        sites: hold the framework's coordinates; otherwise they are refined.
        species: hold the framework's elements; otherwise one is drawn for each of them.
        symmetry: ``keep``: the framework's own space group; ``any``: the ions may lower it.
        trials: placements tried for each crystal that is asked for; the most probable ones that differ are returned.
    """

    structure: str | None = None
    remove: str | None = None
    add: Mapping[str, int] | None = None
    lattice: bool = True
    sites: bool = True
    species: bool = True
    symmetry: str = "any"
    trials: int = 8

    def __post_init__(self) -> None:
        if self.symmetry not in SYMMETRIES:
            raise ConfigError(f"fix.symmetry: {self.symmetry!r} is unknown", did_you_mean(str(self.symmetry), SYMMETRIES))
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise ConfigError(f"fix.trials: {self.trials!r} is no number of trials", "give 1 or more")
        for name in ("lattice", "sites", "species"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"fix.{name}: {getattr(self, name)!r} is neither true nor false", f"write fix.{name}=true")


@dataclass(frozen=True)
class Given:
    """A framework and the ions it is to hold.

    Attributes:
        framework: the atoms that stay.
        ion: symbol of the ion.
        count: ions in the given cell.
        removed: (k, 3) fractional coordinates of the ions taken out.
    """

    framework: Framework
    ion: str
    count: int
    removed: np.ndarray

    @property
    def atomic_number(self) -> int:
        """Of the ion."""
        from pymatgen.core import Element

        return int(Element(self.ion).Z)

    @classmethod
    def read(cls, fix: FixConfig, request: Request) -> Given:
        """Read the file and take the ions out.

        Raises:
            DataError: no such file, or not one ordered crystal.
            ChemistryError: no ion to place, none to remove, or no number of them that fits formula or charge balance.
        """
        from pymatgen.core import Lattice, Structure

        path = Path(str(fix.structure)).expanduser()
        if not path.is_file():
            raise DataError(f"fix.structure: {path} does not exist", "give a CIF or extxyz file of the framework")
        report = read_table(path, progress=False, validation=SPARSE, limit=1)
        if not report.rows:
            why = "; ".join(f"{r.reason}: {r.detail}" for r in report.rejected)
            raise DataError(f"fix.structure: {path} cannot be used ({why})", "give one ordered crystal")
        row = report.rows[0]
        return cls.of(Structure(Lattice(row.lattice), [int(z) for z in row.species], row.frac), fix, request)

    @classmethod
    def of(cls, structure: Structure, fix: FixConfig, request: Request) -> Given:
        """Take the ions out of an ordered structure; see :meth:`read`."""
        ion, gone = _ions(structure, fix, request)
        species = np.array(structure.atomic_numbers)
        is_gone = np.array([site.specie.symbol == gone for site in structure])
        if is_gone.all():
            raise ChemistryError(f"nothing but {gone} is in the structure", "give a framework to place the ions in")
        framework = Framework(species[~is_gone], structure.frac_coords[~is_gone], structure.lattice.matrix)
        counts = framework.counts()
        if ion in counts:
            raise ChemistryError(f"{ion} is to be placed but also part of the framework", f"set fix.remove={ion}")
        if species[~is_gone].max() > MAX_SPECIES:
            raise ChemistryError("the framework holds an element beyond plutonium", "the model knows elements up to Z = 94")
        if fix.species and (refused := sorted(set(counts) - request.chemistry.allowed(counts))):
            raise ChemistryError(f"{', '.join(refused)} of the framework is not allowed", "change ask.elements or ask.formula")
        return cls(framework, ion, _count(counts, ion, int(is_gone.sum()), fix, request), structure.frac_coords[is_gone])

    def task(self, model: CrystalModel, fix: FixConfig, request: Request, config: SamplerConfig, seed: int) -> Inpainting:
        """What is to be sampled."""
        return Inpainting(
            model, self.framework, self.atomic_number, self.count, request, config, seed, fix.symmetry == "any",
            fix.lattice, fix.sites, fix.species,
        )  # fmt: skip

    def structure(self, task: Inpainting, placement: Placement) -> Structure:
        """Framework and placed ions in the given cell; what is held is exactly as given."""
        from pymatgen.core import Lattice, Structure

        framework, view, o = self.framework, task.views[placement.view], placement.crystal
        n = len(view.orbits.species)
        # elements are exchanged one for one
        exchanged = dict(zip(view.orbits.species.tolist(), o.species[:n].tolist(), strict=True))
        species, frac, lattice = [exchanged[z] for z in framework.species.tolist()], framework.frac, framework.lattice
        if not task.hold_sites:
            atoms = [view.atoms(int(w), u) for w, u in zip(o.wyckoff[:n], o.free[:n], strict=True)]
            species = [int(z) for z, orbit in zip(o.species[:n], atoms, strict=True) for _ in orbit]
            frac = np.concatenate(atoms)
        if not task.hold_lattice:
            lattice = np.linalg.solve(view.rotation.T, o.lattice())
        return Structure(
            Lattice(lattice), [*species, *[self.atomic_number] * len(placement.ions)], np.concatenate([frac, placement.ions])
        )


def inpaint_candidates(
    checkpoint: str | Path, fix: FixConfig, request: Request, n: int, seed: int = 0, config: SamplerConfig | None = None,
    progress: bool = True,
) -> list[Candidate]:  # fmt: skip
    """At most n different placements of the ions, the most probable first.

    Args:
        checkpoint: shipped name or folder.
        fix: the framework.
        request: conditions; of its constraints ``formula``, ``elements`` and ``space_group`` are read.
        n: placements asked for; ``fix.trials`` times as many are tried, and trial i is the same whatever n.
        seed: of all random numbers.
        config: sampler settings.
        progress: show a progress bar.

    Raises:
        CheckpointError, DataError, ConfigError, ChemistryError: with what to do.
    """
    config = config or SamplerConfig()
    if config.particles > 1 or config.gradient_strength or config.guides:
        raise ConfigError(
            "inpainting takes no particles, gradients or guides",
            "set sampler.particles=1 and sampler.gradient_strength=0; fix.trials says how many placements are compared",
        )
    given = Given.read(fix, request)
    model, stored = load_model(checkpoint)
    if judged := set(request.conditions) - set(model.specs):
        raise ConfigError(f"inpainting takes no particles, which {', '.join(sorted(judged))} needs", "leave it out of ask")
    task = given.task(model, fix, request, config, seed)
    tried = n * fix.trials
    with tqdm(total=tried, desc="placing ions", unit="trial", disable=not progress) as bar:
        made = task.run(torch.arange(tried), bar.update)
    if not made:
        raise ChemistryError(
            f"{given.count} {given.ion} could not be placed in {config.max_rounds} rounds: atoms came too close",
            "place fewer with fix.add, or free the cell with fix.lattice=false",
        )
    identity = [stored.sha256, request.to_dict(), asdict(fix), asdict(config), given.framework.lattice.tolist(), seed]
    prefix = "f" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:7]
    structures = {i: given.structure(task, placement) for i, placement in made.items()}
    kept = distinct(given, made, structures)
    log.info("%d of %d trials completed, %d of them different, %d returned", len(made), tried, len(kept), min(n, len(kept)))
    facts = {"proposer": "inpainting", "seed": seed, "checkpoint_sha256": stored.sha256, "ion": given.ion, "ions": given.count}
    return [
        Candidate(f"{prefix}-{i:05d}", structures[i], made[i].crystal.group, made[i].surprisal,
                  {**facts, "index": i, "n_orbits": len(made[i].crystal.species)})
        for i in kept[:n]
    ]  # fmt: skip


def distinct(given: Given, made: Mapping[int, Placement], structures: Mapping[int, Structure]) -> list[int]:
    """Numbers of the placements, the most probable first, without those that repeat an earlier one."""
    kept: list[int] = []
    for i in sorted(made, key=lambda i: (made[i].surprisal, i)):
        alike = [k for k in kept if structures[k].composition == structures[i].composition]
        if all(given.framework.ion_rms(made[k].ions, made[i].ions) > SAME_A for k in alike):
            kept.append(i)
    return kept


def _ions(structure: Structure, fix: FixConfig, request: Request) -> tuple[str, str]:
    """Ion to place and ion to take out."""
    present = {site.specie.symbol for site in structure}
    if fix.add is not None and len(fix.add) != 1:
        raise ConfigError(f"fix.add: {dict(fix.add)} is not one ion", "write 'fix.add={Li: 4}'")
    gone = fix.remove or request.mobile_ion
    ion = next(iter(fix.add)) if fix.add else gone
    if ion == "none":
        raise ConfigError("there is no ion to place", "set ask.mobile_ion=Li, or 'fix.add={Li: 4}'")
    elements_of([ion, *([gone] if gone != "none" else [])], "fix")
    if fix.remove and fix.remove not in present:
        raise ChemistryError(f"fix.remove: there is no {fix.remove} in the structure", f"it holds {', '.join(sorted(present))}")
    if request.mobile_ion not in ("none", ion):
        raise ChemistryError(f"{ion} is to be placed, ask.mobile_ion is {request.mobile_ion}", f"set ask.mobile_ion={ion}")
    return ion, gone


def _count(framework: Mapping[str, int], ion: str, removed: int, fix: FixConfig, request: Request) -> int:
    """Ions per given cell."""
    if fix.add:
        return parse_formula(dict(fix.add))[ion]
    formula = request.chemistry.formula
    if formula is not None:
        units = {framework[s] / n if s in framework else 0.0 for s, n in formula.items() if s != ion}
        count = next(iter(units), 0.0) * formula.get(ion, 0)
        if len(units) != 1 or not count or count % 1:
            raise ChemistryError(f"the framework {dict(framework)} does not go with formula {formula}", "change ask.formula")
        return int(count)
    if removed:
        return removed
    most = MOST_IONS_PER_ATOM * sum(framework.values())
    found = next((n for n in range(1, most + 1) if not imbalance({**framework, ion: n})), None)
    if found is None:
        raise ChemistryError(f"no number of {ion} balances the charge of the framework", f"set 'fix.add={{{ion}: n}}'")
    log.info("%d %s per cell balance the charge of the framework", found, ion)
    return found
