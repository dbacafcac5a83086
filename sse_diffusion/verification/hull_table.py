"""Reference phases of a self-consistent hull: choose them, relax them with one engine, keep every result as it comes.

Merging with other sources into the shipped table is in :mod:`sse_diffusion.verification.hull_merge`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sse_diffusion.core.errors import ConfigError, DataError, OutputError
from sse_diffusion.core.results import Status
from sse_diffusion.verification.relax import RelaxConfig, relax

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import Potential

logger = logging.getLogger(__name__)

FACT_PREFIX, PROTOTYPE_PREFIX = "fact-", "prototype-"
MOBILE = ("Li", "Na", "K", "Mg")
CORE_ELEMENTS = frozenset("Li S P Cl Br I O N F Y In Zr Si Ge".split())
"""Elements of the demonstration's question; their phases are computed first."""
ELECTROLYTE_ELEMENTS = CORE_ELEMENTS | frozenset("Na K Mg Sn Al Ti La Ta Nb B Se C H".split())
"""Elements of common solid electrolytes, their electrodes and decomposition products."""
CATHODE_METALS = frozenset("Fe Co Ni Mn".split())
"""Transition metals of LiCoO2, LiFePO4 and NMC: only the table of every chemistry has them."""


@dataclass(frozen=True, kw_only=True)
class HullTableConfig:
    """How the reference table is built.

    Attributes:
        structures_path: Parquet or CSV table of crystals (columns material_id, formula, chemsys, nsites, e_above_hull,
            formation_energy_per_atom, a, b, c, alpha, beta, gamma, atomic_numbers, frac_coords).
        heldout_path: CSV of phases already relaxed with the same engine and protocol; empty = none.
        energies_path: CSV of DFT formation energies (material_id, formula, formation_energy_per_atom, e_above_hull).
        compositions_path: CSV of composition ground states mapped to the same DFT scheme; empty = none.
        results_path: JSON lines, one per phase; appended, so an interrupted run goes on.
        out_path: the merged table (CSV, ``.xz`` to compress).
        e_above_hull_passes: phases up to these DFT energies above hull (eV/atom), one pass after the other.
        max_sites: larger cells are not relaxed; 0: only the published facts are relaxed, the table's phases get static energies.
        fmax_eV_per_A, max_steps: relaxation protocol.
        limit: at most this many phases (0 = all), for trials.
        chemistry: ``electrolytes`` (:data:`ELECTROLYTE_ELEMENTS`) or ``all``; ``all`` also uses the keys below.
        elements_path: JSON of element structures, see ``element_phases`` of hull_static; empty = none.
        static_path: JSON lines of energies at the published geometry, of phases within the last pass; appended; empty = none.
        check_path: JSON lines of the relaxed elements and of the random compounds that the static energies are checked on.
        check_count: how many such compounds.
    """

    structures_path: str
    energies_path: str
    out_path: str
    heldout_path: str = ""
    compositions_path: str = ""
    results_path: str = "runs/hull/chgnet-0.3.0.jsonl"
    e_above_hull_passes: tuple[float, ...] = (0.001, 0.03)
    max_sites: int = 40
    fmax_eV_per_A: float = 0.05
    max_steps: int = 150
    limit: int = 0
    chemistry: Literal["electrolytes", "all"] = "electrolytes"
    elements_path: str = ""
    static_path: str = ""
    check_path: str = "runs/hull/chgnet-0.3.0-outside.jsonl"
    check_count: int = 220

    def __post_init__(self) -> None:
        """Refuse an unknown chemistry (ConfigError)."""
        if self.chemistry not in ("electrolytes", "all"):
            raise ConfigError(f"chemistry is {self.chemistry!r}", "choose electrolytes or all")

    def covers(self, elements: Iterable[str]) -> bool:
        """Whether a chemistry belongs to the table."""
        return self.chemistry == "all" or chemistry_class(elements) is not None


@dataclass(frozen=True)
class Phase:
    """One reference phase to relax; energies are DFT, eV/atom (NaN when unknown)."""

    id: str
    structure: Structure
    e_above_hull: float = math.nan
    formation_energy: float = math.nan

    @property
    def symbols(self) -> frozenset[str]:
        """Elements."""
        return frozenset(self.structure.composition.chemical_system_set)


def chemistry_class(elements: Iterable[str]) -> int | None:
    """Order of computation: 0 core set, 1 other Li, 2 without mobile ion, 3 Na, 4 K, 5 Mg, 6 several; None = not wanted."""
    found = frozenset(elements)
    if not found <= ELECTROLYTE_ELEMENTS:
        return None
    if found <= CORE_ELEMENTS:
        return 0
    mobile = [ion for ion in MOBILE if ion in found]
    if not mobile:
        return 2
    if len(mobile) > 1:
        return 6
    return {"Li": 1, "Na": 3, "K": 4, "Mg": 5}[mobile[0]]


def read_crystal_table(path: str | Path) -> Any:
    """The crystal table as a pandas frame.

    Raises:
        DataError: the file is missing, unreadable, or lacks a column.
    """
    import pandas as pd

    needed = {"material_id", "chemsys", "nsites", "e_above_hull", "formation_energy_per_atom", "atomic_numbers", "frac_coords"}
    try:
        frame = pd.read_parquet(path) if str(path).endswith(".parquet") else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the crystal table {path}: {error}", "give structures_path=FILE.parquet") from error
    missing = needed - set(frame.columns)
    if missing:
        raise DataError(f"{path} lacks the column(s) {', '.join(sorted(missing))}", "see docs/hull.md for the columns")
    return frame


def select_phases(frame: Any, passes: Sequence[float], max_sites: int) -> list[Phase]:
    """Phases in order of computation: by pass, chemistry class, then number of sites.

    Args:
        frame: what :func:`read_crystal_table` returned.
        passes: ascending caps on the DFT energy above hull, eV/atom.
        max_sites: largest cell.
    """
    small = frame[(frame.nsites <= max_sites) & (frame.e_above_hull <= max(passes))]
    ranked = []
    for row in small.itertuples():
        order = chemistry_class(row.chemsys.split("-"))
        if order is not None:
            first_pass = next(i for i, cap in enumerate(passes) if row.e_above_hull <= cap)
            # The core set's second pass comes before the exotic chemistries' first: that hull must be complete.
            rank = (0, first_pass) if order == 0 else (1 + first_pass, order)
            ranked.append(((*rank, int(row.nsites), str(row.material_id)), row))
    ranked.sort(key=lambda pair: pair[0])
    return [phase_of_row(row) for _, row in ranked]


def fact_phases() -> list[Phase]:
    """Phases written as crystallographic facts: elements and salts first, then the parents of the structure prototypes.

    Many parents (Li3PS4, Li6PS5Cl, Li10GeP2S12, Li3YCl6, ...) are the competing phases that tables of small cells lack;
    disordered ones are the ordered approximants of their prototype.
    """
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    from sse_diffusion.data.prototypes.library import PROTOTYPES
    from sse_diffusion.verification.reference_crystals import FACTS, ISOSTRUCTURAL

    parents = []
    for name, prototype in PROTOTYPES.items():
        if chemistry_class(role.element for role in prototype.roles.values()) is not None:
            primitive = SpacegroupAnalyzer(prototype.structure()).find_primitive()
            parents.append(Phase(f"{PROTOTYPE_PREFIX}{name}", primitive))
    for name, parent, mapping, _ in ISOSTRUCTURAL:
        structure = SpacegroupAnalyzer(PROTOTYPES[parent].structure()).find_primitive()
        structure.replace_species(mapping)
        parents.append(Phase(f"{FACT_PREFIX}{name}", structure))
    parents.sort(key=lambda phase: len(phase.structure))
    return [Phase(f"{FACT_PREFIX}{fact.name}", fact.structure()) for fact in FACTS] + parents


def relax_phases(phases: Sequence[Phase], potential: Potential, config: HullTableConfig) -> list[dict[str, Any]]:
    """Relax every phase that has no record yet; append each record to ``config.results_path`` at once.

    Returns:
        all records in the file, old and new.

    Raises:
        OutputError: the results file cannot be written.
    """
    from tqdm import tqdm

    path = Path(config.results_path)
    records = read_records(path)
    done = {record["id"] for record in records}
    todo = [phase for phase in phases if phase.id not in done]
    # No time cap: a reference energy must not depend on how busy the machine was.
    protocol = RelaxConfig(fmax_eV_per_A=config.fmax_eV_per_A, max_steps=config.max_steps, max_seconds=math.inf)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        cut = path.is_file() and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as handle:
            if cut:
                handle.write("\n")  # a killed run may leave half a line; the next record starts on its own
            for phase in tqdm(todo, desc="reference phases", initial=len(done), total=len(done) + len(todo), unit="phase"):
                record = _relax_one(phase, potential, protocol)
                handle.write(json.dumps(record) + "\n")
                handle.flush()
                records.append(record)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}", "give another results_path") from error
    return records


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Records of an earlier run; a last line cut by an interruption is dropped."""
    if not Path(path).is_file():
        return []
    records = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("%s: dropped an incomplete line", path)
    return records


def _relax_one(phase: Phase, potential: Potential, protocol: RelaxConfig) -> dict[str, Any]:
    result = relax(phase.structure, potential, protocol)
    energy = result.energy_eV_per_atom
    composition = phase.structure.composition
    return {
        "id": phase.id,
        "formula": composition.reduced_formula,
        "n_sites": len(phase.structure),
        "energy_eV_per_atom": energy.value if energy.status is not Status.FAILED else None,
        "volume_A3_per_atom": result.volume_A3_per_atom,
        "converged": result.converged,
        "reason": energy.reason,
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        "mp_e_above_hull": phase.e_above_hull if math.isfinite(phase.e_above_hull) else None,
        "mp_formation_energy": phase.formation_energy if math.isfinite(phase.formation_energy) else None,
        "energy_scheme": potential.info.energy_scheme,
        **energy.provenance,
    }


def phase_of_row(row: Any) -> Phase:
    """A row of the crystal table (pandas named tuple) as a phase."""
    from pymatgen.core import Lattice, Structure

    lattice = Lattice.from_parameters(row.a, row.b, row.c, row.alpha, row.beta, row.gamma)
    structure = Structure(lattice, [int(z) for z in row.atomic_numbers], row.frac_coords.reshape(-1, 3))
    return Phase(str(row.material_id), structure, float(row.e_above_hull), float(row.formation_energy_per_atom))
