"""Gibbs energy of formation of a solid at (T, P) from its static formation energy, volume and composition.

    dG_f(T, P) = dH_f + G_delta(V, m; T) - sum_i x_i G_i(T) + P V                                   (per atom)
    G_delta    = (-2.48e-4 ln V - 8.94e-5 m / V) T + 0.181 ln T - 0.882         eV/atom; V in A^3/atom, m in amu

G_delta is Eq. 4 and m Eq. 6 of Bartel et al., Nat. Commun. 9, 4168 (2018), doi 10.1038/s41467-018-06682-4, where
~50 meV/atom is stated as its resolution; G_i(T) are measured elemental Gibbs energies (1 bar). They and the measured gases
are the tables that pymatgen carries.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.core.errors import ChemistryError, ConfigError
from sse_diffusion.core.units import eV_PER_A3_PER_GPa

if TYPE_CHECKING:
    from pymatgen.core import Composition

MIN_TEMPERATURE_K, MAX_TEMPERATURE_K = 300.0, 2000.0
DESCRIPTOR_RESOLUTION_eV_PER_ATOM = 0.05


def check_temperature(temperature_K: float) -> None:
    """ConfigError when the descriptor does not apply (300-2000 K)."""
    if not MIN_TEMPERATURE_K <= temperature_K <= MAX_TEMPERATURE_K:
        raise ConfigError(
            f"Gibbs energies are available from {MIN_TEMPERATURE_K:g} to {MAX_TEMPERATURE_K:g} K, not at {temperature_K:g} K",
            "ask for a temperature in that range, or use the static energy above hull (0 K)",
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


def g_delta_eV_per_atom(volume_A3_per_atom: float, reduced_mass: float, temperature_K: float) -> float:
    """The descriptor G_delta (Bartel 2018, Eq. 4), eV/atom."""
    slope = -2.48e-4 * math.log(volume_A3_per_atom) - 8.94e-5 * reduced_mass / volume_A3_per_atom
    return slope * temperature_K + 0.181 * math.log(temperature_K) - 0.882


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
) -> float:
    """Gibbs energy of formation at (T, P), eV/atom.

    Elements get ``formation_energy + P V`` (zero for the reference polymorph at P = 0). The gases that pymatgen knows by
    experiment (CO2, H2O, NH3, ...) get the measured value at 1 bar and no PV term.

    Args:
        composition: of the phase.
        formation_energy_eV_per_atom: static, relative to the elements of the same energy scheme.
        volume_A3_per_atom: static volume.
        temperature_K: 300-2000 K.
        pressure_GPa: hydrostatic pressure; V is taken as constant.

    Raises:
        ConfigError: temperature out of range. ChemistryError: an element without measured data.
    """
    check_temperature(temperature_K)
    pv = pressure_GPa * eV_PER_A3_PER_GPa * volume_A3_per_atom
    if composition.is_element:
        return formation_energy_eV_per_atom + pv
    gas = measured_gas_eV_per_atom(composition, temperature_K)
    if gas is not None:
        return gas
    elements = sum(x * elemental_gibbs_eV(el.symbol, temperature_K) for el, x in composition.fractional_composition.items())
    delta = g_delta_eV_per_atom(volume_A3_per_atom, reduced_mass_amu(composition), temperature_K)
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


@lru_cache(maxsize=1)
def _element_table() -> tuple[list[float], dict[str, list[float]]]:
    """Temperatures (K) and G_i at each of them (eV/atom) per element."""
    elements = _pymatgen_tables()[0]
    temperatures = sorted(float(t) for t in elements)
    symbols = set.intersection(*(set(column) for column in elements.values()))
    return temperatures, {s: [float(elements[str(int(t))][s]) for t in temperatures] for s in symbols}


@lru_cache(maxsize=1)
def _pymatgen_tables() -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """pymatgen's G_ELEMS and G_GASES; the module moved between releases."""
    try:
        from pymatgen.analysis.compatibility.computed_entries import G_ELEMS, G_GASES
    except ImportError:
        from pymatgen.entries.computed_entries import G_ELEMS, G_GASES
    return G_ELEMS, G_GASES
