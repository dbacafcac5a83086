"""Many phases as columns of numbers: what Gibbs energies and hulls of a whole table are computed from.

Of every phase: composition, formation energy, volume. On one common scale (see :mod:`sse_diffusion.thermo.gibbs`)

    G(T, P) = H + a T + P V + g(T)          compound: a = G_delta slope, g(T) = 0.181 ln T - 0.882
    G(T, P) = H + P V + G_i(T)              element, or measured gas (H = 0)

so that differences between balanced mixtures are differences of Gibbs energies of formation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.units import eV_PER_A3_PER_GPa
from sse_diffusion.thermo import gibbs
from sse_diffusion.thermo.hull import EnergySchemeError, ReferenceHull
from sse_diffusion.thermo.volumes import estimated_volumes

MP_SCHEME = "MP2020"
"""Materials Project formation energies with the 2020 corrections."""


@dataclass(frozen=True, eq=False)
class PhaseTable:
    """n phases of one energy scheme over e elements.

    Attributes:
        ids: (n,) names, unique.
        elements: symbols of the columns of ``fractions``.
        fractions: (n, e) atomic fractions.
        formation_energy: (n,) static, eV/atom, from the elements of the scheme.
        volume: (n,) A^3/atom.
        volume_estimated: (n,) whether the volume is an estimate (the phase is known by composition only).
        measured: (n,) column of the measured Gibbs energy that stands for this phase (element or known gas); -1 for compounds.
        energy_scheme: name of the scale of ``formation_energy``.
    """

    ids: tuple[str, ...]
    elements: tuple[str, ...]
    fractions: Float[np.ndarray, "n e"]
    formation_energy: Float[np.ndarray, " n"]
    volume: Float[np.ndarray, " n"]
    volume_estimated: Bool[np.ndarray, " n"]
    measured: Int[np.ndarray, " n"]
    energy_scheme: str

    def __len__(self) -> int:
        """Number of phases."""
        return len(self.ids)

    @classmethod
    def from_formulas(
        cls,
        ids: Sequence[str],
        formulas: Sequence[str],
        formation_energy: Sequence[float] | Float[np.ndarray, " n"],
        volume: Sequence[float] | Float[np.ndarray, " n"],
        energy_scheme: str,
        complete: bool = True,
    ) -> PhaseTable:
        """Phases by formula; a NaN volume is estimated from the others and flagged.

        A table that is ``complete`` has a reference phase for every element that occurs: where its own phases all lie above
        formation energy 0 (the ground state is not in the table), one named ``reference:X`` is added at 0.

        Raises:
            DataError: lengths differ, an energy or a volume that is no number, a formula that cannot be read, a repeated id.
        """
        from pymatgen.core import Composition, Element

        lengths = {len(ids), len(formulas), len(formation_energy), len(volume)}
        if len(lengths) > 1 or not len(ids) or len(set(ids)) < len(ids):
            raise DataError(
                f"a phase table needs unique ids and columns of equal length, not {sorted(lengths)}", "check the table"
            )
        try:
            compositions = [Composition(str(f)) for f in formulas]
        except ValueError as error:
            raise DataError(f"a formula cannot be read: {error}", "write formulas as in Li3PS4") from error
        symbols = sorted({el.symbol for c in compositions for el in c})
        if unknown := [symbol for symbol in symbols if not Element.is_valid_symbol(symbol)]:
            raise DataError(f"a formula cannot be read: {', '.join(unknown)} is no element", "write formulas as in Li3PS4")
        energies = np.asarray(formation_energy, dtype=float)
        pure = {s: math.inf for s in symbols}
        for composition, energy in zip(compositions, energies, strict=True):
            if composition.is_element:
                (element,) = composition.elements
                pure[element.symbol] = min(pure[element.symbol], energy)
        missing = [s for s in symbols if complete and pure[s] > SAME_eV_PER_ATOM]
        compositions += [Composition(s) for s in missing]
        volumes = np.concatenate([np.asarray(volume, dtype=float), np.full(len(missing), math.nan)])
        energies = np.concatenate([energies, np.zeros(len(missing))])
        return cls._columns((*ids, *(f"reference:{s}" for s in missing)), symbols, compositions, energies, volumes, energy_scheme)

    @classmethod
    def _columns(
        cls, ids: tuple[str, ...], symbols: list[str], compositions: list[Any], energies: Any, volumes: Any, scheme: str
    ) -> PhaseTable:
        column = {symbol: i for i, symbol in enumerate(symbols)}
        fractions = np.zeros((len(ids), len(symbols)))
        for row, composition in enumerate(compositions):
            for element, x in composition.fractional_composition.items():
                fractions[row, column[element.symbol]] = x
        if not np.isfinite(energies).all() or (volumes <= 0).any():
            raise DataError(
                "a phase has no formation energy, or a volume that is not positive", "drop it, or leave the volume NaN"
            )
        estimated = ~np.isfinite(volumes)
        if estimated.any():
            volumes = np.where(estimated, estimated_volumes(symbols, fractions, volumes), volumes)
        return cls(ids, tuple(symbols), fractions, energies, volumes, estimated, measured_columns(symbols, fractions), scheme)

    @classmethod
    def from_files(cls, structures: str | Path, energies: str | Path | None = None, energy_scheme: str = MP_SCHEME) -> PhaseTable:
        """A table of crystals, and (optional) a longer list of formation energies of the same scheme.

        Args:
            structures: Parquet or CSV with material_id, formula, formation_energy_per_atom, nsites, a, b, c, alpha, beta, gamma.
            energies: CSV with material_id, formula, formation_energy_per_atom; without a structure, the volume is estimated.
            energy_scheme: of both.

        Raises:
            DataError: a file or a column is missing.
        """
        crystals = _read(structures, ("material_id", "formula", "formation_energy_per_atom", "nsites", *CELL))
        crystals["volume"] = _cell_volume(*(crystals[name].to_numpy(dtype=float) for name in CELL)) / crystals["nsites"]
        if energies is not None:
            import pandas as pd

            listed = _read(energies, ("material_id", "formula", "formation_energy_per_atom"))
            listed = listed[~listed["material_id"].isin(crystals["material_id"])].assign(volume=math.nan)
            crystals = pd.concat([crystals, listed], ignore_index=True)
        energy, volume = (crystals[name].to_numpy(dtype=float) for name in ("formation_energy_per_atom", "volume"))
        ids, formulas = (crystals[name].tolist() for name in ("material_id", "formula"))
        return cls.from_formulas(ids, formulas, energy, volume, energy_scheme)

    @classmethod
    def from_reference_hull(cls, hull: ReferenceHull) -> PhaseTable:
        """The phases of a hull table of one engine, as formation energies from its own elements."""
        from pymatgen.core import Composition

        ids = [f"{phase.id or phase.formula}#{i}" for i, phase in enumerate(hull.phases)]
        formation = [
            hull.formation_energy(Composition(p.formula), p.energy_eV_per_atom, p.energy_scheme).value for p in hull.phases
        ]
        volumes = [p.volume_A3_per_atom for p in hull.phases]
        return cls.from_formulas(ids, [p.formula for p in hull.phases], formation, volumes, hull.energy_scheme)

    def check_scheme(self, energy_scheme: str) -> None:
        """EnergySchemeError unless ``energy_scheme`` is the table's: energies of two schemes never meet in one hull."""
        if energy_scheme != self.energy_scheme:
            raise EnergySchemeError(
                f"energies of scheme {energy_scheme!r} cannot be placed on a hull of {self.energy_scheme!r}",
                "build a table of the other scheme, or evaluate the crystals with the scheme of the table",
            )

    @cached_property
    def slope(self) -> Float[np.ndarray, " n"]:
        """a of the module's equation, eV/atom/K; 0 for measured phases."""
        from pymatgen.core import Element

        masses = np.array([float(Element(symbol).atomic_mass) for symbol in self.elements])
        slope = gibbs.g_delta_slope(self.volume, gibbs.reduced_masses_amu(self.fractions, masses))
        return np.where(self.measured >= 0, 0.0, slope)

    @cached_property
    def enthalpy(self) -> Float[np.ndarray, " n"]:
        """H of the module's equation, eV/atom: the formation energy, 0 for measured gases (their table holds it)."""
        return np.where(self.measured >= len(self.elements), 0.0, self.formation_energy)

    def gibbs(self, temperature_K: Float[np.ndarray, " s"], pressure_GPa: Float[np.ndarray, " s"]) -> Float[np.ndarray, "s n"]:
        """G of the module's equation at s state points, eV/atom; NaN where an element has no measured Gibbs energy.

        Raises:
            ConfigError: a state point outside 300-2000 K, 0-10 GPa.
        """
        gibbs.check_temperature(temperature_K)
        gibbs.check_pressure(pressure_GPa)
        measured = gibbs.measured_gibbs(self.elements, temperature_K)
        own = np.where(self.measured >= 0, measured[:, self.measured], np.asarray(gibbs.g_delta_common(temperature_K))[:, None])
        pressure = (pressure_GPa * eV_PER_A3_PER_GPa)[:, None]
        total = self.enthalpy + temperature_K[:, None] * self.slope + pressure * self.volume + own
        return np.where(self.unmeasured, math.nan, total)

    def formation_gibbs(
        self, temperature_K: Float[np.ndarray, " s"], pressure_GPa: Float[np.ndarray, " s"]
    ) -> Float[np.ndarray, "s n"]:
        """Gibbs energy of formation from the elements at (T, 1 bar), eV/atom; raises as :meth:`gibbs`."""
        measured = gibbs.measured_gibbs(self.elements, temperature_K)[:, : len(self.elements)]
        return self.gibbs(temperature_K, pressure_GPa) - np.nan_to_num(measured) @ self.fractions.T

    def unmeasured_reason(self, row: int) -> str:
        """Why a phase has no Gibbs energy, in words."""
        measured = gibbs.measured_gibbs(self.elements, np.array([gibbs.MIN_TEMPERATURE_K]))[0]
        lacking = [s for s, g, x in zip(self.elements, measured, self.fractions[row], strict=False) if x > 0 and np.isnan(g)]
        return f"no measured Gibbs energy for the element {', '.join(lacking)}" if lacking else ""

    @cached_property
    def unmeasured(self) -> Bool[np.ndarray, " n"]:
        """(n,) whether the phase holds an element without measured Gibbs energies."""
        measured = gibbs.measured_gibbs(self.elements, np.array([gibbs.MIN_TEMPERATURE_K]))[0, : len(self.elements)]
        return np.asarray((self.fractions[:, np.isnan(measured)] > 0).any(1))

    def rows_of(self, ids: Iterable[str]) -> Int[np.ndarray, " m"]:
        """Row of each id; -1 for one that is not in the table."""
        row = {name: i for i, name in enumerate(self.ids)}
        return np.array([row.get(name, -1) for name in ids], dtype=int)

    @cached_property
    def content_hash(self) -> str:
        """16 hex digits over everything that a hull depends on."""
        digest = hashlib.sha256("|".join((*self.ids, *self.elements, self.energy_scheme)).encode())
        for column in (self.fractions, self.enthalpy, self.volume, self.slope, self.measured):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()[:16]


COMPOSITION_TOLERANCE = 1e-6
SAME_eV_PER_ATOM = 1e-4
"""A polymorph of an element within this is its reference."""
CELL = ("a", "b", "c", "alpha", "beta", "gamma")


def measured_columns(symbols: Sequence[str], fractions: Float[np.ndarray, "n e"]) -> Int[np.ndarray, " n"]:
    """Column of :func:`sse_diffusion.thermo.gibbs.measured_gibbs` of each phase; -1 for compounds."""
    from pymatgen.core import Composition

    measured = np.where((fractions > 0).sum(1) == 1, fractions.argmax(1), -1)
    for column, gas in enumerate(gibbs.known_gases(), start=len(symbols)):
        parts = {el.symbol: x for el, x in Composition(gas).fractional_composition.items()}
        if parts.keys() <= set(symbols):
            pattern = np.array([parts.get(symbol, 0.0) for symbol in symbols])
            measured[np.abs(fractions - pattern).max(1) < COMPOSITION_TOLERANCE] = column
    return measured


def _read(path: str | Path, columns: Sequence[str]) -> Any:
    """The needed columns of a Parquet or CSV file as a pandas frame."""
    import pandas as pd

    from sse_diffusion.data.tables import find_table

    source = find_table(path)
    try:
        frame = pd.read_parquet(source) if source.suffix in (".parquet", ".pq") else pd.read_csv(source)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {source}: {error}", "give a whole Parquet or CSV file") from error
    if missing := set(columns) - set(frame.columns):
        raise DataError(f"{source} lacks the column(s) {', '.join(sorted(missing))}", f"needed: {', '.join(columns)}")
    return frame[list(columns)].dropna(subset=["formation_energy_per_atom"])


def _cell_volume(a: Any, b: Any, c: Any, alpha: Any, beta: Any, gamma: Any) -> Float[np.ndarray, " n"]:
    """Volume of cells with lengths in A and angles in degrees, A^3."""
    x, y, z = (np.cos(np.radians(angle)) for angle in (alpha, beta, gamma))
    return np.asarray(a * b * c * np.sqrt(np.clip(1.0 - x * x - y * y - z * z + 2.0 * x * y * z, 0.0, None)))
