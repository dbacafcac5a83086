"""Merge computed, held-out and estimated reference phases into the table that ships.

Estimated phases have a DFT formation energy but no structure here. Their engine energy is

    E_engine = Ef_DFT + sum_i x_i m_i ,

where the per-element levels m_i are fitted (ridge) on the phases that have both numbers; the spread of the residuals, measured
on held-out folds, is their uncertainty. Volumes are estimated the same way, V = sum_i x_i v_i.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sse_diffusion.core.atomic_files import write_json_atomically
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import DataError, OutputError
from sse_diffusion.thermo.hull import ReferencePhase
from sse_diffusion.verification.hull_static import (
    check_phases,
    element_phases,
    evaluate_static,
    near_hull_phases,
    static_order,
    static_rows,
    static_shift,
)
from sse_diffusion.verification.hull_table import (
    FACT_PREFIX,
    PROTOTYPE_PREFIX,
    HullTableConfig,
    fact_phases,
    read_crystal_table,
    read_records,
    relax_phases,
    select_phases,
)

logger = logging.getLogger(__name__)

Wanted = Callable[[Iterable[str]], bool]
"""Whether a set of elements belongs to the table."""
MAX_STATIC_SITES = 52
STABLE_eV_PER_ATOM = 0.001
SAME_PHASE_eV_PER_ATOM = 0.03
"""A missing stable phase is not estimated when a computed polymorph lies this close to it in DFT: the estimate is no sharper."""

MAPPING_SPREAD_eV_PER_ATOM = 0.011
"""Standard deviation of the map from the composition list's scheme (9 meV/atom mean absolute error, times 1.25)."""


@dataclass(frozen=True)
class LinearScale:
    """y = sum_i x_i c_i over atomic fractions.

    Attributes:
        coefficients: element -> c_i.
        spread: standard deviation of held-out residuals after dropping the worst 1 %.
        mean_absolute: mean absolute held-out residual, same trimming.
        count: phases in the fit.
    """

    coefficients: dict[str, float]
    spread: float
    mean_absolute: float
    count: int

    def covers(self, fractions: Mapping[str, float]) -> bool:
        """True when every element was in the fit."""
        return set(fractions) <= set(self.coefficients)

    def __call__(self, fractions: Mapping[str, float]) -> float:
        """Value at a composition given as atomic fractions."""
        return sum(x * self.coefficients[symbol] for symbol, x in fractions.items())


def build_table(cfg: Any) -> dict[str, Any]:
    """Run the whole protocol of ``configs/verification/hull``: relax (unless ``compute=false``), merge, write.

    Args:
        cfg: mapping with ``compute``, ``engine`` (see load_potential) and the keys of :class:`HullTableConfig`.

    Returns:
        the summary also written beside the table (counts per source, offsets and spreads).
    """
    values = dict(cfg)
    compute, engine = bool(values.pop("compute", True)), values.pop("engine", {"name": "chgnet"})
    config = build(HullTableConfig, values)
    records = _compute(config, engine) if compute else read_records(config.results_path)
    if config.chemistry == "all":
        records = records + read_records(config.check_path)
    phases_out, summary = merge(records, config)
    write_table(phases_out, config.out_path)
    write_json_atomically(Path(config.out_path).with_suffix("").with_suffix(".json"), summary)
    logger.info("%s: %s", config.out_path, summary["counts"])
    return summary


def _compute(config: HullTableConfig, engine: Any) -> list[dict[str, Any]]:
    """Relax what has no record yet (with ``chemistry=all`` also elements and a random sample), then the static energies."""
    from sse_diffusion.verification.potential import load_potential

    crystals, potential = read_crystal_table(config.structures_path), load_potential(engine)
    phases = fact_phases() + select_phases(crystals, config.e_above_hull_passes, config.max_sites)
    records = relax_phases(phases[: config.limit or None], potential, config)
    above = max(config.e_above_hull_passes)
    if config.chemistry == "all":
        check = check_phases(crystals, above, config.max_sites, config.check_count) + element_phases(config.elements_path)
        relax_phases(check[: config.limit or None], potential, replace(config, results_path=config.check_path))
    if not config.static_path:
        return records
    near = [p for p in near_hull_phases(crystals, above, MAX_STATIC_SITES) if config.covers(p.symbols)]
    evaluate_static(static_order(near, {r["id"] for r in records})[: config.limit or None], potential, config.static_path)
    return records


def merge(records: list[dict[str, Any]], config: HullTableConfig) -> tuple[list[ReferencePhase], dict[str, Any]]:
    """Reference phases from all sources, the lowest of each formula and source, and a summary of the offsets.

    Raises:
        DataError: no usable record, or records of several energy schemes.
    """
    usable = [r for r in records if r["energy_eV_per_atom"] is not None and config.covers(_fractions(r["formula"]))]
    schemes = {r["energy_scheme"] for r in usable}
    if len(schemes) != 1:
        raise DataError(f"records of {len(schemes)} energy schemes in {config.results_path}", "one results file per engine")
    (scheme,) = schemes
    dft = _read_dft(config.energies_path, config.covers)
    table = [_computed(record, scheme) for record in usable]
    heldout = _read_heldout(config.heldout_path, scheme, config.covers)
    table += heldout
    static = [r for r in read_records(config.static_path) if config.covers(_fractions(r["formula"]))]
    relaxed = {phase.id: phase.energy_eV_per_atom for phase in table if phase.converged}
    table += static_rows([r for r in static if r["energy_scheme"] == scheme], relaxed, scheme)
    formation = {r["id"]: r["mp_formation_energy"] for r in usable + static} | {i: row[1] for i, row in dft.items()}
    sound = [phase for phase in table if phase.converged or phase.source == "static"]
    pairs = [(phase, formation[phase.id]) for phase in sound if formation.get(phase.id) is not None]
    level = fit_linear((_fractions(p.formula), p.energy_eV_per_atom - e) for p, e in pairs)
    volume = fit_linear((_fractions(p.formula), p.volume_A3_per_atom) for p in table)
    compositions = _read_compositions(config.compositions_path, config.covers)
    estimated = _estimate(table, formation, dft, compositions, level, volume, scheme)
    summary = {
        "energy_scheme": scheme,
        "records": len(records),
        "failed": sum(r["energy_eV_per_atom"] is None for r in records),
        "unconverged": sum(not r["converged"] for r in usable),
        "counts": {s: sum(p.source == s for p in table + estimated) for s in ("computed", "heldout", "static", "estimated")},
        "overlap_heldout": overlap(table),
        "formation_energy_offset": formation_offset(table, formation),
        "level_fit": asdict(level),
        "volume_fit": asdict(volume),
    }
    if static:
        summary["static_shift"] = asdict(static_shift(static, relaxed))
    kept = _lowest(table + estimated)
    summary["rows"] = len(kept)
    return kept, summary


def write_table(phases: Iterable[ReferencePhase], path: str | Path) -> None:
    """Write the table as CSV (compressed when the name ends in ``.xz``); OutputError when that is impossible."""
    import pandas as pd

    frame = pd.DataFrame([asdict(phase) for phase in phases]).sort_values(["formula", "source", "id"])
    frame = frame.round({"energy_eV_per_atom": 5, "volume_A3_per_atom": 4, "uncertainty_eV_per_atom": 4})
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}", "give another out_path") from error


def fit_linear(rows: Iterable[tuple[Mapping[str, float], float]], ridge: float = 1e-3, folds: int = 5) -> LinearScale:
    """Fit y = sum_i x_i c_i by ridge regression about the mean; residuals from ``folds`` held-out folds.

    Args:
        rows: (atomic fractions, value) pairs.
        ridge: penalty on the coefficients' distance from the mean value.
        folds: cross-validation folds (every folds-th row).
    """
    data = list(rows)
    if len(data) < 2 * folds:
        raise DataError(f"only {len(data)} phases have both energies: too few to fit an offset", "compute more reference phases")
    symbols = sorted({s for x, _ in data for s in x})
    matrix = np.array([[x.get(s, 0.0) for s in symbols] for x, _ in data])
    target = np.array([y for _, y in data])

    def solve(rows_used: np.ndarray) -> np.ndarray:
        """Coefficients from some of the rows."""
        x, mean = matrix[rows_used], target[rows_used].mean()
        gram = x.T @ x + ridge * np.eye(len(symbols))
        return mean + np.linalg.solve(gram, x.T @ (target[rows_used] - mean * x.sum(axis=1)))

    fold = np.arange(len(data)) % folds
    residual = np.concatenate([target[fold == k] - matrix[fold == k] @ solve(fold != k) for k in range(folds)])
    trimmed = np.sort(np.abs(residual))[: max(1, math.floor(0.99 * len(residual)))]
    coefficients = solve(np.ones(len(data), dtype=bool))
    return LinearScale(
        dict(zip(symbols, map(float, coefficients), strict=True)),
        float(np.sqrt((trimmed**2).mean())),
        float(trimmed.mean()),
        len(data),
    )


def overlap(table: list[ReferencePhase]) -> dict[str, float]:
    """Energies of our own facts minus held-out ones where both have the formula, lowest polymorph of each, eV/atom."""
    facts: dict[str, float] = {}
    for phase in table:
        if phase.id.startswith((FACT_PREFIX, PROTOTYPE_PREFIX)):
            facts[phase.formula] = min(phase.energy_eV_per_atom, facts.get(phase.formula, math.inf))
    heldout = {p.formula: math.inf for p in table if p.source == "heldout"}
    for phase in table:
        if phase.source == "heldout":
            heldout[phase.formula] = min(phase.energy_eV_per_atom, heldout[phase.formula])
    return {formula: round(facts[formula] - heldout[formula], 5) for formula in sorted(set(facts) & set(heldout))}


def formation_offset(table: list[ReferencePhase], formation: Mapping[str, float]) -> dict[str, float]:
    """Engine minus DFT formation energy on the phases that have both, each from its own elements, eV/atom."""
    element: dict[str, float] = {}
    for phase in table:
        fractions = _fractions(phase.formula)
        if len(fractions) == 1:
            (symbol,) = fractions
            element[symbol] = min(phase.energy_eV_per_atom, element.get(symbol, math.inf))
    differences = []
    for phase in table:
        fractions = _fractions(phase.formula)
        known = formation.get(phase.id)
        if known is not None and len(fractions) > 1 and set(fractions) <= set(element):
            differences.append(phase.energy_eV_per_atom - sum(x * element[s] for s, x in fractions.items()) - known)
    values = np.array(differences) if differences else np.array([math.nan])
    return {
        "count": len(differences),
        "mean": float(values.mean()),
        "standard_deviation": float(values.std()),
        "median": float(np.median(values)),
    }


def _estimate(
    table: list[ReferencePhase],
    formation: Mapping[str, float],
    dft: Mapping[str, tuple[str, float, float]],
    compositions: Mapping[str, float],
    level: LinearScale,
    volume: LinearScale,
    scheme: str,
) -> list[ReferencePhase]:
    """Stable DFT phases that nothing in the table stands for."""
    known: dict[str, float] = {}
    for phase in table:
        value = formation.get(phase.id)
        known[phase.formula] = min(known.get(phase.formula, math.inf), math.inf if value is None else value)
    written = {phase.formula for phase in table if phase.id.startswith((FACT_PREFIX, PROTOTYPE_PREFIX))}
    wanted = [(i, f, e) for i, (f, e, above) in dft.items() if above <= STABLE_eV_PER_ATOM]
    lowest_dft: dict[str, float] = {}
    for formula, energy, _ in dft.values():
        lowest_dft[formula] = min(energy, lowest_dft.get(formula, math.inf))
    # A composition counts only where the newer list has nothing, or only polymorphs clearly above its ground state.
    wanted += [
        (f"composition-{formula}", formula, energy)
        for formula, energy in compositions.items()
        if known.get(formula, math.inf) == math.inf and energy < lowest_dft.get(formula, math.inf) - SAME_PHASE_eV_PER_ATOM
    ]
    estimated = []
    for identifier, formula, energy in wanted:
        fractions = _fractions(formula)
        if len(fractions) == 1 or not level.covers(fractions):
            continue
        represented = energy > known.get(formula, math.inf) - SAME_PHASE_eV_PER_ATOM
        # The engine's own energy of a published structure beats an estimate.
        represented |= formula in written
        # An element's estimate would move every formation energy; elements are computed or given as facts.
        if represented:
            continue
        spread = math.hypot(level.spread, MAPPING_SPREAD_eV_PER_ATOM if identifier.startswith("composition-") else 0.0)
        estimated.append(
            ReferencePhase(formula, energy + level(fractions), volume(fractions), "estimated", scheme, False, identifier, spread)
        )
    return estimated


def _lowest(phases: Iterable[ReferencePhase]) -> list[ReferencePhase]:
    """The lowest phase of each formula: nothing above it can touch the hull."""
    best: dict[str, ReferencePhase] = {}
    for phase in phases:
        if phase.formula not in best or phase.energy_eV_per_atom < best[phase.formula].energy_eV_per_atom:
            best[phase.formula] = phase
    return [best[formula] for formula in sorted(best)]


def _computed(record: Mapping[str, Any], scheme: str) -> ReferencePhase:
    return ReferencePhase(
        record["formula"],
        record["energy_eV_per_atom"],
        record["volume_A3_per_atom"],
        "computed",
        scheme,
        record["converged"],
        record["id"],
    )


def _read_heldout(path: str, scheme: str, wanted: Wanted) -> list[ReferencePhase]:
    if not path:
        return []
    rows = _read_csv(path, ("material_id", "formula", "chgnet_energy_per_atom", "volume_per_atom", "converged"))
    return [
        ReferencePhase(
            _reduced(r.formula),
            float(r.chgnet_energy_per_atom),
            float(r.volume_per_atom),
            "heldout",
            scheme,
            bool(r.converged),
            str(r.material_id),
        )
        for r in rows
        if wanted(_fractions(r.formula))
    ]


def _read_dft(path: str, wanted: Wanted) -> dict[str, tuple[str, float, float]]:
    """Id -> (reduced formula, formation energy, energy above hull) within the wanted chemistry."""
    rows = _read_csv(path, ("material_id", "formula", "formation_energy_per_atom", "e_above_hull"))
    return {
        str(r.material_id): (_reduced(r.formula), float(r.formation_energy_per_atom), float(r.e_above_hull))
        for r in rows
        if wanted(_fractions(r.formula))
    }


def _read_compositions(path: str, wanted: Wanted) -> dict[str, float]:
    """Reduced formula -> mapped formation energy of compositions on the older hull (decomposition energy <= 1 meV/atom)."""
    if not path:
        return {}
    rows = _read_csv(path, ("formula", "Ed_mp2019", "Ef_mapped_to_mp20_scheme"))
    return {
        _reduced(r.formula): float(r.Ef_mapped_to_mp20_scheme)
        for r in rows
        if STABLE_eV_PER_ATOM >= r.Ed_mp2019 and wanted(_fractions(r.formula))
    }


def _read_csv(path: str, columns: tuple[str, ...]) -> list[Any]:
    import pandas as pd

    try:
        # Formulas such as "NaN" (sodium nitride) and "None" are text, not missing values.
        frame = pd.read_csv(
            path, dtype={"formula": str}, keep_default_na=False, na_values={c: [""] for c in columns if c != "formula"}
        )
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", "check the path in the hull config") from error
    missing = set(columns) - set(frame.columns)
    if missing:
        raise DataError(f"{path} lacks the column(s) {', '.join(sorted(missing))}", "see docs/hull.md")
    return list(frame[list(columns)].itertuples())


def _cached(function: Callable[[str], Any]) -> Callable[[str], Any]:
    """Formulas repeat tens of thousands of times; parsing them is the cost of a merge."""
    from functools import lru_cache

    return lru_cache(maxsize=None)(function)


@_cached
def _fractions(formula: str) -> dict[str, float]:
    from pymatgen.core import Composition

    comp = Composition(formula)
    return {el.symbol: comp.get_atomic_fraction(el) for el in comp.elements}


@_cached
def _reduced(formula: str) -> str:
    from pymatgen.core import Composition

    return Composition(formula).reduced_formula
