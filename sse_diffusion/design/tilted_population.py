"""Crystals of a generator weighted by their free energy under a force field: the tilt exp(-lambda dPhi / kT).

    Phi(s; T, P, mu) = E + P V + G_vib(T) - sum_i mu_i N_i                                  eV/atom, s relaxed at P
    w(s) = q(s)^alpha exp(-lambda N dPhi(s) / kT)

Each candidate is relaxed at the asked pressure; candidates that end in the same minimum s are one structure, proposed with
frequency q(s). Candidate weights are q^(alpha - 1) exp(-lambda N dPhi / kT), as importance sampling wants it: with alpha = 0 the
proposal's own density is divided out and the weights are those of the inherent structures that were found (Stillinger and Weber,
Phys. Rev. A 25, 978 (1982)); with alpha = 1 the generator is the prior. A structure that was never proposed has no weight.

N, the number of atoms that change structure together, must be chosen, because dPhi is per atom: in the thermodynamic limit the
lowest structure takes all, and two structures share within dPhi of about kT / N.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from sse_diffusion.core.candidate import Candidate
from sse_diffusion.core.errors import ConfigError
from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.core.rng import uniform
from sse_diffusion.core.symmetry import find_symmetry
from sse_diffusion.core.units import BOLTZMANN_eV_PER_K, eV_PER_A3_PER_GPa
from sse_diffusion.design.tilt_relaxations import kinds, relax_kinds
from sse_diffusion.thermo.gibbs import check_temperature, g_delta_eV_per_atom, reduced_mass_amu
from sse_diffusion.thermo.tilt import effective_sample_size, normalised_weights, systematic_resample
from sse_diffusion.verification.relax import RelaxConfig, RelaxResult

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import Potential

UNIT = "eV/atom"
SYMPREC_A = 0.1


@dataclass(frozen=True, kw_only=True)
class TiltConfig:
    """How the free energy weighs structures.

    Attributes:
        strength: lambda; 0 leaves the proposals as they are (up to ``proposal_power``), 1 is thermal.
        atoms: N, the domain that changes structure as a whole. At 300 K structures share within 26 meV/atom / N: 40 atoms
            (0.6 meV/atom) is close to the bulk limit, 1 atom keeps what is metastable on the scale of real crystals.
        proposal_power: alpha; 0 divides out how often a structure was proposed, 1 keeps it as prior.
        vibrations: ``"descriptor"`` adds the G_delta of :mod:`sse_diffusion.thermo.gibbs` (300-2000 K; its resolution, 50
            meV/atom, is coarser than most differences between polymorphs), ``"none"`` leaves enthalpies.
        chemical_potentials_eV: mu of each element on the force field's energy scale; needed when compositions differ.
        merge_eV_per_atom: candidates with the same structure are one only when their Phi agree within this.
        relax: protocol of the relaxation; its pressure is replaced by the asked one.
    """

    strength: float = 1.0
    atoms: float = 40.0
    proposal_power: float = 0.0
    vibrations: Literal["none", "descriptor"] = "none"
    chemical_potentials_eV: Mapping[str, float] = field(default_factory=dict)
    merge_eV_per_atom: float = 0.005
    relax: RelaxConfig = field(default_factory=RelaxConfig)

    def __post_init__(self) -> None:
        """Refuse values that have no meaning (ConfigError)."""
        if self.vibrations not in ("none", "descriptor"):
            raise ConfigError(f"tilt.vibrations is {self.vibrations!r}", "choose none or descriptor")
        if not (self.strength >= 0 and self.atoms > 0 and self.proposal_power >= 0 and self.merge_eV_per_atom >= 0):
            raise ConfigError("tilt needs strength, proposal_power and merge_eV_per_atom >= 0 and atoms > 0")
        if self.relax.cell != "free":
            raise ConfigError("a pressure can only be asked for with a free cell", "set tilt.relax.cell=free")


@dataclass(frozen=True)
class Member:
    """One distinct structure of a population.

    Attributes:
        structure: relaxed at the pressure.
        weight: its share of the population.
        candidates: ids of the candidates that ended here; the first gave ``structure``.
        space_group: number at 0.1 Angstrom; 0 when none can be claimed.
        volume_A3_per_atom: of ``structure``.
        enthalpy: E + P V, eV/atom.
        potential: Phi, eV/atom.
    """

    structure: Structure
    weight: float
    candidates: tuple[str, ...]
    space_group: int
    volume_A3_per_atom: float
    enthalpy: Quantity
    potential: Quantity

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the structure as pymatgen's dictionary."""
        record = {k: getattr(self, k) for k in ("weight", "candidates", "space_group", "volume_A3_per_atom")}
        quantities = {"enthalpy": self.enthalpy.to_dict(), "potential": self.potential.to_dict()}
        return (
            record | quantities | {"formula": self.structure.composition.reduced_formula, "structure": self.structure.as_dict()}
        )


@dataclass(frozen=True)
class TiltedPopulation:
    """What :func:`tilted_population` found.

    Attributes:
        members: distinct structures, the heaviest first; weights add up to 1.
        effective_sample_size: of the candidates' weights (Kong): how many equally weighted candidates the population is worth.
        left_out: id of each candidate without a converged relaxation -> why.
        status: ``ok``; ``unconverged`` when some candidates are left out; ``failed`` (no members) when all are.
        reason: why not ``ok``.
        provenance: state point, engine, configuration, number of candidates.
    """

    members: tuple[Member, ...]
    effective_sample_size: float
    left_out: Mapping[str, str]
    status: Status
    reason: str
    provenance: dict[str, Any]

    def by_space_group(self) -> dict[int, float]:
        """Weight of each space group."""
        shares: dict[int, float] = defaultdict(float)
        for member in self.members:
            shares[member.space_group] += member.weight
        return dict(shares)

    def resample(self, n: int, seed: int = 0) -> list[Candidate]:
        """``n`` equally weighted crystals, each member floor(n w) or one more times (systematic resampling).

        Raises:
            ConfigError: the population is empty.
        """
        if not self.members or n < 1:
            raise ConfigError(f"{n} crystals cannot be drawn from {len(self.members)} structures: {self.reason}")
        logs = torch.tensor([m.weight for m in self.members], dtype=torch.float64).log()
        u = uniform(seed, torch.zeros(1, dtype=torch.long), 0, ())
        drawn = [self.members[i] for i in systematic_resample(logs[None], u, n)[0].tolist()]
        return [_copy(member, number, self.provenance) for number, member in enumerate(drawn)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        record = {k: getattr(self, k) for k in ("effective_sample_size", "left_out", "status", "reason", "provenance")}
        return record | {"members": [m.to_dict() for m in self.members]}


def tilted_population(
    candidates: Sequence[Candidate],
    potential: Potential,
    temperature_K: float = 300.0,
    pressure_GPa: float = 0.0,
    config: TiltConfig | None = None,
    folder: Path | None = None,
    progress: bool = True,
) -> TiltedPopulation:
    """Weigh proposed crystals by their free energy at a state point.

    Args:
        candidates: what was proposed, repeats included; of one composition unless chemical potentials are given.
        potential: the force field.
        temperature_K: T.
        pressure_GPa: hydrostatic P, at which every candidate is relaxed.
        config: see :class:`TiltConfig`.
        folder: keeps finished relaxations, so that an interrupted call, or one at another temperature, goes on from them.
        progress: show a progress bar.

    Raises:
        ConfigError: no candidates, a temperature that cannot be, or compositions that cannot be compared.
    """
    config = config or TiltConfig()
    _check(candidates, temperature_K, config)
    protocol = replace(config.relax, pressure_GPa=pressure_GPa)
    relaxed = relax_kinds([c.structure for c in candidates], potential, protocol, folder, progress)
    left_out = {candidates[i].id: r.energy_eV_per_atom.reason for group, r in relaxed if not r.converged for i in group}
    ended = [(group, r) for group, r in relaxed if r.converged]
    phi = [_potential_eV_per_atom(r, temperature_K, pressure_GPa, config) for _, r in ended]
    minima = kinds([r.structure for _, r in ended], lambda i, j: abs(phi[i] - phi[j]) <= config.merge_eV_per_atom)
    # Of equal minima the lowest, of equally low ones the smallest cell.
    minima = [sorted(m, key=lambda i: (round(phi[i], 4), len(ended[i][1].structure))) for m in minima]
    ids = [tuple(candidates[k].id for i in m for k in ended[i][0]) for m in minima]
    weights, size = structure_weights([len(each) for each in ids], [phi[m[0]] for m in minima], temperature_K, config)
    provenance = {
        "temperature_K": temperature_K, "pressure_GPa": pressure_GPa, "candidates": len(candidates), "config": asdict(config),
        "engine": f"{potential.info.name} {potential.info.version}", "energy_scheme": potential.info.energy_scheme,
    }  # fmt: skip
    members = [
        _member(names, ended[m[0]][1], w, phi[m[0]], pressure_GPa) for names, m, w in zip(ids, minima, weights, strict=True)
    ]
    status = Status.FAILED if not members else Status.UNCONVERGED if left_out else Status.OK
    reason = f"{len(left_out)} of {len(candidates)} candidates have no converged relaxation" if left_out else ""
    ranked = tuple(sorted(members, key=lambda m: -m.weight))
    return TiltedPopulation(ranked, size, left_out, status, reason, provenance)


def structure_weights(
    counts: Sequence[int], phi_eV_per_atom: Sequence[float], temperature_K: float, config: TiltConfig
) -> tuple[list[float], float]:
    """Weight of each structure, and the effective sample size of the candidates.

    Args:
        counts: how many candidates became each structure.
        phi_eV_per_atom: Phi of each structure.
        temperature_K: T.
        config: strength, domain and power of the frequencies.
    """
    if not counts:
        return [], 0.0
    n, phi = torch.tensor(counts), torch.tensor(phi_eV_per_atom, dtype=torch.float64)
    reduced = config.strength * config.atoms * phi / (BOLTZMANN_eV_PER_K * temperature_K)
    of_candidates = ((config.proposal_power - 1.0) * n.double().log() - reduced).repeat_interleave(n)
    weights = normalised_weights(of_candidates).split(list(counts))
    return [float(w.sum()) for w in weights], float(effective_sample_size(of_candidates))


def _check(candidates: Sequence[Candidate], temperature_K: float, config: TiltConfig) -> None:
    """Errors that the user can mend, before any work is done."""
    if not candidates:
        raise ConfigError("there are no candidates to weigh", "sample some first")
    if not temperature_K > 0:
        raise ConfigError(f"a free-energy tilt at {temperature_K:g} K has no meaning", "ask for a temperature above 0 K")
    formulas = {c.structure.composition.reduced_formula for c in candidates}
    elements = {e.symbol for c in candidates for e in c.structure.composition.elements}
    lacking = elements - set(config.chemical_potentials_eV)
    if len(formulas) > 1 and lacking:
        raise ConfigError(
            f"energies of different compositions ({', '.join(sorted(formulas)[:4])}) cannot be compared",
            f"ask for one formula, or give tilt.chemical_potentials_eV of {', '.join(sorted(lacking))}",
        )
    if config.vibrations == "descriptor":
        check_temperature(temperature_K)
        if any(c.structure.composition.is_element for c in candidates):
            raise ConfigError("the vibrational descriptor does not hold for elements", "set tilt.vibrations=none")


def _potential_eV_per_atom(result: RelaxResult, temperature_K: float, pressure_GPa: float, config: TiltConfig) -> float:
    """Phi of a relaxed structure."""
    composition, volume = result.structure.composition, result.volume_A3_per_atom
    phi = result.energy_eV_per_atom.value + pressure_GPa * eV_PER_A3_PER_GPa * volume
    if config.vibrations == "descriptor":
        phi += float(g_delta_eV_per_atom(volume, reduced_mass_amu(composition), temperature_K))
    fractions = composition.fractional_composition.items()
    return phi - sum(x * config.chemical_potentials_eV.get(e.symbol, 0.0) for e, x in fractions)


def _member(ids: tuple[str, ...], result: RelaxResult, weight: float, phi: float, pressure_GPa: float) -> Member:
    structure, energy = result.structure, result.energy_eV_per_atom
    enthalpy = energy.value + pressure_GPa * eV_PER_A3_PER_GPa * result.volume_A3_per_atom
    # the symmetry search on a supercell is slower and warns
    group = find_symmetry(structure.get_primitive_structure(tolerance=SYMPREC_A), SYMPREC_A).number
    quantities = [Quantity(v, unit=UNIT, provenance=energy.provenance) for v in (enthalpy, phi)]
    return Member(structure, weight, ids, group, result.volume_A3_per_atom, *quantities)


def _copy(member: Member, number: int, provenance: Mapping[str, Any]) -> Candidate:
    """A member as the ``number``-th crystal of a resampled population."""
    state = {k: provenance[k] for k in ("temperature_K", "pressure_GPa", "engine")}
    info = {"proposer": "tilt", "index": number, "parents": list(member.candidates), "weight": member.weight, **state}
    return Candidate(f"{member.candidates[0]}-t{number:05d}", member.structure, member.space_group, math.nan, info)
