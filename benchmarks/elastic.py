"""Elastic moduli of five lithium compounds by force fields whose weights come with their package, against the Materials Project.

    python benchmarks/elastic.py [engines=chgnet:0.3.0,sevennet:7net-0,sevennet:7net-l3i5]

Stress-strain with relaxed ions in primitive cells relaxed by the same engine (`ElasticConfig` as it is).
The bar: K within 20 % and G within 30 %. Also CsCl-type (B2) LiF, which must be called Born-unstable.
Writes ``results/elastic.json``.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from measure import options, write
from mechanics import salts
from pymatgen.core import Lattice, Structure

from sse_diffusion.verification.mechanics.elastic import ElasticConfig, elastic_tensor
from sse_diffusion.verification.potential import load_potential

B2_LiF = Structure(Lattice.cubic(2.55), ["Li", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def main() -> None:
    """Every engine on every salt."""
    given = options(sys.argv[1:], engines="chgnet:0.3.0,sevennet:7net-0,sevennet:7net-l3i5")
    result: dict[str, Any] = {}
    for name in str(given["engines"]).split(","):
        engine, _, model = name.partition(":")
        potential = load_potential({"name": engine, "model": model})
        rows: dict[str, Any] = {}
        for formula, (structure, bulk_GPa, shear_GPa) in salts().items():
            begin = time.process_time()
            tensor = elastic_tensor(structure.get_primitive_structure(), potential, ElasticConfig())
            rows[formula] = tensor.to_dict() | {
                "bulk_over_mp": round(tensor.quantities["bulk_modulus"].value / bulk_GPa, 3),
                "shear_over_mp": round(tensor.quantities["shear_modulus"].value / shear_GPa, 3),
                "cpu_seconds": round(time.process_time() - begin, 1),
            }
        within = [abs(r["bulk_over_mp"] - 1) <= 0.2 and abs(r["shear_over_mp"] - 1) <= 0.3 for r in rows.values()]
        unstable = elastic_tensor(B2_LiF, potential, ElasticConfig())
        result[name] = {"salts": rows, "within_the_bar": f"{sum(within)}/{len(within)}", "B2_LiF": unstable.to_dict()}
    write("elastic", result, speed=False)


if __name__ == "__main__":
    main()
