"""Convex hull of reference phases whose energies come from one engine, at 0 K or at (T, P).

    E_above_hull(x) = E(x) - min { sum_k f_k E_k : sum_k f_k x_k = x, f_k >= 0, sum_k f_k = 1 }       eV/atom

The candidate is not part of the hull: a negative value is a phase more stable than anything in the table.
"""

from __future__ import annotations

import csv
import lzma
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sse_diffusion.core.errors import ChemistryError, DataError, SSEError, did_you_mean
from sse_diffusion.core.results import Quantity
from sse_diffusion.thermo.gibbs import DESCRIPTOR_RESOLUTION_eV_PER_ATOM, check_temperature, formation_gibbs_eV_per_atom

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

StatePoint: TypeAlias = tuple[frozenset[str], float | None, float]
"""Chemical system, temperature in K (None: static), pressure in GPa."""

UNIT = "eV/atom"
MAX_DIAGRAM_ELEMENTS = 7
"""Beyond this a full phase diagram takes minutes (10 elements: 110 s); one composition is then solved as a linear program."""
SHIPPED_TABLES = {"chgnet-0.3.0": "hull_chgnet-0.3.0.csv.xz", "chgnet-0.3.0-all": "hull_chgnet-0.3.0-all.csv.xz"}
"""Name -> file in ``sse_diffusion/thermo/assets``."""
COLUMNS = ("formula", "energy_eV_per_atom", "volume_A3_per_atom", "source", "energy_scheme", "converged")
"""Columns a table must have; ``id`` and ``uncertainty_eV_per_atom`` are optional."""


class EnergySchemeError(SSEError):
    """Energies of two schemes met in one hull."""


@dataclass(frozen=True)
class ReferencePhase:
    """One row of a hull table.

    Attributes:
        formula: any formula pymatgen reads.
        energy_eV_per_atom: total energy per atom in ``energy_scheme``.
        volume_A3_per_atom: volume per atom.
        source: ``computed``, ``heldout`` (same engine and protocol), ``static`` (same engine, published geometry, shifted by
            what relaxing changes on average) or ``estimated`` (DFT formation energy converted).
        energy_scheme: name of the energy scale.
        converged: whether the relaxation reached its force threshold.
        id: where it came from.
        uncertainty_eV_per_atom: one standard deviation; 0 for phases evaluated with the engine itself.
    """

    formula: str
    energy_eV_per_atom: float
    volume_A3_per_atom: float
    source: str
    energy_scheme: str
    converged: bool = True
    id: str = ""
    uncertainty_eV_per_atom: float = 0.0


class ReferenceHull:
    """Hull queries against a table of reference phases; phase diagrams are cached per chemical system.

    Args:
        phases: all of one energy scheme.

    Raises:
        DataError: no phases. EnergySchemeError: more than one energy scheme.
    """

    def __init__(self, phases: Sequence[ReferencePhase]) -> None:
        """Check the scheme and group the phases by their elements."""
        from pymatgen.core import Composition

        if not phases:
            raise DataError("the hull table is empty", "build it with scripts/build_hull.py")
        schemes = sorted({phase.energy_scheme for phase in phases})
        if len(schemes) > 1:
            raise EnergySchemeError(f"the hull table mixes the energy schemes {', '.join(schemes)}", "keep one table per scheme")
        self.energy_scheme = schemes[0]
        self.phases = tuple(phases)
        self._compositions = [Composition(phase.formula) for phase in phases]
        self._elements = [frozenset(el.symbol for el in c.elements) for c in self._compositions]
        self._diagrams: dict[StatePoint, PhaseDiagram] = {}
        self._entries: dict[StatePoint, list[PDEntry]] = {}
        self._element_energy: dict[str, float] = {}
        for phase, elements in zip(self.phases, self._elements, strict=True):
            if len(elements) == 1:
                (symbol,) = elements
                self._element_energy[symbol] = min(phase.energy_eV_per_atom, self._element_energy.get(symbol, math.inf))

    @classmethod
    def load(cls, path_or_name: str | Path = "chgnet-0.3.0") -> ReferenceHull:
        """Read a table that ships with the package (by name) or a CSV / CSV.xz file.

        Raises:
            DataError: no such name or file, or a malformed table.
        """
        return cls(read_hull_table(path_or_name))

    @property
    def elements(self) -> frozenset[str]:
        """Elements with a reference energy: only chemistries within them have a hull."""
        return frozenset(self._element_energy)

    def formation_energy(self, composition: Composition | str, energy_eV_per_atom: float, energy_scheme: str) -> Quantity:
        """Static formation energy from the elements of the table, eV/atom; failed when one is missing."""
        comp, problem = self._check(composition, energy_eV_per_atom, energy_scheme)
        if problem:
            return Quantity.failed(problem, UNIT)
        return Quantity(energy_eV_per_atom - self._reference(comp), unit=UNIT, provenance={"energy_scheme": energy_scheme})

    def energy_above_hull(self, composition: Composition | str, energy_eV_per_atom: float, energy_scheme: str) -> Quantity:
        """Static energy above the hull, eV/atom (negative: below every mixture of reference phases).

        Args:
            composition: of the candidate.
            energy_eV_per_atom: its total energy, from the same engine as the table.
            energy_scheme: the engine's ``PotentialInfo.energy_scheme``.

        Returns:
            failed when an element has no reference; ``provenance`` holds the decomposition and the estimated phases in it.

        Raises:
            EnergySchemeError: ``energy_scheme`` is not the table's.
        """
        comp, problem = self._check(composition, energy_eV_per_atom, energy_scheme)
        if problem:
            return Quantity.failed(problem, UNIT)
        return self._above(comp, energy_eV_per_atom, _key(comp.chemical_system_set))

    def gibbs_above_hull(
        self,
        composition: Composition | str,
        energy_eV_per_atom: float,
        volume_A3_per_atom: float,
        energy_scheme: str,
        temperature_K: float,
        pressure_GPa: float = 0.0,
    ) -> Quantity:
        """Gibbs energy above the hull at (T, P), eV/atom; see :mod:`sse_diffusion.thermo.gibbs`.

        Raises:
            EnergySchemeError: other scheme. ConfigError: temperature outside 300-2000 K.
        """
        check_temperature(temperature_K)
        comp, problem = self._check(composition, energy_eV_per_atom, energy_scheme)
        if not problem and not volume_A3_per_atom > 0:
            problem = "the candidate has no volume"
        if problem:
            return Quantity.failed(problem, UNIT)
        try:
            formation = energy_eV_per_atom - self._reference(comp)
            gibbs = formation_gibbs_eV_per_atom(comp, formation, volume_A3_per_atom, temperature_K, pressure_GPa)
            result = self._above(comp, gibbs, _key(comp.chemical_system_set, temperature_K, pressure_GPa))
        except ChemistryError as error:
            return Quantity.failed(error.message, UNIT)
        result.provenance.update(temperature_K=temperature_K, pressure_GPa=pressure_GPa)
        result.provenance["descriptor_resolution_eV_per_atom"] = DESCRIPTOR_RESOLUTION_eV_PER_ATOM
        return result

    def decomposition(self, composition: Composition | str, temperature_K: float | None = None, pressure_GPa: float = 0.0) -> str:
        """Competing phases at this composition in words, e.g. ``"0.60 Li2S + 0.40 P2S5 (estimated)"`` (fractions of atoms)."""
        from pymatgen.core import Composition

        comp = Composition(composition)
        missing = sorted(comp.chemical_system_set - self.elements)
        if missing:
            return f"unknown: no reference energy for {', '.join(missing)}"
        return _words(self._decompose(comp, _key(comp.chemical_system_set, temperature_K, pressure_GPa)))

    def phase_diagram(
        self, elements: Iterable[str], temperature_K: float | None = None, pressure_GPa: float = 0.0
    ) -> PhaseDiagram:
        """pymatgen phase diagram of a chemical system, cached; static when ``temperature_K`` is None.

        Entries hold total energies (static) or Gibbs energies of formation plus PV; ``entry.attribute`` is the
        :class:`ReferencePhase`.
        """
        from pymatgen.analysis.phase_diagram import PhaseDiagram

        key = _key(elements, temperature_K, pressure_GPa)
        if key not in self._diagrams:
            self._diagrams[key] = PhaseDiagram(self._reference_entries(key))
        return self._diagrams[key]

    def entries(self, elements: Iterable[str], temperature_K: float | None = None, pressure_GPa: float = 0.0) -> list[PDEntry]:
        """Lowest phase of each formula within a chemical system of any size; energies as in :meth:`phase_diagram`."""
        return list(self._reference_entries(_key(elements, temperature_K, pressure_GPa)))

    def _reference_entries(self, key: StatePoint) -> list[PDEntry]:
        """Lowest phase of each formula within a chemical system, at one state point (cached)."""
        from pymatgen.analysis.phase_diagram import PDEntry

        if key in self._entries:
            return self._entries[key]
        system, temperature_K, pressure_GPa = key
        entries: dict[str, PDEntry] = {}
        for phase, comp, inside in zip(self.phases, self._compositions, self._elements, strict=True):
            if not inside <= system:
                continue
            energy, name = phase.energy_eV_per_atom, comp.reduced_formula
            if temperature_K is not None:
                formation, volume = energy - self._reference(comp), phase.volume_A3_per_atom
                energy = formation_gibbs_eV_per_atom(comp, formation, volume, temperature_K, pressure_GPa)
            best = entries.get(name)
            if best is None or energy < best.energy_per_atom:
                entries[name] = PDEntry(comp, energy * comp.num_atoms, name=name, attribute=phase)
        self._entries[key] = list(entries.values())
        return self._entries[key]

    def _decompose(self, comp: Composition, key: StatePoint) -> dict[PDEntry, float]:
        """Lowest mixture of reference phases: entry -> fraction of the atoms."""
        if len(key[0]) <= MAX_DIAGRAM_ELEMENTS:
            return self.phase_diagram(*key).get_decomposition(comp)
        return lowest_mixture(self._reference_entries(key), comp)

    def _above(self, comp: Composition, energy: float, key: StatePoint) -> Quantity:
        """Height of ``energy`` over the hull, with what it decomposes to."""
        decomposition = self._decompose(comp, key)
        hull_energy = sum(entry.energy_per_atom * fraction for entry, fraction in decomposition.items())
        variance = sum((fraction * entry.attribute.uncertainty_eV_per_atom) ** 2 for entry, fraction in decomposition.items())
        provenance = {
            "decomposition": _words(decomposition),
            "estimated_phases": [e.name for e in decomposition if e.attribute.source == "estimated"],
            "unconverged_phases": [e.name for e in decomposition if not e.attribute.converged],
            "energy_scheme": self.energy_scheme,
        }
        return Quantity(float(energy - hull_energy), math.sqrt(variance), UNIT, provenance=provenance)

    def _check(self, composition: Composition | str, energy: float, scheme: str) -> tuple[Composition, str]:
        """Composition and the reason why there is no answer (empty when there is)."""
        from pymatgen.core import Composition

        if scheme != self.energy_scheme:
            raise EnergySchemeError(
                f"an energy of scheme {scheme!r} cannot be placed on a hull of {self.energy_scheme!r}",
                "evaluate the candidate with the engine of the table, or build a table with scripts/build_hull.py",
            )
        comp = Composition(composition)
        missing = sorted(comp.chemical_system_set - self.elements)
        if missing:
            return comp, f"no reference energy for {', '.join(missing)}: the hull of {comp.chemical_system} is not bounded"
        return comp, "" if math.isfinite(energy) else "the candidate has no energy"

    def _reference(self, comp: Composition) -> float:
        """Composition-weighted energy of the elements, eV/atom."""
        return sum(comp.get_atomic_fraction(el) * self._element_energy[el.symbol] for el in comp.elements)


def lowest_mixture(entries: Sequence[PDEntry], composition: Composition) -> dict[PDEntry, float]:
    """The definition of the hull as a linear program: min sum f_k E_k with sum f_k x_k = x and f_k >= 0.

    Args:
        entries: phases covering every element of ``composition``.
        composition: where the hull is wanted.

    Returns:
        entry -> fraction of the atoms, fractions above 1e-9 only.
    """
    import numpy as np
    from scipy.optimize import linprog

    elements = composition.elements
    fractions = np.array([[entry.composition.get_atomic_fraction(el) for entry in entries] for el in elements])
    target = np.array([composition.get_atomic_fraction(el) for el in elements])
    solution = linprog([entry.energy_per_atom for entry in entries], A_eq=fractions, b_eq=target, method="highs-ds")
    if not solution.success:
        raise ChemistryError(
            f"no mixture of reference phases has the composition {composition.reduced_formula}", solution.message
        )
    return {entry: float(f) for entry, f in zip(entries, solution.x, strict=True) if f > 1e-9}


def _key(elements: Iterable[str], temperature_K: float | None = None, pressure_GPa: float = 0.0) -> StatePoint:
    """Cache key; the pressure plays no part in a static hull."""
    return frozenset(elements), temperature_K, 0.0 if temperature_K is None else float(pressure_GPa)


def read_hull_table(path_or_name: str | Path) -> list[ReferencePhase]:
    """Rows of a shipped (by name) or own hull table.

    Raises:
        DataError: unknown name, missing file, missing column, or a value that is not a number.
    """
    name = str(path_or_name)
    if name in SHIPPED_TABLES:
        source = resources.files("sse_diffusion.thermo") / "assets" / SHIPPED_TABLES[name]
        raw = source.read_bytes() if source.is_file() else None
    else:
        raw = Path(name).read_bytes() if Path(name).is_file() else None
    if raw is None:
        raise DataError(f"no hull table {name!r}", f"give a CSV file or a shipped name; {did_you_mean(name, SHIPPED_TABLES)}")
    try:
        text = (lzma.decompress(raw) if raw[:6] == b"\xfd7zXZ\x00" else raw).decode()
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise DataError(f"{name} is not a CSV or CSV.xz table: {error}", "rebuild it with scripts/build_hull.py") from error
    reader = csv.DictReader(text.splitlines())
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise DataError(f"{name} lacks the column(s) {', '.join(sorted(missing))}", f"a hull table has {', '.join(COLUMNS)}")
    return [_phase(name, number, row) for number, row in enumerate(reader, start=2)]


def _phase(table: str, line: int, row: dict[str, str]) -> ReferencePhase:
    try:
        return ReferencePhase(
            formula=row["formula"],
            energy_eV_per_atom=float(row["energy_eV_per_atom"]),
            volume_A3_per_atom=float(row["volume_A3_per_atom"]),
            source=row["source"],
            energy_scheme=row["energy_scheme"],
            converged=row["converged"].strip().lower() in ("true", "1"),
            id=row.get("id") or "",
            uncertainty_eV_per_atom=float(row.get("uncertainty_eV_per_atom") or 0.0),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{table} line {line}: {error}", "energies and volumes are numbers per atom") from error


def _words(decomposition: dict[PDEntry, float]) -> str:
    """Phases by falling atom fraction."""
    ranked = sorted(decomposition.items(), key=lambda pair: -pair[1])
    parts = []
    for entry, fraction in ranked:
        flag = " (estimated)" if entry.attribute.source == "estimated" else ""
        parts.append(f"{fraction:.2f} {entry.name}{flag}")
    return " + ".join(parts)
