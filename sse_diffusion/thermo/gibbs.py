"""Gibbs energy of formation of a solid at (T, P) from its static formation energy, volume and composition.

    dG_f(T, P) = dH_f + G_delta(V, m; T) - sum_i x_i G_i(T) + P V                                   (per atom)
    G_delta    = (-2.48e-4 ln V - 8.94e-5 m / V) T + 0.181 ln T - 0.882         eV/atom; V in A^3/atom, m in amu

G_delta is Eq. 4 and m Eq. 6 of Bartel et al., Nat. Commun. 9, 4168 (2018), doi 10.1038/s41467-018-06682-4, where
~50 meV/atom is stated as its resolution; G_i(T) are measured elemental Gibbs energies (1 bar). They and the measured gases
are the tables that pymatgen carries. Known vibrations (a :class:`FreeEnergy`) replace G_delta by F_vib(T) - U_vib(298.15 K).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from itertools import combinations
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float

from sse_diffusion.core.errors import ChemistryError, ConfigError
from sse_diffusion.core.units import eV_PER_A3_PER_GPa

if TYPE_CHECKING:
    from pymatgen.core import Composition

Numbers: TypeAlias = float | Float[np.ndarray, "..."]
"""One value or one per crystal."""

MIN_TEMPERATURE_K, MAX_TEMPERATURE_K = 300.0, 2000.0
"""Of the measured tables, and pymatgen's; Bartel et al. state 300-1800 K, so that G_delta extrapolates over the last 200 K."""
MAX_PRESSURE_GPa = 10.0
"""V is constant: at B = 40 GPa the neglected P^2 V / 2B reaches 0.1 eV/atom here (most of it common to competing phases)."""
DESCRIPTOR_RESOLUTION_eV_PER_ATOM = 0.05
REFERENCE_TEMPERATURE_K = 298.15
MEASURED_STEP_K = 50.0
"""All nodes of the measured tables between 300 and 2000 K are multiples of this; between nodes they are linear."""


@runtime_checkable
class FreeEnergy(Protocol):
    """Vibrations of one crystal, per atom: :mod:`sse_diffusion.thermo.vibrations` has two, any object with these two will do."""

    def free_energy_eV_per_atom(self, temperature_K: float) -> float:
        """Helmholtz energy F_vib(T), zero-point energy included."""

    def energy_eV_per_atom(self, temperature_K: float) -> float:
        """Internal energy U_vib(T), zero-point energy included."""


def check_temperature(temperature_K: Numbers) -> None:
    """ConfigError when the descriptor does not apply (300-2000 K)."""
    values = np.asarray(temperature_K, dtype=float)
    wrong = values[~((values >= MIN_TEMPERATURE_K) & (values <= MAX_TEMPERATURE_K))]
    if wrong.size:
        raise ConfigError(
            f"Gibbs energies are available from {MIN_TEMPERATURE_K:g} to {MAX_TEMPERATURE_K:g} K, not at {wrong.flat[0]:g} K",
            "ask for a temperature in that range, or use the static energy above hull (0 K)",
        )


def check_pressure(pressure_GPa: Numbers) -> None:
    """ConfigError outside 0-10 GPa, where a constant volume is no longer an approximation."""
    values = np.asarray(pressure_GPa, dtype=float)
    wrong = values[~((values >= 0.0) & (values <= MAX_PRESSURE_GPa))]
    if wrong.size:
        raise ConfigError(
            f"Gibbs energies are available from 0 to {MAX_PRESSURE_GPa:g} GPa, not at {wrong.flat[0]:g} GPa",
            "ask for a pressure in that range in GPa (1 GPa = 10 kbar), or relax the crystals at that pressure",
        )


def reduced_mass_amu(composition: Composition) -> float:
    """Stoichiometry-weighted mean of the pairwise reduced masses (Bartel 2018, Eq. 6); NaN for an element."""
    amounts = list(composition.reduced_composition.items())
    if len(amounts) < 2:
        return math.nan
    total = sum(amount for _, amount in amounts)
    pairs = (
        (n_i + n_j) * float(a.atomic_mass) * float(b.atomic_mass) / (float(a.atomic_mass) + float(b.atomic_mass))
        for (a, n_i), (b, n_j) in combinations(amounts, 2)
    )
    return sum(pairs) / ((len(amounts) - 1) * total)


def reduced_masses_amu(fractions: Float[np.ndarray, "n e"], masses_amu: Float[np.ndarray, " e"]) -> Float[np.ndarray, " n"]:
    """:func:`reduced_mass_amu` of n compositions, given as atomic fractions of e elements; NaN for an element.

    sum_{i<j} (x_i + x_j) m_i m_j / (m_i + m_j) is sum_i x_i times the sum over the other elements that are present.
    """
    pairs = masses_amu[:, None] * masses_amu / (masses_amu[:, None] + masses_amu)
    np.fill_diagonal(pairs, 0.0)
    present = fractions > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((present @ pairs) * fractions).sum(1) / (present.sum(1) - 1.0)


def g_delta_slope(volume_A3_per_atom: Numbers, reduced_mass: Numbers) -> Numbers:
    """The part of G_delta that is proportional to T, eV/atom/K; the rest is common to all compounds."""
    return -2.48e-4 * np.log(volume_A3_per_atom) - 8.94e-5 * reduced_mass / volume_A3_per_atom


def g_delta_common(temperature_K: Numbers) -> Numbers:
    """The part of G_delta that all compounds share, eV/atom."""
    return 0.181 * np.log(temperature_K) - 0.882


def g_delta_eV_per_atom(volume_A3_per_atom: Numbers, reduced_mass: Numbers, temperature_K: Numbers) -> Numbers:
    """The descriptor G_delta (Bartel 2018, Eq. 4), eV/atom."""
    return g_delta_slope(volume_A3_per_atom, reduced_mass) * temperature_K + g_delta_common(temperature_K)


def elemental_gibbs_eV(symbol: str, temperature_K: float) -> float:
    """Measured G_i(T) of an element, eV/atom, linear between the tabulated 100 K steps.

    Raises:
        ChemistryError: no measured value for this element.
    """
    temperatures, table = _element_table()
    if symbol not in table:
        raise ChemistryError(f"no measured Gibbs energy for the element {symbol}", "use the static energy above hull instead")
    return float(np.interp(temperature_K, temperatures, table[symbol]))


def formation_gibbs_eV_per_atom(
    composition: Composition,
    formation_energy_eV_per_atom: float,
    volume_A3_per_atom: float,
    temperature_K: float,
    pressure_GPa: float = 0.0,
    vibrations: FreeEnergy | None = None,
) -> float:
    """Gibbs energy of formation at (T, P), eV/atom.

    Elements get ``formation_energy + P V`` (zero for the reference polymorph at P = 0). The gases that pymatgen knows by
    experiment (CO2, H2O, NH3, ...) get the measured value at 1 bar, and P V of the solid.

    Args:
        composition: of the phase.
        formation_energy_eV_per_atom: static, relative to the elements of the same energy scheme.
        volume_A3_per_atom: static volume.
        temperature_K: 300-2000 K.
        pressure_GPa: hydrostatic pressure, 0-10 GPa; V is taken as constant.
        vibrations: known vibrations of this crystal, used instead of the descriptor (elements and gases stay measured).

    Raises:
        ConfigError: temperature or pressure out of range. ChemistryError: an element without measured data.
    """
    check_temperature(temperature_K)
    check_pressure(pressure_GPa)
    pv = pressure_GPa * eV_PER_A3_PER_GPa * volume_A3_per_atom
    if composition.is_element:
        return formation_energy_eV_per_atom + pv
    gas = measured_gas_eV_per_atom(composition, temperature_K)
    if gas is not None:
        return gas + pv
    elements = sum(x * elemental_gibbs_eV(el.symbol, temperature_K) for el, x in composition.fractional_composition.items())
    if vibrations is None:
        delta = float(g_delta_eV_per_atom(volume_A3_per_atom, reduced_mass_amu(composition), temperature_K))
    else:
        reference = vibrations.energy_eV_per_atom(REFERENCE_TEMPERATURE_K)
        delta = vibrations.free_energy_eV_per_atom(temperature_K) - reference
    return formation_energy_eV_per_atom + delta - elements + pv


def measured_gas_eV_per_atom(composition: Composition, temperature_K: float) -> float | None:
    """Measured Gibbs energy of formation at 1 bar of a known gas, eV/atom; None for anything else."""
    formula, _ = composition.get_integer_formula_and_factor()
    data = _pymatgen_tables()[1].get(formula)
    if data is None:
        return None
    temperatures = sorted(float(t) for t in data)
    value = np.interp(temperature_K, temperatures, [data[str(int(t))] for t in temperatures])
    return float(value) / type(composition)(formula).num_atoms


def known_gases() -> tuple[str, ...]:
    """Integer formulas of the measured gases, as pymatgen writes them."""
    return tuple(sorted(_pymatgen_tables()[1]))


def measured_gibbs(elements: Sequence[str], temperature_K: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t c"]:
    """Measured Gibbs energies, eV/atom: one column per element, then one per gas of :func:`known_gases`.

    An element has its G_i(T) (NaN when there is none), a gas its Gibbs energy of formation plus sum_i x_i G_i(T): both are on the
    scale of ``H_f + G_delta`` of a compound.
    """
    from pymatgen.core import Composition

    grid, table = _element_table()
    columns = [
        np.interp(temperature_K, grid, table[s]) if s in table else np.full(len(temperature_K), math.nan) for s in elements
    ]
    for gas in known_gases():
        composition = Composition(gas)
        data = _pymatgen_tables()[1][gas]
        nodes = sorted(float(t) for t in data)
        formation = np.interp(temperature_K, nodes, [data[str(int(t))] for t in nodes]) / composition.num_atoms
        parts = composition.fractional_composition.items()
        columns.append(formation + sum(x * np.interp(temperature_K, grid, table[el.symbol]) for el, x in parts))
    return np.stack(columns, axis=1)


@lru_cache(maxsize=1)
def _element_table() -> tuple[list[float], dict[str, list[float]]]:
    """Temperatures (K) and G_i at each of them (eV/atom) per element."""
    elements = _pymatgen_tables()[0]
    temperatures = sorted(float(t) for t in elements)
    symbols = set.intersection(*(set(column) for column in elements.values()))
    return temperatures, {s: [float(elements[str(int(t))][s]) for t in temperatures] for s in symbols}


@lru_cache(maxsize=1)
def _pymatgen_tables() -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """pymatgen's ``g_els.json`` (temperature -> element -> eV) and ``nist_gas_gf.json`` (gas -> temperature -> eV a formula)."""
    data = resources.files("pymatgen.core") / "data"
    try:
        elements, gases = (json.loads((data / name).read_bytes()) for name in ("g_els.json", "nist_gas_gf.json"))
    except OSError:  # older and newer releases keep them elsewhere; importing that module takes seconds
        from pymatgen.entries import computed_entries

        elements, gases = computed_entries.G_ELEMS, computed_entries.G_GASES
    return elements, gases
