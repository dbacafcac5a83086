r"""What any crystal competes with at one temperature and pressure: thermodynamics between a static energy and dG_hull(T, P).

A crystal of known composition x and volume V, at height E = H_f - H_hull(x) above the static hull, has (per atom)

    dG_hull(T, P) = E + shift,     shift = H_hull(x) + G_delta(V, m; T) + P V - G_hull(x; T, P)

and the shift holds no energy of the crystal itself: temperature and pressure enter exactly, through the phases of the table
(:mod:`sse_diffusion.thermo.phases`), the descriptor and the volume. A measured gas (CO2, H2O, ...) has a measured Gibbs energy,
so that its dG_hull is the shift alone. Both hulls are exact linear programs, solved once per composition and remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.core.config import build, config_dir
from sse_diffusion.core.errors import OutputError, did_you_mean
from sse_diffusion.core.provenance import hash_of_config, sha256_of_file
from sse_diffusion.core.units import eV_PER_A3_PER_GPa
from sse_diffusion.thermo import gibbs
from sse_diffusion.thermo.hull import SHIPPED_TABLES, ReferenceHull
from sse_diffusion.thermo.hull_grid import HullGrid
from sse_diffusion.thermo.labels import PhasesConfig
from sse_diffusion.thermo.phases import PhaseTable, measured_columns
from sse_diffusion.thermo.volumes import RELATIVE_ERROR, VolumeFit

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """Where n crystals stand, whatever their energy.

    Attributes:
        static_hull: (n,) H_hull, eV/atom above the elements.
        shift: (n,) dG_hull - E, of a gas dG_hull itself; NaN where there is no answer.
        shift_std: (n,) what an estimated volume leaves open; 0 where the volume was given.
        is_gas: (n,) whether dG_hull is measured and the crystal's energy has no part in it.
        unknown: (n,) reason where there is no answer, else empty.
    """

    static_hull: Float[np.ndarray, " n"]
    shift: Float[np.ndarray, " n"]
    shift_std: Float[np.ndarray, " n"]
    is_gas: Bool[np.ndarray, " n"]
    unknown: tuple[str, ...]

    def gibbs_above_hull(self, formation_energy: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """dG_hull of crystals with these static formation energies (eV/atom); below 0: more stable than the whole table."""
        return self.shift + np.where(self.is_gas, 0.0, formation_energy - self.static_hull)


class Competition:
    """The phases of a table at one state point.

    Args:
        table: what crystals compete with.
        temperature_K, pressure_GPa: state point.

    Raises:
        ConfigError: outside 300-2000 K, 0-10 GPa.
    """

    def __init__(self, table: PhaseTable, temperature_K: float, pressure_GPa: float) -> None:
        from pymatgen.core import Element

        self.table, self.temperature_K, self.pressure_GPa = table, temperature_K, pressure_GPa
        state = np.array([temperature_K]), np.array([pressure_GPa])
        self._grid = HullGrid(table, np.stack([table.formation_energy, table.gibbs(*state)[0]]))
        self._measured = gibbs.measured_gibbs(table.elements, state[0])[0]
        elements = [Element(symbol) for symbol in table.elements]
        self._numbers = np.array([element.Z for element in elements])
        self._masses = np.array([float(element.atomic_mass) for element in elements])
        self._fit = VolumeFit.of(table.elements, table.fractions, np.where(table.volume_estimated, np.nan, table.volume))
        self._solved: dict[bytes, tuple[float, float, float, float, float]] = {}

    def standing(self, atoms: Float[np.ndarray, "n z"], volume: Float[np.ndarray, " n"] | None = None) -> Standing:
        """Where crystals stand.

        Args:
            atoms: atoms (any total) by atomic number; column 0 is unused.
            volume: A^3/atom; ``None``: estimated from the composition.
        """
        numbers, total = self._numbers, atoms.sum(1)
        foreign = np.setdiff1d(np.arange(atoms.shape[1]), numbers)
        lost = (atoms[:, foreign] > 0).any(1) | (total == 0.0)
        fractions = np.zeros((len(atoms), len(numbers)))
        fractions[:, numbers < atoms.shape[1]] = atoms[:, numbers[numbers < atoms.shape[1]]]
        fractions = np.round(fractions / np.maximum(total, 1e-12)[:, None], 6)
        known = np.flatnonzero(~lost)
        solved = np.full((len(atoms), 5), np.nan)
        solved[known] = self._solutions(fractions[known])
        static, hull, own, mass, gas = solved.T
        v = self._fit(fractions) if volume is None else volume
        t, pv = self.temperature_K, self.pressure_GPa * eV_PER_A3_PER_GPa * v
        slope = np.where(np.isnan(mass), 0.0, gibbs.g_delta_slope(v, mass))
        shift = np.where(gas == 1.0, 0.0, static) + slope * t + pv + own - hull
        by_log_volume = np.where(np.isnan(mass), 0.0, (8.94e-5 * mass / v - 2.48e-4) * t) + pv
        spread = np.zeros_like(shift) if volume is not None else RELATIVE_ERROR * np.abs(by_log_volume)
        return Standing(static, shift, spread, gas == 1.0, self._reasons(atoms, shift))

    def _solutions(self, fractions: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "n 5"]:
        """Both hulls, the measured or common part of G, reduced mass (NaN: measured phase), gas or not; NaN: no answer."""
        rows = np.ascontiguousarray(fractions)
        keys = [row.tobytes() for row in rows]
        new = {key: i for i, key in enumerate(keys) if key not in self._solved}
        if new:
            self._solve(list(new), rows[list(new.values())])
        return np.array([self._solved[key] for key in keys]).reshape(-1, 5)

    def _solve(self, keys: list[bytes], fractions: Float[np.ndarray, "q e"]) -> None:
        column = measured_columns(self.table.elements, fractions)
        own = np.where(column >= 0, self._measured[column], gibbs.g_delta_common(self.temperature_K))
        mass = np.where(column >= 0, np.nan, gibbs.reduced_masses_amu(fractions, self._masses))
        silent = (fractions[:, np.isnan(self._measured[: len(self._numbers)])] > 0).any(1)
        hulls = np.full((len(fractions), 2), np.nan)
        answerable = np.flatnonzero(~silent)
        for system in self._grid.systems(fractions[answerable]):
            solution, _ = self._grid.solve(system, fractions[answerable])
            hulls[answerable[system.members]] = solution.energies.reshape(-1, 2)
        values = np.column_stack([hulls, own, mass, column >= len(self._numbers)])
        self._solved |= dict(zip(keys, map(tuple, values.tolist()), strict=True))

    def _reasons(self, atoms: Float[np.ndarray, "n z"], shift: Float[np.ndarray, " n"]) -> tuple[str, ...]:
        from pymatgen.core import Element

        reasons = [""] * len(atoms)
        without = {int(z) for z, g in zip(self._numbers, self._measured, strict=False) if np.isnan(g)}
        for row in np.flatnonzero(np.isnan(shift)):
            present = set(np.flatnonzero(atoms[row]).tolist())
            lost, silent = present - set(self._numbers.tolist()), present & without
            names = ", ".join(Element.from_Z(z).symbol for z in sorted(lost or silent))
            reasons[row] = f"no reference phase for {names}" if lost else f"no measured Gibbs energy for the element {names}"
        return tuple(reasons)


@lru_cache(maxsize=8)
def load_competition(name: str, temperature_K: float, pressure_GPa: float) -> Competition:
    """The phases of :func:`load_phase_table` at a state point; what was solved stays solved."""
    return Competition(load_phase_table(name), temperature_K, pressure_GPa)


@lru_cache(maxsize=4)
def load_phase_table(name: str, cache_dir: str | None = ".cache/sse_diffusion") -> PhaseTable:
    """A table by name: a YAML of ``configs/thermo/phases`` (``mp``: your own Materials Project files), or a hull table.

    Args:
        name: ``mp``, ...; a shipped hull table (``chgnet-0.3.0-all``), or a CSV file as docs/hull.md describes.
        cache_dir: where the parsed table is kept (15 s without); ``None``: nowhere.

    Raises:
        DataError: no such table, or its files are missing.
    """
    from sse_diffusion.data.tables import find_table

    config = _phases_config(name)
    if config is not None:
        sources = [find_table(path) for path in (config.structures, config.formation_energies) if path is not None]
    elif name in SHIPPED_TABLES:
        sources = [Path(__file__).parent / "assets" / SHIPPED_TABLES[name]]
    else:
        known = (*_named(), *SHIPPED_TABLES)
        sources = [find_table(name, f"give a CSV hull table or one of {', '.join(known)}; {did_you_mean(name, known)}")]
    key = hash_of_config({"format": 1, "sources": [sha256_of_file(source) for source in sources]})[:16]
    path = None if cache_dir is None else Path(cache_dir) / f"phases-{key}.npz"
    table = _read(path)
    if table is None:
        if config is not None:
            table = PhaseTable.from_files(sources[0], sources[1] if len(sources) > 1 else None)
        else:
            table = PhaseTable.from_reference_hull(ReferenceHull.load(name if name in SHIPPED_TABLES else sources[0]))
        try:
            _write(path, table)
        except OutputError as error:  # it can be parsed again
            log.warning("the parsed phases are not kept: %s", error.message)
    return table


def _named() -> Iterable[str]:
    return sorted(path.stem for path in (config_dir() / "thermo" / "phases").glob("*.yaml"))


def _phases_config(name: str) -> PhasesConfig | None:
    from omegaconf import OmegaConf

    if name not in _named():
        return None
    return build(PhasesConfig, OmegaConf.load(config_dir() / "thermo" / "phases" / f"{name}.yaml"))  # type: ignore[arg-type]


def _read(path: Path | None) -> PhaseTable | None:
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path) as stored:
            columns = {field.name: stored[field.name] for field in fields(PhaseTable)}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None  # damaged: parsed again
    texts = {name: tuple(columns[name].tolist()) for name in ("ids", "elements")}
    return PhaseTable(**{**columns, **texts, "energy_scheme": str(columns["energy_scheme"])})


def _write(path: Path | None, table: PhaseTable) -> None:
    if path is not None:
        with replacing(path) as temporary, temporary.open("wb") as handle:
            columns: dict[str, Any] = {field.name: np.asarray(getattr(table, field.name)) for field in fields(table)}
            np.savez_compressed(handle, **columns)
