"""Soft labels for the conductivity predictor from the dynamics of finished runs, as a CSV.

python scripts/build_soft_labels.py RUN [RUN ...] out=md_labels.csv ion=Li
sse train experiment=predictor_conductivity soft_labels=[md_labels.csv]
"""

from __future__ import annotations

import sys

from sse_diffusion.verification.conductivity_labels import write_soft_labels


def main(arguments: list[str]) -> None:
    """Folders of sse verify or sse design, and the options ``out`` and ``ion``."""
    options = dict(a.split("=", 1) for a in arguments if "=" in a)
    runs = [a for a in arguments if "=" not in a]
    n = write_soft_labels(runs, options.get("out", "md_labels.csv"), options.get("ion", "Li"))
    print(f"{n} labels of {len(runs)} runs -> {options.get('out', 'md_labels.csv')}")


if __name__ == "__main__":
    main(sys.argv[1:])
