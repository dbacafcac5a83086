"""Fingerprints of a crystal that coverage compares: local order parameters of its sites, Magpie statistics of its composition.

Both follow the matminer featurizers that Xie et al. (CDVAE, ICLR 2022) used, ``CrystalNNFingerprint.from_preset("ops")`` averaged
over sites and ``ElementProperty.from_preset("magpie")``; matminer itself does not import beside current pymatgen and scipy. What
differs: one representative of each set of symmetry-equivalent sites is computed and counted by its multiplicity, and the Magpie
table is smact's copy (98 elements; a composition with any other has no fingerprint).

Sources: Zimmermann & Jain, RSC Adv. 10, 6063 (2020) (order parameters); Pan et al., Inorg. Chem. 60, 1590 (2021) (CrystalNN);
Ward et al., npj Comput. Mater. 2, 16028 (2016) (Magpie).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.symmetry import is_searchable
from sse_diffusion.core.time_limit import TimeIsUpError, time_limit

if TYPE_CHECKING:
    from pymatgen.analysis.local_env import CrystalNN, LocalStructOrderParams
    from pymatgen.core import Composition, Structure

MAX_COORDINATION = 24
BOND_ORDER = ("q2", "q4", "q6")
MOTIFS: dict[int, tuple[str, ...]] = {
    1: ("sgl_bd",),
    2: ("L-shaped", "water-like", "bent 120 degrees", "bent 150 degrees", "linear"),
    3: ("trigonal planar", "trigonal non-coplanar", "T-shaped"),
    4: ("square co-planar", "tetrahedral", "rectangular see-saw-like", "see-saw-like", "trigonal pyramidal"),
    5: ("pentagonal planar", "square pyramidal", "trigonal bipyramidal"),
    6: ("hexagonal planar", "octahedral", "pentagonal pyramidal"),
    7: ("hexagonal pyramidal", "pentagonal bipyramidal"),
    8: ("body-centered cubic", "hexagonal bipyramidal"),
    9: BOND_ORDER,
    10: BOND_ORDER,
    11: BOND_ORDER,
    12: ("cuboctahedral", *BOND_ORDER),
}
"""Order parameters of each coordination number; their definitions and constants are pymatgen's."""

STRUCTURE_LENGTH = MAX_COORDINATION + sum(len(names) for names in MOTIFS.values())
STATISTICS = ("min", "max", "range", "mean", "deviation", "mode")
NEGLIGIBLE_WEIGHT = 1e-5
"""Order parameters of a coordination number less likely than this are taken as 0 (they are at most 1 before weighting)."""
EQUIVALENT_A = 0.001
"""Sites that symmetry maps on each other within this distance share one fingerprint."""


@dataclass(frozen=True)
class Fingerprint:
    """What coverage needs of one crystal.

    Attributes:
        structure: (61,) mean over sites of the order parameters; None when it could not be computed.
        composition: (132,) Magpie statistics, not scaled; None when an element is not in the table.
        reason: why one of them is missing.
    """

    structure: NDArray[np.float64] | None
    composition: NDArray[np.float64] | None
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Both parts are there."""
        return self.structure is not None and self.composition is not None


def fingerprint(structure: Structure, max_seconds: float = 30.0) -> Fingerprint:
    """Both fingerprints of a crystal; never raises for a bad crystal, ``reason`` says what is missing and why."""
    try:
        composition = composition_fingerprint(structure.composition)
        with time_limit(max_seconds):
            return Fingerprint(structure_fingerprint(structure), composition)
    except TimeIsUpError:
        return Fingerprint(None, composition, f"no coordination found within {max_seconds:g} s")
    except DataError as error:
        return Fingerprint(None, None, error.message)


def structure_fingerprint(structure: Structure) -> NDArray[np.float64]:
    """(61,) order parameters averaged over the sites.

    Raises:
        DataError: the cell is degenerate, or pymatgen finds no coordination for a site.
    """
    if not is_searchable(structure, 0.05):
        raise DataError("the cell is degenerate or atoms lie on each other: no coordination can be found")
    finder, total = _crystal_nn(), np.zeros(STRUCTURE_LENGTH)
    representatives, counts = np.unique(equivalent_sites(structure), return_counts=True)
    for site, count in zip(representatives.tolist(), counts.tolist(), strict=True):
        try:
            total += count * site_fingerprint(structure, site, finder)
        # The Voronoi construction raises whatever a strange cell makes it raise; such a crystal has no fingerprint.
        except (ValueError, RuntimeError, IndexError, KeyError, ZeroDivisionError) as error:
            raise DataError(f"no coordination of site {site}: {type(error).__name__}: {str(error)[:120]}") from error
    return total / len(structure)


def site_fingerprint(structure: Structure, site: int, finder: CrystalNN) -> NDArray[np.float64]:
    """(61,) for coordination numbers 1-24: its weight, then the weight times each of its order parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CrystalNN warns that oxidation states are not given
        found = finder.get_nn_data(structure, site)
    values: list[float] = []
    for coordination in range(1, MAX_COORDINATION + 1):
        weight = float(found.cn_weights.get(coordination, 0.0))
        values.append(weight)
        count = len(MOTIFS.get(coordination, ()))
        if weight < NEGLIGIBLE_WEIGHT or not count:
            values += [0.0] * count
            continue
        cluster = [structure[site], *(neighbour["site"] for neighbour in found.cn_nninfo[coordination])]
        around = list(range(1, len(cluster)))
        for parameter in _order_parameters(coordination):
            value = parameter.get_order_parameters(cluster, 0, indices_neighs=around)[0]
            values.append(weight * float(value or 0.0))  # None: undefined for this geometry
    return np.array(values)


def equivalent_sites(structure: Structure) -> NDArray[np.int64]:
    """(N,) for each site the first site that the crystal's symmetry maps on it."""
    from moyopy import Cell, MoyoDataset

    numbers = [int(z) for z in structure.atomic_numbers]
    cell = Cell(structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), numbers)
    try:
        return np.array(MoyoDataset(cell, symprec=EQUIVALENT_A).orbits, dtype=np.int64)
    except (ValueError, RuntimeError):
        return np.arange(len(structure))


def composition_fingerprint(composition: Composition) -> NDArray[np.float64]:
    """(132,) six statistics (:data:`STATISTICS`) of each of 22 elemental properties, weighted by atomic fraction.

    Deviation is the mean absolute deviation from the mean; mode is the value of the most frequent element, the lowest of several.

    Raises:
        DataError: an element is not in the table.
    """
    table = magpie_table()
    symbols = [element.symbol for element in composition.elements]
    if unknown := [s for s in symbols if s not in table]:
        raise DataError(f"no Magpie properties of {', '.join(unknown)}")
    fractions = np.array([composition.get_atomic_fraction(s) for s in symbols])
    values = np.stack([table[s] for s in symbols])
    low, high, mean = values.min(axis=0), values.max(axis=0), fractions @ values
    deviation = fractions @ np.abs(values - mean)
    mode = values[np.isclose(fractions, fractions.max())].min(axis=0)
    return np.stack([low, high, high - low, mean, deviation, mode], axis=1).ravel()


@lru_cache(maxsize=1)
def magpie_table() -> dict[str, NDArray[np.float64]]:
    """Symbol -> (22,) elemental properties of Magpie, as smact ships them; elements with a gap are left out."""
    text = (resources.files("smact") / "data" / "magpie.csv").read_text(encoding="utf-8")
    rows = [line.split(",") for line in text.splitlines()[1:] if line.strip()]
    table = {row[0]: np.array([float(cell) if cell else np.nan for cell in row[1:]]) for row in rows}
    return {symbol: values for symbol, values in table.items() if np.isfinite(values).all()}


@lru_cache(maxsize=1)
def _crystal_nn() -> CrystalNN:
    from pymatgen.analysis.local_env import CrystalNN

    return CrystalNN()


@lru_cache(maxsize=MAX_COORDINATION)
def _order_parameters(coordination: int) -> list[LocalStructOrderParams]:
    """pymatgen's order parameters of one coordination number; one object each, in one object they change each other's values."""
    from pymatgen.analysis.local_env import CN_OPT_PARAMS, LocalStructOrderParams

    known = CN_OPT_PARAMS.get(coordination, {})
    named = [known.get(name, [name]) for name in MOTIFS[coordination]]
    return [LocalStructOrderParams([kind], parameters=[dict(rest[0]) if rest else None]) for kind, *rest in named]
