"""Elastic tables: DFT tensors of de Jong et al., Materials Project binaries, AFLOW's thermo-elastic set."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sse_diffusion.core.errors import DataError
from sse_diffusion.data.grouped import composition_key
from sse_diffusion.data.tables import find_table
from sse_diffusion.predictors.mechanics import LEARNT

if TYPE_CHECKING:
    from pymatgen.core import Structure

MODULUS_RANGE_GPa = (1.0, 700.0)
"""Moduli outside are failed calculations (diamond: K 435, G 523), and their rows are left out."""


@dataclass(frozen=True)
class ElasticRows:
    """n crystals with moduli.

    Attributes:
        structures: relaxed, as in their table.
        labels: (n, len(LEARNT)) log10 of the bulk and shear modulus (Voigt-Reuss-Hill average, GPa) and of the Debye
            temperature (K); NaN where a table has none.
        source: (n,) index into :data:`SOURCES`.
    """

    structures: list[Structure]
    labels: NDArray[np.float64]
    source: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.structures)

    @cached_property
    def compositions(self) -> list[str]:
        """Reduced compositions as keys."""
        return [composition_key(s.composition.get_el_amt_dict()) for s in self.structures]

    @cached_property
    def chemical_systems(self) -> list[str]:
        """Such as ``"Cl-Li"``."""
        return ["-".join(sorted(s.composition.get_el_amt_dict())) for s in self.structures]


def read_elastic_tables(paths: dict[str, str], progress: bool = True) -> ElasticRows:
    """Read tables and drop rows whose moduli are outside MODULUS_RANGE_GPa.

    Args:
        paths: of the tables, by name of their source (SOURCES).
        progress: show a bar.

    Raises:
        DataError: no such file, or one without the columns of its source.
    """
    structures, labels, source = [], [], []
    for name, path in paths.items():
        file = find_table(path, f"set {name}=... to the table of {name}")
        try:
            rows = SOURCES[name](file)
            for structure, *values in tqdm(rows, name, disable=not progress):
                if all(MODULUS_RANGE_GPa[0] <= v <= MODULUS_RANGE_GPa[1] for v in values[:2]):
                    structures.append(structure)
                    labels.append(np.log10(values))
                    source.append(list(SOURCES).index(name))
        except (KeyError, AttributeError) as error:
            raise DataError(f"{path} is no {name} table: {error} is missing", "see docs/mechanics.md") from error
    return ElasticRows(structures, np.array(labels).reshape(-1, len(LEARNT)), np.array(source, dtype=np.int64))


def _elastic_tensors(path: Path) -> Iterator[tuple[Structure, float, float, float]]:
    """De Jong et al., Sci. Data 2, 150009 (2015): 1,181 tensors; POSCAR, K_VRH and G_VRH in GPa."""
    import pandas as pd
    from pymatgen.core import Structure

    table = pd.read_csv(path, comment="#")
    for row in table.itertuples():
        yield Structure.from_str(row.poscar, fmt="poscar"), float(row.K_VRH), float(row.G_VRH), float("nan")


def _binaries(path: Path) -> Iterator[tuple[Structure, float, float, float]]:
    """Binary compounds of the Materials Project: pymatgen structures, VRH moduli in GPa."""
    from pymatgen.core import Structure

    for row in json.loads(gzip.decompress(path.read_bytes())):
        yield Structure.from_dict(row["structure"]), row["bulk_modulus_vrh"], row["shear_modulus_vrh"], float("nan")


def _aflow(path: Path) -> Iterator[tuple[Structure, float, float, float]]:
    """AFLOW AEL and AGL (Toher et al., Phys. Rev. Mater. 1, 015401 (2017)): CIF, VRH moduli in GPa, Debye temperature in K."""
    import pandas as pd
    from pymatgen.io.cif import CifParser

    table = pd.read_csv(path).dropna(subset=["bulk_modulus", "shear_modulus", "debye_temperature"])
    for row in table.itertuples():
        (structure,) = CifParser.from_str(row.cif).parse_structures(primitive=False)
        yield structure, float(row.bulk_modulus), float(row.shear_modulus), float(row.debye_temperature)


SOURCES: dict[str, Callable[[Path], Iterator[tuple[Structure, float, float, float]]]] = {
    "elastic_tensors": _elastic_tensors,
    "binaries": _binaries,
    "aflow": _aflow,
}
"""Tables that can be read, by name."""
